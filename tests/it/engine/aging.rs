//! Observations whose time is over, and what keeps them.

use std::time::Duration;

use kube::ResourceExt as _;
use serde_json::{Value, json};
use zen_fabric::{
    api::{Observation, annotations},
    embedded::faults::{Fault, On, Verb},
    journal::{Journal as _, Millis},
    ops::time::Clock as _,
};

use super::rig::{Rig, uid};

fn observations(verb: Verb) -> On {
    On::verb(verb).resource("observations")
}

/// Removed a minute after their creation.
fn short() -> Value {
    json!({ "output": { "observation": { "ttlSecondsAfterCreation": 60 } } })
}

/// The same, in windows of three minutes.
fn short_in_windows() -> Value {
    let mut spec = short();
    spec["dedup"] = json!({ "strategy": "fingerprint", "fields": ["eventType"], "window": "3m" });
    spec
}

fn window_end(object: &Observation) -> Millis {
    let end: jiff::Timestamp = object.annotations()[annotations::WINDOW_END]
        .parse()
        .unwrap();
    Millis(end.as_millisecond())
}

async fn sleep_until(rig: &Rig, at: i64) {
    let left = u64::try_from(at - rig.clock.now().0).unwrap();
    tokio::time::sleep(Duration::from_millis(left)).await;
}

async fn until_it_is_removed(rig: &Rig) {
    rig.until("it is removed", || async {
        rig.observations().await.is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_observation_is_removed_when_its_time_is_over() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", short()).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let _engine = rig.engine().await;
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    rig.finished(&uid).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(rig.observations().await.len(), 1);
    until_it_is_removed(&rig).await;
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_observation_whose_window_is_open_stays() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", short_in_windows()).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let _engine = rig.engine().await;
    let push = json!({ "kind": "push" });
    rig.append(&uid, spec, "e1", &push).await;
    rig.finished(&uid).await;
    let mut made = rig.observations().await.remove(0);
    if window_end(&made).0 - rig.clock.now().0 < 150_000 {
        // Too short for a sweep in it: the next one, from its beginning on.
        sleep_until(&rig, window_end(&made).0 + 1).await;
        rig.append(&uid, spec, "e2", &push).await;
        rig.finished(&uid).await;
        let all = rig.observations().await;
        made = all.into_iter().max_by_key(window_end).unwrap();
    }
    sleep_until(&rig, window_end(&made).0 - 1_000).await;
    let before = rig.journal.tally(&uid);
    rig.append(&uid, spec, "e3", &push).await;
    let tally = rig.finished(&uid).await;
    assert_eq!(tally.deduplicated, before.deduplicated + 1, "it is there");
    until_it_is_removed(&rig).await;
    assert!(rig.clock.now().0 >= window_end(&made).0 + 60_000);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_observation_stays_until_its_record_is_committed() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", short()).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let engine = rig.engine().await;
    engine.gate(false);
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    rig.fail_syncs(true);
    engine.gate(true);
    rig.until("it is made", || async {
        rig.observations().await.len() == 1
    })
    .await;
    tokio::time::sleep(Duration::from_mins(3)).await;
    assert_eq!(rig.journal.tally(&uid).backlog, 1, "its end is not there");
    assert_eq!(rig.observations().await.len(), 1);
    rig.fail_syncs(false);
    assert_eq!(rig.finished(&uid).await.observed, 1);
    until_it_is_removed(&rig).await;
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_observation_stays_while_an_earlier_record_may_belong_to_its_window() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", short_in_windows()).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let _engine = rig.engine().await;
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    rig.finished(&uid).await;
    let made = rig.observations().await.remove(0);
    rig.faults()
        .plan(1_000_000, observations(Verb::Create), Fault::InternalError);
    rig.append(&uid, spec, "e2", &json!({ "kind": "pull" }))
        .await;
    tokio::time::sleep(Duration::from_mins(6)).await;
    assert_eq!(rig.journal.tally(&uid).backlog, 1);
    let names: Vec<_> = rig
        .observations()
        .await
        .iter()
        .map(|one| one.name_any())
        .collect();
    assert_eq!(names, [made.name_any()]);
    rig.faults().clear();
    rig.finished(&uid).await;
    until_it_is_removed(&rig).await;
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn one_observation_that_can_not_be_removed_keeps_no_other() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", short()).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let _engine = rig.engine().await;
    for n in 0..20 {
        rig.append(&uid, spec, &format!("e{n}"), &json!({ "kind": "push" }))
            .await;
    }
    rig.finished(&uid).await;
    // Lists are in the order of names: this one comes before all others.
    let names = rig.observations().await;
    let first = names.iter().map(kube::ResourceExt::name_any).min().unwrap();
    rig.faults().plan(
        1_000_000,
        observations(Verb::Delete).name(&first),
        Fault::Forbidden,
    );
    rig.until("the others are removed", || async {
        rig.observations().await.len() == 1
    })
    .await;
    assert_eq!(rig.observations().await[0].name_any(), first);
    rig.faults().clear();
    rig.until("it goes as well", || async {
        rig.observations().await.is_empty()
    })
    .await;
    rig.close().await;
}
