//! One scenario per test.

use std::time::Duration;

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use zen_fabric::{
    api::{Ingestor, IngestorStatus, Observation},
    embedded::faults::{Fault, On, Verb},
    journal::{Journal as _, Tally},
};

use super::rig::{Rig, uid};

fn observations(verb: Verb) -> On {
    On::verb(verb).resource("observations")
}

#[tokio::test(start_paused = true)]
async fn an_accepted_event_becomes_an_observation_and_is_counted() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    let engine = rig.engine().await;
    let tally = rig.finished(&uid).await;
    assert_eq!(
        (tally.requests, tally.observed, tally.items.observed),
        (1, 1, 1)
    );
    let made = rig.observations().await;
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].spec.event_type, "push");
    assert!(engine.drain(Duration::from_secs(5)).await);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn one_poisoned_name_delays_no_other_and_heals() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    rig.append(&uid, spec, "e0", &json!({ "kind": "push" }))
        .await;
    let _engine = rig.engine().await;
    rig.finished(&uid).await;
    let poison = rig.observations().await[0].name_any();
    let api: Api<Observation> = Api::namespaced(rig.client.clone(), "team");
    api.delete(&poison, &DeleteParams::default()).await.unwrap();
    rig.faults().plan(
        1_000_000,
        observations(Verb::Create).name(&poison),
        Fault::InternalError,
    );
    rig.append(&uid, spec, "e0", &json!({ "kind": "push" }))
        .await;
    for n in 0..50 {
        rig.append(&uid, spec, &format!("good{n}"), &json!({ "kind": "push" }))
            .await;
    }
    rig.until("the others are written", || async {
        rig.journal.tally(&uid).backlog == 1
    })
    .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(rig.journal.tally(&uid).backlog, 1, "nothing is given up");
    rig.faults().clear();
    let tally = rig.finished(&uid).await;
    assert_eq!((tally.observed, tally.dead_lettered), (52, 0));
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_ingestor_is_held_told_of_and_goes_on() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    rig.faults()
        .plan(1_000_000, observations(Verb::Create), Fault::Forbidden);
    for n in 0..20 {
        rig.append(&uid, spec, &format!("e{n}"), &json!({ "kind": "push" }))
            .await;
    }
    let _engine = rig.engine().await;
    let reason = || async {
        let api: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
        let status = api.get("github").await.unwrap().status.unwrap_or_default();
        let degraded = status
            .conditions
            .into_iter()
            .find(|c| c.type_ == "Degraded");
        degraded.map(|c| c.reason).unwrap_or_default()
    };
    rig.until("the status says so", || async {
        reason().await == "WritesHeld"
    })
    .await;
    rig.faults().clear();
    assert_eq!(rig.finished(&uid).await.observed, 20);
    rig.until("the status says so", || async {
        reason().await == "AsExpected"
    })
    .await;
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_ingestor_waits_beside_one_that_flows_and_goes_on_when_told() {
    let mut rig = Rig::new().await;
    let still = json!({ "output": { "observation": { "maxPerMinute": 0 } } });
    let paused = rig.ingestor("paused", still).await;
    let flowing = rig.ingestor("flowing", json!({})).await;
    let _engine = rig.engine().await;
    for ingestor in [&paused, &flowing] {
        let uid = uid(ingestor);
        let spec = rig.accept_under(ingestor, &uid).await;
        for n in 0..30 {
            rig.append(&uid, spec, &format!("e{n}"), &json!({ "kind": "push" }))
                .await;
        }
    }
    rig.finished(&uid(&flowing)).await;
    assert_eq!(rig.journal.tally(&uid(&paused)).backlog, 30);
    let api: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
    let patch = json!({ "spec": { "output": { "observation": { "maxPerMinute": 60 } } } });
    let before = tokio::time::Instant::now();
    api.patch("paused", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    assert_eq!(rig.finished(&uid(&paused)).await.observed, 30);
    let took = before.elapsed();
    assert!(
        took >= Duration::from_secs(28),
        "one a second, and one more at the start: {took:?}"
    );
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_counts_what_comes_and_is_written_once_a_second() {
    let mut rig = Rig::new().await;
    let counting =
        json!({ "dedup": { "strategy": "aggregate", "fields": ["eventType"], "window": "24h" } });
    let ingestor = rig.ingestor("alerts", counting).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let _engine = rig.engine().await;
    for n in 0..500 {
        rig.append(&uid, spec, &format!("e{n}"), &json!({ "kind": "down" }))
            .await;
    }
    let tally = rig.finished(&uid).await;
    assert_eq!((tally.observed, tally.deduplicated), (1, 499));
    let made = rig.observations().await;
    assert_eq!((made.len(), made[0].spec.count), (1, 500));
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_backlog_of_a_deleted_ingestor_is_finished() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    let api: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
    api.delete("github", &DeleteParams::default())
        .await
        .unwrap();
    // As the gateway does. The record keeps the spec that it names.
    rig.journal.forget(&uid).await.unwrap();
    let _engine = rig.engine().await;
    assert_eq!(rig.finished(&uid).await.observed, 1);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_id_with_another_payload_is_a_dead_letter() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let _engine = rig.engine().await;
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    rig.append(&uid, spec, "e1", &json!({ "kind": "pull" }))
        .await;
    let tally = rig.finished(&uid).await;
    let Tally {
        observed,
        deduplicated,
        dead_lettered,
        ..
    } = tally;
    assert_eq!((observed, deduplicated, dead_lettered), (1, 1, 1));
    let letters = rig.journal.letters(None, 10).await;
    assert_eq!(&*letters[0].letter.reason, "KeyReused");
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn counters_of_many_busy_ingestors_are_all_written_in_turn() {
    let mut rig = Rig::new().await;
    // What is filtered costs no write but the status's.
    let quiet = json!({ "filters": [{ "name": "none", "keepIf": "false" }] });
    let mut busy = Vec::new();
    for n in 0..500 {
        let ingestor = rig.ingestor(&format!("busy{n}"), quiet.clone()).await;
        let uid = uid(&ingestor);
        let spec = rig.accept_under(&ingestor, &uid).await;
        busy.push((uid, spec));
    }
    let _engine = rig.engine().await;
    let statuses = || async {
        let api: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
        let all = api.list(&ListParams::default()).await.unwrap().items;
        all.into_iter()
            .map(|ingestor| ingestor.status.unwrap_or_default())
            .collect::<Vec<_>>()
    };
    rig.until("each has its conditions", || async {
        let all = statuses().await;
        all.iter().all(|status| !status.conditions.is_empty())
    })
    .await;
    // At 20 a second a lap takes half a minute or so; all have something new every five seconds.
    for round in 0..16 {
        let id = format!("e{round}");
        let event = json!({ "kind": "push" });
        let appends = busy
            .iter()
            .map(|(uid, spec)| rig.append(uid, *spec, &id, &event));
        futures::future::join_all(appends).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let told = |status: &IngestorStatus| {
        let counters = status.counters.as_ref();
        counters.is_some_and(|counters| counters.accepted > 0)
    };
    let all = statuses().await;
    let starved = all.iter().filter(|status| !told(status)).count();
    assert_eq!((all.len(), starved), (500, 0));
    rig.close().await;
}

/// More than the window holds waits behind one name that fails: all others go on, also those that
/// come later and those of a pace.
async fn a_held_name_stops_no_other(pace: serde_json::Value, each: Duration) {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", pace).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let event = json!({ "kind": "push" });
    rig.append(&uid, spec, "e0", &event).await;
    let _engine = rig.engine().await;
    rig.finished(&uid).await;
    let poison = rig.observations().await[0].name_any();
    let api: Api<Observation> = Api::namespaced(rig.client.clone(), "team");
    api.delete(&poison, &DeleteParams::default()).await.unwrap();
    rig.faults().plan(
        1_000_000,
        observations(Verb::Create).name(&poison),
        Fault::InternalError,
    );
    for _ in 0..1_500 {
        rig.append(&uid, spec, "e0", &event).await;
    }
    for round in 0..5 {
        for n in 0..4 {
            rig.append(&uid, spec, &format!("good{round}-{n}"), &event)
                .await;
        }
        let since = tokio::time::Instant::now();
        rig.until("the others are written", || async {
            rig.journal.tally(&uid).backlog == 1_500
        })
        .await;
        let took = since.elapsed();
        assert!(took < each, "round {round}: {took:?}");
        // Long enough for the queue to have nothing to do but wait.
        tokio::time::sleep(Duration::from_secs(100)).await;
    }
    rig.faults().clear();
    let tally = rig.finished(&uid).await;
    let ends = (tally.observed, tally.deduplicated, tally.dead_lettered);
    assert_eq!(ends, (22, 1_499, 0));
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn records_behind_a_held_name_stop_no_other() {
    a_held_name_stops_no_other(json!({}), Duration::from_secs(10)).await;
}

#[tokio::test(start_paused = true)]
async fn records_behind_a_held_name_stop_no_other_of_a_pace() {
    let pace = json!({ "output": { "observation": { "maxPerMinute": 120 } } });
    a_held_name_stops_no_other(pace, Duration::from_mins(5)).await;
}
