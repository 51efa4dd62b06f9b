//! A fleet of replicas, and its API server.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::Lease,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, api::PostParams, client::Body};
use prometheus::Registry;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use zen_fabric::{
    api::{ShardMap, crds},
    coordination::{
        assign::assign,
        edge::{self, Handle, Options, Ports, snapshot::Snapshot},
        message::PROTOCOL,
        names::PodName,
        port::Input,
        replica::Me,
        timing::Timing,
        wire::Place,
    },
    embedded::{self, Server},
    journal::{BUCKETS, Epoch},
    ops::{metrics, tasks::Tasks, time::SystemClock},
    peer::{Credentials, PeerIdentity, Role, ca::Dev},
};

use super::{
    log::{Log, Recorder, Workers},
    proxy::Proxy,
};

/// What a loaded machine may take for what takes a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// An API server, and authorities for certificates.
pub(super) struct World {
    pub(super) api: embedded::Handle,
    pub(super) client: Client,
    pub(super) ca: Dev,
    _dir: TempDir,
}

/// One fleet in it.
pub(super) struct Fleet<'w> {
    pub(super) world: &'w World,
    pub(super) name: &'static str,
    pub(super) log: Log,
    pub(super) replicas: BTreeMap<String, Replica>,
    pub(super) remembers: Option<Epoch>,
}

/// A replica, as it might be a process.
pub(super) struct Replica {
    runtime: Option<Runtime>,
    pub(super) handle: Handle,
    pub(super) registry: Registry,
    pub(super) address: SocketAddr,
    /// Whether it reaches the API server.
    reaches: Arc<AtomicBool>,
}

impl World {
    pub(super) async fn new() -> Self {
        let tasks = Tasks::new();
        let api = Server::in_memory(Arc::new(SystemClock), &tasks);
        let client = api.client();
        for crd in crds() {
            let api: Api<CustomResourceDefinition> = Api::all(client.clone());
            api.create(&PostParams::default(), &crd).await.unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let ca = Dev::create(dir.path()).unwrap();
        Self {
            api,
            client,
            ca,
            _dir: dir,
        }
    }

    pub(super) fn fleet(&self, name: &'static str) -> Fleet<'_> {
        Fleet {
            world: self,
            name,
            log: Log::default(),
            replicas: BTreeMap::new(),
            remembers: None,
        }
    }

    pub(super) fn maps(&self) -> Api<ShardMap> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(super) fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), "default")
    }
}

