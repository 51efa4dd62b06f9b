//! What changes while the gateway runs: Secrets, specs, Ingestors.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DeleteParams};
use serde_json::json;
use zen_fabric::journal::facts::SecretState;

use super::world::{PATIENCE, World, github, ingestor, sign};

const BODY: &[u8] = b"{}";

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_live_without_a_restart_and_both_are_valid_meanwhile() {
    let world = World::new().await;
    world.github().await;
    let status = async |secret: &str| {
        let signature = sign(secret, BODY);
        let headers = [("X-Hub-Signature-256", signature.as_str())];
        world
            .post("/hooks/team/github", &headers, BODY)
            .await
            .status
    };
    let becomes = async |secret: &str, expected: u16| {
        let looking = async {
            while status(secret).await != expected {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .expect("the change is live");
    };
    world
        .secret(
            "hook",
            &[("old", super::world::SECRET), ("new", "the next secret")],
        )
        .await;
    becomes("the next secret", 202).await;
    assert_eq!(status(super::world::SECRET).await, 202);
    world.secret("hook", &[("new", "the next secret")]).await;
    becomes(super::world::SECRET, 401).await;
    assert_eq!(status("the next secret").await, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_closes_the_endpoint_and_its_coming_opens_it() {
    let world = World::new().await;
    let webhook = json!({ "auth": [{ "github": { "secretRef": { "name": "later" } } }] });
    let missing = |name: &str| SecretState::Missing {
        name: name.to_owned(),
    };
    let uid = world
        .ingestor("github", webhook, |facts| facts.secret == missing("later"))
        .await;
    world.deliver("d", BODY).await.is_problem(503);
    world.secret("later", &[("key", "")]).await;
    world
        .secret("later", &[("key", super::world::SECRET)])
        .await;
    world.facts(&uid, |facts| facts.serving).await;
    assert_eq!(world.deliver("d", BODY).await.status, 202);
    let api: Api<Secret> = Api::namespaced(world.client.clone(), "team");
    api.delete("later", &DeleteParams::default()).await.unwrap();
    world
        .facts(&uid, |facts| facts.secret == missing("later"))
        .await;
    world.deliver("e", BODY).await.is_problem(503);
    assert_eq!(world.tally(&uid).requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_there_before_its_ingestor_is_read_also_under_the_namespaces_watch() {
    let world = World::new().await;
    let names: Vec<String> = (0..10).map(|n| format!("early-{n}")).collect();
    for name in &names {
        world.secret(name, &[("key", super::world::SECRET)]).await;
    }
    let webhook =
        |secret: &str| json!({ "auth": [{ "github": { "secretRef": { "name": secret } } }] });
    // One after the other: the tenth comes when one watch of the namespace has listed all Secrets.
    let mut last = None;
    for name in &names {
        last = Some(
            world
                .ingestor(name, webhook(name), |facts| facts.serving)
                .await,
        );
    }
    // Nine others stay: the watch does, and the tenth's Secret is let go and read again.
    let (name, uid) = (&names[9], last.unwrap());
    world
        .ingestors()
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    super::world::until("it is gone", || world.gateway.facts().facts(&uid).is_none()).await;
    world
        .ingestor(name, webhook(name), |facts| facts.serving)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_ingestor_is_unknown_and_forgotten_by_the_journal() {
    let world = World::new().await;
    let uid = world.github().await;
    assert!(world.journal.spec_in_force(&uid).is_some());
    world
        .ingestors()
        .delete("github", &DeleteParams::default())
        .await
        .unwrap();
    super::world::until("it is forgotten", || {
        world.journal.spec_in_force(&uid).is_none()
    })
    .await;
    world.deliver("d", BODY).await.is_problem(404);
    assert!(world.gateway.facts().facts(&uid).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_decision_spec_is_recorded_before_it_is_served() {
    let world = World::new().await;
    let uid = world.github().await;
    assert_eq!(world.deliver("one", BODY).await.status, 202);
    let first = world.journal.spec_in_force(&uid).unwrap();
    let patch = kube::api::Patch::Merge(
        json!({ "spec": { "dedup": { "strategy": "fingerprint", "fields": ["eventType"] } } }),
    );
    let api = world.ingestors();
    api.patch("github", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    super::world::until("it is in force", || {
        world.journal.spec_in_force(&uid).unwrap() != first
    })
    .await;
    let second = world.journal.spec_in_force(&uid).unwrap();
    let answer = async {
        loop {
            let n = uuid::Uuid::new_v4().to_string();
            let answer = world.deliver(&n, BODY).await;
            if answer.header("location").is_none() {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answer)
        .await
        .expect("the new spec is served");
    assert_eq!(answer.status, 202);
    let records = world.records(&uid).await;
    assert_eq!(records.first().unwrap().event.spec, first.digest);
    assert_eq!(records.last().unwrap().event.spec, second.digest);
    // The replay of the first is answered as the first was.
    let replay = world.deliver("one", BODY).await;
    assert_eq!(replay.header("idempotency-replayed"), Some("true"));
    assert!(replay.header("location").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_told_the_same_place_however_often_the_spec_changed_and_after_a_restart() {
    let world = World::new().await;
    let uid = world.github().await;
    let first = world.deliver("one", BODY).await;
    let location = first.header("location").unwrap();
    let api = world.ingestors();
    let change = async |spec: serde_json::Value| {
        let before = world.journal.spec_in_force(&uid).unwrap();
        let patch = kube::api::Patch::Merge(json!({ "spec": spec }));
        api.patch("github", &kube::api::PatchParams::default(), &patch)
            .await
            .unwrap();
        super::world::until("it is in force", || {
            world.journal.spec_in_force(&uid).unwrap() != before
        })
        .await;
    };
    for n in 0..9 {
        change(json!({ "normalize": { "eventType": { "value": format!("test_{n}") } } })).await;
    }
    // Under this one no name is known beforehand, and a new event is told none.
    change(json!({ "dedup": { "strategy": "fingerprint", "fields": ["eventType"] } })).await;
    let unnamed = async {
        loop {
            let id = uuid::Uuid::new_v4().to_string();
            if world.deliver(&id, BODY).await.header("location").is_none() {
                return id;
            }
        }
    };
    let unnamed = tokio::time::timeout(PATIENCE, unnamed)
        .await
        .expect("the new spec is served");
    let restarted = world.another_gateway().await;
    for gateway in [world.address(), restarted.address()] {
        let replay = world.deliver_to(gateway, "one", BODY).await;
        assert_eq!(replay.header("idempotency-replayed"), Some("true"));
        assert_eq!(replay.header("location"), Some(location));
        let replay = world.deliver_to(gateway, &unnamed, BODY).await;
        assert_eq!(replay.header("idempotency-replayed"), Some("true"));
        assert_eq!(replay.header("location"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_ingestors_are_served_and_found() {
    let world = World::new().await;
    let api = world.ingestors();
    let all = 300;
    for n in 0..all {
        let object = ingestor(&format!("many-{n}"), github());
        api.create(&kube::api::PostParams::default(), &object)
            .await
            .unwrap();
    }
    let stored = api.list(&kube::api::ListParams::default()).await.unwrap();
    for object in stored {
        let uid = zen_fabric::journal::IngestorUid(object.metadata.uid.unwrap().into());
        world.facts(&uid, |facts| facts.serving).await;
    }
    for n in [0, all / 2, all - 1] {
        let signature = sign(super::world::SECRET, BODY);
        let path = format!("/hooks/team/many-{n}");
        let answer = world
            .post(&path, &[("X-Hub-Signature-256", &signature)], BODY)
            .await;
        assert_eq!(answer.status, 202);
    }
}
