//! Fields of the webhook: setting each changes what the gateway does.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use zen_fabric::{journal::Millis, testing::clock::ManualClock};

use super::world::{World, loopback, request, sign};

const BODY: &[u8] = b"{}";

#[tokio::test(flavor = "multi_thread")]
async fn methods_are_those_that_are_served() {
    let world = World::new().await;
    let webhook = json!({ "auth": [{ "none": {} }], "methods": ["PUT", "PATCH"] });
    world.ingestor("a", webhook, |facts| facts.serving).await;
    for (method, status) in [("PUT", 202), ("PATCH", 202), ("POST", 405)] {
        let answer = world
            .raw(&request(method, "/hooks/team/a", &[], BODY))
            .await;
        assert_eq!(answer.status, status, "{method}");
        let allow = (status == 405).then_some("PUT, PATCH");
        assert_eq!(answer.header("allow"), allow);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_header_names_the_delivery() {
    let world = World::new().await;
    let webhook = json!({
        "auth": [{ "none": {} }], "idempotency": { "header": "X-Delivery" },
    });
    let uid = world.ingestor("a", webhook, |facts| facts.serving).await;
    for (delivery, key, replayed) in [
        ("one", "k1", None),
        ("one", "k2", Some("true")),
        ("two", "k1", None),
    ] {
        let headers = [("X-Delivery", delivery), ("Idempotency-Key", key)];
        let answer = world.post("/hooks/team/a", &headers, BODY).await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.json()["id"], format!("header/{delivery}"));
        assert_eq!(answer.header("idempotency-replayed"), replayed);
    }
    assert_eq!(world.tally(&uid).requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_window_is_how_long_a_delivery_is_remembered() {
    let clock = ManualClock::at(Millis(1_795_428_005_000));
    let world = World::at(Arc::new(clock.clone()), loopback()).await;
    for (name, window) in [("short", "1h"), ("long", "3h")] {
        let webhook = json!({ "auth": [{ "none": {} }], "idempotency": { "window": window } });
        world.ingestor(name, webhook, |facts| facts.serving).await;
    }
    let replayed = async |name: &str| {
        let path = format!("/hooks/team/{name}");
        let answer = world.post(&path, &[("Idempotency-Key", "k")], BODY).await;
        assert_eq!(answer.status, 202);
        answer.header("idempotency-replayed").is_some()
    };
    assert!(!replayed("short").await && !replayed("long").await);
    clock.advance(Duration::from_mins(59));
    assert!(replayed("short").await && replayed("long").await);
    clock.advance(Duration::from_mins(62));
    assert!(!replayed("short").await, "its hour is over");
    assert!(replayed("long").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_ref_key_is_the_only_value_that_counts() {
    let world = World::new().await;
    let (ours, other) = ("the value that counts", "another value of the Secret");
    world
        .secret("two", &[("ours", ours), ("other", other)])
        .await;
    let with = |reference| json!({ "auth": [{ "github": { "secretRef": reference } }] });
    let status = async |secret: &str| {
        let headers = [("X-Hub-Signature-256", &*sign(secret, BODY))];
        world
            .post("/hooks/team/github", &headers, BODY)
            .await
            .status
    };
    let named = with(json!({ "name": "two", "key": "ours" }));
    world.ingestor("github", named, |facts| facts.serving).await;
    assert_eq!((status(ours).await, status(other).await), (202, 401));
    let all = with(json!({ "name": "two" }));
    world
        .ingestor("github", all, |facts| facts.generation == Some(2))
        .await;
    assert_eq!((status(ours).await, status(other).await), (202, 202));
}
