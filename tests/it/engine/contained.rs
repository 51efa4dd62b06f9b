//! A panic in the work on one Ingestor stays its own, is told, and heals.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use kube::{Api, ResourceExt as _};
use serde_json::json;
use zen_fabric::{
    api::Ingestor,
    journal::{IngestorUid, Journal},
};

use super::rig::{Rig, uid};
use super::tapped::tapped;

/// A journal whose subscriptions panic when the records of `under` are fetched, so many times; and
/// how many are left.
fn mined(rig: &Rig, under: &IngestorUid, times: u32) -> (Arc<dyn Journal>, Arc<AtomicU32>) {
    let (under, left) = (under.clone(), Arc::new(AtomicU32::new(times)));
    let mine = Arc::clone(&left);
    let journal = tapped(Arc::clone(&rig.journal) as _, move |ingestor, _| {
        if *ingestor == under {
            let one_less = |left: u32| left.checked_sub(1);
            let left = mine.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
            assert!(left.is_err(), "planted");
        }
    });
    (journal, left)
}

/// What the status says of the Ingestor's writes.
async fn degraded(rig: &Rig, ingestor: &Ingestor) -> Option<(String, String)> {
    let api: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
    let now = api.get(&ingestor.name_any()).await.unwrap();
    let conditions = now.status?.conditions;
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == "Degraded")?;
    Some((found.status.clone(), found.message.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_panic_delays_its_ingestor_alone_is_told_and_heals() {
    let mut rig = Rig::new().await;
    let bad = rig.ingestor("bad", json!({})).await;
    let good = rig.ingestor("good", json!({})).await;
    for ingestor in [&bad, &good] {
        let spec = rig.accept_under(ingestor, &uid(ingestor)).await;
        let event = json!({ "kind": "push" });
        rig.append(&uid(ingestor), spec, "e1", &event).await;
    }
    let (journal, mine) = mined(&rig, &uid(&bad), 8);
    let engine = rig.engine_on(journal).await;
    assert_eq!(rig.finished(&uid(&good)).await.observed, 1);
    rig.until("the status tells it", async || {
        let told = degraded(&rig, &bad).await;
        told.is_some_and(|(status, message)| status == "True" && message.contains("engine failed"))
    })
    .await;
    assert!(mine.load(Ordering::SeqCst) > 0, "told while it lasts");
    // No further event comes, and still the work goes on.
    assert_eq!(rig.finished(&uid(&bad)).await.observed, 1);
    rig.until("the status is well again", async || {
        degraded(&rig, &bad)
            .await
            .is_some_and(|(status, _)| status == "False")
    })
    .await;
    assert!(engine.drain(Duration::from_secs(5)).await);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_work_that_panics() {
    let mut rig = Rig::new().await;
    let bad = rig.ingestor("bad", json!({})).await;
    let spec = rig.accept_under(&bad, &uid(&bad)).await;
    rig.append(&uid(&bad), spec, "e1", &json!({ "kind": "push" }))
        .await;
    let (journal, mine) = mined(&rig, &uid(&bad), u32::MAX);
    let engine = rig.engine_on(journal).await;
    rig.until("it has panicked", async || {
        mine.load(Ordering::SeqCst) < u32::MAX
    })
    .await;
    assert!(engine.drain(Duration::from_secs(5)).await);
    assert_eq!(
        rig.journal.tally(&uid(&bad)).backlog,
        1,
        "the journal has it"
    );
    rig.close().await;
}
