//! Subscriptions, epochs, ends.

use futures::FutureExt as _;

use super::{Bench, Storage, all, ended, limit, uid};
use crate::{
    journal::{BUCKETS, Bucket, Claim, End, Ended, Epoch, Holder, Items, SubscriptionError},
    testing::subscriber::everything,
};

pub(super) async fn a_second_subscriber_fences_the_first(storage: &dyn Storage) {
    let bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let id = bench.append(&a, "one").await;
    let first = bench.subscribe().await;
    assert_eq!(first.ready().await.unwrap(), std::slice::from_ref(&a));
    let second = bench.open("core-1#1").await;
    let (waited, claimed) = futures::future::join(first.ready(), second.claim(everything())).await;
    assert_eq!(claimed, Ok(Vec::new()));
    let epoch = second.epoch(Bucket::of(&a)).unwrap();
    let Err(SubscriptionError::Fenced(fenced)) = waited else {
        unreachable!("{waited:?}")
    };
    assert_eq!(
        (fenced.epoch, fenced.holder),
        (epoch, Holder("core-1#1".into()))
    );
    for _ in 1..BUCKETS {
        let told = first.ready().await;
        assert!(
            matches!(&told, Err(SubscriptionError::Fenced(fenced)) if fenced.epoch == epoch),
            "{told:?}"
        );
    }
    assert!(first.ready().now_or_never().is_none(), "no more to tell");
    let fetched = first.fetch(&a, None, limit(1)).await;
    assert!(
        matches!(fetched, Err(SubscriptionError::Fenced(_))),
        "{fetched:?}"
    );
    let committed = first.commit(&a, vec![ended(id, End::Observed)]).await;
    assert!(
        matches!(committed, Err(SubscriptionError::Fenced(_))),
        "{committed:?}"
    );
    assert_eq!(bench.tally(&a).backlog, 1, "nothing was changed");
    assert_eq!(second.ready().await.unwrap(), std::slice::from_ref(&a));
    second
        .commit(&a, vec![ended(id, End::Filtered)])
        .await
        .unwrap();
    assert_eq!(bench.tally(&a).filtered, 1);
}

pub(super) async fn epochs_never_fall(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let mut last = Epoch(0);
    for _ in 0..4 {
        let subscription = bench.subscribe().await;
        let epoch = subscription.epoch(Bucket(0)).unwrap();
        assert!(epoch > last);
        last = epoch;
        drop(subscription);
        bench.crash();
    }
    let at = |epoch: u64| {
        let epoch = Some(Epoch(epoch));
        let claims = everything().into_iter();
        claims
            .map(|claim| Claim { epoch, ..claim })
            .collect::<Vec<_>>()
    };
    let same = bench.open("core-0#1").await;
    let refused = same.claim(at(last.0 - 1)).await.unwrap();
    assert_eq!(refused.len(), usize::from(BUCKETS));
    assert!(refused.iter().all(|fenced| fenced.epoch == last), "lower");
    let other = bench.open("core-9#1").await;
    let refused = other.claim(at(last.0)).await.unwrap();
    assert_eq!(refused.len(), usize::from(BUCKETS), "equal, and another's");
    assert_eq!(same.claim(at(last.0)).await, Ok(Vec::new()));
    assert_eq!(same.epoch(Bucket(7)), Some(last));
    // One bucket goes to another; the rest stays.
    let moved = Claim {
        bucket: Bucket(5),
        epoch: Some(Epoch(last.0 + 10)),
    };
    assert_eq!(other.claim(vec![moved]).await, Ok(Vec::new()));
    assert_eq!(other.epoch(Bucket(5)), moved.epoch);
    assert_ne!(Bucket::of(&uid("a")), Bucket(5));
    let foreign = other.fetch(&uid("a"), None, limit(1)).await;
    assert!(
        matches!(&foreign, Err(SubscriptionError::Fenced(fenced)) if fenced.epoch == last),
        "not its bucket: {foreign:?}"
    );
}

