//! A disk that fails, fills up, or forgets.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use zen_fabric::{
    api::SpecDigest,
    journal::{
        AppendError, Appended, Bucket, End, Ended, Event, FetchLimit, IngestorUid, Items, Journal,
        Key, KeyHash, Letter, Millis, Origin, PayloadDigest, Record, Subscription,
        SubscriptionError, Tally,
        wal::{OpenError, Options, RecoverError, Wal, disk::Disk as _},
    },
    testing::{
        clock::ManualClock,
        disk::{Faults, SimDisk},
        subscriber,
    },
};

const NOW: Millis = Millis(1_790_000_000_000);

fn uid() -> IngestorUid {
    IngestorUid("a".into())
}

fn event(n: usize) -> Event {
    let body = vec![u8::try_from(n % 256).unwrap(); 300];
    Event {
        ingestor: uid(),
        spec: SpecDigest::of("{}"),
        event_id: format!("{n}").into(),
        key: None,
        payload: PayloadDigest(Sha256::digest(&body).into()),
        accepted_at: NOW,
        origin: Origin::Request,
        traceparent: None,
        headers: Vec::new(),
        query: "".into(),
        body: body.into(),
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 8192,
        total_bytes: 1 << 20,
        share_bytes: 1 << 20,
        letter_bytes: 0,
        cache_bytes: 0,
        ..Options::default()
    }
}

fn open(disk: &SimDisk, clock: &ManualClock) -> Result<Arc<Wal>, OpenError> {
    Wal::open_on(
        Arc::new(disk.clone()),
        options(),
        Arc::new(clock.clone()),
        1,
    )
}

async fn subscribe(journal: &Wal) -> Arc<dyn Subscription> {
    let claims = subscriber::claims([Bucket::of(&uid())]);
    subscriber::subscribe(journal, "core#1", claims)
        .await
        .unwrap()
}

async fn served(subscription: &dyn Subscription) -> Vec<Record> {
    let fetched = subscription.fetch(&uid(), None, most()).await;
    fetched.unwrap().records
}

fn most() -> FetchLimit {
    FetchLimit {
        records: NonZeroU32::new(1000).unwrap(),
        bytes: 1 << 20,
    }
}

fn observed(record: &Record) -> Ended {
    let items = Items {
        observed: 1,
        ..Items::default()
    };
    Ended {
        position: record.id.position,
        end: End::Observed,
        items,
        letters: Vec::new(),
        observation: None,
    }
}

fn assert_sums(tally: &Tally) {
    let ends = tally.observed + tally.filtered + tally.deduplicated + tally.dead_lettered;
    assert_eq!(
        tally.requests + tally.replays,
        ends + tally.damaged + tally.backlog,
        "{tally:?}"
    );
}

/// A log of `records` records, three of them ended, whose newest segment holds a snapshot alone.
async fn log(records: usize) -> (SimDisk, ManualClock) {
    let (disk, clock) = (SimDisk::new(1), ManualClock::at(NOW));
    let journal = open(&disk, &clock).unwrap();
    journal.put_spec(&uid(), "{}".into()).await.unwrap();
    for n in 0..records {
        journal.append(event(n)).await.unwrap();
    }
    let subscription = subscribe(&journal).await;
    let ended = served(subscription.as_ref()).await;
    subscription
        .commit(&uid(), ended.iter().take(3).map(observed).collect())
        .await
        .unwrap();
    drop(subscription);
    journal.close().await;
    drop(journal);
    drop(open(&disk, &clock).unwrap());
    (disk, clock)
}

#[tokio::test]
async fn what_a_failing_disk_keeps_back_is_not_the_end_of_a_queue() {
    let (disk, clock) = log(40).await;
    let journal = open(&disk, &clock).unwrap();
    let subscription = subscribe(&journal).await;
    let reads = |reads| {
        disk.set_faults(Faults {
            reads,
            ..Faults::default()
        });
    };
    let fetch = |after| subscription.fetch(&uid(), after, most());
    reads(Some(1));
    let first = fetch(None).await.unwrap();
    assert!((1..37).contains(&first.records.len()), "{first:?}");
    assert!(!first.end);
    let last = first.records.last().map(|record| record.id.position);
    let behind = fetch(last).await;
    assert!(
        matches!(behind, Err(SubscriptionError::Disk(_))),
        "{behind:?}"
    );
    reads(None);
    let rest = fetch(last).await.unwrap();
    assert_eq!(first.records.len() + rest.records.len(), 37);
    assert!(rest.end);
    journal.close().await;
}

