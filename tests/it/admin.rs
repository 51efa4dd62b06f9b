//! The admin port: probes, metrics, and the dead letters through the command line.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{body::Body, extract::ConnectInfo, http::Request};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use zen_fabric::{
    api::SpecDigest,
    journal::{
        Appended, Bucket, End, Ended, Event, FetchLimit, IngestorUid, Items, Journal, Letter,
        LetterId, Millis, Origin, PayloadDigest, RecordId, Subscription,
        facts::{FactSource, Facts},
        wal::{self, Wal},
    },
    ops::{
        admin::{
            self, Admin, Probes,
            events::{self, Events},
            token::Token,
        },
        metrics::{self, journal::JournalMetrics},
        ready::Readiness,
        tasks::Tasks,
        time::SystemClock,
    },
    testing::subscriber,
};

use crate::command::zen_fabric;

/// Facts as a gateway would serve them.
#[derive(Debug)]
struct Known {
    facts: Mutex<BTreeMap<IngestorUid, Facts>>,
    changes: tokio::sync::watch::Sender<u64>,
}

impl Known {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            facts: Mutex::default(),
            changes: tokio::sync::watch::Sender::new(0),
        })
    }

    fn routed(&self, uid: &IngestorUid) {
        let facts = Facts {
            generation: Some(1),
            serving: true,
            ..Facts::default()
        };
        self.facts.lock().unwrap().insert(uid.clone(), facts);
    }

    fn gone(&self, uid: &IngestorUid) {
        self.facts.lock().unwrap().remove(uid);
    }
}

impl FactSource for Known {
    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts> {
        self.facts.lock().unwrap().get(ingestor).cloned()
    }

