//! Bounds.

use super::{Bench, Limits, Storage, all, ended, uid};
use crate::journal::{AppendError, End, SubscriptionError};

pub(super) async fn a_full_share_closes_one_ingestor(storage: &dyn Storage) {
    let mut bench = Bench::with(
        storage,
        Limits {
            share_bytes: 10_000,
            ..Limits::default()
        },
    );
    let (a, b) = (uid("a"), uid("b"));
    bench.spec(&a).await;
    bench.spec(&b).await;
    let body = "x".repeat(1000);
    let mut ids = Vec::new();
    let full = loop {
        match bench.journal().append(bench.event(&a, &body)).await {
            Ok(appended) => ids.push(super::accepted(appended)),
            Err(error) => break error,
        }
    };
    assert_eq!(full, AppendError::ShareFull);
    assert!((5..10).contains(&ids.len()), "{}", ids.len());
    bench.append(&b, &body).await;
    for _ in 0..2 {
        let share = bench.journal().share(&a);
        assert!(share.used > 8000 && share.used <= share.limit, "{share:?}");
        assert_eq!(
            bench.journal().append(bench.event(&a, &body)).await,
            Err(AppendError::ShareFull)
        );
        bench.crash();
    }
    let subscription = bench.subscribe().await;
    subscription
        .commit(&a, vec![ended(ids[0], End::Observed)])
        .await
        .unwrap();
    bench.append(&a, &body).await;
}

pub(super) async fn a_full_journal_refuses_and_recovers(storage: &dyn Storage) {
    let limits = Limits {
        total_bytes: 600_000,
        share_bytes: 600_000,
        letter_bytes: 0,
        ..Limits::default()
    };
    let bench = Bench::with(storage, limits);
    let a = uid("a");
    bench.spec(&a).await;
    let body = "x".repeat(2000);
    let mut appended = 0;
    let full = loop {
        match bench.journal().append(bench.event(&a, &body)).await {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, AppendError::Full);
    assert!(appended > 50, "{appended}");
    assert!(bench.journal().stats().disk_bytes <= 600_000);
    let subscription = bench.subscribe().await;
    let records = all(subscription.as_ref(), &a).await;
    assert_eq!(records.len(), appended);
    for chunk in records.chunks(20) {
        let ends = chunk
            .iter()
            .map(|record| ended(record.id, End::Observed))
            .collect();
        subscription.commit(&a, ends).await.unwrap();
    }
    // Room comes as trimming reads on.
    for n in 0.. {
        match bench.journal().append(bench.event(&a, &body)).await {
            Ok(_) => break,
            Err(error) => assert!(n < 10_000 && error == AppendError::Full, "{error:?}"),
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn a_record_too_large_is_refused(storage: &dyn Storage) {
    let bench = Bench::with(
        storage,
        Limits {
            record_bytes: 5000,
            ..Limits::default()
        },
    );
    let a = uid("a");
    bench.spec(&a).await;
    bench.append(&a, &"x".repeat(4000)).await;
    let refused = bench
        .journal()
        .append(bench.event(&a, &"x".repeat(5000)))
        .await;
    assert!(
        matches!(refused, Err(AppendError::TooLarge { limit: 5000, .. })),
        "{refused:?}"
    );
    assert_eq!(bench.tally(&a).requests, 1);
}

pub(super) async fn a_closed_journal_refuses(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let subscription = bench.subscribe().await;
    let last = bench.journal().append(bench.event(&a, "last"));
    let (last, ()) = futures::future::join(last, bench.journal().close()).await;
    let waited = bench.journal().append(bench.event(&a, "late")).await;
    assert_eq!(waited, Err(AppendError::Closing));
    let fetched = subscription.fetch(&a, None, super::limit(1)).await;
    if storage.is_remote() {
        let gone = matches!(fetched, Err(SubscriptionError::Unreachable(_)));
        assert!(gone, "{fetched:?}");
    } else {
        assert_eq!(fetched, Err(SubscriptionError::Closing));
        assert_eq!(subscription.ready().await, Err(SubscriptionError::Closing));
    }
    bench.journal().close().await;
    drop(subscription);
    bench.crash();
    assert_eq!(
        bench.tally(&a).backlog,
        u64::from(last.is_ok()),
        "what was accepted is there"
    );
}
