//! An embedded API, a journal on a simulated disk, and any number of engines.
//!
//! UIDs follow from the order of requests: two rigs that are asked the same have the same.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use k8s_openapi::{
    api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use prometheus::Registry;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_fabric::{
    api::{DecisionSpec, Ingestor, IngestorStatus, Observation, SpecDigest, crds},
    embedded::{Faults, Handle as Server, Server as Embedded},
    engine::start::{Engine, Handle, Options, Ports},
    journal::{
        Appended, Event, IngestorUid, Journal, Local, Millis, Origin, PayloadDigest, RecordId,
        Source, Tally,
        facts::{FactSource, Facts},
        wal::{self, Wal},
    },
    ops::{ready::Readiness, tasks::Tasks, time::Clock},
    testing::{
        clock::RuntimeClock,
        disk::{Faults as DiskFaults, SimDisk},
        seeded::Seeded,
    },
};

/// Simulated: what may take seconds is given an hour.
const PATIENCE: Duration = Duration::from_hours(1);

pub(super) struct Rig {
    pub(super) server: Server,
    pub(super) client: Client,
    pub(super) journal: Arc<Wal>,
    pub(super) clock: Arc<RuntimeClock>,
    pub(super) tasks: Tasks,
    pub(super) namespace: Namespace,
    engines: u64,
    disk: SimDisk,
    committing: CancellationToken,
}

fn open(disk: &SimDisk, clock: &Arc<RuntimeClock>, seed: u64) -> Arc<Wal> {
    let options = wal::Options {
        segment_bytes: 1 << 20,
        ..wal::Options::default()
    };
    Wal::open_manual(
        Arc::new(disk.clone()),
        options,
        Arc::clone(clock) as _,
        seed,
    )
    .unwrap()
}

#[derive(Debug)]
struct Serving(watch::Sender<u64>);

impl FactSource for Serving {
    fn facts(&self, _: &IngestorUid) -> Option<Facts> {
        Some(Facts {
            generation: Some(1),
            serving: true,
            ..Facts::default()
        })
    }

    fn all(&self) -> Vec<(IngestorUid, Facts)> {
        Vec::new()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// A log of this process, whose gateway serves everything.
pub(super) fn local(journal: Arc<dyn Journal>) -> Arc<dyn Source> {
    let facts = Serving(watch::Sender::new(0));
    Arc::new(Local::new(journal, Arc::new(facts)))
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").finish_non_exhaustive()
    }
}

impl Rig {
    pub(super) async fn new() -> Self {
        let clock = Arc::new(RuntimeClock::at(Millis(1_767_225_600_000)));
        let tasks = Tasks::new();
        let made = AtomicU64::new(0);
        let entropy = move || {
            let mut bits = Seeded::new(made.fetch_add(1, Ordering::Relaxed));
            u128::from(bits.bits()) << 64 | u128::from(bits.bits())
        };
        let server =
            Embedded::in_memory_with(Arc::clone(&clock) as Arc<dyn Clock>, &tasks, entropy);
        let client = server.client();
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in crds() {
            api.create(&PostParams::default(), &crd).await.unwrap();
        }
        let disk = SimDisk::new(7);
        let journal = open(&disk, &clock, 7);
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({ "metadata": { "name": "team" } })).unwrap();
        let namespace = namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        let committing = tasks.token();
        let mut rig = Self {
            server,
            client,
            journal,
            clock,
            tasks,
            namespace,
            engines: 0,
            disk,
            committing,
        };
        rig.commit();
        rig
    }

    /// The journal moves while the rig lives, or until its power is cut.
    fn commit(&mut self) {
        self.committing = self.tasks.token().child_token();
        self.moves(Arc::clone(&self.journal), self.committing.clone());
    }

