//! Idempotency.

use std::time::Duration;

use super::{Bench, DAY, Limits, Storage, accepted, ended, keyed, later, uid};
use crate::journal::{AppendError, Appended, End, Seen};

pub(super) async fn a_repeated_delivery_is_a_replay(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let (a, b) = (uid("a"), uid("b"));
    let spec = bench.spec(&a).await;
    bench.spec(&b).await;
    let mut event = keyed(bench.event(&a, "body"), "k", DAY);
    event.key.as_mut().unwrap().named = true;
    let record = accepted(bench.journal().append(event.clone()).await.unwrap());
    let seen = Seen {
        record,
        event_id: "k".into(),
        spec,
        named: true,
    };
    let conflicting = keyed(bench.event(&a, "another body"), "k", DAY);
    for round in 0..4 {
        let again = bench.journal().append(event.clone()).await;
        assert_eq!(again, Ok(Appended::Replayed(seen.clone())), "{round}");
        let conflict = bench.journal().append(conflicting.clone()).await;
        assert_eq!(
            conflict,
            Err(AppendError::Conflict(seen.clone())),
            "{round}"
        );
        assert_eq!(bench.tally(&a).requests, 1, "nothing was written");
        if round == 1 {
            // Its record goes; its key stays.
            let subscription = bench.subscribe().await;
            subscription
                .commit(&a, vec![ended(record, End::Observed)])
                .await
                .unwrap();
        }
        bench.crash();
    }
    let other = keyed(bench.event(&b, "body"), "k", DAY);
    accepted(bench.journal().append(other.clone()).await.unwrap());
    let again = bench.journal().append(other).await;
    assert!(matches!(again, Ok(Appended::Replayed(seen)) if !seen.named));
}

pub(super) async fn of_two_at_the_same_moment_one_is_written(storage: &dyn Storage) {
    let bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let event = keyed(bench.event(&a, "body"), "k", DAY);
    let conflicting = keyed(bench.event(&a, "another body"), "k", DAY);
    let appends = [event.clone(), event.clone(), conflicting, event]
        .map(|event| bench.journal().append(event));
    let results = futures::future::join_all(appends).await;
    let record = accepted(results[0].clone().unwrap());
    for n in [1, 3] {
        assert!(
            matches!(&results[n], Ok(Appended::Replayed(seen)) if seen.record == record),
            "{results:?}"
        );
    }
    assert!(
        matches!(&results[2], Err(AppendError::Conflict(seen)) if seen.record == record),
        "{results:?}"
    );
    assert_eq!(bench.tally(&a).requests, 1);
}

pub(super) async fn a_key_is_forgotten_after_its_window(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let minute = Duration::from_mins(1);
    let first = accepted(
        bench
            .journal()
            .append(keyed(bench.event(&a, "body"), "k", minute))
            .await
            .unwrap(),
    );
    later(
        storage.clock(),
        minute.saturating_sub(Duration::from_millis(1)),
    );
    let again = bench
        .journal()
        .append(keyed(bench.event(&a, "body"), "k", minute))
        .await
        .unwrap();
    assert!(matches!(again, Appended::Replayed(_)), "{again:?}");
    later(storage.clock(), Duration::from_millis(1));
    let second = accepted(
        bench
            .journal()
            .append(keyed(bench.event(&a, "other"), "k", minute))
            .await
            .unwrap(),
    );
    assert_ne!(first, second);
    bench.crash();
    let again = bench
        .journal()
        .append(keyed(bench.event(&a, "other"), "k", minute))
        .await
        .unwrap();
    assert!(matches!(again, Appended::Replayed(seen) if seen.record == second));
    assert_eq!(bench.tally(&a).requests, 2);
}

pub(super) async fn the_oldest_keys_of_the_largest_holder_leave(storage: &dyn Storage) {
    let limits = Limits {
        keys: 12,
        keys_per_ingestor: 8,
        ..Limits::default()
    };
    let mut bench = Bench::with(storage, limits);
    let (large, small) = (uid("large"), uid("small"));
    bench.spec(&large).await;
    bench.spec(&small).await;
    for n in 0..10 {
        later(storage.clock(), Duration::from_secs(1));
        let event = keyed(bench.event(&large, "body"), &format!("k{n}"), DAY);
        accepted(bench.journal().append(event).await.unwrap());
    }
    assert_eq!(
        (
            bench.journal().stats().keys,
            bench.journal().stats().keys_evicted
        ),
        (8, 2)
    );
    for n in 0..6 {
        let event = keyed(bench.event(&small, "body"), &format!("s{n}"), DAY);
        accepted(bench.journal().append(event).await.unwrap());
    }
    for round in 0..2 {
        assert_eq!(bench.journal().stats().keys, 12, "{round}");
        assert_eq!(
            bench.journal().stats().key_window,
            Some(Duration::from_secs(5)),
            "{round}"
        );
        for n in 0..6 {
            let event = keyed(bench.event(&small, "body"), &format!("s{n}"), DAY);
            let again = bench.journal().append(event).await.unwrap();
            assert!(
                matches!(again, Appended::Replayed(_)),
                "the small holder keeps its keys: {again:?}"
            );
        }
        bench.crash();
    }
}
