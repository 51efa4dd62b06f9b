//! Much of one kind beside little of another: neither time nor memory goes to the much alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kube::{Api, ResourceExt as _, api::DeleteParams};
use serde_json::{Value, json};
use tokio::time::Instant;
use zen_fabric::{
    api::{Ingestor, Observation},
    embedded::faults::{Fault, On, Verb},
    journal::Journal as _,
};

use super::{
    rig::{Rig, uid},
    tapped::tapped,
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

