//! Limits: of an endpoint, of an address, of connections, streams and waiters.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zen_fabric::{
    journal::{Millis, wal},
    testing::clock::ManualClock,
};

use super::{
    raw_http2::{self, RawHttp2},
    world::{SECRET, World, answer, github, loopback, request, sign, until},
};

const BODY: &[u8] = b"{}";

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
    // No token is earned meanwhile: time stands still.
    let clock = ManualClock::at(Millis(1_795_428_005_000));
    let world = World::at(Arc::new(clock), options).await;
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
        let status = answer(stream).await.status;
        assert!(matches!(status, 401 | 429), "{status}");
    }
    // Each was answered before the next had its body.
    let verified = world.counters("gateway_unverified_total");
    assert_eq!(verified, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_to_wait_is_answered_at_once() {
    let mut options = loopback();
    options.limits.waiters = 1;
    options.limits.wait = Duration::from_hours(1);
    let world = World::with(options, wal::Options::default()).await;
    world.github().await;
    let signature = sign(SECRET, BODY);
    let waits = |id| {
        let headers = [
            ("X-GitHub-Delivery", id),
            ("X-Hub-Signature-256", signature.as_str()),
            ("Prefer", "wait=3600"),
        ];
        request("POST", "/hooks/team/github", &headers, BODY)
    };
    let mut first = world.connect().await;
    first.write_all(&waits("1")).await.unwrap();
    until("it waits", || world.counters("gateway_waiting") == 1).await;
    let second = world.raw(&waits("2")).await;
    assert_eq!(second.status, 202);
    assert_eq!(second.header("preference-applied"), None);
    // The first still waits: the second was not answered because its time was over.
    assert_eq!(world.counters("gateway_waiting"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_total_connections_wait_until_one_closes() {
    let mut options = loopback();
    options.limits.connections = 2;
    options.limits.connections_per_address = 10;
    let world = World::with(options, wal::Options::default()).await;
    let unknown = request("POST", "/x", &[], b"");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = world.connect().await;
        stream.write_all(&unknown).await.unwrap();
        answer(&mut stream).await.is_problem(404);
        open.push(stream);
    }
    let mut third = world.connect().await;
    third.write_all(&unknown).await.unwrap();
    for stream in &mut open {
        stream.write_all(&unknown).await.unwrap();
        answer(stream).await.is_problem(404);
    }
    assert_eq!(world.counters("gateway_connections"), 2);
    assert_eq!(world.counters("gateway_connections_total"), 2);
    drop(open);
    answer(&mut third).await.is_problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_so_many_streams_and_no_more() {
    let mut options = loopback();
    options.limits.streams = 3;
    options.limits.body_timeout = Duration::from_hours(1);
    let world = World::with(options, wal::Options::default()).await;
    world.github().await;
    let mut client = RawHttp2::of(&world).await;
    // None of them ends: the body is still to come.
    for stream in [1, 3, 5, 7] {
        client.begin(stream, "/hooks/team/github").await;
    }
    let refused = client
        .frame(|frame| frame.kind == raw_http2::RST_STREAM)
        .await;
    assert_eq!(refused.stream, 7);
    // REFUSED_STREAM: not processed, so it may be sent again.
    assert_eq!(refused.payload, [0, 0, 0, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_whose_request_it_is() {
    let mut options = loopback();
    options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let world = World::with(options, wal::Options::default()).await;
    let mut webhook = github();
    webhook["allowedCIDRs"] = json!(["192.0.2.0/24"]);
    world
        .ingestor("github", webhook, |facts| facts.serving)
        .await;
    let signature = sign(SECRET, BODY);
    for (forwarded, status) in [
        ("192.0.2.7", 202),
        ("203.0.113.9", 403),
        // Only what stands right of a proxy's own entries was seen by a proxy.
        ("192.0.2.7, 203.0.113.9", 403),
        ("203.0.113.9, 192.0.2.7, 127.0.0.2", 202),
        ("nonsense", 403),
    ] {
        let headers = [
            ("X-Hub-Signature-256", signature.as_str()),
            ("X-Forwarded-For", forwarded),
        ];
        let answer = world.post("/hooks/team/github", &headers, BODY).await;
        assert_eq!(answer.status, status, "{forwarded}");
    }
    world.deliver("no header", BODY).await.is_problem(403);
}
