//! Gateways that appear, leave, come back elsewhere.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use zen_fabric::{
    journal::{
        LogId,
        remote::{
            resolve::{self, Change, Network},
            view::NoMap,
        },
    },
    ops::tasks::Tasks,
};

use super::world::{Core, Fleet, PATIENCE, journal, local, soon};

/// Names that the test answers for.
struct Names {
    core: Core,
    answer: Mutex<io::Result<Vec<SocketAddr>>>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Names {
    fn answer(&self, addresses: &[SocketAddr]) {
        *self.answer.lock().unwrap() = Ok(addresses.to_vec());
    }

    fn fail(&self) {
        *self.answer.lock().unwrap() = Err(io::ErrorKind::TimedOut.into());
    }
}

impl Network for Names {
    fn look_up<'a>(&'a self, entry: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        assert_eq!(entry, "gateways:7443");
        let answer = match &*self.answer.lock().unwrap() {
            Ok(addresses) => Ok(addresses.clone()),
            Err(error) => Err(error.kind().into()),
        };
        async move { answer }.boxed()
    }

    fn channel(&self, address: SocketAddr) -> Channel {
        self.core.channel(address)
    }
}

async fn attached(changes: &mut mpsc::Receiver<Change>) -> LogId {
    match soon("a log is attached", changes.recv()).await {
        Some(Change::Attached(source)) => source.log(),
        other => panic!("{other:?}"),
    }
}

async fn detached(changes: &mut mpsc::Receiver<Change>) -> LogId {
    match soon("a log is detached", changes.recv()).await {
        Some(Change::Detached(log)) => log,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_appear_and_leave_with_their_logs() {
    let fleet = Fleet::new();
    let (a, b, c) = (journal(31), journal(32), journal(33));
    let one = fleet.gateway(local(&a)).await;
    let two = fleet.gateway(local(&b)).await;
    let (at_one, at_two) = (one.address(), two.address());
    let names = Arc::new(Names {
        core: fleet.core(Some("core-0")).await,
        answer: Mutex::new(Ok(vec![at_one])),
    });
    let tasks = Tasks::new();
    let network = Arc::clone(&names) as Arc<dyn Network>;
    let mut changes = resolve::follow(vec!["gateways:7443".to_owned()], network, &tasks);
    assert_eq!(attached(&mut changes).await, a.log());
    names.answer(&[at_one, at_two]);
    assert_eq!(attached(&mut changes).await, b.log());
    // A name server that fails takes nobody away; one that answers does.
    names.fail();
    let quiet = tokio::time::timeout(resolve::EVERY * 2, changes.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    names.answer(&[at_two]);
    assert_eq!(detached(&mut changes).await, a.log());
    // The gateway comes back with another log, at the same address.
    two.stop().await;
    let two = fleet
        .gateway_at(&at_two.to_string(), local(&c), Arc::new(NoMap::default()))
        .await;
    assert_eq!(detached(&mut changes).await, b.log());
    assert_eq!(attached(&mut changes).await, c.log());
    // That log moves to another address, of which the name tells before it forgets the old one.
    let three = fleet.gateway(local(&c)).await;
    names.answer(&[at_two, three.address()]);
    two.stop().await;
    assert_eq!(detached(&mut changes).await, c.log());
    assert_eq!(attached(&mut changes).await, c.log());
    names.answer(&[three.address()]);
    names.answer(&[]);
    assert_eq!(detached(&mut changes).await, c.log());
    drop((one, three));
    tasks.stop(PATIENCE).await.unwrap();
}
