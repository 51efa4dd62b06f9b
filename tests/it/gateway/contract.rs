//! The contract, line by line: what is wrong is refused with a problem document, and nothing of it
//! reaches the journal.

use serde_json::json;
use zen_fabric::{gateway::Options, journal::wal};

use super::world::{SECRET, World, github, loopback, sign, until};

const BODY: &[u8] = br#"{"ref":"refs/heads/main"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_event_is_durable_and_answered_with_where_it_will_be() {
    let world = World::new().await;
    let uid = world.github().await;
    let answer = world.deliver("d-1", BODY).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(
        answer.json(),
        json!({ "id": "github/d-1", "status": "accepted" })
    );
    let location = answer.header("location").unwrap();
    let prefix = "/apis/zen.watcher.io/v1/namespaces/team/observations/github-";
    assert!(location.starts_with(prefix), "{location}");
    assert!(uuid::Uuid::parse_str(answer.header("x-request-id").unwrap()).is_ok());
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(world.tally(&uid).requests, 1);
    assert_eq!(world.tally(&uid).backlog, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_holds_what_processing_needs_and_no_credential() {
    let world = World::new().await;
    let uid = world.github().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let signature = sign(SECRET, BODY);
    let headers = [
        ("X-Hub-Signature-256", signature.as_str()),
        ("X-GitHub-Event", "push"),
        ("Authorization", "Bearer hunter2"),
        ("Cookie", "session=hunter2"),
        ("Proxy-Authorization", "Basic hunter2"),
        ("traceparent", trace),
    ];
    let answer = world
        .post("/hooks/team/github?a=1&b=2", &headers, BODY)
        .await;
    assert_eq!(answer.status, 202);
    let records = world.records(&uid).await;
    let event = &records[0].event;
    assert_eq!(&event.body[..], BODY);
    assert_eq!(&*event.query, "a=1&b=2");
    assert_eq!(event.traceparent.as_deref(), Some(trace));
    assert!(
        event
            .headers
            .iter()
            .any(|(name, value)| &**name == "x-github-event" && &**value == "push")
    );
    let text = format!("{:?}", event.headers);
    assert!(
        !text.contains("hunter2") && !text.contains(&signature),
        "{text}"
    );
    assert_eq!(answer.json()["id"], *event.event_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_has_one_form_whatever_its_cause() {
    let world = World::new().await;
    let disabled = world.ingestor("off", github(), |facts| facts.serving).await;
    let patch = kube::api::Patch::Merge(json!({ "spec": { "enabled": false } }));
    let api = world.ingestors();
    api.patch("off", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    world.facts(&disabled, |facts| !facts.serving).await;
    let form = |answer: &super::world::Answer| {
        let mut document = answer.json();
        document["request_id"] = json!(null);
        let names: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        (document, names)
    };
    let unknown = world.post("/hooks/team/unknown", &[], BODY).await;
    unknown.is_problem(404);
    for path in ["/hooks/team/off", "/hooks/nowhere/off", "/other"] {
        assert_eq!(
            form(&world.post(path, &[], BODY).await),
            form(&unknown),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_kept_when_it_is_a_uuid() {
    let world = World::new().await;
    let id = "6f1c0c0e-8a52-4f0e-9a6e-3d6f2c1b0a99";
    let answer = world.post("/x", &[("X-Request-Id", id)], b"").await;
    assert_eq!(answer.header("x-request-id"), Some(id));
    assert_eq!(answer.json()["request_id"], id);
    let answer = world.post("/x", &[("X-Request-Id", "<script>")], b"").await;
    assert!(uuid::Uuid::parse_str(answer.header("x-request-id").unwrap()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_networks_may_send() {
    let world = World::new().await;
    let mut webhook = github();
    webhook["allowedCIDRs"] = json!(["192.0.2.0/24"]);
    world
        .ingestor("github", webhook.clone(), |facts| facts.serving)
        .await;
    world.deliver("d", BODY).await.is_problem(403);
    webhook["allowedCIDRs"] = json!(["192.0.2.0/24", "127.0.0.0/8"]);
    world
        .ingestor("github", webhook, |facts| facts.generation == Some(2))
        .await;
    assert_eq!(world.deliver("d", BODY).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_own_status_is_answered() {
    let world = World::new().await;
    for (status, empty) in [(200, false), (204, true)] {
        let mut webhook = github();
        webhook["response"] = json!({ "status": status });
        let name = format!("s{status}");
        world.ingestor(&name, webhook, |facts| facts.serving).await;
        let signature = sign(SECRET, BODY);
        let path = format!("/hooks/team/{name}");
        let answer = world
            .post(&path, &[("X-Hub-Signature-256", &signature)], BODY)
            .await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.body.is_empty(), empty);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_share_answers_429() {
    let log = wal::Options {
        share_bytes: 8 * 1024,
        ..Default::default()
    };
    let world = World::with(loopback(), log).await;
    let uid = world.github().await;
    let mut last = world.deliver("0", BODY).await;
    for n in 1..200 {
        if last.status != 202 {
            break;
        }
        last = world.deliver(&n.to_string(), BODY).await;
    }
    last.is_problem(429);
    world.facts(&uid, |facts| facts.share_full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_takes_nothing_is_503() {
    let world = World::new().await;
    world.github().await;
    world.journal.close().await;
    world.deliver("x", BODY).await.is_problem(503);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_arbitrary_bytes_are_answered_and_the_sums_add_up() {
    let world = World::new().await;
    let mut webhook = github();
    webhook["contentTypes"] = json!([
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain"
    ]);
    let uid = world
        .ingestor("github", webhook, |facts| facts.serving)
        .await;
    let types = [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
    ];
    let mut sent = 0;
    let mut state = 1_u64;
    for round in 0..150_usize {
        let body: Vec<u8> = (0..round)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        let signature = sign(SECRET, &body);
        let headers = [
            ("Content-Type", types[round % 3]),
            ("X-Hub-Signature-256", &signature),
        ];
        let answer = world.post("/hooks/team/github", &headers, &body).await;
        assert!(matches!(answer.status, 202 | 400), "{answer:?}");
        sent += 1;
    }
    let accepted = world.counter("gateway_requests_total", "accepted");
    until("all are counted", || {
        accepted + world.counters("gateway_rejected_total") == sent
    })
    .await;
    assert_eq!(world.tally(&uid).requests, accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingestor_that_asks_for_the_largest_bodies_gets_them_into_the_journal() {
    // As the program is set up when it is told nothing.
    let config = zen_fabric::config::Config::default();
    let log = wal::Options {
        record_bytes: config.largest_record().as_usize(),
        ..wal::Options::default()
    };
    let options = Options {
        listen: loopback().listen,
        ..Options::from_config(&config.gateway)
    };
    let world = World::with(options, log).await;
    let webhook = json!({ "auth": github()["auth"], "maxBodyBytes": 26_214_400 });
    let uid = world
        .ingestor("github", webhook, |facts| facts.serving)
        .await;
    let body = format!("\"{}\"", "x".repeat(20 << 20)).into_bytes();
    assert_eq!(world.deliver("large", &body).await.status, 202);
    let records = world.records(&uid).await;
    assert!(records[0].event.body == body, "the body is another");
    // The largest, to the byte; and one more.
    let body = format!("\"{}\"", "x".repeat(26_214_398)).into_bytes();
    assert_eq!(world.deliver("largest", &body).await.status, 202);
    let head = "POST /hooks/team/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 26214401\r\n\r\n";
    world.raw(head.as_bytes()).await.is_problem(413);
}
