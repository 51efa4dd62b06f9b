//! Who doesn't belong, and what can't be: refused, counted, without effect.

use std::sync::Arc;

use futures::stream;
use prometheus::Registry;
use tonic::Code;
use zen_fabric::{
    coordination::wire::{
        message::{Hello, MOST_FRAME},
        proto::{self, Frame, frame::Kind, peer_client::PeerClient},
    },
    peer::{self, Credentials, Expected, PeerIdentity, Role, refusal::Reason},
};

use super::world::{Fleet, World};

#[tokio::test(flavor = "multi_thread")]
async fn two_fleets_in_one_namespace_do_not_see_each_other() {
    let world = World::new().await;
    let mut one = world.fleet("one");
    let mut other = world.fleet("one-member");
    one.start_all(2).await;
    let owners = one.log.owners();
    other.start_all(2).await;
    other.kill("core-1");
    other
        .until("the rest owns all", || other.log.covered_by(&["core-0"]))
        .await;
    one.settled().await;
    assert_eq!(one.log.owners(), owners);
    one.log.check(&[]);
    other.log.check(&[]);
}

async fn credentials(world: &World, fleet: &str, pod: &str) -> Arc<Credentials> {
    let identity = PeerIdentity::new(fleet, Role::Core, Some(pod)).unwrap();
    let files = world.ca.issue(&identity).unwrap();
    Credentials::load(files, &Registry::new()).await.unwrap()
}

fn hello(fleet: &str, pod: &str) -> Hello {
    Hello {
        fleet: fleet.into(),
        protocol: 1,
        holder: format!("{pod}#1").parse().unwrap(),
        region: "r".into(),
        zone: "z".into(),
        build: "1".into(),
        address: "127.0.0.1:1".into(),
        admin: "".into(),
    }
}

/// Says these words to core-9 as `core-0`, then waits until it hangs up or a message comes.
async fn say(fleet: &Fleet<'_>, as_pod: &str, words: Vec<Kind>) -> Result<(), tonic::Status> {
    let credentials = credentials(fleet.world, fleet.name, as_pod).await;
    let address = fleet.of("core-9").address.to_string();
    let expected = Expected::role(Role::Core);
    let channel = peer::dial(&address, &credentials, &expected);
    let mut client = PeerClient::new(channel.await.unwrap());
    let words = words.into_iter().map(|kind| Frame { kind: Some(kind) });
    let said = client.talk(stream::iter(words.collect::<Vec<_>>())).await?;
    let mut answers = said.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_say_changes_nothing_and_is_counted() {
    let world = World::new().await;
    let mut fleet = world.fleet("calm");
    // Alone: whoever has a smaller name may connect to it.
    fleet.start("core-9").await;
    fleet.settled().await;
    let owners = fleet.log.owners();

    let stranger = credentials(&world, "other", "core-0").await;
    let address = fleet.of("core-9").address.to_string();
    let dialed = peer::dial(&address, &stranger, &Expected::role(Role::Core)).await;
    assert_eq!(dialed.unwrap_err().reason, Reason::Fleet);

    let first = || Kind::Hello(hello("calm", "core-0").encode());
    let message = |body| {
        Kind::Message(proto::Message {
            version: 1,
            body: Some(body),
        })
    };
    let released = message(proto::message::Body::Released(proto::Released {
        buckets: vec![4_000],
        epochs: vec![1],
        version: 1,
    }));
    let mut protocol = hello("calm", "core-0");
    protocol.protocol = 3;
    let cases: Vec<(&str, Vec<Kind>)> = vec![
        (
            "fleet",
            vec![Kind::Hello(hello("other", "core-0").encode())],
        ),
        ("protocol", vec![Kind::Hello(protocol.encode())]),
        ("name", vec![Kind::Hello(hello("calm", "core-1").encode())]),
        ("malformed", vec![Kind::Hello(proto::Hello::default())]),
        ("malformed", vec![Kind::Gossip(vec![1, 2, 3])]),
        ("malformed", vec![first(), released]),
        ("malformed", vec![first(), Kind::Gossip(vec![0xff; 100])]),
        (
            "too_large",
            vec![first(), Kind::Gossip(vec![0; MOST_FRAME + 1])],
        ),
    ];
    for (n, (why, words)) in cases.into_iter().enumerate() {
        let refused = || {
            fleet
                .of("core-9")
                .counter("fleet_messages_refused_total", why)
        };
        let before = refused();
        drop(say(&fleet, "core-0", words).await);
        fleet
            .until(&format!("case {n} is counted as {why}"), || {
                refused() > before
            })
            .await;
    }
    // The greater name waits to be connected to.
    let greater = Kind::Hello(hello("calm", "core-99").encode());
    let status = say(&fleet, "core-99", vec![greater]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(fleet.log.owners(), owners);
    fleet.settled().await;
}
