//! Much of one kind beside little of another: neither time nor memory goes to the much alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};
use zen_fabric::{
    api::{Ingestor, Observation},
    embedded::faults::{Fault, On, Verb},
    journal::Journal as _,
};

use super::{
    rig::{Rig, uid},
    tapped::{delayed, tapped},
};

fn creates() -> On {
    On::verb(Verb::Create).resource("observations")
}

/// At once, so many events with the ids `id0`, `id1`, ….
async fn append(rig: &Rig, ingestor: &Ingestor, id: &str, count: usize, body: &Value) {
    let uid = uid(ingestor);
    let spec = rig.accept_under(ingestor, &uid).await;
    let ids: Vec<String> = (0..count).map(|n| format!("{id}{n}")).collect();
    futures::future::join_all(ids.iter().map(|id| rig.append(&uid, spec, id, body))).await;
}

/// At once, so many events with the same id.
async fn append_one(rig: &Rig, ingestor: &Ingestor, id: &str, count: usize, body: &Value) {
    let uid = uid(ingestor);
    let spec = rig.accept_under(ingestor, &uid).await;
    futures::future::join_all((0..count).map(|_| rig.append(&uid, spec, id, body))).await;
}

#[tokio::test(start_paused = true)]
async fn an_alert_storm_on_one_name_delays_no_other() {
    let mut rig = Rig::new().await;
    let counting =
        json!({ "dedup": { "strategy": "aggregate", "fields": ["eventType"], "window": "24h" } });
    let ingestor = rig.ingestor("alerts", counting).await;
    let uid = uid(&ingestor);
    append(&rig, &ingestor, "e", 5_000, &json!({ "kind": "down" })).await;
    append(&rig, &ingestor, "last", 1, &json!({ "kind": "rare" })).await;
    let since = Instant::now();
    let _engine = rig.engine().await;
    rig.until("the rare one is there", || async {
        rig.observations().await.len() == 2
    })
    .await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let tally = rig.finished(&uid).await;
    assert_eq!((tally.observed, tally.deduplicated), (2, 4_999));
    let mut counts: Vec<_> = rig
        .observations()
        .await
        .iter()
        .map(|one| one.spec.count)
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 5_000]);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_alone_is_fetched_once() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("quiet", json!({})).await;
    let fetches = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&fetches);
    let journal = tapped(Arc::clone(&rig.journal) as _, move |_, _| {
        counting.fetch_add(1, Ordering::SeqCst);
    });
    let _engine = rig.engine_on(journal).await;
    for n in 0..10 {
        append(
            &rig,
            &ingestor,
            &format!("e{n}-"),
            1,
            &json!({ "kind": "push" }),
        )
        .await;
        let tally = rig.finished(&uid(&ingestor)).await;
        assert_eq!(tally.observed, n + 1);
    }
    assert_eq!(fetches.load(Ordering::SeqCst), 10);
    append(&rig, &ingestor, "many", 700, &json!({ "kind": "push" })).await;
    assert_eq!(rig.finished(&uid(&ingestor)).await.observed, 710);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_behind_a_fetch_is_not_left() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("quiet", json!({})).await;
    let (fetched, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&fetched), Arc::clone(&go));
    let journal = delayed(Arc::clone(&rig.journal) as _, move || {
        tell.notify_one();
        Arc::clone(&wait).notified_owned().boxed()
    });
    let _engine = rig.engine_on(journal).await;
    append(&rig, &ingestor, "first", 1, &json!({ "kind": "push" })).await;
    fetched.notified().await;
    append(&rig, &ingestor, "second", 1, &json!({ "kind": "push" })).await;
    go.notify_one();
    // The one that finds the second; nothing else names it.
    let found = tokio::time::timeout(Duration::from_hours(1), fetched.notified()).await;
    found.expect("the second is left");
    go.notify_one();
    assert_eq!(rig.finished(&uid(&ingestor)).await.observed, 2);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_ingestor_whose_writes_hang_delays_no_other() {
    let mut rig = Rig::new().await;
    let hanging = rig.ingestor("hanging", json!({})).await;
    let healthy = rig.ingestor("healthy", json!({})).await;
    let push = json!({ "kind": "push" });
    // Once without trouble, to learn their names.
    append(&rig, &hanging, "e", 60, &push).await;
    let _engine = rig.engine().await;
    rig.finished(&uid(&hanging)).await;
    let api: Api<Observation> = Api::namespaced(rig.client.clone(), "team");
    for made in rig.observations().await {
        let name = made.name_any();
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        rig.faults()
            .plan(1_000_000, creates().name(&name), Fault::Silence);
    }
    append(&rig, &hanging, "e", 60, &push).await;
    // While the first writes hang, and when it is known that they do.
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let since = Instant::now();
        append(&rig, &healthy, &format!("good{round}-"), 200, &push).await;
        rig.finished(&uid(&healthy)).await;
        let took = since.elapsed();
        assert!(took < Duration::from_secs(2), "round {round}: {took:?}");
        assert_eq!(rig.journal.tally(&uid(&hanging)).backlog, 60);
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    rig.faults().clear();
    assert_eq!(rig.finished(&uid(&hanging)).await.observed, 120);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_explodes_is_bounded_in_memory() {
    let mut rig = Rig::new().await;
    let exploding = json!({
        "explode": "body.results",
        "normalize": { "eventType": { "expression": "'x'" } },
        "dedup": { "strategy": "fingerprint", "fields": ["eventType"], "window": "24h" },
    });
    let ingestor = rig.ingestor("scanner", exploding).await;
    let uid = uid(&ingestor);
    append(
        &rig,
        &ingestor,
        "e",
        20,
        &json!({ "results": vec![1; 1_000] }),
    )
    .await;
    // Nothing is written, so what was taken in stays in memory.
    rig.faults().plan(1_000_000, creates(), Fault::Silence);
    let furthest = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&furthest);
    let journal = tapped(Arc::clone(&rig.journal) as _, move |_, after| {
        seen.fetch_max(after.map_or(0, |at| at.0), Ordering::SeqCst);
    });
    let _engine = rig.engine_on(journal).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(rig.faults().pending() < 1_000_000, "writes are under way");
    let position = furthest.load(Ordering::SeqCst);
    assert!(position <= 5, "{position} records of 1,000 items each");
    rig.faults().clear();
    let tally = rig.finished(&uid).await;
    let items = (tally.items.observed, tally.items.deduplicated);
    assert_eq!(items, (1, 19_999));
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn that_a_held_name_stops_the_others_in_the_end_is_told() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let push = json!({ "kind": "push" });
    append(&rig, &ingestor, "e", 1, &push).await;
    let _engine = rig.engine().await;
    rig.finished(&uid(&ingestor)).await;
    let made = rig.observations().await.remove(0).name_any();
    let api: Api<Observation> = Api::namespaced(rig.client.clone(), "team");
    api.delete(&made, &DeleteParams::default()).await.unwrap();
    rig.faults()
        .plan(1_000_000, creates().name(&made), Fault::InternalError);
    let told = || async {
        let ingestors: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
        let status = ingestors.get("github").await.unwrap().status?;
        let mut conditions = status.conditions.into_iter();
        let degraded = conditions.find(|one| one.type_ == "Degraded" && one.status == "True")?;
        Some(degraded.message.contains("no other goes on"))
    };
    append_one(&rig, &ingestor, "e0", 1_000, &push).await;
    rig.until("the hold is told", || async { told().await == Some(false) })
        .await;
    append_one(&rig, &ingestor, "e0", 8_500, &push).await;
    rig.until("it is told", || async { told().await == Some(true) })
        .await;
    rig.faults().clear();
    rig.finished(&uid(&ingestor)).await;
    rig.until("all is well", || async { told().await.is_none() })
        .await;
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn counters_are_written_within_a_budget() {
    let mut rig = Rig::new().await;
    // What is filtered costs no write but the status's.
    let quiet = json!({ "filters": [{ "name": "none", "keepIf": "false" }] });
    let ingestor = rig.ingestor("github", quiet).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let _engine = rig.engine().await;
    let api: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
    // Its conditions come first, and may come with the counters of nothing.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let version = api.get("github").await.unwrap().resource_version().unwrap();
    let changes = api.watch(&WatchParams::default(), &version).await.unwrap();
    let mut changes = changes.boxed();
    let push = json!({ "kind": "push" });
    let since = Instant::now();
    for n in 0..1_000 {
        rig.append(&uid, spec, &format!("e{n}"), &push).await;
        tokio::time::sleep_until(since + Duration::from_millis(10) * (n + 1)).await;
    }
    assert!(since.elapsed() >= Duration::from_secs(10));
    let mut written = 0;
    while let Some(Some(Ok(change))) = changes.next().now_or_never() {
        assert!(matches!(change, WatchEvent::Modified(_)), "{change:?}");
        written += 1;
    }
    assert!((1..=3).contains(&written), "{written} writes");
    // And what is told in the end is exact.
    rig.until("all is told", || async {
        let status = api.get("github").await.unwrap().status.unwrap();
        let counters = status.counters.unwrap();
        (counters.accepted, counters.filtered) == (1_000, 1_000)
    })
    .await;
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_create_that_conflicts_waits_shortly_and_alone() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let push = json!({ "kind": "push" });
    append(&rig, &ingestor, "e", 1, &push).await;
    let _engine = rig.engine().await;
    rig.finished(&uid(&ingestor)).await;
    let made = rig.observations().await.remove(0).name_any();
    let api: Api<Observation> = Api::namespaced(rig.client.clone(), "team");
    api.delete(&made, &DeleteParams::default()).await.unwrap();
    rig.faults()
        .plan(1_000_000, creates().name(&made), Fault::Conflict);
    append(&rig, &ingestor, "e", 1, &push).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let since = Instant::now();
    append(&rig, &ingestor, "other", 100, &push).await;
    rig.until("the others are written", || async {
        rig.journal.tally(&uid(&ingestor)).backlog == 1
    })
    .await;
    assert!(since.elapsed() < Duration::from_secs(1));
    let since = Instant::now();
    rig.faults().clear();
    rig.finished(&uid(&ingestor)).await;
    assert!(since.elapsed() < Duration::from_secs(2));
    rig.close().await;
}
