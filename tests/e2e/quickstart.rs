//! What a new user does: start, send, look; stop, start again, look again.

use bytes::Bytes;
use http::StatusCode;
use kube::{ResourceExt as _, api::ListParams};

use crate::process::{Dev, Sender, until};

const PUSH: &[u8] = br#"{"ref":"refs/heads/main","repository":{"full_name":"octo/hello"},"sender":{"login":"mona"},"head_commit":{"timestamp":"2026-11-23T10:00:00Z"}}"#;

#[tokio::test]
async fn a_signed_event_becomes_an_observation_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut dev = Dev::start(&data).await;
    let (url, secret) = dev.sample().await;
    let sender = Sender::new();

    let answer = sender
        .github(&url, &secret, "push", "one", Bytes::from_static(PUSH))
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let location = answer.headers["location"].to_str().unwrap().to_owned();

    let observations = dev.observations().await;
    let made = until("the Observation is there", async || {
        observations
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .pop()
    })
    .await;
    assert!(
        location.ends_with(&made.name_any()),
        "{location} names {}",
        made.name_any()
    );
    assert_eq!(made.spec.event_type, "github_push");
    assert_eq!(
        made.spec.resource.clone().unwrap().name.as_deref(),
        Some("octo/hello")
    );

    dev.terminate();
    let status = dev.ended().await;
    assert!(status.success(), "{status}: {}", dev.output());
    drop(dev);

    let dev = Dev::start(&data).await;
    let again = dev
        .observations()
        .await
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].metadata.uid, made.metadata.uid);
    let (url, same) = dev.sample().await;
    assert_eq!(same, secret, "the secret survives");

    // The same delivery again is a replay, also after the restart: one event, one object.
    let replay = sender
        .github(&url, &secret, "push", "one", Bytes::from_static(PUSH))
        .await
        .unwrap();
    assert_eq!(replay.status, StatusCode::ACCEPTED);
    assert_eq!(replay.headers["idempotency-replayed"], "true");
    let other = sender
        .github(&url, &secret, "push", "one", Bytes::from_static(b"{}"))
        .await
        .unwrap();
    assert_eq!(other.status, StatusCode::CONFLICT);
    let counters = until("the status counts", async || {
        dev.ingestor()
            .await
            .status
            .and_then(|s| s.counters)
            .filter(|c| c.observed == 1)
    })
    .await;
    assert_eq!(counters.accepted, 1);
}

#[tokio::test]
async fn an_unsigned_request_never_passes() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("data")).await;
    let (url, secret) = dev.sample().await;
    let sender = Sender::new();
    let wrong = sender
        .github(
            &url,
            &format!("{secret}x"),
            "push",
            "two",
            Bytes::from_static(PUSH),
        )
        .await
        .unwrap();
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.headers["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_slice(&wrong.body).unwrap();
    assert_eq!(problem["status"], 401);
    let missing = sender
        .get(&format!("{}/hooks/demo/nothing", dev.ready.gateway))
        .await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let ready = sender.get(&format!("{}/readyz", dev.ready.admin)).await;
    assert_eq!(ready.status, StatusCode::OK);
    assert!(
        dev.observations()
            .await
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn it_prints_what_to_do_next() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("data")).await;
    let output = dev.output();
    for line in [
        "zen-fabric send",
        "curl",
        "x-hub-signature-256",
        "kubectl --kubeconfig",
    ] {
        assert!(
            output.to_lowercase().contains(line),
            "`{line}` is missing in:\n{output}"
        );
    }
    // The curl line is ready to paste: run it as it is.
    let curl = output
        .lines()
        .find(|line| line.trim_start().starts_with("curl"))
        .unwrap()
        .trim();
    let ran = std::process::Command::new("sh")
        .args(["-c", curl])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        said.contains("accepted"),
        "`{curl}` said: {said} {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}