    fn moves(&self, journal: Arc<Wal>, stop: CancellationToken) {
        self.tasks.spawn("journal", async move {
            while !stop.is_cancelled() {
                while journal.step() {}
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    /// The journal of another gateway.
    pub(super) fn another_journal(&self, seed: u64) -> Arc<Wal> {
        let journal = open(&SimDisk::new(seed), &self.clock, seed);
        self.moves(Arc::clone(&journal), self.tasks.token());
        journal
    }

    /// The journal loses its power and is opened again. Engines that worked with it must be stopped
    /// and let go of.
    pub(super) async fn cut_power(&mut self) {
        self.disk.set_faults(DiskFaults {
            crash_after: Some(0),
            ..DiskFaults::default()
        });
        // Who still asks hears that the disk fails. What of the old one still moved would write onto
        // the new one's disk.
        self.let_go_by_all_but(2).await;
        self.committing.cancel();
        self.let_go_by_all_but(1).await;
        self.journal = open(&SimDisk::new(0), &self.clock, 7);
        self.disk.crash();
        self.journal = open(&self.disk, &self.clock, 7);
        self.commit();
    }

    /// Whether the journal's disk fails, so that nothing is committed.
    pub(super) fn fail_syncs(&self, fail: bool) {
        self.disk.set_faults(DiskFaults {
            sync: if fail { 100 } else { 0 },
            ..DiskFaults::default()
        });
    }

    async fn let_go_by_all_but(&self, holders: usize) {
        self.until("the journal is let go of", || async {
            Arc::strong_count(&self.journal) <= holders
        })
        .await;
    }

    pub(super) fn faults(&self) -> Faults {
        self.server.faults()
    }

    /// An engine that owns everything, under a higher epoch than all before it.
    pub(super) async fn engine(&mut self) -> Handle {
        self.engine_on(Arc::clone(&self.journal) as _).await
    }

    pub(super) async fn engine_on(&mut self, journal: Arc<dyn Journal>) -> Handle {
        let engine = self.idle_engine();
        let before = journal.highest_epoch();
        engine.attach(local(Arc::clone(&journal)));
        engine.alone("core").await;
        self.until("everything is claimed", || async {
            journal.highest_epoch() > before
        })
        .await;
        engine
    }

    /// An engine that owns nothing, has no log, and whose gate is shut.
    pub(super) fn idle_engine(&mut self) -> Handle {
        self.engines += 1;
        let ports = Ports {
            client: self.client.clone(),
            clock: Arc::clone(&self.clock) as _,
        };
        let options = Options::new("the-pods-uid".to_owned(), self.engines);
        let (registry, readiness) = (Registry::new(), Readiness::new());
        Engine::start(options, ports, &registry, &readiness, &self.tasks).unwrap()
    }

    pub(super) async fn ingestor(&self, name: &str, spec: Value) -> Ingestor {
        let mut object = json!({
            "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor",
            "metadata": { "name": name, "namespace": "team" },
            "spec": {
                "source": { "webhook": { "auth": [{ "none": {} }] } },
                "normalize": {
                    "category": { "value": "security" }, "severity": { "value": "low" },
                    "eventType": { "expression": "body.kind" },
                },
            },
        });
        json_patch::merge(&mut object["spec"], &spec);
        let object: Ingestor = serde_json::from_value(object).unwrap();
        let api: Api<Ingestor> = Api::namespaced(self.client.clone(), "team");
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    /// The namespace is deleted, and another made of its name.
    pub(super) async fn replace_namespace(&mut self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete("team", &DeleteParams::default()).await.unwrap();
        self.until("the namespace is gone", || async {
            api.get_opt("team").await.unwrap().is_none()
        })
        .await;
        let again = serde_json::from_value(json!({ "metadata": { "name": "team" } })).unwrap();
        api.create(&PostParams::default(), &again).await.unwrap();
    }

    /// Changes the spec of an Ingestor, as somebody who edits it.
    pub(super) async fn edit(&self, name: &str, spec: &Value) -> Ingestor {
        let api: Api<Ingestor> = Api::namespaced(self.client.clone(), "team");
        let patch = Patch::Merge(json!({ "spec": spec }));
        let params = PatchParams::default();
        api.patch(name, &params, &patch).await.unwrap()
    }

    /// Puts the decision spec of `ingestor` in force, under the UID `uid`.
    pub(super) async fn accept_under(&self, ingestor: &Ingestor, uid: &IngestorUid) -> SpecDigest {
        self.accept_in(&self.journal, ingestor, uid).await
    }

    pub(super) async fn accept_in(
        &self,
        journal: &Wal,
        ingestor: &Ingestor,
        uid: &IngestorUid,
    ) -> SpecDigest {
        let namespace = self.namespace.uid().unwrap();
        let mut spec = DecisionSpec::of(ingestor, &namespace);
        spec.ingestor.uid = uid.0.to_string();
        let text = spec.to_text().unwrap();
        journal.put_spec(uid, text.into()).await.unwrap()
    }

    pub(super) async fn append(
        &self,
        uid: &IngestorUid,
        spec: SpecDigest,
        event_id: &str,
        body: &Value,
    ) -> RecordId {
        self.append_at(self.clock.now(), uid, spec, event_id, body)
            .await
    }

    pub(super) async fn append_at(
        &self,
        accepted_at: Millis,
        uid: &IngestorUid,
        spec: SpecDigest,
        event_id: &str,
        body: &Value,
    ) -> RecordId {
        let event = event(accepted_at, uid, spec, event_id, body);
        self.append_in(&self.journal, event).await
    }

    pub(super) async fn append_in(&self, journal: &Wal, event: Event) -> RecordId {
        match journal.append(event).await.unwrap() {
            Appended::Accepted(id) => id,
            Appended::Replayed(seen) => panic!("no key was given: {seen:?}"),
        }
    }

    /// Waits until every event of `uid` has its end; gives the tally.
    pub(super) async fn finished(&self, uid: &IngestorUid) -> Tally {
        self.until("the backlog is finished", || async {
            self.journal.tally(uid).backlog == 0
        })
        .await;
        self.journal.tally(uid)
    }

    pub(super) async fn until<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        let waiting = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited
            .unwrap_or_else(|_| panic!("never came: {what}; tallies {:?}", self.journal.tallies()));
    }

    pub(super) async fn status(&self, name: &str) -> Option<IngestorStatus> {
        let api: Api<Ingestor> = Api::namespaced(self.client.clone(), "team");
        api.get(name).await.unwrap().status
    }

    pub(super) async fn observations(&self) -> Vec<Observation> {
        let api: Api<Observation> = Api::namespaced(self.client.clone(), "team");
        api.list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
    }

    pub(super) async fn close(self) {
        self.tasks.stop(Duration::from_secs(60)).await.unwrap();
    }
}

pub(super) fn uid(of: &Ingestor) -> IngestorUid {
    IngestorUid(of.uid().unwrap().into())
}

pub(super) fn event(
    accepted_at: Millis,
    uid: &IngestorUid,
    spec: SpecDigest,
    event_id: &str,
    body: &Value,
) -> Event {
    let body = Bytes::from(body.to_string());
    Event {
        ingestor: uid.clone(),
        spec,
        event_id: event_id.into(),
        key: None,
        payload: PayloadDigest(Sha256::digest(&body).into()),
        accepted_at,
        origin: Origin::Request,
        traceparent: None,
        headers: vec![("content-type".into(), "application/json".into())],
        query: "".into(),
        body,
    }
}
