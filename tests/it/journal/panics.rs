//! A panic of the committer: nobody waits for it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use zen_fabric::{
    api::SpecDigest,
    journal::{
        AppendError, Bucket, Event, IngestorUid, Journal as _, Millis, Origin, PayloadDigest,
        SubscriptionError,
        wal::{
            Options, Wal,
            disk::{Disk, DiskFile},
        },
    },
    testing::{clock::ManualClock, disk::SimDisk, subscriber},
};

const NOW: Millis = Millis(1_790_000_000_000);
const PATIENCE: Duration = Duration::from_secs(30);

/// A disk on which a sync panics once the mine is armed.
#[derive(Clone, Debug)]
struct Mined {
    disk: Arc<dyn Disk>,
    armed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct MinedFile {
    file: Arc<dyn DiskFile>,
    armed: Arc<AtomicBool>,
}

impl Mined {
    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let armed = Arc::clone(&self.armed);
        Arc::new(MinedFile { file, armed })
    }
}

impl Disk for Mined {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn create(&self, name: &str, allocate: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name, allocate).map(|file| self.file(file))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name).map(|file| self.file(file))
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

impl DiskFile for MinedFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, into)
    }
    fn sync(&self) -> io::Result<()> {
        assert!(!self.armed.load(Ordering::SeqCst), "planted");
        self.file.sync()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

fn uid() -> IngestorUid {
    IngestorUid("a".into())
}

fn event(n: u8) -> Event {
    Event {
        ingestor: uid(),
        spec: SpecDigest::of("{}"),
        event_id: format!("{n}").into(),
        key: None,
        payload: PayloadDigest(Sha256::digest([n]).into()),
        accepted_at: NOW,
        origin: Origin::Request,
        traceparent: None,
        headers: Vec::new(),
        query: "".into(),
        body: vec![n].into(),
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, what).await;
    waited.expect("nobody waits for a committer that is gone")
}

#[tokio::test]
async fn what_was_staged_fails_appends_are_refused_and_the_process_hears_of_it() {
    let (disk, armed) = (SimDisk::new(1), Arc::<AtomicBool>::default());
    let mined = Mined {
        disk: Arc::new(disk.clone()),
        armed: Arc::clone(&armed),
    };
    let clock = Arc::new(ManualClock::at(NOW));
    let options = Options {
        cache_bytes: 0,
        ..Options::default()
    };
    let journal = Wal::open_on(Arc::new(mined), options.clone(), clock.clone(), 1).unwrap();
    journal.put_spec(&uid(), "{}".into()).await.unwrap();
    let claims = subscriber::claims([Bucket::of(&uid())]);
    let subscription = subscriber::subscribe(journal.as_ref(), "core#1", claims)
        .await
        .unwrap();
    journal.append(event(0)).await.unwrap();
    subscription.ready().await.unwrap();
    armed.store(true, Ordering::SeqCst);

    let (lost, ready) =
        soon(async { tokio::join!(journal.append(event(1)), subscription.ready()) }).await;
    let refused =
        |error: &AppendError| matches!(error, AppendError::Disk(_) | AppendError::Closing);
    assert!(lost.as_ref().is_err_and(refused), "{lost:?}");
    assert!(
        matches!(ready, Err(SubscriptionError::Closing)),
        "{ready:?}"
    );
    soon(journal.broken().cancelled()).await;
    let later = soon(journal.append(event(2))).await;
    assert!(later.as_ref().is_err_and(refused), "{later:?}");
    let commit = soon(subscription.commit(&uid(), Vec::new())).await;
    assert!(commit.is_err());
    assert!(journal.stats().unavailable.is_some());
    soon(journal.close()).await;
    drop((subscription, journal));

    // What was acknowledged is there for the next process.
    let journal = Wal::open_on(Arc::new(disk), options, clock, 1).unwrap();
    let backlog = journal.tally(&uid()).backlog;
    assert!((1..=2).contains(&backlog), "{backlog}");
    journal.close().await;
}
