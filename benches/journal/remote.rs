//! The log over gRPC and mutual TLS on loopback: how fast a core gets through a backlog of small
//! records, fetched and committed Ingestor by Ingestor, several at a time; and how long commits take.

use std::{
    num::NonZeroU32,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use prometheus::Registry;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tonic::{service::Routes, transport::Channel};
use zen_fabric::{
    journal::{
        Appended, End, Ended, Event, FetchLimit, Holder, IngestorUid, Items, Journal, Local,
        Millis, PayloadDigest, Source, Subscription,
        cases::Nothing,
        remote::{client, server, view::NoMap},
        wal::{Options, Wal},
    },
    ops::{tasks::Tasks, time::SystemClock},
    peer::{self, Bounds, Credentials, Expected, PeerIdentity, Role, ca::Dev},
    testing::subscriber,
};

/// Ingestors with work.
const INGESTORS: usize = 64;

/// How many of them a core works on at a time.
const AT_ONCE: usize = 16;

/// Records of one fetch, as the engine asks for.
const FETCH: u32 = 256;

fn uid(n: usize) -> IngestorUid {
    IngestorUid(format!("7d0c2c1e-8f0e-4a55-9d5e-{n:012}").into())
}

async fn fill(journal: &Arc<Wal>, records: usize, event: &Event) {
    let appends = (0..records).map(|n| {
        let event = Event {
            ingestor: uid(n % INGESTORS),
            key: None,
            ..event.clone()
        };
        async move { journal.append(event).await.unwrap() }
    });
    let appended = stream::iter(appends).buffer_unordered(512);
    let accepted = appended.filter(|it| std::future::ready(matches!(it, Appended::Accepted(_))));
    assert_eq!(accepted.count().await, records);
}

/// Works through one queue; says how long each commit took.
async fn work(core: &dyn Subscription, uid: IngestorUid) -> Vec<Duration> {
    let limit = FetchLimit {
        records: NonZeroU32::new(FETCH).unwrap(),
        bytes: 1 << 20,
    };
    let mut took = Vec::new();
    loop {
        let records = core.fetch(&uid, None, limit).await.unwrap().records;
        if records.is_empty() {
            return took;
        }
        let items = Items {
            observed: 1,
            ..Items::default()
        };
        let ends = records.iter().map(|record| Ended {
            position: record.id.position,
            end: End::Observed,
            items,
            letters: Vec::new(),
            observation: None,
        });
        let begin = Instant::now();
        core.commit(&uid, ends.collect()).await.unwrap();
        took.push(begin.elapsed());
    }
}

async fn credentials(ca: &Dev, role: Role) -> Arc<Credentials> {
    let identity = PeerIdentity::new("bench", role, None).unwrap();
    let files = ca.issue(&identity).unwrap();
    Credentials::load(files, &Registry::new()).await.unwrap()
}

async fn serve(journal: &Arc<Wal>, dir: &Path, tasks: &Tasks) -> Channel {
    let ca = Dev::create(dir).unwrap();
    let journal = Arc::clone(journal) as Arc<dyn Journal>;
    let source = Arc::new(Local::new(journal, Arc::new(Nothing::default())));
    let map = Arc::new(NoMap::default());
    let service = server::service(source, map, &Registry::new(), tasks).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (gateway, core) = (
        credentials(&ca, Role::Gateway).await,
        credentials(&ca, Role::Core).await,
    );
    let routes = Routes::new(service);
    let cores = Expected::role(Role::Core);
    peer::serve(listener, gateway, cores, routes, tasks, Bounds::default());
    peer::connect(&address, &core, &Expected::role(Role::Gateway))
}

fn told(name: &str, records: usize, took: Duration, mut commits: Vec<Duration>) {
    commits.sort_unstable();
    let p99 = commits[commits.len() * 99 / 100].as_secs_f64() * 1e3;
    let median = commits[commits.len() / 2].as_secs_f64() * 1e3;
    println!(
        "{name:<22} {:>8.0}/s  commits: {}, p50 {median:>6.2} ms  p99 {p99:>6.2} ms",
        records as f64 / took.as_secs_f64(),
        commits.len(),
    );
}

/// The same backlog, in this process and over the network.
pub(crate) async fn measure(records: usize, body: usize, event: Event) {
    let payload = Bytes::from(vec![b'x'; body]);
    let event = Event {
        payload: PayloadDigest(Sha256::digest(&payload).into()),
        accepted_at: Millis(1_790_000_000_000),
        body: payload,
        ..event
    };
    for network in [false, true] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let data = dir.path().join("journal");
        let journal = Wal::open(&data, Options::default(), Arc::new(SystemClock)).unwrap();
        for n in 0..INGESTORS {
            journal.put_spec(&uid(n), "{}".into()).await.unwrap();
        }
        fill(&journal, records, &event).await;
        let tasks = Tasks::new();
        let holder = Holder("core-0#1".into());
        let core = if network {
            let channel = serve(&journal, &dir.path().join("peers"), &tasks).await;
            let source = client::connect(channel, &tasks).await.unwrap();
            source.open(holder).await.unwrap()
        } else {
            journal.subscribe(holder).unwrap()
        };
        assert_eq!(core.claim(subscriber::everything()).await, Ok(Vec::new()));
        let begin = Instant::now();
        let working = (0..INGESTORS).map(|n| work(core.as_ref(), uid(n)));
        let commits: Vec<Vec<Duration>> = stream::iter(working)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let took = begin.elapsed();
        assert_eq!(journal.stats().backlog, 0);
        let name = if network {
            "core, over gRPC"
        } else {
            "core, in process"
        };
        told(name, records, took, commits.concat());
        drop(core);
        tasks.stop(Duration::from_secs(5)).await.unwrap();
        journal.close().await;
    }
}