#[tokio::test]
async fn what_can_be_read_the_second_time_is_neither_lost_nor_passed_over() {
    let (disk, clock) = log(40).await;
    let journal = open(&disk, &clock).unwrap();
    let subscription = subscribe(&journal).await;
    let all = served(subscription.as_ref()).await;
    let blank = || {
        disk.set_faults(Faults {
            blank: 1,
            ..Faults::default()
        });
    };
    blank();
    let first = subscription.fetch(&uid(), None, most()).await;
    assert!(
        matches!(first, Err(SubscriptionError::Disk(_))),
        "{first:?}"
    );
    assert_eq!(served(subscription.as_ref()).await, all);
    // An end with a dead letter reads its event again.
    let letter = Letter {
        index: 0,
        reason: "Refused".into(),
        message: "no".into(),
    };
    let mut dead = observed(&all[0]);
    dead.end = End::DeadLettered;
    dead.items = Items {
        dead_lettered: 1,
        ..Items::default()
    };
    dead.letters = vec![letter];
    blank();
    let failed = subscription.commit(&uid(), vec![dead.clone()]).await;
    assert!(
        matches!(failed, Err(SubscriptionError::Disk(_))),
        "{failed:?}"
    );
    assert_eq!(subscription.commit(&uid(), vec![dead]).await, Ok(()));
    let tally = journal.tally(&uid());
    assert_eq!(
        (tally.dead_lettered, tally.damaged, tally.backlog),
        (1, 0, 36)
    );
    journal.close().await;
}

#[tokio::test]
async fn a_damaged_record_is_counted_and_the_rest_is_read_on() {
    let (disk, clock) = log(40).await;
    let (name, offset) = disk
        .files()
        .into_iter()
        .find_map(|(name, _)| {
            // The body of event 20.
            let at = disk
                .contents(&name)
                .windows(300)
                .position(|bytes| bytes.iter().all(|byte| *byte == 20));
            Some((name, at?))
        })
        .unwrap();
    assert!(disk.damage(&name, offset + 150));
    let journal = open(&disk, &clock).unwrap();
    for _ in 0..2 {
        let subscription = subscribe(&journal).await;
        let ids: Vec<usize> = served(subscription.as_ref())
            .await
            .iter()
            .map(|record| record.event.event_id.parse().unwrap())
            .collect();
        let expected: Vec<usize> = (3..40).filter(|n| *n != 20).collect();
        assert_eq!(ids, expected);
        let tally = journal.tally(&uid());
        assert_sums(&tally);
        assert_eq!(
            (tally.requests, tally.observed, tally.damaged, tally.backlog),
            (40, 3, 1, 36)
        );
        assert_eq!(journal.stats().damaged, 1);
    }
    journal.close().await;
    drop(journal);
    // It stays counted when its segment is long gone.
    let journal = open(&disk, &clock).unwrap();
    let subscription = subscribe(&journal).await;
    let rest: Vec<Ended> = served(subscription.as_ref())
        .await
        .iter()
        .map(observed)
        .collect();
    subscription.commit(&uid(), rest).await.unwrap();
    for n in 40..120 {
        journal.append(event(n)).await.unwrap();
        let records = served(subscription.as_ref()).await;
        subscription
            .commit(&uid(), records.iter().map(observed).collect())
            .await
            .unwrap();
    }
    drop(subscription);
    journal.close().await;
    drop(journal);
    let journal = open(&disk, &clock).unwrap();
    let tally = journal.tally(&uid());
    assert_sums(&tally);
    assert_eq!(
        (tally.requests, tally.observed, tally.damaged, tally.backlog),
        (120, 119, 1, 0)
    );
}

