//! Buckets that come and go, each under an epoch of its own.

use std::collections::BTreeMap;

use futures::{FutureExt as _, future::join_all};

use super::{Bench, Storage, all, bodies, ended, limit, uid};
use crate::journal::{
    Bucket, Claim, End, Ended, Epoch, Fenced, Holder, IngestorUid, Letter, Subscription,
    SubscriptionError,
};

fn claim(bucket: Bucket, epoch: u64) -> Claim {
    Claim {
        bucket,
        epoch: Some(Epoch(epoch)),
    }
}

fn claims(buckets: std::ops::RangeInclusive<u16>, epoch: u64) -> Vec<Claim> {
    buckets.map(|bucket| claim(Bucket(bucket), epoch)).collect()
}

fn held(bucket: Bucket, epoch: u64, holder: &str) -> Fenced {
    Fenced {
        bucket,
        epoch: Epoch(epoch),
        holder: Holder(holder.into()),
    }
}

/// Two Ingestors of two buckets.
fn two() -> (IngestorUid, IngestorUid) {
    let uids = ["5f0c7b1e-6a0f-4d55", "b2a94c31-0d7e-4f2b"];
    let (a, b) = (uid(uids[0]), uid(uids[1]));
    assert_ne!(Bucket::of(&a), Bucket::of(&b));
    (a, b)
}

/// The next bucket of which `ready` tells that it was lost.
async fn lost(subscription: &dyn Subscription) -> Fenced {
    match subscription.ready().await {
        Err(SubscriptionError::Fenced(fenced)) => fenced,
        other => unreachable!("{other:?}"),
    }
}

pub(super) async fn a_claim_may_be_refused_in_part(storage: &dyn Storage) {
    let bench = Bench::new(storage);
    let first = bench.open("core-0#1").await;
    assert_eq!(first.claim(claims(0..=1023, 10)).await, Ok(Vec::new()));
    let second = bench.open("core-1#1").await;
    let mut many = claims(1..=5, 9);
    many.extend(claims(6..=10, 10));
    many.extend(claims(11..=15, 11));
    many.extend(claims(16..=20, 12));
    many.push(Claim {
        bucket: Bucket(21),
        epoch: None,
    });
    let mut refused = second.claim(many).await.unwrap();
    refused.sort_by_key(|fenced| fenced.bucket);
    let expected: Vec<Fenced> = (1..=10)
        .map(|bucket| held(Bucket(bucket), 10, "core-0#1"))
        .collect();
    assert_eq!(refused, expected);
    let handed_out = second.epoch(Bucket(21)).unwrap();
    assert!(handed_out > Epoch(10), "{handed_out:?}");
    let mut told = BTreeMap::new();
    for _ in 11..=21 {
        let fenced = lost(first.as_ref()).await;
        told.insert(fenced.bucket.0, fenced);
    }
    assert!(first.ready().now_or_never().is_none(), "each is told once");
    for bucket in 0..1024 {
        let epochs = (first.epoch(Bucket(bucket)), second.epoch(Bucket(bucket)));
        let expected = match bucket {
            11..=15 => (None, Some(Epoch(11))),
            16..=20 => (None, Some(Epoch(12))),
            21 => (None, Some(handed_out)),
            _ => (Some(Epoch(10)), None),
        };
        assert_eq!(epochs, expected, "{bucket}");
        let expected = epochs
            .1
            .map(|epoch| held(Bucket(bucket), epoch.0, "core-1#1"));
        assert_eq!(told.remove(&bucket), expected, "{bucket}");
    }
    let highest = bench.source().await.highest_epoch().await.unwrap();
    assert_eq!(highest, handed_out.max(Epoch(12)));
    let stats = bench.journal().stats();
    assert_eq!((stats.claims, stats.claims_refused), (1024 + 11, 10));
}

