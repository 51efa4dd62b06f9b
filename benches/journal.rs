//! What an append costs: 256 tasks, 1 KiB bodies with distinct keys, an engine that commits behind them.
//!
//! `cargo bench --features testing --bench journal -- [SECONDS]` prints a line per setting: appends
//! per second, their latency, CPU per append, records per sync, and the share of time spent in syncs.

#![allow(
    clippy::allow_attributes,
    clippy::indexing_slicing,
    clippy::unwrap_in_result,
    reason = "a bench that cannot start fails"
)]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measurement: its output is its result, and it reads clocks and its arguments"
)]

use std::{
    fs, io,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zen_fabric::{
    api::SpecDigest,
    journal::{
        Appended, End, Ended, Event, FetchLimit, IngestorUid, Items, Journal, Key, KeyHash, Millis,
        Origin, PayloadDigest,
        wal::{
            Durability, Options, Wal,
            disk::{Disk, DiskFile, RealDisk},
        },
    },
    ops::time::SystemClock,
    testing::subscriber,
};

const APPENDERS: u64 = 256;
const BODY: usize = 1024;

/// The real disk, with a watch on its syncs.
#[derive(Debug)]
struct Timed {
    disk: RealDisk,
    syncing: Arc<AtomicU64>,
}

#[derive(Debug)]
struct TimedFile {
    file: Arc<dyn DiskFile>,
    syncing: Arc<AtomicU64>,
}

impl Timed {
    fn timed(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(TimedFile {
            file,
            syncing: Arc::clone(&self.syncing),
        })
    }
}

impl Disk for Timed {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn create(&self, name: &str, allocate: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.timed(self.disk.create(name, allocate)?))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.timed(self.disk.open(name)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

impl DiskFile for TimedFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, into)
    }
    fn sync(&self) -> io::Result<()> {
        let begin = Instant::now();
        let result = self.file.sync();
        let took = u64::try_from(begin.elapsed().as_nanos()).unwrap();
        self.syncing.fetch_add(took, Ordering::Relaxed);
        result
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[path = "journal/remote.rs"]
mod remote;

fn uid() -> IngestorUid {
    IngestorUid("7d0c2c1e-8f0e-4a55-9d5e-0c1b1e2f3a4b".into())
}

fn event(n: u64, body: &Bytes, spec: SpecDigest, payload: PayloadDigest, now: Millis) -> Event {
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    hash[8..].copy_from_slice(&n.to_le_bytes());
    let header = |name: &str, value: &str| (name.into(), value.into());
    Event {
        ingestor: uid(),
        spec,
        event_id: format!("{n:032x}").into(),
        key: Some(Key {
            hash: KeyHash(hash),
            window: Duration::from_hours(24),
            named: false,
        }),
        payload,
        accepted_at: now,
        origin: Origin::Request,
        traceparent: None,
        headers: vec![
            header("content-type", "application/json"),
            header("user-agent", "GitHub-Hookshot/044aadd"),
            header("x-github-event", "push"),
            header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ],
        query: "".into(),
        body: body.clone(),
    }
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|field: &usize| fields[*field].parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

async fn drain(journal: Arc<Wal>, stop: Arc<AtomicBool>) -> u64 {
    let claims = subscriber::everything();
    let subscription = subscriber::subscribe(journal.as_ref(), "bench#1", claims)
        .await
        .unwrap();
    let limit = FetchLimit {
        records: NonZeroU32::new(1000).unwrap(),
        bytes: 4 << 20,
    };
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let records = subscription
            .fetch(&uid(), None, limit)
            .await
            .unwrap()
            .records;
        if records.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
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
        done += u64::try_from(records.len()).unwrap();
        subscription.commit(&uid(), ends.collect()).await.unwrap();
    }
    done
}

async fn measure(name: &str, options: Options, seconds: u64, drained: bool) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let syncing = Arc::new(AtomicU64::new(0));
    let disk = Timed {
        disk: RealDisk::open(dir.path()).unwrap(),
        syncing: Arc::clone(&syncing),
    };
    let journal = Wal::open_on(
        Arc::new(disk),
        options,
        Arc::new(SystemClock),
        rand::random(),
    )
    .unwrap();
    let spec = journal.put_spec(&uid(), "{}".into()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let drain = drained.then(|| tokio::spawn(drain(Arc::clone(&journal), Arc::clone(&stop))));
    let next = Arc::new(AtomicU64::new(0));
    let body = Bytes::from(vec![b'x'; BODY]);
    let payload = PayloadDigest(Sha256::digest(&body).into());
    let (begin, cpu_before, syncing_before) =
        (Instant::now(), cpu(), syncing.load(Ordering::Relaxed));
    let appenders = (0..APPENDERS).map(|_| {
        let (journal, next, body, stop) = (
            Arc::clone(&journal),
            Arc::clone(&next),
            body.clone(),
            Arc::clone(&stop),
        );
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let begin = Instant::now();
                let appended = journal
                    .append(event(n, &body, spec, payload, Millis(1_790_000_000_000)))
                    .await;
                assert!(
                    matches!(appended, Ok(Appended::Accepted(_))),
                    "{appended:?}"
                );
                latencies.push(begin.elapsed());
            }
            latencies
        })
    });
    let appenders: Vec<_> = appenders.collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies: Vec<Duration> = Vec::new();
    for appender in appenders {
        latencies.extend(appender.await.unwrap());
    }
    let (took, cpu) = (
        begin.elapsed().as_secs_f64(),
        cpu().checked_sub(cpu_before).unwrap(),
    );
    let committed = match drain {
        Some(drain) => drain.await.unwrap(),
        None => 0,
    };
    latencies.sort_unstable();
    let count = latencies.len();
    let mean = latencies.iter().sum::<Duration>().as_secs_f64() * 1e3 / count as f64;
    let p99 = latencies[count * 99 / 100].as_secs_f64() * 1e3;
    let stats = journal.stats();
    let synced =
        Duration::from_nanos(syncing.load(Ordering::Relaxed) - syncing_before).as_secs_f64();
    println!(
        "{name:<22} {:>8.0}/s  mean {mean:>6.2} ms  p99 {p99:>6.2} ms  cpu {:>5.2} us/append  {:>5.1} records/sync  {:>4.1} % of the time in sync  committed {committed}  disk {} MiB",
        count as f64 / took,
        cpu.as_secs_f64() * 1e6 / count as f64,
        stats.appended as f64 / stats.syncs as f64,
        synced / took * 100.0,
        stats.disk_bytes >> 20,
    );
    journal.close().await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(5);
    let options = Options {
        total_bytes: 16 << 30,
        share_bytes: 8 << 30,
        ..Options::default()
    };
    let body = Bytes::new();
    let payload = PayloadDigest([0; 32]);
    let sample = event(0, &body, SpecDigest::of("{}"), payload, Millis(0));
    remote::measure(100_000, BODY, sample).await;
    measure("durable, drained", options.clone(), seconds, true).await;
    measure("durable, appends alone", options.clone(), seconds, false).await;
    let unsafe_options = Options {
        durability: Durability::Unsafe,
        ..options
    };
    measure("without sync, drained", unsafe_options, seconds, true).await;
}