#[tokio::test]
async fn a_segment_that_is_missing_in_the_middle_costs_no_older_one() {
    let (disk, clock) = log(120).await;
    let names: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
    assert!(names.len() >= 5, "{names:?}");
    let (older, missing) = (&names[1], &names[2]);
    let whole = disk.fork();
    disk.remove(missing).unwrap();
    let before = disk.files();
    let refused = open(&disk, &clock);
    let Err(OpenError::Recover(error @ RecoverError::Missing { .. })) = refused else {
        panic!("{refused:?}");
    };
    let told = error.to_string();
    assert!(
        told.contains(missing.as_str()) && told.contains(older.as_str()),
        "{told}"
    );
    assert_eq!(disk.files(), before, "nothing was changed");
    // It is put back.
    let journal = open(&whole, &clock).unwrap();
    assert_eq!(served(subscribe(&journal).await.as_ref()).await.len(), 117);
    // Or the older ones are moved away: what they held is counted as lost.
    for name in &names[..2] {
        disk.remove(name).unwrap();
    }
    let journal = open(&disk, &clock).unwrap();
    let tally = journal.tally(&uid());
    assert_sums(&tally);
    assert!(tally.damaged > 0 && tally.backlog > 0, "{tally:?}");
}

#[tokio::test]
async fn whatever_bit_flips_the_sums_hold_and_what_is_whole_is_served() {
    let (disk, clock) = log(40).await;
    let files: Vec<(String, usize)> = disk.files();
    let mut damaged = 0;
    for (name, _) in &files {
        let used = disk
            .contents(name)
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        for offset in (0..used).step_by(37) {
            let disk = disk.fork();
            assert!(disk.damage(name, offset));
            let Ok(journal) = open(&disk, &clock) else {
                panic!("{name} at {offset}: one flipped bit must not close the log");
            };
            let subscription = subscribe(&journal).await;
            let records = served(subscription.as_ref()).await;
            let mut seen = std::collections::BTreeSet::new();
            for record in &records {
                let n: usize = record.event.event_id.parse().unwrap();
                assert_eq!(record.event, event(n), "{name} at {offset}");
                assert!(seen.insert(n));
            }
            assert!(records.is_sorted_by(|a, b| a.id.position < b.id.position));
            let tally = journal.tally(&uid());
            assert_sums(&tally);
            assert!(
                tally.damaged <= 40 && records.len() <= 40,
                "{name} at {offset}: {tally:?}"
            );
            damaged += tally.damaged;
        }
    }
    assert!(damaged > 20, "the flips hit records: {damaged}");
}