    fn all(&self) -> Vec<(IngestorUid, Facts)> {
        let known = self.facts.lock().unwrap();
        let all = known.iter();
        all.map(|(uid, facts)| (uid.clone(), facts.clone()))
            .collect()
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A process with a journal, a gateway's facts and an admin port.
struct Process {
    data: tempfile::TempDir,
    journal: Arc<Wal>,
    known: Arc<Known>,
    readiness: Readiness,
    tasks: Tasks,
}

impl Process {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let options = wal::Options {
            segment_bytes: 1 << 20,
            total_bytes: 64 << 20,
            share_bytes: 16 << 20,
            letter_bytes: 16 << 20,
            ..wal::Options::default()
        };
        let journal =
            Wal::open(&data.path().join("journal"), options, Arc::new(SystemClock)).unwrap();
        let known = Known::new();
        let readiness = Readiness::new();
        let registry = metrics::registry().unwrap();
        let collector = JournalMetrics::new(journal.clone()).unwrap();
        registry.register(Box::new(collector)).unwrap();
        let tasks = Tasks::new();
        let server = Admin::bind([127, 0, 0, 1].into(), 0).await.unwrap();
        let token = Token::write(data.path(), server.address()).unwrap();
        let probes = Probes {
            readiness: readiness.clone(),
            registry,
        };
        let letters = Events {
            journal: journal.clone(),
            facts: known.clone(),
        };
        let router = admin::probes(probes).merge(events::routes(letters, token));
        server.serve(router, &tasks);
        Self {
            data,
            journal,
            known,
            readiness,
            tasks,
        }
    }

    fn dir(&self) -> &Path {
        self.data.path()
    }

    /// An Ingestor with a decision spec in force, known to the gateway.
    async fn ingestor(&self, name: &str) -> (IngestorUid, SpecDigest) {
        let uid = IngestorUid(format!("uid-of-{name}").into());
        let digest = self.put_spec(&uid, name, "low").await;
        self.known.routed(&uid);
        (uid, digest)
    }

    async fn put_spec(&self, uid: &IngestorUid, name: &str, severity: &str) -> SpecDigest {
        let spec = serde_json::json!({
            "ingestor": { "uid": uid.to_string(), "namespace": "team-a", "namespaceUid": "n", "name": name },
            "normalize": {
                "category": { "value": "security" },
                "eventType": { "value": "push" },
                "severity": { "value": severity },
            },
            "dedup": { "strategy": "event" },
        });
        self.journal
            .put_spec(uid, spec.to_string().into())
            .await
            .unwrap()
    }

    async fn accept(
        &self,
        uid: &IngestorUid,
        spec: SpecDigest,
        event_id: &str,
        body: &'static str,
    ) -> RecordId {
        let event = Event {
            ingestor: uid.clone(),
            spec,
            event_id: event_id.into(),
            key: None,
            payload: PayloadDigest([0xab; 32]),
            accepted_at: Millis(1_700_000_000_000),
            origin: Origin::Request,
            traceparent: None,
            headers: vec![("x-github-event".into(), "push".into())],
            query: "a=b".into(),
            body: Bytes::from_static(body.as_bytes()),
        };
        match self.journal.append(event).await.unwrap() {
            Appended::Accepted(record) => record,
            Appended::Replayed(seen) => panic!("{seen:?}"),
        }
    }

    async fn subscribe(&self, uid: &IngestorUid) -> Arc<dyn Subscription> {
        let claims = subscriber::claims([Bucket::of(uid)]);
        subscriber::subscribe(self.journal.as_ref(), "core#1", claims)
            .await
            .unwrap()
    }

    /// Sends a record to the dead letters.
    async fn bury(
        &self,
        core: &dyn Subscription,
        uid: &IngestorUid,
        record: RecordId,
        reason: &str,
    ) {
        let ended = Ended {
            position: record.position,
            end: End::DeadLettered,
            items: Items {
                dead_lettered: 1,
                ..Items::default()
            },
            letters: vec![Letter {
                index: 0,
                reason: reason.into(),
                message: "normalize.severity stayed absent\u{1b}[31m".to_owned(),
            }],
            observation: None,
        };
        core.commit(uid, vec![ended]).await.unwrap();
    }

    /// `zen-fabric events …` on this process's data directory.
    async fn events(&self, args: &[&str]) -> (i32, String, String) {
        let mut all = vec!["events", "--data-dir", self.dir().to_str().unwrap()];
        all.extend(args);
        zen_fabric(&all, &[], "").await
    }

    async fn get(&self, path: &str, authorization: Option<&str>) -> (StatusCode, String) {
        let url = std::fs::read_to_string(self.dir().join("admin-url")).unwrap();
        let mut request = Request::get(format!("{url}{path}"));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .build_http::<http_body_util::Empty<Bytes>>();
        let request = request.body(http_body_util::Empty::new()).unwrap();
        let answer = client.request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_says_what_it_waits_for() {
    let process = Process::start().await;
    let gate = process.readiness.gate("routes");
    assert_eq!(process.get("/livez", None).await.0, StatusCode::OK);
    let (status, text) = process.get("/readyz", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "waiting for routes: starting\n");
    gate.open();
    assert_eq!(process.get("/readyz", None).await.0, StatusCode::OK);
    process.tasks.stop(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_and_tallies_add_up() {
    let process = Process::start().await;
    let (uid, spec) = process.ingestor("github").await;
    let record = process.accept(&uid, spec, "one", "{}").await;
    process.accept(&uid, spec, "two", "{}").await;
    let core = process.subscribe(&uid).await;
    process
        .bury(core.as_ref(), &uid, record, "FieldMissing")
        .await;
    let (_, text) = process.get("/metrics", None).await;
    for line in [
        "zen_fabric_events_accepted{origin=\"request\"} 2",
        "zen_fabric_events_ended{end=\"dead_lettered\"} 1",
        "zen_fabric_journal_backlog_records 1",
        "zen_fabric_journal_available 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (token, _) = Token::read(process.dir()).unwrap();
    let (status, text) = process.get("/tallies", Some(&token.bearer())).await;
    assert_eq!(status, StatusCode::OK);
    let tallies: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(tallies["total"]["requests"], 2);
    assert_eq!(tallies["items"][0]["ingestor"]["name"], "team-a/github");
    process.tasks.stop(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_need_the_token_and_this_machine() {
    let process = Process::start().await;
    let (token, _) = Token::read(process.dir()).unwrap();
    let bearer = token.bearer();
    for wrong in [
        None,
        Some("Bearer nonsense"),
        Some("Bearer "),
        Some(bearer.strip_prefix("Bearer ").unwrap()),
    ] {
        for path in ["/events", "/tallies", "/events/00000001/1/0"] {
            let (status, text) = process.get(path, wrong).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {wrong:?}");
            assert!(!text.contains(bearer.strip_prefix("Bearer ").unwrap()));
        }
    }
    // From another machine the right token is of no use: it would have traveled in the open.
    let letters = Events {
        journal: process.journal.clone(),
        facts: process.known.clone(),
    };
    let router = events::routes(letters, token);
    for (peer, want) in [
        ("192.0.2.7:4000", StatusCode::FORBIDDEN),
        ("[2001:db8::1]:4000", StatusCode::FORBIDDEN),
        ("127.0.0.1:4000", StatusCode::OK),
        ("[::ffff:127.0.0.1]:4000", StatusCode::OK),
    ] {
        let peer: std::net::SocketAddr = peer.parse().unwrap();
        let mut request = Request::get("/events").header("authorization", &bearer);
        request.extensions_mut().unwrap().insert(ConnectInfo(peer));
        let answer = router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), want, "{peer}");
    }
    process.tasks.stop(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_listed_shown_and_replayed_once() {
    let process = Process::start().await;
    let (exit, out, _) = process.events(&["list"]).await;
    assert_eq!((exit, out.as_str()), (0, "No dead letters.\n"));

    let (uid, spec) = process.ingestor("github").await;
    let record = process.accept(&uid, spec, "delivery-1", r#"{"n":1}"#).await;
    let core = process.subscribe(&uid).await;
    process
        .bury(core.as_ref(), &uid, record, "FieldMissing")
        .await;
    let today = process.put_spec(&uid, "github", "high").await;

    let id = format!("{record}/0");
    let (exit, out, _) = process.events(&["list"]).await;
    assert_eq!(exit, 0);
    assert!(
        out.contains(&id) && out.contains("team-a/github") && out.contains("FieldMissing"),
        "{out}"
    );
    assert!(
        !out.contains('\u{1b}'),
        "a message can't write to the terminal"
    );
    let (exit, out, _) = process.events(&["show", &id]).await;
    assert_eq!(exit, 0);
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["body"], r#"{"n":1}"#);
    assert_eq!(shown["eventId"], "delivery-1");

    let (exit, out, err) = process.events(&["replay", &id]).await;
    assert_eq!(exit, 0, "{err}");
    assert!(out.contains("with event id delivery-1"), "{out}");
    let limit = FetchLimit {
        records: 10.try_into().unwrap(),
        bytes: 1 << 20,
    };
    let records = core
        .fetch(&uid, Some(record.position), limit)
        .await
        .unwrap()
        .records;
    assert_eq!(records.len(), 1);
    let event = &records[0].event;
    assert_eq!(event.spec, today);
    assert_eq!(event.accepted_at, Millis(1_700_000_000_000));
    assert_eq!(
        event.origin,
        Origin::Replay {
            letter: LetterId { record, index: 0 }
        }
    );
    assert_eq!(&event.body[..], br#"{"n":1}"#);

    let (exit, _, err) = process.events(&["replay", &id]).await;
    assert_eq!(exit, 1);
    assert!(err.contains("replayed before"), "{err}");
    let (exit, _, err) = process.events(&["replay", "--force", &id]).await;
    assert_eq!(exit, 0, "{err}");
    assert_eq!(process.journal.tally(&uid).replays, 2);
    process.tasks.stop(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_key_is_replayed_under_an_id_of_its_own() {
    let process = Process::start().await;
    let (uid, spec) = process.ingestor("github").await;
    let record = process.accept(&uid, spec, "delivery-1", "{}").await;
    let core = process.subscribe(&uid).await;
    process
        .bury(core.as_ref(), &uid, record, events::KEY_REUSED)
        .await;
    let (exit, out, err) = process.events(&["replay", "--all"]).await;
    assert_eq!(exit, 0, "{err}");
    assert!(out.contains("with event id delivery-1~abababab"), "{out}");
    let (exit, out, _) = process.events(&["replay", "--all"]).await;
    assert_eq!((exit, out.as_str()), (0, ""));
    process.tasks.stop(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_replayed_for_an_ingestor_that_is_gone() {
    let process = Process::start().await;
    let (uid, spec) = process.ingestor("github").await;
    let record = process.accept(&uid, spec, "delivery-1", "{}").await;
    let core = process.subscribe(&uid).await;
    process
        .bury(core.as_ref(), &uid, record, "FieldMissing")
        .await;
    process.known.gone(&uid);
    let (exit, _, err) = process.events(&["replay", &format!("{record}/0")]).await;
    assert_eq!(exit, 1);
    assert!(err.contains("disabled, deleted"), "{err}");
    let (exit, _, err) = process
        .events(&["show", &format!("{}/99/0", record.log)])
        .await;
    assert_eq!(exit, 1);
    assert!(err.contains("there is no dead letter"), "{err}");
    assert_eq!(process.journal.tally(&uid).replays, 0);
    process.tasks.stop(Duration::from_secs(10)).await.unwrap();
}