pub(super) async fn a_bucket_is_released_and_claimed_again(storage: &dyn Storage) {
    let bench = Bench::new(storage);
    let (a, b) = two();
    bench.spec(&a).await;
    bench.spec(&b).await;
    let id = bench.append(&a, "a0").await;
    bench.append(&b, "b0").await;
    let core = bench.open("core-0#1").await;
    let (of_a, of_b) = (Bucket::of(&a), Bucket::of(&b));
    assert_eq!(core.claim(vec![claim(of_a, 3)]).await, Ok(Vec::new()));
    assert_eq!(core.ready().await.unwrap(), std::slice::from_ref(&a));
    assert_eq!(bodies(&all(core.as_ref(), &a).await), ["a0"]);
    core.release(&[of_a, of_b]);
    assert_eq!(core.epoch(of_a), None);
    assert!(core.ready().now_or_never().is_none());
    bench.append(&a, "a1").await;
    let fetched = core.fetch(&a, None, limit(1)).await;
    let is_fenced = |error: &SubscriptionError| matches!(error, SubscriptionError::Fenced(f) if f.bucket == of_a);
    assert!(fetched.as_ref().is_err_and(is_fenced), "{fetched:?}");
    let committed = core.commit(&a, vec![ended(id, End::Observed)]).await;
    assert!(committed.as_ref().is_err_and(is_fenced), "{committed:?}");
    let oldest = core.oldest(&a).await;
    assert!(oldest.as_ref().is_err_and(is_fenced), "{oldest:?}");
    // The same epoch is still its own; every queue of the bucket is named again.
    let both = vec![claim(of_a, 3), claim(of_b, 4)];
    assert_eq!(core.claim(both).await, Ok(Vec::new()));
    let mut named = core.ready().await.unwrap();
    while named.len() < 2 {
        named.extend(core.ready().await.unwrap());
    }
    named.sort();
    assert_eq!(named, [a.clone(), b.clone()]);
    assert_eq!(bodies(&all(core.as_ref(), &a).await), ["a0", "a1"]);
    core.commit(&a, vec![ended(id, End::Observed)])
        .await
        .unwrap();
    assert_eq!(bench.tally(&a).observed, 1);
}

pub(super) async fn an_epoch_rises_while_commits_are_in_flight(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let (a, b) = two();
    bench.spec(&a).await;
    bench.spec(&b).await;
    let mut ends: BTreeMap<&IngestorUid, Vec<Ended>> = BTreeMap::new();
    for n in 0..60 {
        for ingestor in [&a, &b] {
            let id = bench.append(ingestor, &n.to_string()).await;
            let mut end = ended(
                id,
                if n % 3 == 0 {
                    End::Filtered
                } else {
                    End::Observed
                },
            );
            if n % 20 == 7 {
                end = ended(id, End::DeadLettered);
                end.letters = vec![Letter {
                    index: 0,
                    reason: "KeyReused".into(),
                    message: "on purpose".to_owned(),
                }];
            }
            ends.entry(ingestor).or_default().push(end);
        }
    }
    let core = bench.subscribe().await;
    let buckets = [Bucket::of(&a), Bucket::of(&b)];
    let first = core.epoch(buckets[0]).unwrap().0;
    // One after the other they are begun, and none waits for another: claims and commits lie mixed
    // in the same group commits.
    let mut calls = Vec::new();
    for step in 0..20 {
        let epoch = first + 1 + step;
        let raise = buckets.map(|bucket| claim(bucket, epoch)).to_vec();
        let core = &core;
        calls.push(async move { assert_eq!(core.claim(raise).await, Ok(Vec::new())) }.boxed());
        for (ingestor, ends) in &ends {
            let at = usize::try_from(step).unwrap() * 3;
            let mut ends = ends[at..at + 3].to_vec();
            // Some are committed twice, by the next step too.
            ends.extend(ends.first().cloned());
            calls
                .push(async move { assert_eq!(core.commit(ingestor, ends).await, Ok(())) }.boxed());
        }
    }
    join_all(calls).await;
    for round in 0..2 {
        for ingestor in [&a, &b] {
            let tally = bench.tally(ingestor);
            let counts = (tally.backlog, tally.filtered, tally.observed);
            assert_eq!(counts, (0, 19, 38), "round {round}");
            assert_eq!(
                (tally.dead_lettered, tally.damaged),
                (3, 0),
                "round {round}"
            );
            assert_eq!(tally.items.dead_lettered, 3);
        }
        assert_eq!(bench.journal().letters(None, 10).await.len(), 6);
        if round == 0 {
            assert_eq!(core.epoch(buckets[0]), Some(Epoch(first + 20)));
            bench.crash();
        }
    }
    drop(core);
}