#[tokio::test]
async fn a_full_disk_refuses_appends_serves_the_rest_and_recovers() {
    let (disk, clock) = (SimDisk::new(1), ManualClock::at(NOW));
    // Of 32 KiB the last sixteenth is there for commits when no other segment fits.
    let options = Options {
        segment_bytes: 32 << 10,
        ..options()
    };
    let journal =
        Wal::open_on(Arc::new(disk.clone()), options, Arc::new(clock.clone()), 1).unwrap();
    journal.put_spec(&uid(), "{}".into()).await.unwrap();
    let capacity = |capacity| Faults {
        capacity,
        ..Faults::default()
    };
    disk.set_faults(capacity(Some(150_000)));
    let mut accepted = 0;
    let refused = loop {
        match journal.append(event(accepted)).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::NoSpace);
    assert!(accepted > 100, "{accepted}");
    assert!(journal.stats().unavailable.is_some());
    // What was accepted goes on, and frees the room that is missing.
    let subscription = subscribe(&journal).await;
    let records = served(subscription.as_ref()).await;
    assert_eq!(records.len(), accepted);
    for chunk in records.chunks(10) {
        subscription
            .commit(&uid(), chunk.iter().map(observed).collect())
            .await
            .unwrap();
    }
    for n in accepted.. {
        match journal.append(event(n)).await {
            Ok(_) => break,
            Err(error) => assert!(
                error == AppendError::NoSpace && n < accepted + 2000,
                "{error:?}"
            ),
        }
        clock.advance(Duration::from_millis(300));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(journal.stats().unavailable, None);
    assert_sums(&journal.tally(&uid()));
}

#[tokio::test]
async fn what_a_failed_sync_refused_is_never_served() {
    let (disk, clock) = (SimDisk::new(3), ManualClock::at(NOW));
    let journal = open(&disk, &clock).unwrap();
    journal.put_spec(&uid(), "{}".into()).await.unwrap();
    journal.append(event(0)).await.unwrap();
    disk.set_faults(Faults {
        sync: 100,
        ..Faults::default()
    });
    let refused = journal.append(event(1)).await;
    assert!(matches!(refused, Err(AppendError::Disk(_))), "{refused:?}");
    let still = journal.append(event(2)).await;
    assert!(matches!(still, Err(AppendError::Disk(_))), "{still:?}");
    let claims = subscriber::claims([Bucket(0)]);
    let subscription = subscriber::subscribe(journal.as_ref(), "x#1", claims).await;
    assert!(
        matches!(subscription, Err(SubscriptionError::Disk(_))),
        "an epoch that is not durable is not handed out"
    );
    disk.set_faults(Faults::default());
    for n in 0..2000 {
        match journal.append(event(3)).await {
            Ok(Appended::Accepted(_)) => break,
            other => assert!(n < 1999, "{other:?}"),
        }
        clock.advance(Duration::from_millis(300));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for round in 0..2 {
        let journal = if round == 0 {
            Arc::clone(&journal)
        } else {
            open(&disk, &clock).unwrap()
        };
        let subscription = subscribe(&journal).await;
        let ids: Vec<String> = served(subscription.as_ref())
            .await
            .iter()
            .map(|record| record.event.event_id.to_string())
            .collect();
        assert_eq!(ids, ["0", "3"]);
        assert_eq!(journal.stats().damaged, 0);
        drop(subscription);
        journal.close().await;
    }
}

/// After a failed sync the system takes the pages for clean: the next sync succeeds and writes nothing.
#[tokio::test]
async fn what_a_failed_sync_left_is_written_again_before_a_start_answers_from_it() {
    let keyed = || Event {
        key: Some(Key {
            hash: KeyHash([7; 16]),
            window: Duration::from_hours(24),
            named: true,
        }),
        ..event(1)
    };
    let mut replayed = 0;
    for seed in 0..20 {
        let (disk, clock) = (SimDisk::new(seed), ManualClock::at(NOW));
        let journal = open(&disk, &clock).unwrap();
        journal.put_spec(&uid(), "{}".into()).await.unwrap();
        disk.set_faults(Faults {
            sync: 100,
            ..Faults::default()
        });
        let refused = journal.append(keyed()).await;
        assert!(matches!(refused, Err(AppendError::Disk(_))), "{refused:?}");
        // The process is started again, the machine is not: what was refused is read.
        journal.close().await;
        drop(journal);
        disk.set_faults(Faults::default());
        let journal = open(&disk, &clock).unwrap();
        let again = journal.append(keyed()).await.unwrap();
        replayed += usize::from(matches!(again, Appended::Replayed(_)));
        let record = match again {
            Appended::Accepted(id) => id,
            Appended::Replayed(seen) => seen.record,
        };
        drop(journal);
        disk.crash();
        let journal = open(&disk, &clock).unwrap();
        let subscription = subscribe(&journal).await;
        let ids: Vec<_> = served(subscription.as_ref())
            .await
            .iter()
            .map(|record| record.id)
            .collect();
        assert_eq!(ids, [record], "disk {seed}");
    }
    assert!(replayed > 0, "it was never read after the start");
}

#[tokio::test]
async fn two_processes_never_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<ManualClock> = Arc::new(ManualClock::at(NOW));
    let first = Wal::open(dir.path(), options(), clock.clone()).unwrap();
    let second = Wal::open(dir.path(), options(), clock.clone());
    assert!(matches!(second, Err(OpenError::Dir(_))), "{second:?}");
    drop(first);
    Wal::open(dir.path(), options(), clock).unwrap();
}

#[test]
fn options_that_contradict_each_other_are_refused_by_name() {
    let clock: Arc<ManualClock> = Arc::new(ManualClock::at(NOW));
    let wrong = Options {
        segment_bytes: 1 << 20,
        total_bytes: 1 << 20,
        ..options()
    };
    let refused = Wal::open_on(Arc::new(SimDisk::new(0)), wrong, clock, 0);
    let Err(OpenError::Options(error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.field, "total_bytes");
}
