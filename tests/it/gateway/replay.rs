//! Replay and idempotency, and `Prefer: wait`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use zen_fabric::{
    journal::{End, Ended, Items},
    ops::time::{Clock as _, SystemClock},
};

use super::world::{SECRET, World, github, sign};

const BODY: &[u8] = br#"{"n":1}"#;
const OTHER: &[u8] = br#"{"n":2}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_delivery_is_answered_as_the_first_and_journaled_once() {
    let world = World::new().await;
    let uid = world.github().await;
    let first = world.deliver("d-1", BODY).await;
    let second = world.deliver("d-1", BODY).await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.json(), second.json());
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    world.deliver("d-1", OTHER).await.is_problem(409);
    assert_eq!(world.tally(&uid).requests, 1);
    assert_eq!(world.counter("gateway_requests_total", "replayed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_the_same_moment_one_is_journaled() {
    let world = World::new().await;
    let uid = world.github().await;
    let all = futures::future::join_all((0..32).map(|_| world.deliver("same", BODY))).await;
    assert!(all.iter().all(|answer| answer.status == 202));
    let fresh = all
        .iter()
        .filter(|answer| answer.header("idempotency-replayed").is_none());
    assert_eq!(fresh.count(), 1);
    assert_eq!(world.tally(&uid).requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_id_can_not_be_got_around_nor_burnt_by_a_header() {
    let world = World::new().await;
    let key = STANDARD.encode(b"a key of twenty-four bytes");
    world
        .secret("standard", &[("key", &format!("whsec_{key}"))])
        .await;
    let webhook = json!({ "auth": [
        { "standardWebhooks": { "secretRef": { "name": "standard" } } },
        { "github": { "secretRef": { "name": "hook" } } },
    ] });
    let uid = world.ingestor("both", webhook, |facts| facts.serving).await;
    let now = SystemClock.now().0 / 1_000;
    let mut mac = Hmac::<Sha256>::new_from_slice(b"a key of twenty-four bytes").unwrap();
    mac.update(format!("msg_1.{now}.").as_bytes());
    mac.update(BODY);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let now = now.to_string();
    let signed = |key| {
        [
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", now.as_str()),
            ("webhook-signature", signature.as_str()),
            ("Idempotency-Key", key),
        ]
    };
    let hub = sign(SECRET, BODY);
    let burning = [
        ("X-Hub-Signature-256", hub.as_str()),
        ("Idempotency-Key", "msg_1"),
    ];
    let burnt = world.post("/hooks/team/both", &burning, OTHER).await;
    burnt.is_problem(401);
    let burnt = world.post("/hooks/team/both", &burning, BODY).await;
    assert_eq!(burnt.json()["id"], "header/msg_1");

    let first = world.post("/hooks/team/both", &signed("one"), BODY).await;
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(first.json()["id"], "standardWebhooks/msg_1");
    let again = world.post("/hooks/team/both", &signed("two"), BODY).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(world.tally(&uid).requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_bodies_are_one_delivery_where_that_is_asked_for() {
    let world = World::new().await;
    let webhook = json!({ "auth": [{ "none": {} }], "idempotency": { "byContent": true } });
    let uid = world
        .ingestor("content", webhook, |facts| facts.serving)
        .await;
    let path = "/hooks/team/content";
    assert_eq!(
        world
            .post(path, &[], BODY)
            .await
            .header("idempotency-replayed"),
        None
    );
    assert_eq!(
        world
            .post(path, &[], BODY)
            .await
            .header("idempotency-replayed"),
        Some("true")
    );
    assert_eq!(
        world
            .post(path, &[], OTHER)
            .await
            .header("idempotency-replayed"),
        None
    );
    assert_eq!(world.tally(&uid).requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_where_the_observation_is() {
    let world = World::new().await;
    let uid = world.github().await;
    let signature = sign(SECRET, BODY);
    let headers = [
        ("X-Hub-Signature-256", signature.as_str()),
        ("X-GitHub-Delivery", "w-1"),
        ("Prefer", "wait=10"),
    ];
    let subscription = world.subscribe().await;
    let commit = async {
        let ready = subscription.ready().await.unwrap();
        assert_eq!(ready, [uid.clone()]);
        let limit = zen_fabric::journal::FetchLimit {
            records: 10.try_into().unwrap(),
            bytes: 1_000_000,
        };
        let records = subscription.fetch(&uid, None, limit).await.unwrap().records;
        let end = |record: &zen_fabric::journal::Record| Ended {
            position: record.id.position,
            end: End::Observed,
            items: Items {
                observed: 1,
                ..Items::default()
            },
            letters: Vec::new(),
            observation: Some("github-xyz".into()),
        };
        subscription
            .commit(&uid, records.iter().map(end).collect())
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(world.post("/hooks/team/github", &headers, BODY), commit);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("preference-applied"), Some("wait=10"));
    assert!(
        answer
            .header("location")
            .unwrap()
            .contains("/observations/github-")
    );

    let replayed = world.post("/hooks/team/github", &headers, BODY).await;
    assert_eq!(replayed.status, 201);
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_vain_is_answered_as_accepted() {
    let world = World::new().await;
    world
        .ingestor("github", github(), |facts| facts.serving)
        .await;
    let signature = sign(SECRET, BODY);
    let headers = [
        ("X-Hub-Signature-256", signature.as_str()),
        ("Prefer", "wait=1"),
    ];
    let answer = world.post("/hooks/team/github", &headers, BODY).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
}
