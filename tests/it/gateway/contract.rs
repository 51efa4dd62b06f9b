//! The contract, line by line: what is wrong is refused with a problem document, and nothing of it
//! reaches the journal.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zen_fabric::{gateway::Options, journal::wal};

use super::world::{SECRET, World, github, loopback, request, sign, until};

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
async fn a_wrong_input_of_each_kind_is_refused_and_nothing_is_journaled() {
    let world = World::new().await;
    let uid = world
        .ingestor(
            "github",
            json!({
                "auth": github()["auth"], "maxBodyBytes": 1024,
                "contentTypes": ["application/json", "text/plain"],
            }),
            |facts| facts.serving,
        )
        .await;
    let good = sign(SECRET, BODY);
    let ours = "/hooks/team/github";
    let large = vec![b'x'; 1025];
    let deep = [vec![b'['; 65], vec![b']'; 65]].concat();
    let long_path = format!("/hooks/team/github?{}", "q".repeat(9_000));
    let long_value = "v".repeat(40_000);
    let many: Vec<String> = (0..70).map(|n| format!("X-Number-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let signed = |body: &[u8]| sign(SECRET, body);
    let with = |body: &[u8]| vec![("X-Hub-Signature-256".to_owned(), signed(body))];
    let text = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let plus = |pairs: &[(&str, &str)]| [with(BODY), text(pairs)].concat();
    let cases: Vec<(&str, u16, &str, &str, Vec<(String, String)>, &[u8])> = vec![
        (
            "unknown path",
            404,
            "POST",
            "/hooks/team/other",
            with(BODY),
            BODY,
        ),
        (
            "wrong namespace",
            404,
            "POST",
            "/hooks/other/github",
            with(BODY),
            BODY,
        ),
        ("outside of hooks", 404, "POST", "/", with(BODY), BODY),
        (
            "encoded path",
            404,
            "POST",
            "/hooks/team/git%68ub",
            with(BODY),
            BODY,
        ),
        ("method", 405, "PUT", ours, with(BODY), BODY),
        ("get", 405, "GET", ours, vec![], b""),
        (
            "media type",
            415,
            "POST",
            ours,
            plus(&[("Content-Type", "application/xml")]),
            BODY,
        ),
        (
            "no media type",
            415,
            "POST",
            ours,
            plus(&[("Content-Type", "\0absent")]),
            BODY,
        ),
        (
            "two media types",
            415,
            "POST",
            ours,
            plus(&[
                ("Content-Type", "application/json"),
                ("Content-Type", "text/plain"),
            ]),
            BODY,
        ),
        (
            "encoding",
            415,
            "POST",
            ours,
            plus(&[("Content-Encoding", "gzip")]),
            BODY,
        ),
        ("too large", 413, "POST", ours, with(&large), &large),
        ("no signature", 401, "POST", ours, vec![], BODY),
        (
            "wrong signature",
            401,
            "POST",
            ours,
            text(&[("X-Hub-Signature-256", &sign("wrong", BODY))]),
            BODY,
        ),
        (
            "signature twice",
            401,
            "POST",
            ours,
            text(&[
                ("X-Hub-Signature-256", &good),
                ("X-Hub-Signature-256", &good),
            ]),
            BODY,
        ),
        ("no json", 400, "POST", ours, with(b"{"), b"{"),
        ("empty json", 400, "POST", ours, with(b""), b""),
        (
            "no utf-8",
            400,
            "POST",
            ours,
            with(b"\"\xff\""),
            b"\"\xff\"",
        ),
        ("too deep", 400, "POST", ours, with(&deep), &deep),
        (
            "bad key",
            400,
            "POST",
            ours,
            plus(&[("Idempotency-Key", "a b")]),
            BODY,
        ),
        (
            "key twice",
            400,
            "POST",
            ours,
            plus(&[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]),
            BODY,
        ),
        (
            "two hosts",
            400,
            "POST",
            ours,
            plus(&[("Host", "other")]),
            BODY,
        ),
        ("long target", 414, "POST", &long_path, with(BODY), BODY),
        (
            "long header",
            431,
            "POST",
            ours,
            plus(&[("X-Long", &long_value)]),
            BODY,
        ),
        ("many headers", 431, "POST", ours, plus(&many), BODY),
    ];
    let before = world.counters("gateway_requests_total");
    let rejected = world.counters("gateway_rejected_total");
    for (name, status, method, path, headers, body) in &cases {
        let headers: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let answer = world.raw(&request(method, path, &headers, body)).await;
        println!("{name}: {}", answer.status);
        answer.is_problem(*status);
        if *status == 405 {
            assert_eq!(answer.header("allow"), Some("POST"));
        }
        if *status == 401 {
            assert_eq!(
                answer.json()["detail"],
                "the request was not verified",
                "{name}"
            );
        }
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{name}"
        );
    }
    assert_eq!(world.tally(&uid).requests, 0);
    assert_eq!(world.counters("gateway_requests_total"), before);
    let all = u64::try_from(cases.len()).unwrap();
    assert_eq!(world.counters("gateway_rejected_total") - rejected, all);
    assert_eq!(world.deliver("fine", BODY).await.status, 202);
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
async fn an_endpoint_over_its_limit_says_when_to_come_back_and_forgeries_spend_nothing_of_it() {
    let world = World::new().await;
    let mut webhook = github();
    webhook["rateLimit"] = json!({ "requestsPerSecond": 1, "burst": 2 });
    world
        .ingestor("github", webhook, |facts| facts.serving)
        .await;
    for _ in 0..5 {
        world
            .post("/hooks/team/github", &[], BODY)
            .await
            .is_problem(401);
    }
    assert_eq!(world.counters("gateway_verify_seconds_count"), 5);
    assert_eq!(world.deliver("a", BODY).await.status, 202);
    assert_eq!(world.deliver("b", BODY).await.status, 202);
    let mut limited = world.deliver("c", BODY).await;
    // A slow machine may have earned a token meanwhile.
    for n in 0..10 {
        if limited.status == 429 {
            break;
        }
        limited = world.deliver(&format!("c{n}"), BODY).await;
    }
    limited.is_problem(429);
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(
        limited.header("ratelimit-policy"),
        Some("\"endpoint\";q=2;w=2")
    );
    assert_eq!(limited.header("ratelimit"), Some("\"endpoint\";r=0;t=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_fails_too_often_is_told_to_wait() {
    let mut options = loopback();
    options.limits.address = zen_fabric::gateway::limits::Quota::new(1, 3);
    let world = World::with(options, wal::Options::default()).await;
    world.github().await;
    let mut last = world.post("/hooks/team/github", &[], BODY).await;
    for _ in 0..20 {
        if last.status == 429 {
            break;
        }
        last.is_problem(401);
        last = world.post("/hooks/team/github", &[], BODY).await;
    }
    last.is_problem(429);
}

#[tokio::test(flavor = "multi_thread")]
async fn forgeries_that_come_at_one_moment_are_limited_as_those_that_come_in_turn() {
    let mut options = loopback();
    options.limits.address = zen_fabric::gateway::limits::Quota::new(1, 3);
    let world = World::with(options, wal::Options::default()).await;
    world.github().await;
    let headers = [("Expect", "100-continue")];
    let whole = request("POST", "/hooks/team/github", &headers, BODY);
    let (head, body) = whole.split_at(whole.len() - BODY.len());
    let mut forged = Vec::new();
    for _ in 0..40 {
        let mut stream = world.connect().await;
        stream.write_all(head).await.unwrap();
        // It has passed what is checked before a body.
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        assert!(asked.starts_with(b"HTTP/1.1 100 Continue"));
        forged.push(stream);
    }
    for stream in &mut forged {
        stream.write_all(body).await.unwrap();
        let status = super::world::answer(stream).await.status;
        assert!(matches!(status, 401 | 429), "{status}");
    }
    // A slow machine may have earned some tokens meanwhile.
    let verified = world.counters("gateway_unverified_total");
    assert!((3..40).contains(&verified), "{verified} were verified");
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