impl Fleet<'_> {
    /// Starts a replica; it is ready at once.
    pub(super) async fn start(&mut self, pod: &str) {
        self.begin(pod, None).await;
    }

    /// Starts so many: core-0, core-1, …
    pub(super) async fn start_all(&mut self, count: usize) {
        for n in 0..count {
            self.start(&format!("core-{n}")).await;
        }
        self.settled().await;
    }

    /// Starts one that others reach by this path alone.
    pub(super) async fn start_behind_proxy(&mut self, pod: &str) -> Proxy {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap()).await;
        self.begin(pod, Some((listener, proxy.address))).await;
        proxy
    }

    async fn begin(&mut self, pod: &str, at: Option<(std::net::TcpListener, SocketAddr)>) {
        let (listener, address) = at.unwrap_or_else(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            (listener, address)
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let identity = PeerIdentity::new(self.name, Role::Core, Some(pod)).unwrap();
        let files = self.world.ca.issue(&identity).unwrap();
        let registry = Registry::new();
        let recorder = Recorder::new(&self.log, self.remembers);
        let reaches = Arc::new(AtomicBool::new(true));
        let starting = run(
            Me {
                fleet: self.name.into(),
                pod: PodName(pod.into()),
                pod_uid: format!("uid-of-{pod}").into(),
                address: address.to_string().into(),
                region: "r".into(),
                zone: "z".into(),
                weight: 100,
                build: "1".into(),
                protocol: PROTOCOL,
                buckets: BUCKETS,
            },
            Place {
                namespace: "default".into(),
                release: self.name.into(),
                owned: false,
            },
            (self.world.api.clone(), Arc::clone(&reaches)),
            (files, registry.clone(), listener),
            Arc::clone(&recorder),
        );
        let handle = runtime.spawn(starting).await.unwrap();
        recorder.begin(handle.clone());
        handle.input(Input::Ready);
        let replica = Replica {
            runtime: Some(runtime),
            handle,
            registry,
            address,
            reaches,
        };
        self.replicas.insert(pod.to_owned(), replica);
    }

    /// Ends a replica as `kill -9` does: all at once, without a word.
    pub(super) fn kill(&mut self, pod: &str) {
        drop(self.replicas.remove(pod).unwrap());
    }

    pub(super) fn of(&self, pod: &str) -> &Replica {
        &self.replicas[pod]
    }

    pub(super) fn pods(&self) -> Vec<&str> {
        self.replicas.keys().map(String::as_str).collect()
    }

    /// Waits until everybody works on its share and nothing moves.
    pub(super) async fn settled(&self) {
        self.until("the fleet has settled", || self.is_settled())
            .await;
    }

    fn is_settled(&self) -> bool {
        let pods = self.pods();
        let shares = self.log.shares();
        let shots: Vec<_> = self
            .replicas
            .values()
            .map(|r| r.handle.snapshot())
            .collect();
        let leaders = shots.iter().filter(|shot| shot.leads).count();
        let linked = |shot: &Snapshot| {
            let reached = shot.members.iter().filter(|member| {
                member.state.as_deref() == Some("Active")
                    && member.link.as_deref().is_none_or(|link| link == "reached")
            });
            reached.count() == pods.len()
                && shot.members.iter().filter(|m| m.link.is_some()).count() >= pods.len() - 1
        };
        leaders == 1
            && shots.iter().all(|shot| {
                shot.gate_open && shot.moves.is_empty() && shot.version == shots[0].version
            })
            && shots.iter().all(linked)
            && self.log.covered_by(&pods)
            && shares.len() == pods.len()
            && shares.values().all(|share| *share <= bound(pods.len()))
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn() -> bool) -> Duration {
        let begun = Instant::now();
        while !holds() {
            if begun.elapsed() > PATIENCE {
                let shots = self.replicas.values().map(|r| r.handle.snapshot());
                for shot in shots {
                    let buckets = shot.buckets.len();
                    println!(
                        "{:?} {buckets} buckets",
                        Snapshot {
                            buckets: vec![],
                            ..shot
                        }
                    );
                }
                panic!(
                    "not within {PATIENCE:?}: {what}; shares {:?}",
                    self.log.shares()
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        begun.elapsed()
    }

    pub(super) fn leader(&self) -> Option<String> {
        let leads = |replica: &&Replica| replica.handle.snapshot().leads;
        let found = self.replicas.iter().find(|(_, replica)| leads(replica));
        found.map(|(pod, _)| pod.clone())
    }
}

/// The bound of a pod: a tenth above the mean, or a bucket.
fn bound(pods: usize) -> usize {
    let mean = usize::from(BUCKETS).div_ceil(pods);
    (mean * 11 / 10 + 1).max(mean + 1)
}

impl Replica {
    /// Whether it reaches the API server from now on.
    pub(super) fn api(&self, reaches: bool) {
        self.reaches.store(reaches, Ordering::SeqCst);
    }

    pub(super) fn counter(&self, name: &str, label: &str) -> u64 {
        let text = String::from_utf8(metrics::text(&self.registry).unwrap()).unwrap();
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let ours = samples.filter(|(series, _)| {
            let (of, labels) = series.split_once('{').unwrap_or((series, ""));
            of == name && labels.contains(label)
        });
        ours.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts a replica inside its runtime.
async fn run(
    me: Me,
    place: Place,
    (api, reaches): (embedded::Handle, Arc<AtomicBool>),
    (files, registry, listener): (zen_fabric::peer::Files, Registry, std::net::TcpListener),
    recorder: Arc<Recorder>,
) -> Handle {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let operators = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = operators.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            drop(operators.accept().await);
        }
    });
    let credentials = Credentials::load(files, &registry).await.unwrap();
    let seed = u64::from(listener.local_addr().unwrap().port());
    let options = Options {
        me,
        admin: admin.into(),
        place,
        timing: Timing::default(),
        assign,
        seed,
    };
    let ports = Ports {
        client: switched(&api, reaches),
        credentials,
        listener,
        work: Arc::new(Workers(recorder)),
        clock: Arc::new(SystemClock),
    };
    edge::start(options, ports, &registry, &Tasks::new()).unwrap()
}

/// A client whose requests, and the bodies of whose answers, wait for ever while it is switched off.
fn switched(api: &embedded::Handle, reaches: Arc<AtomicBool>) -> Client {
    let inner = api.client();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (inner, reaches) = (inner.clone(), Arc::clone(&reaches));
        async move {
            if !reaches.load(Ordering::SeqCst) {
                return Err(tower::BoxError::from("the API server is switched off"));
            }
            let response = inner.send(request).await?;
            Ok(response.map(|body| Gate { body, reaches }))
        }
    });
    Client::new(service, "default")
}

/// A body that ends when the API server is switched off.
struct Gate {
    body: Body,
    reaches: Arc<AtomicBool>,
}

impl http_body::Body for Gate {
    type Data = bytes::Bytes;
    type Error = tower::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, tower::BoxError>>> {
        let polled = std::pin::Pin::new(&mut self.body).poll_frame(context);
        if !self.reaches.load(Ordering::SeqCst) {
            return std::task::Poll::Ready(Some(Err("the API server is switched off".into())));
        }
        polled.map_err(Into::into)
    }
}
