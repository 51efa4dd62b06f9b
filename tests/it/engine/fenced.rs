//! Two engines on one log and one API: whoever has lost a bucket has no effect on it, and every event
//! ends exactly once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join_all};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use zen_fabric::{
    api::{Ingestor, IngestorStatus, Owner, SpecDigest, annotations},
    embedded::faults::{Fault, On, Verb},
    engine::start::Notice,
    journal::{Bucket, Epoch, IngestorUid, Journal as _, Tally},
};

use super::{
    replica::Replica,
    rig::{Rig, local, uid},
};

/// Each accepted event is counted once, at every moment.
fn adds_up(tally: &Tally) {
    let ends = tally.observed + tally.filtered + tally.deduplicated + tally.dead_lettered;
    assert_eq!(tally.requests, ends + tally.backlog, "{tally:?}");
}

fn replica(rig: &mut Rig, name: &str) -> Replica {
    let replica = Replica::new(rig, name);
    replica.engine.attach(local(Arc::clone(&rig.journal) as _));
    replica
}

/// One of the Ingestors that are handed to and fro.
struct One {
    uid: IngestorUid,
    bucket: Bucket,
    spec: SpecDigest,
    accepted: u64,
}

impl One {
    async fn new(rig: &Rig, name: &str, spec: Value) -> Self {
        let ingestor = rig.ingestor(name, spec).await;
        let uid = uid(&ingestor);
        Self {
            bucket: Bucket::of(&uid),
            spec: rig.accept_under(&ingestor, &uid).await,
            uid,
            accepted: 0,
        }
    }

    /// Events of a few kinds, with ids of their own.
    async fn append(&mut self, rig: &Rig, count: u64) {
        let one = |n: u64| {
            let body = json!({ "kind": format!("k{}", n % 7) });
            let (uid, spec) = (self.uid.clone(), self.spec);
            async move { rig.append(&uid, spec, &format!("e{n}"), &body).await }
        };
        join_all((self.accepted..self.accepted + count).map(one)).await;
        self.accepted += count;
    }
}

