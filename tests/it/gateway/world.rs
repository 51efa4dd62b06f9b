//! An embedded API, a segment log and a gateway on a free port, and a sender with a raw socket.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use zen_fabric::{
    api::{Ingestor, crds},
    embedded::{self, Server},
    engine::start::{self as engine, Engine, Ports},
    gateway::{Gateway, Handle, Options, Surroundings},
    journal::{
        FetchLimit, IngestorUid, Journal, Local, Record, Subscription, Tally,
        facts::Facts,
        wal::{self, Wal},
    },
    ops::{
        metrics,
        ready::Readiness,
        tasks::Tasks,
        time::{Clock, SystemClock},
    },
    testing::subscriber,
};

/// What a loaded machine may take for a step that takes milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The secret of every Ingestor that isn't told otherwise.
pub(super) const SECRET: &str = "it's a secret to everybody";

pub(super) struct World {
    pub(super) client: Client,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) gateway: Handle,
    pub(super) registry: prometheus::Registry,
    pub(super) tasks: Tasks,
    clock: Arc<dyn Clock>,
    _api: embedded::Handle,
    _dir: Option<TempDir>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

pub(super) fn loopback() -> Options {
    Options::loopback()
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(loopback(), wal::Options::default()).await
    }

    pub(super) async fn with(options: Options, log: wal::Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Wal::open(dir.path(), log, Arc::new(SystemClock)).unwrap();
        Self::start(journal, options, Arc::new(SystemClock), Some(dir)).await
    }

    /// One whose journal is given.
    pub(super) async fn on(journal: Arc<dyn Journal>, options: Options) -> Self {
        Self::start(journal, options, Arc::new(SystemClock), None).await
    }

    /// One with a clock of its own.
    pub(super) async fn at(clock: Arc<dyn Clock>, options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = wal::Options::default();
        let journal = Wal::open(dir.path(), log, clock.clone()).unwrap();
        Self::start(journal, options, clock, Some(dir)).await
    }

    async fn start(
        journal: Arc<dyn Journal>,
        options: Options,
        clock: Arc<dyn Clock>,
        dir: Option<TempDir>,
    ) -> Self {
        let tasks = Tasks::new();
        let api = Server::in_memory(Arc::new(SystemClock), &tasks);
        let client = api.client();
        for crd in crds() {
            let api: Api<CustomResourceDefinition> = Api::all(client.clone());
            api.create(&PostParams::default(), &crd).await.unwrap();
        }
        let registry = prometheus::Registry::new();
        let readiness = Readiness::new();
        let with = Surroundings {
            client: client.clone(),
            journal: Arc::clone(&journal),
            clock: clock.clone(),
            registry: &registry,
            readiness: &readiness,
            tasks: &tasks,
        };
        let gateway = Gateway::start(options, with).await.unwrap();
        let world = Self {
            client,
            journal,
            gateway,
            registry,
            tasks,
            clock,
            _api: api,
            _dir: dir,
        };
        world.namespace("team").await;
        world.secret("hook", &[("current", SECRET)]).await;
        until("the gateway is ready", || readiness.waiting().is_empty()).await;
        world
    }

    /// Starts another gateway on the same API and journal, and waits until it is ready.
    pub(super) async fn another_gateway(&self) -> Handle {
        let readiness = Readiness::new();
        let gateway = self.gateway_of(self.client.clone(), &readiness).await;
        until("it is ready", || readiness.waiting().is_empty()).await;
        gateway
    }

    /// Starts another gateway on any API and the same journal.
    pub(super) async fn gateway_of(&self, client: Client, readiness: &Readiness) -> Handle {
        let with = Surroundings {
            client,
            journal: Arc::clone(&self.journal),
            clock: self.clock.clone(),
            registry: &prometheus::Registry::new(),
            readiness,
            tasks: &self.tasks,
        };
        Gateway::start(loopback(), with).await.unwrap()
    }

    /// Starts a core that works on what the gateway accepts.
    pub(super) async fn engine(&self) {
        let ports = Ports {
            client: self.client.clone(),
            clock: self.clock.clone(),
        };
        let options = engine::Options::new("core".to_owned(), 7);
        let (registry, readiness) = (&self.registry, Readiness::new());
        let engine = Engine::start(options, ports, registry, &readiness, &self.tasks).unwrap();
        let log = Local::new(Arc::clone(&self.journal), self.gateway.facts());
        engine.attach(Arc::new(log));
        engine.alone("core").await;
    }

    pub(super) async fn namespace(&self, name: &str) {
        let namespace =
            serde_json::from_value::<Namespace>(json!({ "metadata": { "name": name } }));
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &namespace.unwrap())
            .await
            .unwrap();
    }

    pub(super) async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), "team");
        let data: serde_json::Map<_, _> = values
            .iter()
            .map(|(key, value)| {
                (
                    (*key).to_owned(),
                    json!(k8s_openapi::ByteString(value.as_bytes().to_vec())),
                )
            })
            .collect();
        let body = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": data });
        let secret: Secret = serde_json::from_value(body.clone()).unwrap();
        if api.get_opt(name).await.unwrap().is_none() {
            api.create(&PostParams::default(), &secret).await.unwrap();
        } else {
            let mut current = api.get(name).await.unwrap();
            current.data = secret.data;
            api.replace(name, &PostParams::default(), &current)
                .await
                .unwrap();
        }
    }

    pub(super) fn ingestors(&self) -> Api<Ingestor> {
        Api::namespaced(self.client.clone(), "team")
    }

    /// Applies an Ingestor and waits until its facts are what `until` asks for.
    pub(super) async fn ingestor(
        &self,
        name: &str,
        webhook: Value,
        done: impl Fn(&Facts) -> bool,
    ) -> IngestorUid {
        let ingestor = ingestor(name, webhook);
        let api = self.ingestors();
        let stored = match api.get_opt(name).await.unwrap() {
            None => api.create(&PostParams::default(), &ingestor).await.unwrap(),
            Some(_) => {
                let spec = serde_json::to_value(&ingestor.spec).unwrap();
                let patch = Patch::Merge(json!({ "spec": spec }));
                api.patch(name, &PatchParams::default(), &patch)
                    .await
                    .unwrap()
            }
        };
        let uid = IngestorUid(stored.metadata.uid.unwrap().into());
        self.facts(&uid, done).await;
        uid
    }

    /// The usual one: `github`, served.
    pub(super) async fn github(&self) -> IngestorUid {
        self.ingestor("github", github(), |facts| facts.serving)
            .await
    }

    pub(super) async fn facts(&self, uid: &IngestorUid, done: impl Fn(&Facts) -> bool) {
        let source = self.gateway.facts();
        let what = format!("facts of {uid}");
        until(&what, || {
            source.facts(uid).is_some_and(|facts| done(&facts))
        })
        .await;
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// Sends raw bytes on a connection of its own.
    pub(super) async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        answer(&mut stream).await
    }

    pub(super) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.raw(&request("POST", path, headers, body)).await
    }

    /// A delivery that GitHub could have sent.
    pub(super) async fn deliver(&self, id: &str, body: &[u8]) -> Answer {
        self.deliver_to(self.address(), id, body).await
    }

    /// The same, to another gateway.
    pub(super) async fn deliver_to(&self, gateway: SocketAddr, id: &str, body: &[u8]) -> Answer {
        let signature = sign(SECRET, body);
        let headers = [
            ("X-GitHub-Delivery", id),
            ("X-Hub-Signature-256", &signature),
        ];
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        let request = request("POST", "/hooks/team/github", &headers, body);
        stream.write_all(&request).await.unwrap();
        answer(&mut stream).await
    }

    pub(super) fn tally(&self, uid: &IngestorUid) -> Tally {
        self.journal.tally(uid)
    }

    pub(super) async fn subscribe(&self) -> Arc<dyn Subscription> {
        let journal = self.journal.as_ref();
        subscriber::subscribe(journal, "test#1", subscriber::everything())
            .await
            .unwrap()
    }

    pub(super) async fn records(&self, uid: &IngestorUid) -> Vec<Record> {
        let limit = FetchLimit {
            records: 1_000.try_into().unwrap(),
            bytes: usize::MAX,
        };
        self.subscribe()
            .await
            .fetch(uid, None, limit)
            .await
            .unwrap()
            .records
    }

    /// The sum of a metric's samples that carry `label`; an empty one stands for all.
    pub(super) fn counter(&self, name: &str, label: &str) -> u64 {
        let text = String::from_utf8(metrics::text(&self.registry).unwrap()).unwrap();
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let ours = samples.filter(|(series, _)| {
            let (of, labels) = series.split_once('{').unwrap_or((series, ""));
            of == name && labels.contains(label)
        });
        ours.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    pub(super) fn counters(&self, name: &str) -> u64 {
        self.counter(name, "")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "{name} twice");
        Some(value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts that this is a problem document of that status.
    #[track_caller]
    pub(super) fn is_problem(&self, status: u16) {
        assert_eq!(
            self.status,
            status,
            "{:?}",
            String::from_utf8_lossy(&self.body)
        );
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["contract_version"], "v1alpha1");
        for field in ["type", "title", "detail", "request_id"] {
            assert!(problem[field].is_string(), "{field}: {problem}");
        }
        let waits = matches!(status, 429 | 503);
        assert_eq!(self.header("retry-after").is_some(), waits);
        assert_eq!(problem.get("retry_after").is_some(), waits);
    }
}

