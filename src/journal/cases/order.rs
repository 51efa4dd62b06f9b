//! Appending and fetching.

use std::{num::NonZeroU32, sync::Arc};

use futures::FutureExt as _;

use super::{Bench, Storage, all, bodies, ended, limit, uid};
use crate::{
    api::SpecDigest,
    journal::{AppendError, End, FetchLimit},
};

pub(super) async fn an_append_survives_a_power_cut(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let event = bench.event(&a, "one");
    let id = bench.append(&a, "one").await;
    bench.crash();
    let subscription = bench.subscribe().await;
    assert_eq!(
        subscription.ready().await.unwrap(),
        std::slice::from_ref(&a)
    );
    let records = all(subscription.as_ref(), &a).await;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].id, &records[0].event), (id, &event));
    assert_eq!(bench.tally(&a).backlog, 1);
    assert_eq!(bench.journal().log(), id.log);
}

pub(super) async fn records_come_in_order_also_again(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let (a, b) = (uid("a"), uid("b"));
    bench.spec(&a).await;
    bench.spec(&b).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(bench.append(&a, &format!("a{n}")).await);
        bench.append(&b, &format!("b{n}")).await;
    }
    let subscription = bench.subscribe().await;
    // Ends come in any order, and leave holes.
    let ends = [7, 3, 0, 39].map(|n: usize| ended(ids[n], End::Observed));
    subscription.commit(&a, ends.to_vec()).await.unwrap();
    let left: Vec<String> = (0..40)
        .filter(|n| ![7, 3, 0, 39].contains(n))
        .map(|n| format!("a{n}"))
        .collect();
    assert_eq!(bodies(&all(subscription.as_ref(), &a).await), left);
    assert_eq!(bodies(&all(subscription.as_ref(), &a).await), left, "again");
    drop(subscription);
    bench.crash();
    let subscription = bench.subscribe().await;
    let records = all(subscription.as_ref(), &a).await;
    assert_eq!(bodies(&records), left);
    assert!(records.is_sorted_by(|x, y| x.id.position < y.id.position));
    let behind = subscription
        .fetch(&a, Some(ids[36].position), limit(100))
        .await
        .unwrap()
        .records;
    assert_eq!(bodies(&behind), ["a37", "a38"]);
    assert_eq!(all(subscription.as_ref(), &b).await.len(), 40);
    let next = bench.append(&a, "later").await;
    assert!(
        next.position > ids[39].position,
        "positions are not used again"
    );
}

pub(super) async fn a_stalled_queue_delays_no_other(storage: &dyn Storage) {
    let bench = Bench::new(storage);
    let (stalled, busy) = (uid("stalled"), uid("busy"));
    bench.spec(&stalled).await;
    bench.spec(&busy).await;
    let subscription = bench.subscribe().await;
    for n in 0..20 {
        bench.append(&stalled, &format!("s{n}")).await;
    }
    for n in 0..100 {
        let id = bench.append(&busy, &format!("b{n}")).await;
        let records = subscription
            .fetch(&busy, None, limit(10))
            .await
            .unwrap()
            .records;
        assert_eq!(bodies(&records), [format!("b{n}")]);
        subscription
            .commit(&busy, vec![ended(id, End::Observed)])
            .await
            .unwrap();
    }
    assert_eq!(bench.tally(&busy).observed, 100);
    assert_eq!(all(subscription.as_ref(), &stalled).await.len(), 20);
    let oldest = subscription.oldest(&stalled).await;
    assert_eq!(oldest, Ok(Some(bench.event(&stalled, "").accepted_at)));
    assert_eq!(subscription.oldest(&busy).await, Ok(None));
}

pub(super) async fn a_fetch_is_bounded(storage: &dyn Storage) {
    let bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    for _ in 0..5 {
        bench.append(&a, &"x".repeat(1000)).await;
    }
    let subscription = bench.subscribe().await;
    // How many, and whether these were the last.
    let fetch = |records, bytes| {
        let limit = FetchLimit {
            records: NonZeroU32::new(records).unwrap(),
            bytes,
        };
        let subscription = Arc::clone(&subscription);
        let a = a.clone();
        async move {
            let fetched = subscription.fetch(&a, None, limit).await.unwrap();
            (fetched.records.len(), fetched.end)
        }
    };
    assert_eq!(fetch(3, 1 << 20).await, (3, false));
    assert_eq!(fetch(100, 1 << 20).await, (5, true));
    assert_eq!(fetch(100, 0).await, (1, false), "at least one");
    assert_eq!(
        fetch(100, 1000).await,
        (2, false),
        "the record that passes the bytes is the last"
    );
    assert_eq!(
        fetch(100, 5000).await,
        (5, true),
        "as many bytes as asked for, and no more"
    );
    let other = subscription
        .fetch(&uid("never seen"), None, limit(5))
        .await
        .unwrap()
        .records;
    assert_eq!(other, []);
}

pub(super) async fn ready_names_each_queue_with_news_once(storage: &dyn Storage) {
    let bench = Bench::new(storage);
    let (a, b) = (uid("a"), uid("b"));
    bench.spec(&a).await;
    bench.spec(&b).await;
    bench.append(&a, "a0").await;
    let subscription = bench.subscribe().await;
    assert_eq!(
        subscription.ready().await.unwrap(),
        std::slice::from_ref(&a),
        "what was there before"
    );
    assert!(subscription.ready().now_or_never().is_none(), "no news");
    let waiting = subscription.ready();
    let (named, _) = futures::future::join(waiting, bench.append(&b, "b0")).await;
    assert_eq!(named.unwrap(), std::slice::from_ref(&b));
    bench.append(&a, "a1").await;
    bench.append(&a, "a2").await;
    assert_eq!(subscription.ready().await.unwrap(), [a]);
    assert!(subscription.ready().now_or_never().is_none(), "once");
}

pub(super) async fn specs_are_kept_as_long_as_a_record_needs_them(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let a = uid("a");
    let unknown = bench.journal().append(bench.event(&a, "x")).await;
    assert!(
        matches!(unknown, Err(AppendError::UnknownSpec(_))),
        "{unknown:?}"
    );
    let first = bench.spec(&a).await;
    assert_eq!(bench.spec(&a).await, first, "again");
    let id = bench.append(&a, "old").await;
    let second = bench
        .journal()
        .put_spec(&a, "{\"second\":1}".into())
        .await
        .unwrap();
    assert_eq!(second, SpecDigest::of("{\"second\":1}"));
    for round in 0..3 {
        assert_eq!(
            bench.journal().spec_in_force(&a).map(|spec| spec.digest),
            Some(second),
            "{round}"
        );
        let subscription = bench.subscribe().await;
        let text = subscription.spec(first).await.unwrap();
        assert_eq!(text.as_deref(), Some(super::spec_text(&a).as_str()));
        super::later(storage.clock(), super::DAY);
        bench.crash();
    }
    let subscription = bench.subscribe().await;
    subscription
        .commit(&a, vec![ended(id, End::Filtered)])
        .await
        .unwrap();
    super::later(storage.clock(), super::DAY);
    drop(subscription);
    bench.crash();
    let subscription = bench.subscribe().await;
    assert_eq!(
        subscription.spec(first).await,
        Ok(None),
        "no record names it, and another is in force"
    );
    assert!(subscription.spec(second).await.unwrap().is_some());
}