#[tokio::test(start_paused = true)]
async fn buckets_that_go_to_and_fro_under_load_lose_and_double_nothing() {
    let mut rig = Rig::new().await;
    let mut ones = Vec::new();
    for n in 0..6 {
        let dedup = match n % 3 {
            0 => json!({ "strategy": "event" }),
            1 => json!({ "strategy": "fingerprint", "fields": ["eventType"], "window": "24h" }),
            _ => json!({ "strategy": "aggregate", "fields": ["eventType"], "window": "24h" }),
        };
        ones.push(One::new(&rig, &format!("i{n}"), json!({ "dedup": dedup })).await);
    }
    let mut pair = [replica(&mut rig, "a#1"), replica(&mut rig, "b#1")];
    let mut owner = BTreeMap::new();
    let mut epoch = 1;
    for (n, one) in ones.iter().enumerate() {
        pair[n % 2].engine.own(&[(one.bucket, Epoch(epoch))]);
        owner.insert(one.bucket, (n % 2, epoch));
    }
    for round in 0_u64..50 {
        let moved = usize::try_from(round).unwrap() % ones.len();
        for one in &mut ones {
            one.append(&rig, 11).await;
        }
        sleep(Duration::from_millis(3 * (round % 9))).await;
        let bucket = ones[moved].bucket;
        let (from, at) = owner[&bucket];
        epoch += 1;
        match round % 3 {
            // Planned: nobody starts before the other has stopped.
            0 => {
                pair[from].engine.release(&[(bucket, Epoch(at))]);
                assert_eq!(pair[from].released().await, (bucket, Epoch(at)));
                pair[1 - from].engine.own(&[(bucket, Epoch(epoch))]);
            }
            // Taken over from one that doesn't know, and goes on until it is refused.
            1 => {
                pair[1 - from].engine.own(&[(bucket, Epoch(epoch))]);
                let fence = pair[from].fence().await;
                assert_eq!((fence.0, fence.1), (bucket, Epoch(epoch)));
                pair[from].engine.drop_buckets(&[bucket]);
            }
            // The map says so to both at once.
            _ => {
                pair[1 - from].engine.own(&[(bucket, Epoch(epoch))]);
                pair[from].engine.drop_buckets(&[bucket]);
            }
        }
        owner.insert(bucket, (1 - from, epoch));
        for one in &ones {
            adds_up(&rig.journal.tally(&one.uid));
        }
    }
    let mut made = BTreeMap::new();
    for one in &ones {
        let tally = rig.finished(&one.uid).await;
        adds_up(&tally);
        assert_eq!(
            (tally.requests, tally.dead_lettered),
            (one.accepted, 0),
            "{tally:?}"
        );
        made.insert(one.uid.0.to_string(), (tally, 0_u64, 0_u64));
    }
    for object in rig.observations().await {
        let of = &object.annotations()[annotations::INGESTOR_UID];
        let (_, objects, counted) = made.get_mut(of).unwrap();
        *objects += 1;
        *counted += u64::try_from(object.spec.count).unwrap();
    }
    for (n, one) in ones.iter().enumerate() {
        let (tally, objects, counted) = &made[&*one.uid.0];
        assert_eq!(tally.observed, *objects, "each observation once");
        match n % 3 {
            0 => assert_eq!(*objects, one.accepted),
            1 => assert!(*objects >= 7),
            _ => assert_eq!(*counted, one.accepted, "each event counted once"),
        }
    }
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_taken_away_stops_alone() {
    let mut rig = Rig::new().await;
    let mut lost = One::new(&rig, "lost", json!({})).await;
    let mut kept = One::new(&rig, "kept", json!({})).await;
    assert_ne!(lost.bucket, kept.bucket);
    let mut first = replica(&mut rig, "a#1");
    let mut second = replica(&mut rig, "b#1");
    first.own_all(1);
    for one in [&mut lost, &mut kept] {
        one.append(&rig, 200).await;
    }
    rig.until("both are at work", || async {
        rig.journal.tally(&lost.uid).observed > 0
    })
    .await;
    second.engine.own(&[(lost.bucket, Epoch(2))]);
    let fence = first.fence().await;
    assert_eq!(fence, (lost.bucket, Epoch(2), "b#1".to_owned()));
    for one in [&mut lost, &mut kept] {
        one.append(&rig, 200).await;
        assert_eq!(rig.finished(&one.uid).await.observed, 400);
    }
    assert_eq!(rig.observations().await.len(), 800);
    assert!(!first.engine.stopped().is_cancelled());
    // And back again, above it.
    first.engine.own(&[(lost.bucket, Epoch(3))]);
    lost.append(&rig, 10).await;
    assert_eq!(rig.finished(&lost.uid).await.observed, 410);
    assert_eq!(second.fence().await.1, Epoch(3));
    sleep(Duration::from_mins(1)).await;
    assert_eq!(
        (first.told().await, second.told().await),
        (vec![], vec![]),
        "once each"
    );
    rig.close().await;
}

fn ingestors(rig: &Rig) -> Api<Ingestor> {
    Api::namespaced(rig.client.clone(), "team")
}

/// Every status that an Ingestor ever had, from its creation on.
async fn history(rig: &Rig, count: usize) -> Vec<(String, Option<IngestorStatus>)> {
    let params = WatchParams::default().timeout(290);
    let mut watch = ingestors(rig).watch(&params, "0").await.unwrap().boxed();
    let mut all = Vec::new();
    while all.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
        let Ok(Some(event)) = next else { break };
        if let WatchEvent::Added(one) | WatchEvent::Modified(one) = event.unwrap() {
            all.push((one.name_any(), one.status));
        }
    }
    all
}

