//! All of GitHub's real payloads through the running program: each becomes exactly one Observation,
//! with the type, resource and severity that the golden table says.

use std::collections::BTreeMap;

use http::StatusCode;
use kube::{Api, ResourceExt as _, api::ListParams, api::PostParams};
use zen_fabric::{
    api::{Ingestor, Observation},
    testing::samples::{self, GithubPayload, Outcome},
};

use crate::process::{Dev, Sender, until};

/// Puts the sample mapping for GitHub in the place of the quickstart's.
async fn use_the_sample_mapping(dev: &Dev) {
    let ingestors: Api<Ingestor> = Api::namespaced(dev.client().await, "demo");
    let mut ingestor = ingestors.get("github").await.unwrap();
    ingestor.spec = samples::ingestor("github").spec;
    let post = PostParams::default();
    let generation = ingestors
        .replace("github", &post, &ingestor)
        .await
        .unwrap()
        .metadata
        .generation;
    until("the new mapping is in force", async || {
        // `status.observedGeneration` is what the core saw; this is what the gateway serves.
        let status = dev.ingestor().await.status?;
        let accepted = status.conditions.iter().any(|condition| {
            condition.type_ == "Accepted"
                && condition.status == "True"
                && condition.observed_generation == generation
        });
        accepted.then_some(())
    })
    .await;
}

fn outcome(payload: &GithubPayload, made: &Observation) -> Outcome {
    let word = |value: serde_json::Value| value.as_str().unwrap().to_owned();
    Outcome {
        event: payload.event.clone(),
        action: payload.action.clone(),
        event_type: made.spec.event_type.clone(),
        resource: made.spec.resource.clone().unwrap().kind.unwrap(),
        severity: word(serde_json::to_value(made.spec.severity).unwrap()),
        category: word(serde_json::to_value(made.spec.category).unwrap()),
    }
}

#[tokio::test]
async fn every_real_payload_becomes_the_observation_of_the_golden_table() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("data")).await;
    use_the_sample_mapping(&dev).await;
    let (url, secret) = dev.sample().await;
    let sender = Sender::new();
    let payloads = samples::github_payloads();
    assert_eq!(payloads.len(), 329);
    for (number, payload) in payloads.iter().enumerate() {
        let id = format!("delivery-{number}");
        let answer = sender
            .github(&url, &secret, &payload.event, &id, payload.body.clone())
            .await
            .unwrap();
        assert_eq!(
            answer.status,
            StatusCode::ACCEPTED,
            "{} {}",
            payload.event,
            payload.action
        );
    }
    let observations = dev.observations().await;
    let made = until("all are written", async || {
        let all = observations
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        (all.len() >= payloads.len()).then_some(all)
    })
    .await;
    assert_eq!(made.len(), payloads.len(), "exactly one each");
    let mut outcomes: BTreeMap<Outcome, usize> = BTreeMap::new();
    for object in &made {
        let id = &object.annotations()["zen.io/event-id"];
        let number: usize = id
            .strip_prefix("github/delivery-")
            .unwrap()
            .parse()
            .unwrap();
        *outcomes
            .entry(outcome(&payloads[number], object))
            .or_default() += 1;
    }
    assert_eq!(outcomes, samples::github_outcomes());
}
