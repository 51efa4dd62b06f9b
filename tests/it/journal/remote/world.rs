//! A fleet's certificates, gateways that serve a log, and cores that connect.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use prometheus::Registry;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch};
use tonic::{service::Routes, transport::Channel};
use zen_fabric::{
    api::SpecDigest,
    journal::{
        Appended, Bucket, Claim, End, Ended, Epoch, Event, FetchLimit, Holder, IngestorUid, Items,
        Journal, Local, LogId, Millis, Origin, PayloadDigest, RecordId, Source, SpecText,
        Subscription, SubscriptionError, Tally,
        cases::Nothing,
        facts::Facts,
        remote::{
            client::{self, Remote},
            pb::journal_client::JournalClient,
            server,
            view::{MapView, NoMap},
        },
        wal::{Options, Wal},
    },
    ops::{metrics, tasks::Tasks},
    peer::{self, Bounds, Credentials, Expected, PeerIdentity, Role, ca::Dev},
    testing::disk::SimDisk,
};

use super::super::clock;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Tries until it holds.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let holding = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, holding).await;
}

// === the fleet ===

pub(super) struct Fleet {
    ca: Dev,
    _dir: TempDir,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

/// A gateway process.
#[derive(Debug)]
pub(super) struct Gateway {
    address: SocketAddr,
    registry: Registry,
    tasks: Tasks,
}

/// A core process.
pub(super) struct Core {
    credentials: Arc<Credentials>,
    pub(super) tasks: Tasks,
}

impl Fleet {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            ca: Dev::create(dir.path()).unwrap(),
            _dir: dir,
        }
    }

    async fn credentials(&self, role: Role, pod: Option<&str>) -> (Arc<Credentials>, Registry) {
        let identity = PeerIdentity::new("f", role, pod).unwrap();
        let registry = Registry::new();
        let files = self.ca.issue(&identity).unwrap();
        let credentials = Credentials::load(files, &registry).await.unwrap();
        (credentials, registry)
    }

    pub(super) async fn gateway(&self, source: Arc<dyn Source>) -> Gateway {
        self.gateway_at("127.0.0.1:0", source, Arc::new(NoMap::default()))
            .await
    }

    pub(super) async fn gateway_at(
        &self,
        address: &str,
        source: Arc<dyn Source>,
        map: Arc<dyn MapView>,
    ) -> Gateway {
        let (credentials, registry) = self.credentials(Role::Gateway, Some("gw-0")).await;
        let tasks = Tasks::new();
        // The one before may still be about to close it.
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let address = listener.local_addr().unwrap();
        let service = server::service(source, map, &registry, &tasks).unwrap();
        peer::serve(
            listener,
            credentials,
            Expected::role(Role::Core),
            Routes::new(service),
            &tasks,
            Bounds::default(),
        );
        Gateway {
            address,
            registry,
            tasks,
        }
    }

    pub(super) async fn core(&self, pod: Option<&str>) -> Core {
        let (credentials, _) = self.credentials(Role::Core, pod).await;
        Core {
            credentials,
            tasks: Tasks::new(),
        }
    }
}

impl Gateway {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process ends.
    pub(super) async fn stop(self) {
        self.tasks.stop(PATIENCE).await.unwrap();
    }

    /// A sample of a metric, by its label's value; the whole metric where that is empty.
    pub(super) fn metric(&self, name: &str, label: &str) -> u64 {
        let text = String::from_utf8(metrics::text(&self.registry).unwrap()).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| line.rsplit_once(' '));
        let ours = samples.filter(|(series, _)| {
            let (of, labels) = series.split_once('{').unwrap_or((series, ""));
            of.ends_with(name) && labels.contains(label)
        });
        ours.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }
}

impl Core {
    pub(super) fn channel(&self, address: SocketAddr) -> Channel {
        let gateway = Expected::role(Role::Gateway);
        peer::connect(&address.to_string(), &self.credentials, &gateway)
    }

    /// A bare client, for what no good core sends.
    pub(super) fn bare(&self, address: SocketAddr) -> JournalClient<Channel> {
        JournalClient::new(self.channel(address))
    }

    pub(super) async fn connect(&self, address: SocketAddr) -> Arc<Remote> {
        let connecting = client::connect(self.channel(address), &self.tasks);
        soon("the gateway is reached", connecting).await.unwrap()
    }
}

// === logs ===

