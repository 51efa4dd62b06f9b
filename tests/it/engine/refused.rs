//! What a server refuses: a dead letter only where it takes another in its place.

use std::time::Duration;

use kube::{Api, ResourceExt as _};
use serde_json::json;
use zen_fabric::{
    api::Ingestor,
    embedded::faults::{Fault, On, Verb},
    journal::Journal as _,
};

use super::rig::{Rig, uid};

fn refuse(rig: &Rig, times: usize, verb: Verb) {
    let on = On::verb(verb).resource("observations");
    rig.faults().plan(times, on, Fault::Invalid);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_refused_where_a_plain_one_passes_is_a_dead_letter() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    // The dry run of the plain one is the second create.
    refuse(&rig, 1, Verb::Create);
    let _engine = rig.engine().await;
    for id in ["e1", "e2"] {
        rig.append(&uid, spec, id, &json!({ "kind": "push" })).await;
        rig.finished(&uid).await;
    }
    let tally = rig.journal.tally(&uid);
    assert_eq!((tally.dead_lettered, tally.observed), (1, 1));
    let letter = &rig.journal.letters(None, 1).await[0].letter;
    assert_eq!(&*letter.reason, "Refused");
    assert!(letter.message.contains("is invalid"), "{}", letter.message);
    let made = rig.observations().await;
    assert_eq!(made.len(), 1, "a dry run makes nothing");
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn where_a_plain_one_is_refused_too_the_ingestor_is_held() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    refuse(&rig, 1_000_000, Verb::Create);
    let _engine = rig.engine().await;
    for id in ["e1", "e2"] {
        rig.append(&uid, spec, id, &json!({ "kind": "push" })).await;
    }
    let api: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
    rig.until("the status says so", || async {
        let status = api.get("github").await.unwrap().status.unwrap_or_default();
        let held = |one: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            (one.type_.as_str(), one.reason.as_str()) == ("Degraded", "WritesHeld")
                && one.message.contains("is invalid")
        };
        status.conditions.iter().any(held)
    })
    .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    let tally = rig.journal.tally(&uid);
    assert_eq!((tally.backlog, tally.dead_lettered), (2, 0));
    rig.faults().clear();
    assert_eq!(rig.finished(&uid).await.observed, 2);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn of_an_aggregate_the_bad_item_alone_is_a_dead_letter() {
    let mut rig = Rig::new().await;
    let counting =
        json!({ "dedup": { "strategy": "aggregate", "fields": ["eventType"], "window": "24h" } });
    let ingestor = rig.ingestor("alerts", counting).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let down = json!({ "kind": "down" });
    let engine = rig.engine().await;
    rig.append(&uid, spec, "e1", &down).await;
    rig.finished(&uid).await;
    let made = rig.observations().await.remove(0).name_any();
    assert!(engine.drain(Duration::from_secs(5)).await);
    // The batch of three is refused, and then the first of them alone.
    refuse(&rig, 2, Verb::Update);
    for id in ["e2", "e3", "e4"] {
        rig.append(&uid, spec, id, &down).await;
    }
    let _engine = rig.engine().await;
    let tally = rig.finished(&uid).await;
    let ends = (tally.observed, tally.dead_lettered, tally.deduplicated);
    assert_eq!(ends, (1, 1, 2));
    assert_eq!(rig.faults().pending(), 0);
    let letters = rig.journal.letters(None, 10).await;
    let told: Vec<_> = letters
        .iter()
        .map(|one| (&*one.event_id, &*one.letter.reason))
        .collect();
    assert_eq!(told, [("e2", "Refused")]);
    let object = rig.observations().await.remove(0);
    assert_eq!((object.name_any(), object.spec.count), (made, 3));
    rig.close().await;
}
