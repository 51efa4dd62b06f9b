//! Attacks and mishaps on the raw socket.

use std::{sync::Arc, time::Duration};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zen_fabric::{journal::Millis, testing::clock::ManualClock};

use super::world::{PATIENCE, SECRET, World, answer, loopback, request, sign};

const BODY: &[u8] = b"{}";

async fn impatient() -> World {
    let mut options = loopback();
    options.limits.header_timeout = Duration::from_millis(200);
    options.limits.body_timeout = Duration::from_millis(200);
    options.limits.idle_timeout = Duration::from_millis(400);
    let world = World::with(options, zen_fabric::journal::wal::Options::default()).await;
    world.github().await;
    world
}

async fn closes(stream: &mut tokio::net::TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    drop(read.expect("the gateway closes the connection"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_header_is_cut_off() {
    let world = impatient().await;
    let mut stream = world.connect().await;
    stream
        .write_all(b"POST /hooks/team/github HTTP/1.1\r\nHost: x\r\n")
        .await
        .unwrap();
    closes(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_become_the_preface_of_http_2_has_no_more_time_than_a_header() {
    let mut options = loopback();
    options.limits.header_timeout = Duration::from_millis(200);
    options.limits.idle_timeout = Duration::from_hours(1);
    let world = World::with(options, zen_fabric::journal::wal::Options::default()).await;
    for begun in [&b"P"[..], b"PRI * HTTP/2.0\r\n"] {
        let mut stream = world.connect().await;
        stream.write_all(begun).await.unwrap();
        closes(&mut stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_cut_off_before_and_after_a_request() {
    let world = impatient().await;
    let mut silent = world.connect().await;
    closes(&mut silent).await;
    let mut idle = world.connect().await;
    idle.write_all(&request("POST", "/x", &[], b""))
        .await
        .unwrap();
    answer(&mut idle).await.is_problem(404);
    closes(&mut idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_answered_408() {
    let world = impatient().await;
    let mut stream = world.connect().await;
    let mut half = request("POST", "/hooks/team/github", &[], b"{}");
    half.pop();
    stream.write_all(&half).await.unwrap();
    answer(&mut stream).await.is_problem(408);
    closes(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_told_so() {
    let world = World::new().await;
    let uid = world.github().await;
    let mut stream = world.connect().await;
    let mut half = request("POST", "/hooks/team/github", &[], BODY);
    half.pop();
    stream.write_all(&half).await.unwrap();
    // The sender has closed its half, and can still read.
    stream.shutdown().await.unwrap();
    answer(&mut stream).await.is_problem(400);
    closes(&mut stream).await;
    assert_eq!(world.counter("gateway_rejected_total", "aborted"), 1);
    assert_eq!(world.tally(&uid).requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_tells_its_length_twice_is_refused_in_either_order() {
    let world = World::new().await;
    let uid = world.github().await;
    let signature = sign(SECRET, BODY);
    for lengths in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: +2\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let text = format!(
            "POST /hooks/team/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Hub-Signature-256: {signature}\r\n{lengths}\r\n2\r\n{{}}\r\n0\r\n\r\n"
        );
        world.raw(text.as_bytes()).await.is_problem(400);
    }
    assert_eq!(world.tally(&uid).requests, 0);
    let chunked = format!(
        "POST /hooks/team/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Hub-Signature-256: {signature}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    assert_eq!(world.raw(chunked.as_bytes()).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_parsed_is_a_problem_document_too() {
    let world = World::new().await;
    let long = format!(
        "POST /x HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "v".repeat(100_000)
    );
    let many: String = (0..150).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many = format!("POST /x HTTP/1.1\r\nHost: x\r\n{many}\r\n");
    for (text, status) in [
        ("NONSENSE\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\nBad Header: x\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\nHost: x\r\n folded: x\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\n\r\n", 400),
        (long.as_str(), 431),
        (many.as_str(), 431),
    ] {
        println!("{}", text.get(..40.min(text.len())).unwrap());
        let before = world.counters("gateway_rejected_total");
        world.raw(text.as_bytes()).await.is_problem(status);
        assert_eq!(world.counters("gateway_rejected_total"), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_parsed_counts_as_failing() {
    let mut options = loopback();
    options.limits.address = zen_fabric::gateway::limits::Quota::new(1, 3);
    // No token is earned meanwhile: time stands still.
    let clock = ManualClock::at(Millis(1_795_428_005_000));
    let world = World::at(Arc::new(clock), options).await;
    world.github().await;
    for _ in 0..3 {
        world.raw(b"NONSENSE\r\n\r\n").await.is_problem(400);
    }
    world.deliver("d", BODY).await.is_problem(429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_many_requests_also_after_refusals() {
    let world = World::new().await;
    let uid = world.github().await;
    let mut stream = world.connect().await;
    let signature = sign(SECRET, BODY);
    for n in 0..20 {
        let id = n.to_string();
        let headers = [
            ("X-Hub-Signature-256", signature.as_str()),
            ("X-GitHub-Delivery", id.as_str()),
        ];
        stream
            .write_all(&request("POST", "/hooks/team/github", &headers, BODY))
            .await
            .unwrap();
        assert_eq!(answer(&mut stream).await.status, 202);
        stream
            .write_all(&request("POST", "/hooks/team/unknown", &headers, BODY))
            .await
            .unwrap();
        answer(&mut stream).await.is_problem(404);
    }
    assert_eq!(world.tally(&uid).requests, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_too_large_is_refused_before_it_comes() {
    let world = World::new().await;
    world.github().await;
    let text = "POST /hooks/team/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999999999\r\nExpect: 100-continue\r\n\r\n";
    world.raw(text.as_bytes()).await.is_problem(413);
    let large = vec![b'x'; 2_000_000];
    world
        .post("/hooks/team/github", &[], &large)
        .await
        .is_problem(413);
    let chunks = format!(
        "{:x}\r\n{}\r\n0\r\n\r\n",
        large.len(),
        "x".repeat(large.len())
    );
    let text = format!(
        "POST /hooks/team/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
    );
    let mut stream = world.connect().await;
    // The gateway may stop reading before everything is written.
    let (mut read, mut write) = stream.split();
    let writing = async { drop(write.write_all(text.as_bytes()).await) };
    let reading = async {
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(read.read_buf(&mut bytes).await.unwrap() > 0);
        }
        bytes
    };
    let (bytes, ()) = tokio::join!(reading, writing);
    assert!(
        bytes.starts_with(b"HTTP/1.1 413 "),
        "{:?}",
        String::from_utf8_lossy(&bytes)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_before_the_body_is_told_whether_the_connection_goes_on() {
    let world = World::new().await;
    world.github().await;
    let post = |path: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n{more}\r\n\r\n")
    };
    let (unknown, ours) = ("/hooks/team/unknown", "/hooks/team/github");
    for (path, body, status) in [
        (unknown, "Transfer-Encoding: chunked", 404),
        (ours, "Transfer-Encoding: chunked", 415),
        (unknown, "Content-Length: 100000", 404),
        (unknown, "Content-Length: 10\r\nExpect: 100-continue", 404),
    ] {
        let mut stream = world.connect().await;
        let text = post(path, body);
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = answer(&mut stream).await;
        answer.is_problem(status);
        assert_eq!(answer.header("connection"), Some("close"), "{text}");
        closes(&mut stream).await;
    }
    // What is small is read, and the connection goes on.
    let mut stream = world.connect().await;
    for _ in 0..2 {
        let text = post(unknown, "Content-Length: 2") + "{}";
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = answer(&mut stream).await;
        answer.is_problem(404);
        assert_eq!(answer.header("connection"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_can_not_have_all_connections() {
    let mut options = loopback();
    options.limits.connections_per_address = 2;
    let world = World::with(options, zen_fabric::journal::wal::Options::default()).await;
    let mut first = world.connect().await;
    first
        .write_all(&request("POST", "/x", &[], b""))
        .await
        .unwrap();
    answer(&mut first).await.is_problem(404);
    let mut second = world.connect().await;
    second
        .write_all(&request("POST", "/x", &[], b""))
        .await
        .unwrap();
    answer(&mut second).await.is_problem(404);
    let mut third = world.connect().await;
    closes(&mut third).await;
    drop(first);
    let again = async {
        loop {
            let mut stream = world.connect().await;
            let sent = stream.write_all(&request("POST", "/x", &[], b"")).await;
            let mut bytes = [0; 12];
            if sent.is_ok() && stream.read_exact(&mut bytes).await.is_ok() {
                return bytes;
            }
        }
    };
    let bytes = tokio::time::timeout(PATIENCE, again)
        .await
        .expect("a place is free again");
    assert_eq!(&bytes, b"HTTP/1.1 404");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_hangs_up_is_counted_once() {
    let world = World::new().await;
    let uid = world.github().await;
    let signature = sign(SECRET, BODY);
    for n in 0..20 {
        let id = n.to_string();
        let headers = [
            ("X-Hub-Signature-256", signature.as_str()),
            ("X-GitHub-Delivery", id.as_str()),
        ];
        let mut stream = world.connect().await;
        stream
            .write_all(&request("POST", "/hooks/team/github", &headers, BODY))
            .await
            .unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
    }
    assert_eq!(world.deliver("last", BODY).await.status, 202);
    super::world::until("the sums add up", || {
        let accepted = world.counter("gateway_requests_total", "accepted");
        accepted == world.tally(&uid).requests && accepted >= 1
    })
    .await;
}
