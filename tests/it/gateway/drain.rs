//! The end: what is under way is finished, what is new is told to come back.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::world::{PATIENCE, SECRET, World, answer, loopback, request, sign};

const BODY: &[u8] = b"{}";

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let world = World::new().await;
    let uid = world.github().await;
    let mut under_way = world.connect().await;
    let signature = sign(SECRET, BODY);
    let headers = [
        ("X-Hub-Signature-256", signature.as_str()),
        ("Expect", "100-continue"),
    ];
    let whole = request("POST", "/hooks/team/github", &headers, BODY);
    let (first, last) = whole.split_at(whole.len() - BODY.len());
    under_way.write_all(first).await.unwrap();
    // The gateway asks for the body once the header has passed its checks.
    let mut asked = [0; 25];
    under_way.read_exact(&mut asked).await.unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100 Continue"));
    let draining = world.gateway.drain(PATIENCE);
    let finishing = async {
        let address = world.address();
        let refused = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refused)
            .await
            .expect("no new connections");
        under_way.write_all(last).await.unwrap();
        let answer = answer(&mut under_way).await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.header("connection"), Some("close"));
    };
    tokio::join!(draining, finishing);
    assert_eq!(world.tally(&uid).requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_is_cut_off_at_the_deadline() {
    let world = World::new().await;
    world.github().await;
    let mut stuck = world.connect().await;
    let whole = request("POST", "/hooks/team/github", &[], BODY);
    stuck.write_all(&whole[..whole.len() - 1]).await.unwrap();
    world.deliver("d", BODY).await;
    let drained = tokio::time::timeout(PATIENCE, world.gateway.drain(Duration::from_millis(50)));
    drained.await.expect("the deadline holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_said_nothing_does_not_hold_up_a_drain() {
    let hour = Duration::from_hours(1);
    let mut options = loopback();
    options.limits.header_timeout = hour;
    options.limits.idle_timeout = hour;
    let world = World::with(options, zen_fabric::journal::wal::Options::default()).await;
    world.github().await;
    let mut silent = world.connect().await;
    let mut served = world.connect().await;
    // Answered on a later connection: the gateway has accepted the silent one.
    served
        .write_all(&request("POST", "/x", &[], b""))
        .await
        .unwrap();
    answer(&mut served).await.is_problem(404);
    let drained = tokio::time::timeout(PATIENCE, world.gateway.drain(hour));
    drained.await.expect("nothing is under way");
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed");
}
