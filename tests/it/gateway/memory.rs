//! Bodies in memory: counted for as long as somebody needs them, and bounded.

use std::{sync::Arc, time::Duration};

use tokio::io::AsyncWriteExt as _;
use zen_fabric::{
    gateway::Options,
    journal::wal::{self, Wal},
    ops::time::SystemClock,
};

use super::{
    http2::{self, Sender},
    stalling::Stalling,
    world::{SECRET, World, loopback, request, sign, until},
};

/// A quarter of what [`small`] has for bodies.
const BODY_BYTES: usize = 16 * 1_024;

fn body() -> Vec<u8> {
    format!("\"{}\"", "x".repeat(BODY_BYTES - 2)).into_bytes()
}

/// Room for four bodies, of one address also.
fn small() -> Options {
    let mut options = loopback();
    options.limits.body_bytes = BODY_BYTES;
    options.limits.bodies_bytes = 4 * BODY_BYTES;
    options.limits.bodies_bytes_per_address = 4 * BODY_BYTES;
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_end_of_an_event_holds_no_memory_for_its_body() {
    let mut options = small();
    options.limits.wait = Duration::from_hours(1);
    let world = World::with(options, wal::Options::default()).await;
    let uid = world.github().await;
    let body = body();
    let signature = sign(SECRET, &body);
    let mut waiting = Vec::new();
    // Nobody works on events here: all of them wait.
    for n in 1..=8 {
        let id = n.to_string();
        let headers = [
            ("X-GitHub-Delivery", id.as_str()),
            ("X-Hub-Signature-256", &signature),
            ("Prefer", "wait=3600"),
        ];
        let mut stream = world.connect().await;
        let bytes = request("POST", "/hooks/team/github", &headers, &body);
        stream.write_all(&bytes).await.unwrap();
        waiting.push(stream);
        until("the event is durable", || world.tally(&uid).requests == n).await;
    }
    until("all wait and hold nothing", || {
        world.counters("gateway_waiting") == 8 && world.counters("gateway_bodies_bytes") == 0
    })
    .await;
    assert_eq!(waiting.len(), 8, "none of them has hung up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_counts_until_it_is_durable_also_when_its_sender_is_gone() {
    let disk = Stalling::new();
    let log = wal::Options::default();
    let journal = Wal::open_on(Arc::new(disk.clone()), log, Arc::new(SystemClock), 1).unwrap();
    let world = World::on(journal, small()).await;
    let uid = world.github().await;
    let body = body();
    let mut sender = Sender::of(&world).await;
    let stalled = disk.stall();
    for n in 1..=4_u64 {
        let mut request = Box::pin(sender.send(http2::delivery(&n.to_string(), &body)));
        let read = 16_384 * n;
        tokio::select! {
            answer = &mut request => panic!("{answer:?}"),
            () = until("its body is read", || world.counters("gateway_body_bytes_total") == read) => {}
        }
        drop(request);
        until("it has hung up", || {
            world.counters("gateway_hung_up_total") == n
        })
        .await;
    }
    let refused = sender.send(http2::delivery("5", &body)).await;
    refused.is_problem(503);
    assert_eq!(refused.json()["title"], "Overloaded");
    drop(stalled);
    until("what was begun is durable", || {
        world.tally(&uid).requests == 4
    })
    .await;
    until("its memory is free", || {
        world.counters("gateway_bodies_bytes") == 0
    })
    .await;
    assert_eq!(sender.send(http2::delivery("6", &body)).await.status, 202);
    until("all are counted", || {
        world.counter("gateway_requests_total", "accepted") == 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_can_not_have_the_memory_of_all() {
    let mut options = small();
    options.limits.bodies_bytes_per_address = BODY_BYTES;
    options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let world = World::with(options, wal::Options::default()).await;
    world.github().await;
    let body = body();
    let signature = sign(SECRET, &body);
    let from = |client| {
        let headers = [
            ("X-Hub-Signature-256", signature.as_str()),
            ("X-Forwarded-For", client),
        ];
        request("POST", "/hooks/team/github", &headers, &body)
    };
    let mut held = world.connect().await;
    let bytes = from("192.0.2.1");
    held.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
    let all_but_one = u64::try_from(BODY_BYTES - 1).unwrap();
    until("its body is in memory", || {
        world.counters("gateway_bodies_bytes") == all_but_one
    })
    .await;
    let refused = world.raw(&from("192.0.2.1")).await;
    refused.is_problem(503);
    assert_eq!(refused.json()["title"], "Overloaded");
    // Another is refused only where it falls on the same of 4,096 places: two do not.
    let other = [from("192.0.2.2"), from("192.0.2.3")];
    let answers = [world.raw(&other[0]).await, world.raw(&other[1]).await];
    assert!(
        answers.iter().any(|answer| answer.status == 202),
        "{answers:?}"
    );
}