async fn until_owned_by(rig: &Rig, name: &str, holder: &str, epoch: i64) {
    let expected = Owner {
        holder: holder.to_owned(),
        pod_uid: "the-pods-uid".to_owned(),
        epoch,
    };
    rig.until("the status has its owner", || async {
        let status = rig.status(name).await;
        status.and_then(|status| status.owner) == Some(expected.clone())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_by_its_owner_alone_and_never_without_owner() {
    let mut rig = Rig::new().await;
    let mut one = One::new(&rig, "one", json!({})).await;
    let _idle = replica(&mut rig, "b#1");
    sleep(Duration::from_mins(1)).await;
    assert_eq!(rig.status("one").await, None, "nobody owns it");
    let owner = replica(&mut rig, "a#1");
    let watching = history(&rig, 6);
    let working = async {
        owner.engine.own(&[(one.bucket, Epoch(5))]);
        until_owned_by(&rig, "one", "a#1", 5).await;
        for _ in 0..4 {
            one.append(&rig, 1).await;
            sleep(Duration::from_secs(10)).await;
        }
    };
    let (seen, ()) = futures::future::join(watching, working).await;
    let written: Vec<_> = seen
        .iter()
        .filter_map(|(_, status)| status.as_ref())
        .collect();
    assert!(written.len() >= 4, "{written:?}");
    for status in written {
        let owner = status.owner.as_ref().unwrap();
        assert_eq!((owner.holder.as_str(), owner.epoch), ("a#1", 5));
    }
    rig.close().await;
}

async fn versions(rig: &Rig) -> BTreeMap<String, Option<String>> {
    let all = ingestors(rig).list(&ListParams::default()).await.unwrap();
    let versions = all.items.iter();
    versions
        .map(|one| (one.name_any(), one.resource_version()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn taking_over_writes_nothing_by_itself() {
    let mut rig = Rig::new().await;
    let mut ones = Vec::new();
    for n in 0..40 {
        let mut one = One::new(&rig, &format!("i{n}"), json!({})).await;
        one.append(&rig, 3).await;
        ones.push(one);
    }
    let first = replica(&mut rig, "a#1");
    first.own_all(1);
    sleep(Duration::from_mins(2)).await;
    let before = versions(&rig).await;
    let mut second = replica(&mut rig, "b#1");
    second.own_all(2);
    for one in &ones {
        first.engine.drop_buckets(&[one.bucket]);
    }
    sleep(Duration::from_mins(2)).await;
    assert_eq!(versions(&rig).await, before);
    assert_eq!(second.told().await, []);
    ones[7].append(&rig, 1).await;
    until_owned_by(&rig, "i7", "b#1", 2).await;
    let counters = rig.status("i7").await.unwrap().counters.unwrap();
    assert_eq!((counters.accepted, counters.observed), (4, 4));
    let mut after = versions(&rig).await;
    after.insert("i7".to_owned(), before["i7"].clone());
    assert_eq!(after, before, "and that one alone");
    rig.close().await;
}

/// Writes a status owner as a later owner, or an editor, does.
async fn claim_status(rig: &Rig, name: &str, holder: &str, epoch: i64) {
    let owner = json!({ "holder": holder, "podUID": "p", "epoch": epoch });
    let patch = Patch::Merge(json!({ "status": { "owner": owner } }));
    let params = PatchParams::default();
    ingestors(rig)
        .patch_status(name, &params, &patch)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_status_is_anothers_tells_it_once_and_leaves_it_alone() {
    let mut rig = Rig::new().await;
    let mut one = One::new(&rig, "one", json!({})).await;
    let mut owner = replica(&mut rig, "a#1");
    owner.own_all(5);
    one.append(&rig, 1).await;
    until_owned_by(&rig, "one", "a#1", 5).await;
    claim_status(&rig, "one", "other#3", 9).await;
    let fence = owner.fence().await;
    assert_eq!(fence, (one.bucket, Epoch(9), "other#3".to_owned()));
    let version = ingestors(&rig).get("one").await.unwrap().resource_version();
    one.append(&rig, 5).await;
    sleep(Duration::from_mins(2)).await;
    let now = ingestors(&rig).get("one").await.unwrap();
    assert_eq!(now.resource_version(), version);
    assert_eq!(owner.told().await, [], "once");
    // The bucket is issued again, above it.
    owner.engine.own(&[(one.bucket, Epoch(10))]);
    until_owned_by(&rig, "one", "a#1", 10).await;
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_owner_whose_watch_is_blind_finds_out_by_its_refusal() {
    for refusal in [Fault::Conflict, Fault::Forbidden, Fault::Invalid] {
        let mut rig = Rig::new().await;
        let mut one = One::new(&rig, "one", json!({})).await;
        // Listed once, and never watched.
        let watch = On::verb(Verb::Watch).resource("ingestors");
        rig.faults().plan(1_000_000, watch, Fault::InternalError);
        let mut owner = replica(&mut rig, "a#1");
        rig.until("it has listed them", || async {
            !owner.engine.survey().await.is_empty()
        })
        .await;
        let list = On::verb(Verb::List).resource("ingestors");
        rig.faults().plan(1_000_000, list, Fault::InternalError);
        let patch = On::verb(Verb::Patch).resource("ingestors").name("one");
        claim_status(&rig, "one", "other#3", 9).await;
        rig.faults().plan(1, patch, refusal);
        owner.own_all(5);
        one.append(&rig, 1).await;
        let fence = owner.fence().await;
        assert_eq!(
            fence,
            (one.bucket, Epoch(9), "other#3".to_owned()),
            "{refusal:?}"
        );
        sleep(Duration::from_mins(5)).await;
        let status = rig.status("one").await.unwrap();
        assert_eq!(status.owner.unwrap().holder, "other#3");
        assert_eq!(status.counters, None);
        assert_eq!(owner.told().await, Vec::<Notice>::new(), "once");
        rig.close().await;
    }
}
