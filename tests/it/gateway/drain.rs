//! The end: what is under way is finished, what is new is told to come back.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::world::{PATIENCE, SECRET, World, answer, request, sign, until};

const BODY: &[u8] = b"{}";

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let world = World::new().await;
    let uid = world.github().await;
    let mut under_way = world.connect().await;
    let signature = sign(SECRET, BODY);
    let whole = request("POST", "/hooks/team/github", &[("X-Hub-Signature-256", &signature)], BODY);
    let (first, last) = whole.split_at(whole.len() - 1);
    under_way.write_all(first).await.unwrap();
    let connections = || {
        let families = world.registry.gather();
        let family = families.iter().find(|family| family.name() == "gateway_connections");
        family.unwrap().get_metric()[0].get_gauge().value()
    };
    until("the request is under way", || connections() > 0.5).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let draining = world.gateway.drain(PATIENCE);
    let finishing = async {
        let address = world.address();
        let refused = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("no new connections");
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