pub(super) fn github() -> Value {
    json!({ "auth": [{ "github": { "secretRef": { "name": "hook" } } }] })
}

pub(super) fn ingestor(name: &str, webhook: Value) -> Ingestor {
    serde_json::from_value(json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor",
        "metadata": { "name": name, "namespace": "team" },
        "spec": {
            "source": { "webhook": webhook },
            "normalize": {
                "category": { "value": "security" }, "severity": { "value": "info" },
                "eventType": { "value": "test" },
            },
        },
    }))
    .unwrap()
}

pub(super) fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// A request; `Content-Type` is JSON unless the headers say otherwise.
pub(super) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: hooks.example.test\r\nContent-Length: {}\r\n",
        body.len()
    );
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        text.push_str("Content-Type: application/json\r\n");
    }
    for (name, value) in headers.iter().filter(|(_, value)| *value != "\0absent") {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// Reads one response.
pub(super) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Answer {
    let read = async {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            let count = stream.read_buf(&mut bytes).await.unwrap();
            assert!(
                count > 0,
                "closed within the header: {:?}",
                String::from_utf8_lossy(&bytes)
            );
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut body = bytes.split_off(head + 4);
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse().unwrap());
        while body.len() < length {
            assert!(
                stream.read_buf(&mut body).await.unwrap() > 0,
                "closed within the body"
            );
        }
        Answer {
            status,
            headers,
            body,
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("an answer in time")
}

/// Waits until `done`, looking often.
pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let looking = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, looking).await.is_ok(),
        "never: {what}"
    );
}