pub(super) async fn one_bucket_is_fenced_and_the_others_flow(storage: &dyn Storage) {
    let bench = Bench::new(storage);
    let (a, b) = two();
    bench.spec(&a).await;
    bench.spec(&b).await;
    let core = bench.open("core-0#1").await;
    let (of_a, of_b) = (Bucket::of(&a), Bucket::of(&b));
    let both = vec![claim(of_a, 5), claim(of_b, 6)];
    assert_eq!(core.claim(both).await, Ok(Vec::new()));
    let other = bench.open("core-1#1").await;
    let (told, taken) =
        futures::future::join(core.ready(), other.claim(vec![claim(of_a, 7)])).await;
    assert_eq!(taken, Ok(Vec::new()));
    assert_eq!(told, Err(held(of_a, 7, "core-1#1").into()));
    assert_eq!((core.epoch(of_a), core.epoch(of_b)), (None, Some(Epoch(6))));
    let of_a_id = bench.append(&a, "a0").await;
    let of_b_id = bench.append(&b, "b0").await;
    assert_eq!(core.ready().await.unwrap(), std::slice::from_ref(&b));
    let late = core.commit(&a, vec![ended(of_a_id, End::Filtered)]).await;
    assert_eq!(late, Err(held(of_a, 7, "core-1#1").into()));
    core.commit(&b, vec![ended(of_b_id, End::Observed)])
        .await
        .unwrap();
    assert_eq!(other.ready().await.unwrap(), std::slice::from_ref(&a));
    other
        .commit(&a, vec![ended(of_a_id, End::Observed)])
        .await
        .unwrap();
    for ingestor in [&a, &b] {
        let tally = bench.tally(ingestor);
        assert_eq!((tally.observed, tally.backlog), (1, 0));
    }
    // Below, and equal under another holder: refused, and nothing is changed.
    for epoch in [5, 6, 7] {
        let refused = core.claim(vec![claim(of_a, epoch)]).await;
        assert_eq!(refused, Ok(vec![held(of_a, 7, "core-1#1")]), "{epoch}");
    }
    assert_eq!(other.epoch(of_a), Some(Epoch(7)));
    assert_eq!(core.claim(vec![claim(of_a, 8)]).await, Ok(Vec::new()));
    assert_eq!(lost(other.as_ref()).await, held(of_a, 8, "core-0#1"));
}

pub(super) async fn claims_survive_a_restart(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let core = bench.open("core-0#1").await;
    let mut two = claims(0..=499, 10);
    two.extend(claims(500..=999, 20));
    assert_eq!(core.claim(two).await, Ok(Vec::new()));
    drop(core);
    for _ in 0..2 {
        bench.crash();
        assert_eq!(bench.source().await.highest_epoch().await, Ok(Epoch(20)));
        let other = bench.open("core-1#1").await;
        let refused = other.claim(claims(499..=501, 10)).await.unwrap();
        let stored = [(499, 10), (500, 20), (501, 20)];
        let expected = stored.map(|(bucket, at)| held(Bucket(bucket), at, "core-0#1"));
        assert_eq!(refused, expected);
        let core = bench.open("core-0#1").await;
        let lower = core.claim(claims(0..=0, 9)).await.unwrap();
        assert_eq!(
            lower,
            [held(Bucket(0), 10, "core-0#1")],
            "lower, though its own"
        );
        assert_eq!(core.claim(claims(0..=0, 10)).await, Ok(Vec::new()));
        assert_eq!(other.claim(claims(1000..=1000, 1)).await, Ok(Vec::new()));
    }
}

pub(super) async fn another_claims_after_a_crash(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(bench.append(&a, &format!("a{n}")).await);
    }
    let bucket = Bucket::of(&a);
    let dead = bench.open("core-0#1").await;
    assert_eq!(dead.claim(vec![claim(bucket, 1)]).await, Ok(Vec::new()));
    let first = ids[..4].iter().map(|id| ended(*id, End::Observed));
    dead.commit(&a, first.collect()).await.unwrap();
    drop(dead);
    bench.crash();
    let paused = bench.open("core-1#1").await;
    assert_eq!(paused.claim(vec![claim(bucket, 2)]).await, Ok(Vec::new()));
    let records = all(paused.as_ref(), &a).await;
    assert_eq!(bodies(&records), ["a4", "a5", "a6", "a7", "a8", "a9"]);
    // It stops here, with what it fetched; a third one takes over and does the same work.
    let third = bench.open("core-2#1").await;
    assert_eq!(third.claim(vec![claim(bucket, 3)]).await, Ok(Vec::new()));
    assert_eq!(third.ready().await.unwrap(), std::slice::from_ref(&a));
    let rest: Vec<Ended> = all(third.as_ref(), &a)
        .await
        .iter()
        .map(|record| ended(record.id, End::Observed))
        .collect();
    assert_eq!(rest.len(), 6);
    third.commit(&a, rest[..3].to_vec()).await.unwrap();
    let late = paused.commit(&a, rest.clone()).await;
    assert_eq!(late, Err(held(bucket, 3, "core-2#1").into()));
    third.commit(&a, rest).await.unwrap();
    for _ in 0..2 {
        let tally = bench.tally(&a);
        assert_eq!((tally.observed, tally.backlog, tally.requests), (10, 0, 10));
        assert_eq!(tally.items.observed, 10);
        bench.crash();
    }
}
