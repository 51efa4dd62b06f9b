//! Trimming: a paused Ingestor beside a busy one costs no more than its own records.
//!
//! `ZEN_JOURNAL_RECORDS=2000000` runs the bar's size, with the segments of production and the time of
//! the restart held against two seconds; without it a smaller one, on which no time is judged.

use std::{num::NonZeroU32, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use zen_fabric::{
    api::SpecDigest,
    journal::{
        End, Ended, Event, FetchLimit, IngestorUid, Items, Journal, Key, KeyHash, Millis, Origin,
        PayloadDigest, Stats, Subscription,
        wal::{Options, Wal},
    },
    ops::time::{Clock, SystemClock},
    testing::subscriber,
};

const BATCH: u64 = 250;

fn uid(name: &str) -> IngestorUid {
    IngestorUid(format!("{name}-7d0c2c1e-8f0e-4a55-9d5e-0c1b1e2f3a4b").into())
}

fn event(n: u64, ingestor: &IngestorUid, now: Millis) -> Event {
    let body = vec![u8::try_from(n % 256).unwrap(); 1024];
    let hash = Sha256::digest(n.to_le_bytes());
    Event {
        ingestor: ingestor.clone(),
        spec: SpecDigest::of("{}"),
        event_id: format!("{n:032x}").into(),
        key: Some(Key {
            hash: KeyHash(hash.first_chunk().copied().unwrap()),
            window: Duration::from_hours(24),
            named: false,
        }),
        payload: PayloadDigest(hash.into()),
        accepted_at: now,
        origin: Origin::Request,
        traceparent: None,
        headers: vec![("content-type".into(), "application/json".into())],
        query: "".into(),
        body: body.into(),
    }
}

async fn subscribe(journal: &Wal) -> Arc<dyn Subscription> {
    subscriber::subscribe(journal, "core#1", subscriber::everything())
        .await
        .unwrap()
}

async fn finish(subscription: &dyn Subscription, ingestor: &IngestorUid) -> usize {
    let limit = FetchLimit {
        records: NonZeroU32::new(2000).unwrap(),
        bytes: 8 << 20,
    };
    let mut finished = 0;
    loop {
        let records = subscription
            .fetch(ingestor, None, limit)
            .await
            .unwrap()
            .records;
        if records.is_empty() {
            return finished;
        }
        finished += records.len();
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
        subscription.commit(ingestor, ends.collect()).await.unwrap();
    }
}

/// What the files take, as the file system says; those that go meanwhile take nothing.
fn on_disk(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap();
    let size = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.metadata().ok();
    // Blocks of 512 bytes: also what is allocated and not written.
    files.filter_map(size).map(|file| file.blocks() * 512).sum()
}

/// When the disk came nearest to its bound, or farthest above it.
#[derive(Debug)]
struct Peak {
    over: i64,
    disk: u64,
    stats: Stats,
}

fn look(dir: &Path, journal: &Wal, options: &Options, peak: &mut Option<Peak>) {
    // Before and after: what a commit frees in between is trimmed in the next round.
    let stats = journal.stats();
    let disk = on_disk(dir);
    let live = stats.live_bytes.max(journal.stats().live_bytes);
    let bound = 2 * live + 2 * options.segment_bytes;
    let over = i64::try_from(disk).unwrap() - i64::try_from(bound).unwrap();
    if peak.as_ref().is_none_or(|peak| over > peak.over) {
        *peak = Some(Peak { over, disk, stats });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_ingestor_costs_no_more_than_its_own_records() {
    let full = std::env::vars().find(|(name, _)| name == "ZEN_JOURNAL_RECORDS");
    let records: u64 = full
        .as_ref()
        .map_or(30_000, |(_, records)| records.parse().unwrap());
    let options = if full.is_some() {
        Options {
            share_bytes: 8 << 30,
            total_bytes: 16 << 30,
            ..Options::default()
        }
    } else {
        Options {
            segment_bytes: 1 << 20,
            ..Options::default()
        }
    };
    // Beside the build, on the disk that is measured, not where memory may be mounted.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let journal = Wal::open(dir.path(), options.clone(), Arc::clone(&clock)).unwrap();
    let (paused, busy) = (uid("paused"), uid("busy"));
    for ingestor in [&paused, &busy] {
        journal.put_spec(ingestor, "{}".into()).await.unwrap();
    }
    let subscription = subscribe(&journal).await;
    let now = clock.now();
    let (mut kept, mut peak) = (0, None);
    for batch in 0..records / BATCH {
        let appends = (0..BATCH).map(|n| {
            let n = batch * BATCH + n;
            journal.append(event(n, if n % 10 == 0 { &paused } else { &busy }, now))
        });
        for appended in futures::future::join_all(appends).await {
            appended.unwrap();
        }
        kept += usize::try_from(BATCH / 10).unwrap();
        look(dir.path(), &journal, &options, &mut peak);
        finish(subscription.as_ref(), &busy).await;
        look(dir.path(), &journal, &options, &mut peak);
    }
    let Peak { over, disk, stats } = peak.unwrap();
    println!("{disk} on disk, {over} above the bound, at the worst: {stats:?}");
    assert!(over <= 0, "{disk} on disk: {stats:?}");
    drop(subscription);
    let before = journal.stats();
    journal.close().await;
    drop(journal);

    let begin = clock.instant();
    let journal = Wal::open(dir.path(), options.clone(), Arc::clone(&clock)).unwrap();
    let took = clock.instant().duration_since(begin);
    println!(
        "{records} records, restart in {took:?}: {:?}",
        journal.stats()
    );
    if full.is_some() {
        assert!(took <= Duration::from_secs(2), "the restart took {took:?}");
    }
    assert_eq!(journal.stats().keys, before.keys);
    let tally = journal.tally(&busy);
    assert_eq!(
        (tally.requests, tally.observed, tally.backlog),
        (records / 10 * 9, records / 10 * 9, 0)
    );
    let subscription = subscribe(&journal).await;
    assert_eq!(
        finish(subscription.as_ref(), &paused).await,
        kept,
        "the paused one lost nothing"
    );
    assert_eq!(journal.tally(&paused).observed, records / 10);
}
