//! General stores under the journal's workload, behind the same group commit: 256 tasks append
//! records of 1.3 KiB with distinct keys, each waits until its record is durable, and what was
//! appended a moment ago is removed again.
//!
//! `make bench-stores` prints a line per store: appends a second, their latency, CPU and bytes
//! written to the disk per append, records per sync, and the size that is left. `benches/journal.rs`
//! prints the same of the journal.

use std::{
    error::Error,
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase as _, TableDefinition};
use tokio::sync::{mpsc, oneshot};

type Outcome<T> = Result<T, Box<dyn Error>>;

const APPENDERS: u64 = 256;
/// An event with a body of 1 KiB, its headers and ids, as the journal stores it.
const RECORD: usize = 1_330;
/// What is remembered of a record for a day, so that a replay is known.
const KEY: usize = 40;
/// How many records wait to be processed: as many as an engine that keeps up leaves.
const BEHIND: u64 = 512;

/// A store: makes a batch durable, and removes what was processed meanwhile, in one commit.
trait Store: Send {
    fn commit(&mut self, records: &[(u64, Vec<u8>)], processed: &[u64]) -> Outcome<()>;
}

/// The floor: bytes at the end of a file, one fdatasync. It removes nothing and finds nothing.
struct Plain(File);

impl Store for Plain {
    fn commit(&mut self, records: &[(u64, Vec<u8>)], _processed: &[u64]) -> Outcome<()> {
        let bytes: Vec<u8> = records
            .iter()
            .flat_map(|(_, record)| record)
            .copied()
            .collect();
        self.0.write_all(&bytes)?;
        Ok(self.0.sync_data()?)
    }
}

struct Fjall {
    database: Database,
    records: Keyspace,
    keys: Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Outcome<Self> {
        let database = Database::builder(dir).open()?;
        let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
        let keys = database.keyspace("keys", KeyspaceCreateOptions::default)?;
        Ok(Self {
            database,
            records,
            keys,
        })
    }
}

impl Store for Fjall {
    fn commit(&mut self, records: &[(u64, Vec<u8>)], processed: &[u64]) -> Outcome<()> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for (number, record) in records {
            batch.insert(&self.records, number.to_be_bytes(), record.as_slice());
            batch.insert(&self.keys, hash(*number), &[0; KEY - 16][..]);
        }
        for number in processed {
            batch.remove(&self.records, number.to_be_bytes());
        }
        Ok(batch.commit()?)
    }
}

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
const KEYS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");

struct Redb(redb::Database);

impl Store for Redb {
    fn commit(&mut self, records: &[(u64, Vec<u8>)], processed: &[u64]) -> Outcome<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            let mut keys = transaction.open_table(KEYS)?;
            for (number, record) in records {
                table.insert(number, record.as_slice())?;
                keys.insert(hash(*number).as_slice(), &[0; KEY - 16][..])?;
            }
            for number in processed {
                table.remove(number)?;
            }
        }
        // Durability::Immediate is the default.
        Ok(transaction.commit()?)
    }
}

/// Keys come in no order, as delivery ids do.
fn hash(number: u64) -> [u8; 16] {
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    hash[8..].copy_from_slice(&number.to_be_bytes());
    hash
}

type Append = (u64, Vec<u8>, oneshot::Sender<()>);

/// Takes all that waits, commits it, answers; gives the number of commits.
fn committer(mut store: Box<dyn Store>, mut appends: mpsc::Receiver<Append>) -> u64 {
    let (mut batch, mut commits, mut processed) = (Vec::new(), 0, Vec::new());
    while appends.blocking_recv_many(&mut batch, 4_096) > 0 {
        let (records, answers): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .map(|(number, record, answer)| ((number, record), answer))
            .unzip();
        let done: Vec<u64> = records
            .iter()
            .filter_map(|(number, _)| number.checked_sub(BEHIND))
            .collect();
        store
            .commit(&records, &processed)
            .expect("the store commits");
        processed = done;
        commits += 1;
        for answer in answers {
            let _ = answer.send(());
        }
    }
    commits
}

/// CPU time of this process, and bytes it had written to disks.
fn spent() -> Outcome<(Duration, u64)> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let io = fs::read_to_string("/proc/self/io")?;
    let written = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or_default();
    Ok((Duration::from_millis(ticks * 10), written))
}

async fn measure(
    name: &str,
    seconds: u64,
    open: impl FnOnce(&Path) -> Outcome<Box<dyn Store>>,
) -> Outcome<()> {
    let dir = tempfile::tempdir_in(".")?;
    let store = open(dir.path())?;
    let (sender, receiver) = mpsc::channel(8_192);
    let thread = std::thread::spawn(move || committer(store, receiver));
    let (next, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (cpu, written) = spent()?;
    let begin = Instant::now();
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|_| {
            let (sender, next, stop) = (sender.clone(), Arc::clone(&next), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let mut record = vec![b'x'; RECORD];
                    record[..16].copy_from_slice(&hash(number));
                    let begin = Instant::now();
                    let (answer, answered) = oneshot::channel();
                    sender
                        .send((number, record, answer))
                        .await
                        .expect("the committer runs");
                    answered.await.expect("the committer answers");
                    latencies.push(begin.elapsed());
                }
                latencies
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for appender in appenders {
        latencies.extend(appender.await?);
    }
    let took = begin.elapsed().as_secs_f64();
    let (cpu, written) = {
        let now = spent()?;
        (now.0 - cpu, now.1 - written)
    };
    drop(sender);
    let commits = thread.join().map_err(|_| "the committer panicked")?;
    latencies.sort_unstable();
    let count = latencies.len() as f64;
    let mean = latencies.iter().sum::<Duration>().as_secs_f64() * 1e3 / count;
    let p99 = latencies[latencies.len() * 99 / 100].as_secs_f64() * 1e3;
    println!(
        "{name:<22} {:>8.0}/s  mean {mean:>6.2} ms  p99 {p99:>6.2} ms  cpu {:>5.2} us/append  {:>5.1} records/sync  {:>6.0} bytes written/append  {} MiB left",
        count / took,
        cpu.as_secs_f64() * 1e6 / count,
        count / commits as f64,
        written as f64 / count,
        size(dir.path())? >> 20,
    );
    Ok(())
}

fn size(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            size(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let seconds = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(10);
    measure("a file", seconds, |dir| {
        Ok(Box::new(Plain(File::create(dir.join("log"))?)))
    })
    .await?;
    measure("fjall", seconds, |dir| Ok(Box::new(Fjall::open(dir)?))).await?;
    measure("redb", seconds, |dir| {
        let database = redb::Database::create(dir.join("db"))?;
        database.begin_read()?;
        Ok(Box::new(Redb(database)))
    })
    .await
}
