//! 503: what is wrong is on our side, and says when to come back.

use kube::{Client, api::PostParams};
use serde_json::json;
use zen_fabric::{
    api::Ingestor,
    journal::{IngestorUid, facts::Refusal},
    ops::ready::Readiness,
};

use super::{
    raw_http2::{DATA, GOAWAY, RawHttp2},
    world::{PATIENCE, World, github, ingestor},
};

const BODY: &[u8] = b"{}";

#[tokio::test(flavor = "multi_thread")]
async fn before_all_ingestors_were_read_nothing_is_called_unknown() {
    let world = World::new().await;
    let mute = tower::service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>()
    });
    let readiness = Readiness::new();
    let gateway = world
        .gateway_of(Client::new(mute, "default"), &readiness)
        .await;
    let answer = world.deliver_to(gateway.address(), "d", BODY).await;
    answer.is_problem(503);
    assert_eq!(answer.json()["title"], "Starting");
    assert!(!readiness.waiting().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_first_spec_does_not_compile_is_closed() {
    let world = World::new().await;
    let mut object = serde_json::to_value(ingestor("github", github())).unwrap();
    object["spec"]["filters"] = json!([{ "name": "f", "keepIf": "body." }]);
    let object: Ingestor = serde_json::from_value(object).unwrap();
    let stored = world
        .ingestors()
        .create(&PostParams::default(), &object)
        .await;
    let uid = IngestorUid(stored.unwrap().metadata.uid.unwrap().into());
    let refused = |refused: &Option<Refusal>| matches!(refused, Some(Refusal::Expression(_)));
    world.facts(&uid, |facts| refused(&facts.refused)).await;
    // Before its Secret is read it is only not in sync.
    let closed = async {
        loop {
            let answer = world.deliver("d", BODY).await;
            answer.is_problem(503);
            if answer.json()["title"] != "Starting" {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, closed).await;
    assert_eq!(answer.unwrap().json()["title"], "The endpoint is closed");
    assert_eq!(world.tally(&uid).requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_during_a_drain_is_told_to_come_back() {
    let world = World::new().await;
    world.github().await;
    let mut client = RawHttp2::of(&world).await;
    client.post(1, "/hooks/team/unknown").await;
    let answer = client.frame(|frame| frame.kind == DATA).await;
    assert!(String::from_utf8_lossy(&answer.payload).contains("404"));
    let draining = world.gateway.drain(PATIENCE);
    let sending = async {
        // The gateway says that it goes, and waits for the answer to a ping before it refuses
        // streams: this client gives none, so what it sends was sent before it could know.
        client.frame(|frame| frame.kind == GOAWAY).await;
        client.post(3, "/hooks/team/github").await;
        let answer = client
            .frame(|frame| frame.kind == DATA && frame.stream == 3)
            .await;
        let problem: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(problem["status"], 503);
        assert_eq!(problem["title"], "Shutting down");
        assert!(problem["retry_after"].is_u64());
        drop(client);
    };
    tokio::join!(draining, sending);
}
