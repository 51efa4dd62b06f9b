//! Senders that are gone before they are answered, while the journal is still at work.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use zen_fabric::{
    journal::{
        IngestorUid,
        wal::{self, Wal},
    },
    ops::time::SystemClock,
};

use super::{
    http2::{Sender, delivery},
    stalling::{Stalled, Stalling},
    world::{Answer, World, loopback, until},
};

const BODY: &[u8] = b"{}";

/// A world whose journal stands before the sync of whatever is appended from now on.
async fn stalled() -> (World, IngestorUid, Stalling, Stalled) {
    let disk = Stalling::new();
    let log = wal::Options::default();
    let journal = Wal::open_on(Arc::new(disk.clone()), log, Arc::new(SystemClock), 1).unwrap();
    let world = World::on(journal, loopback()).await;
    let uid = world.github().await;
    let stalled = disk.stall();
    (world, uid, disk, stalled)
}

/// Sends, and waits until the gateway has read it as the `nth` and can only wait for the journal.
async fn begun<'a>(
    world: &World,
    sender: &'a mut Sender,
    id: &str,
    nth: u64,
) -> BoxFuture<'a, Answer> {
    let mut answering = sender.send(delivery(id, BODY)).boxed();
    let read = nth * u64::try_from(BODY.len()).unwrap();
    tokio::select! {
        answer = &mut answering => panic!("answered before it is durable: {answer:?}"),
        () = until("it is read", || world.counters("gateway_body_bytes_total") == read) => {}
    }
    answering
}

async fn gone(world: &World, count: u64) {
    until("it is gone", || {
        world.counters("gateway_hung_up_total") == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_in_the_middle_of_an_append_is_counted_once() {
    let (world, uid, _, held) = stalled().await;
    let mut sender = Sender::of(&world).await;
    for n in 1..=20 {
        drop(begun(&world, &mut sender, &n.to_string(), n).await);
        gone(&world, n).await;
    }
    drop(held);
    assert_eq!(sender.send(delivery("last", BODY)).await.status, 202);
    until("all are counted", || {
        world.counter("gateway_requests_total", "accepted") == 21
    })
    .await;
    assert_eq!(world.tally(&uid).requests, 21);
    assert_eq!(world.counter("gateway_requests_total", "replayed"), 0);
    assert_eq!(world.counters("gateway_rejected_total"), 0);
    // What was accepted in the sender's absence is remembered as any other.
    let again = sender.send(delivery("7", BODY)).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_append_of_one_who_hung_up_is_answered_as_a_replay() {
    let (world, uid, _, held) = stalled().await;
    let (mut first, mut second) = (Sender::of(&world).await, Sender::of(&world).await);
    let answering = begun(&world, &mut first, "same", 1).await;
    let waiting = begun(&world, &mut second, "same", 2).await;
    drop(answering);
    gone(&world, 1).await;
    drop(held);
    let answer = waiting.await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("idempotency-replayed"), Some("true"));
    until("both are counted", || {
        world.counter("gateway_requests_total", "accepted") == 1
            && world.counter("gateway_requests_total", "replayed") == 1
    })
    .await;
    assert_eq!(world.tally(&uid).requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_one_is_a_replay_of_an_append_that_failed() {
    for hangs_up in [false, true] {
        let (world, uid, disk, held) = stalled().await;
        let (mut first, mut second) = (Sender::of(&world).await, Sender::of(&world).await);
        let answering = begun(&world, &mut first, "same", 1).await;
        let waiting = begun(&world, &mut second, "same", 2).await;
        let mut answering = Some(answering);
        if hangs_up {
            answering = None;
            gone(&world, 1).await;
        }
        disk.fail_once();
        drop(held);
        if let Some(answering) = answering {
            answering.await.is_problem(503);
        }
        // It finds the journal at work again, or not yet; an event that is not there it is not.
        let answer = waiting.await;
        assert_eq!(answer.header("idempotency-replayed"), None, "{answer:?}");
        let mut third = Sender::of(&world).await;
        let mut accepted = answer;
        let trying = async {
            while accepted.status == 503 {
                accepted = third.send(delivery("same", BODY)).await;
            }
        };
        let tried = tokio::time::timeout(super::world::PATIENCE, trying).await;
        tried.expect("the journal works again");
        assert_eq!(accepted.status, 202, "{accepted:?}");
        assert_eq!(accepted.header("idempotency-replayed"), None);
        assert_eq!(world.tally(&uid).requests, 1);
        let replay = third.send(delivery("same", BODY)).await;
        assert_eq!(replay.header("idempotency-replayed"), Some("true"));
    }
}
