//! The command line as its users meet it.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};

use crate::command::zen_fabric;

/// What an endpoint got.
type Got = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// An endpoint that notes what it gets and answers `status`.
async fn endpoint(status: StatusCode) -> (String, Got) {
    let got = Got::default();
    let keep = got.clone();
    let router = Router::new()
        .route(
            "/hooks/demo/github",
            post(
                move |State(got): State<Got>, headers: HeaderMap, body: Bytes| async move {
                    got.lock().unwrap().push((headers, body));
                    (
                        status,
                        [("location", "/somewhere\u{1b}".trim_end_matches('\u{1b}'))],
                        r#"{"id":"1"}"#,
                    )
                        .into_response()
                },
            ),
        )
        .with_state(keep);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/hooks/demo/github",
        listener.local_addr().unwrap()
    );
    zen_fabric::ops::tasks::Tasks::new().spawn("endpoint", async move {
        axum::serve(listener, router).await.unwrap();
    });
    (url, got)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_signs_as_github_does_and_prints_the_answer() {
    let (url, got) = endpoint(StatusCode::ACCEPTED).await;
    let args = [
        "send",
        "--url",
        &url,
        "--scheme",
        "github",
        "--event",
        "push",
        "--id",
        "delivery-1",
        "--data",
        "-",
    ];
    let environment = [("ZEN_SEND_SECRET", "It's a Secret to Everybody")];
    let (exit, out, err) = zen_fabric(&args, &environment, "Hello, World!").await;
    assert_eq!(exit, 0, "{err}");
    assert_eq!(out, "202 Accepted\nlocation: /somewhere\n{\"id\":\"1\"}\n");
    let got = got.lock().unwrap();
    let (headers, body) = &got[0];
    assert_eq!(&body[..], b"Hello, World!");
    assert_eq!(headers["x-github-event"], "push");
    assert_eq!(headers["x-github-delivery"], "delivery-1");
    assert_eq!(
        headers["x-hub-signature-256"],
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_events_have_ids_of_their_own() {
    let (url, got) = endpoint(StatusCode::ACCEPTED).await;
    let args = [
        "send",
        "--url",
        &url,
        "--scheme",
        "github",
        "--secret",
        "s",
        "--repeat",
        "20",
        "--rate",
        "1000",
        "--data",
        r#"{"n":1}"#,
        "--quiet",
    ];
    let (exit, out, err) = zen_fabric(&args, &[], "").await;
    assert_eq!(exit, 0, "{err}");
    assert_eq!(out, "20 × 202 Accepted\n");
    let got = got.lock().unwrap();
    let mut ids: Vec<_> = got
        .iter()
        .map(|(headers, _)| headers["x-github-delivery"].clone())
        .collect();
    ids.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_a_failure_with_the_servers_reason() {
    let (url, _) = endpoint(StatusCode::UNAUTHORIZED).await;
    let (exit, out, _) = zen_fabric(&["send", "--url", &url], &[], "").await;
    assert_eq!(exit, 1);
    assert!(out.starts_with("401 Unauthorized\n"), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_named_with_the_cause() {
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/hooks/a/b", listener.local_addr().unwrap())
    };
    let (exit, out, err) = zen_fabric(&["send", "--url", &url], &[], "").await;
    assert_eq!((exit, out.as_str()), (1, ""));
    assert!(
        err.starts_with(&format!("error: send the request to {url}\n  because: ")),
        "{err}"
    );
}

#[tokio::test]
async fn what_is_missing_to_send_is_said_before_anything_is_sent() {
    let url = "http://127.0.0.1:1/hooks/a/b";
    for (args, reason) in [
        (
            vec!["send", "--url", url, "--scheme", "github"],
            "needs --secret",
        ),
        (
            vec!["send", "--url", url, "--scheme", "hmac", "--secret", "s"],
            "needs --signature-header",
        ),
        (vec!["send", "--url", "localhost/hooks"], "invalid value"),
        (
            vec!["send", "--url", url, "--header", "nonsense"],
            "is not NAME: VALUE",
        ),
        (
            vec!["send", "--url", url, "--rate", "0"],
            "want 0.00001 to 1000000",
        ),
        (vec!["send", "--url", url, "--repeat", "0"], "--repeat"),
    ] {
        let (exit, _, err) = zen_fabric(&args, &[], "").await;
        assert_eq!(exit, 2, "{args:?}");
        assert!(err.contains(reason), "{args:?}: {err}");
    }
}

#[tokio::test]
async fn config_prints_every_value_with_its_origin() {
    let environment = [("ZEN_FABRIC_ADMIN_PORT", "4")];
    let (exit, out, err) = zen_fabric(&["config", "--gateway-port", "3"], &environment, "").await;
    assert_eq!(exit, 0, "{err}");
    let line = |name: &str| {
        let found = out
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        found
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("gateway-port"), "gateway-port 3 flag");
    assert_eq!(line("admin-port"), "admin-port 4 environment");
    assert_eq!(line("drain-timeout"), "drain-timeout 25s default");
    assert_eq!(line("tls-cert"), "tls-cert default");
    assert_eq!(out.lines().count(), zen_fabric::config::SETTINGS.len());
}

#[tokio::test]
async fn dev_refuses_a_wrong_configuration_by_name_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let args = [
        "dev",
        "--data-dir",
        data.to_str().unwrap(),
        "--gateway-bind",
        "0.0.0.0",
        "--drain-timeout",
        "90s",
        "--install-crds",
    ];
    let environment = [("ZEN_FABRIC_JOURNAL_TOTAL", "1GiB")];
    let (exit, out, err) = zen_fabric(&args, &environment, "").await;
    assert_eq!((exit, out.as_str()), (2, ""));
    for part in [
        "the configuration has 4 problems",
        "ZEN_FABRIC_JOURNAL_TOTAL: names no setting",
        "drain-timeout, grace-period: drain-timeout (90s) must be below grace-period (40s)",
        "gateway-bind: 0.0.0.0 can be reached by others",
        "install-crds: only with kubeconfig",
    ] {
        assert!(err.contains(part), "{part}\n{err}");
    }
    assert!(!data.exists());
}

#[tokio::test]
async fn completions_know_the_subcommands_and_the_settings() {
    for shell in ["bash", "zsh", "fish"] {
        let (exit, out, err) = zen_fabric(&["completions", shell], &[], "").await;
        assert_eq!(exit, 0, "{err}");
        for word in ["dev", "send", "events", "journal-total-bytes"] {
            assert!(out.contains(word), "{shell}: {word}");
        }
    }
}

#[tokio::test]
async fn help_goes_to_the_output_and_mistakes_to_the_errors() {
    let (exit, out, err) = zen_fabric(&["--help"], &[], "").await;
    assert_eq!((exit, err.as_str()), (0, ""));
    assert!(out.contains("Usage: zen-fabric"));
    let (exit, out, err) = zen_fabric(&["nonsense"], &[], "").await;
    assert_eq!((exit, out.as_str()), (2, ""));
    assert!(err.contains("nonsense"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_refuses_what_the_gateway_could_not_start_with_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ready = dir.path().join("ready.json");
    std::fs::write(&ready, "{}").unwrap();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let common = [
        "dev".to_owned(),
        "--core-dumps=true".to_owned(),
        format!("--data-dir={}", path(&data)),
        format!("--ready-file={}", path(&ready)),
    ];
    let refused = async |flags: &[String]| {
        let args: Vec<&str> = common.iter().chain(flags).map(String::as_str).collect();
        let (exit, out, err) = zen_fabric(&args, &[], "").await;
        assert_ne!(exit, 0, "{out}");
        assert!(!data.exists(), "nothing was made");
        assert!(ready.exists(), "nothing was removed");
        err
    };
    let certificate = path(&dir.path().join("absent.crt"));
    let tls = [
        format!("--tls-cert={certificate}"),
        "--tls-key=k".to_owned(),
    ];
    let err = refused(&tls).await;
    assert!(err.contains(&certificate), "{err}");
    let wrong = ["--max-headers=101", "--max-waiters=18446744073709551615"].map(str::to_owned);
    let err = refused(&wrong).await;
    for flag in ["max-headers", "max-waiters"] {
        assert!(err.contains(flag), "{err}");
    }
}
