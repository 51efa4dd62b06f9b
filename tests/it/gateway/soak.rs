//! Whatever is sent, and however it ends: when all are gone, nothing of them is left.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use zen_fabric::{gateway::limits::Quota, journal::wal};

use super::{
    http2::{self, Sender},
    world::{SECRET, World, loopback, request, sign, until},
    wrong::{cases, strict},
};

const BODY: &[u8] = b"{}";

/// What may grow with requests: bodies, connections, waiters, failing addresses.
fn levels(world: &World) -> [u64; 4] {
    [
        "gateway_bodies_bytes",
        "gateway_connections",
        "gateway_waiting",
        "gateway_failing_addresses",
    ]
    .map(|name| world.counters(name))
}

/// Senders that don't hear their answers to the end.
async fn misbehave(world: &World, round: usize) {
    let signature = sign(SECRET, BODY);
    let id = format!("waits-{round}");
    let headers = [
        ("X-GitHub-Delivery", id.as_str()),
        ("X-Hub-Signature-256", &signature),
        ("Prefer", "wait=1"),
    ];
    let whole = request("POST", "/hooks/team/github", &headers, BODY);
    for bytes in [
        &whole[..],
        &whole[..whole.len() - 1],
        &whole[..40],
        b"NONSENSE\r\n\r\n",
    ] {
        for resets in [false, true] {
            let mut stream = world.connect().await;
            stream.write_all(bytes).await.unwrap();
            if resets {
                stream.set_zero_linger().unwrap();
            }
        }
    }
    let mut sender = Sender::of(world).await;
    let broken_off = sender.send(http2::delivery(&format!("off-{round}"), BODY));
    drop(tokio::time::timeout(Duration::from_millis(1), broken_off).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_senders_are_gone_nothing_of_them_is_left() {
    let mut options = loopback();
    options.limits.body_timeout = Duration::from_millis(500);
    // Else the last rounds would only meet the limit of failing requests.
    options.limits.address = Quota::new(1_000_000, 1_000_000);
    let world = World::with(options, wal::Options::default()).await;
    strict(&world).await;
    let before = levels(&world);
    assert_eq!(before, [0; 4]);
    for round in 0..12 {
        let mut sender = Sender::of(&world).await;
        for case in cases() {
            world.raw(&case.http1()).await;
            if let Some(request) = case.http2() {
                sender.send(request).await;
            }
        }
        misbehave(&world, round).await;
        let id = format!("fine-{round}");
        assert_eq!(world.deliver(&id, BODY).await.status, 202);
    }
    // One address has failed, however often; it is forgotten when it owes nothing.
    until("nothing is left", || {
        let [bodies, connections, waiting, failing] = levels(&world);
        (bodies, connections, waiting) == (0, 0, 0) && failing <= 1
    })
    .await;
}