/// A source that can be taken away and put back.
#[derive(Debug)]
pub(super) struct Switch {
    current: Mutex<Option<Arc<dyn Source>>>,
    log: Mutex<LogId>,
    changes: watch::Sender<u64>,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            current: Mutex::default(),
            log: Mutex::new(LogId(0)),
            changes: watch::Sender::new(0),
        }
    }
}

impl Switch {
    pub(super) fn set(&self, source: Option<Arc<dyn Source>>) {
        if let Some(source) = &source {
            *self.log.lock().unwrap() = source.log();
        }
        *self.current.lock().unwrap() = source;
    }

    fn current(&self) -> Option<Arc<dyn Source>> {
        self.current.lock().unwrap().clone()
    }
}

impl Source for Switch {
    fn log(&self) -> LogId {
        *self.log.lock().unwrap()
    }

    fn open(
        &self,
        holder: Holder,
    ) -> BoxFuture<'_, Result<Arc<dyn Subscription>, SubscriptionError>> {
        // Done at once, so that nothing of the journal is kept here.
        let opened = self
            .current()
            .map(|source| source.open(holder).now_or_never().unwrap());
        async move { opened.unwrap_or(Err(SubscriptionError::Closing)) }.boxed()
    }

    fn tallies(&self) -> Vec<(IngestorUid, Tally)> {
        self.current()
            .map(|source| source.tallies())
            .unwrap_or_default()
    }

    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts> {
        self.current()?.facts(ingestor)
    }

    fn all_facts(&self) -> Vec<(IngestorUid, Facts)> {
        self.current()
            .map(|source| source.all_facts())
            .unwrap_or_default()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn spec_in_force(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Option<SpecText>> {
        let spec = self
            .current()
            .and_then(|source| source.spec_in_force(ingestor).now_or_never().unwrap());
        async move { spec }.boxed()
    }

    fn highest_epoch(&self) -> BoxFuture<'_, Result<Epoch, SubscriptionError>> {
        let epoch = self
            .current()
            .map(|source| source.highest_epoch().now_or_never().unwrap());
        async move { epoch.unwrap_or(Err(SubscriptionError::Closing)) }.boxed()
    }
}

/// A journal on a disk in memory; the seed is its log's id.
pub(super) fn journal(seed: u64) -> Arc<dyn Journal> {
    let disk = Arc::new(SimDisk::new(seed));
    Wal::open_on(disk, Options::default(), Arc::new(clock()), seed).unwrap()
}

pub(super) fn local(journal: &Arc<dyn Journal>) -> Arc<dyn Source> {
    Arc::new(Local::new(
        Arc::clone(journal),
        Arc::new(Nothing::default()),
    ))
}

// === what flows ===

/// Ingestors of different buckets.
pub(super) fn uid(n: usize) -> IngestorUid {
    let uids = [
        "5f0c7b1e-6a0f-4d55",
        "b2a94c31-0d7e-4f2b",
        "0c1d9c77-2f64-4a0e",
        "e77a0b52-91c3-4b16",
    ];
    IngestorUid(uids[n].into())
}

pub(super) fn claim(n: usize, epoch: u64) -> Claim {
    Claim {
        bucket: Bucket::of(&uid(n)),
        epoch: Some(Epoch(epoch)),
    }
}

pub(super) async fn append(journal: &Arc<dyn Journal>, n: usize, body: Vec<u8>) -> RecordId {
    journal.put_spec(&uid(n), "{}".into()).await.unwrap();
    let event = Event {
        ingestor: uid(n),
        spec: SpecDigest::of("{}"),
        event_id: "id".into(),
        key: None,
        payload: PayloadDigest(Sha256::digest(&body).into()),
        accepted_at: Millis(1_790_000_000_000),
        origin: Origin::Request,
        traceparent: None,
        headers: Vec::new(),
        query: "".into(),
        body: Bytes::from(body),
    };
    match journal.append(event).await.unwrap() {
        Appended::Accepted(id) => id,
        Appended::Replayed(seen) => panic!("{seen:?}"),
    }
}

pub(super) fn observed(record: RecordId) -> Ended {
    Ended {
        position: record.position,
        end: End::Observed,
        items: Items {
            observed: 1,
            ..Items::default()
        },
        letters: Vec::new(),
        observation: None,
    }
}

pub(super) fn limit(records: u32) -> FetchLimit {
    FetchLimit {
        records: records.try_into().unwrap(),
        bytes: 1 << 20,
    }
}

pub(super) fn is_unreachable<T>(result: &Result<T, SubscriptionError>) -> bool {
    matches!(result, Err(SubscriptionError::Unreachable(_)))
}