pub(super) async fn an_end_is_counted_once(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(bench.append(&a, &format!("{n}")).await);
    }
    let exploded = Items {
        observed: 7,
        filtered: 2,
        deduplicated: 1,
        dead_lettered: 0,
    };
    let ends: Vec<Ended> = vec![
        Ended {
            items: exploded,
            ..ended(ids[0], End::Observed)
        },
        ended(ids[1], End::Filtered),
        ended(ids[2], End::Deduplicated),
        Ended {
            items: Items::default(),
            ..ended(ids[3], End::Filtered)
        },
    ];
    for round in 0..4 {
        let subscription = bench.subscribe().await;
        subscription.commit(&a, ends.clone()).await.unwrap();
        // An end stands: another one for the same record changes nothing.
        subscription
            .commit(&a, vec![ended(ids[1], End::Observed)])
            .await
            .unwrap();
        let tally = bench.tally(&a);
        assert_eq!((tally.requests, tally.backlog), (10, 6), "{round}");
        assert_eq!(
            (tally.observed, tally.filtered, tally.deduplicated),
            (1, 2, 1),
            "{round}"
        );
        let items = tally.items;
        assert_eq!(
            (items.observed, items.filtered, items.deduplicated),
            (7, 3, 2),
            "{round}"
        );
        assert_eq!(bench.journal().tallies(), [(a.clone(), tally)]);
        drop(subscription);
        bench.crash();
    }
    assert_eq!(
        bench.tally(&a).last_accepted_at,
        Some(bench.event(&a, "").accepted_at)
    );
    assert_eq!(
        bench.tally(&uid("never seen")),
        crate::journal::Tally::default()
    );
}

pub(super) async fn who_waits_hears_of_the_end(storage: &dyn Storage) {
    let bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let event = super::keyed(bench.event(&a, "one"), "k", super::DAY);
    let id = super::accepted(bench.journal().append(event).await.unwrap());
    let unkeyed = bench.append(&a, "two").await;
    let subscription = bench.subscribe().await;
    assert!(
        bench.journal().ended(id).now_or_never().is_none(),
        "it goes on waiting"
    );
    let with_name = Ended {
        observation: Some("a-1".into()),
        ..ended(id, End::Observed)
    };
    let waiting = bench.journal().ended(id);
    let (heard, committed) =
        futures::future::join(waiting, subscription.commit(&a, vec![with_name.clone()])).await;
    committed.unwrap();
    assert_eq!(heard, Some(with_name));
    // Its key is remembered, and its end with it; the name is not.
    assert_eq!(
        bench.journal().ended(id).await,
        Some(ended(id, End::Observed))
    );
    subscription
        .commit(&a, vec![ended(unkeyed, End::Filtered)])
        .await
        .unwrap();
    assert_eq!(
        bench.journal().ended(unkeyed).await,
        None,
        "ended, and nothing is remembered"
    );
}

pub(super) async fn a_deleted_ingestors_backlog_is_finished(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let a = uid("a");
    let digest = bench.spec(&a).await;
    let event = super::keyed(bench.event(&a, "one"), "k", super::DAY);
    let id = super::accepted(bench.journal().append(event).await.unwrap());
    bench.journal().forget(&a).await.unwrap();
    bench.journal().forget(&uid("never seen")).await.unwrap();
    assert_eq!(bench.journal().spec_in_force(&a), None);
    bench.crash();
    assert_eq!(bench.journal().spec_in_force(&a), None);
    let subscription = bench.subscribe().await;
    assert_eq!(all(subscription.as_ref(), &a).await.len(), 1);
    assert!(subscription.spec(digest).await.unwrap().is_some());
    assert_eq!(bench.tally(&a).backlog, 1);
    subscription
        .commit(&a, vec![ended(id, End::Observed)])
        .await
        .unwrap();
    assert_eq!(bench.journal().tallies(), [], "nothing is left of it");
    assert_eq!(bench.journal().stats().keys, 0);
}
