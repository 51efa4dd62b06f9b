//! Which gateways there are: `--gateways` names addresses, or a DNS name of which every answer
//! counts. They are looked up again all the time; the logs behind them appear and leave.

mod roster;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use self::roster::{Found, Roster, Step};
use super::client::{self, Remote};
use crate::{
    journal::{LogId, Source},
    ops::tasks::Tasks,
    peer::{self, Credentials, Expected, Role},
};

/// How often names are looked up.
pub const EVERY: Duration = Duration::from_secs(2);

/// How long a lookup may take; what takes longer has failed.
const LOOKUP: Duration = Duration::from_millis(1_500);

/// How long to wait before a gateway that could not be reached is asked again: the channel waits
/// between its own attempts too, up to a second.
const AGAIN: Duration = Duration::from_millis(100);

/// Changes that wait to be taken up.
const CHANGES: usize = 64;

/// What became of the gateways.
#[derive(Clone, Debug)]
pub enum Change {
    /// A log is there.
    Attached(Arc<dyn Source>),
    /// It isn't any more: its gateway left, or came back with another log.
    Detached(LogId),
}

/// How gateways are found and reached.
pub trait Network: Send + Sync + fmt::Debug + 'static {
    /// The addresses that an entry, `host:port`, stands for.
    fn look_up<'a>(&'a self, entry: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// A channel to a gateway, which connects by itself.
    fn channel(&self, address: SocketAddr) -> Channel;
}

/// The real network, over mutual TLS.
#[derive(Debug)]
pub struct Peers {
    credentials: Arc<Credentials>,
}

impl Peers {
    /// Reached with these credentials.
    #[must_use]
    pub const fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials }
    }
}

impl Network for Peers {
    fn look_up<'a>(&'a self, entry: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(tokio::net::lookup_host(entry).await?.collect()) }.boxed()
    }

    fn channel(&self, address: SocketAddr) -> Channel {
        let gateway = Expected::role(Role::Gateway);
        peer::connect(&address.to_string(), &self.credentials, &gateway)
    }
}

/// Follows the gateways of `entries` until the group stops or nobody takes the changes any more.
#[must_use]
pub fn follow(
    entries: Vec<String>,
    network: Arc<dyn Network>,
    tasks: &Tasks,
) -> mpsc::Receiver<Change> {
    let (changes, taken) = mpsc::channel(CHANGES);
    let stop = tasks.token();
    let resolver = Resolver {
        entries,
        network,
        tasks: tasks.clone(),
        changes,
        found: Found::default(),
        roster: Roster::default(),
        failing: BTreeSet::new(),
        gateways: BTreeMap::new(),
        pending: FuturesUnordered::new(),
    };
    tasks.spawn("gateways", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = resolver.run() => {}
        }
    });
    taken
}

/// An address and what is known of it; dropped, it is let go of.
struct Gateway {
    left: CancellationToken,
    source: Option<Arc<Remote>>,
}

enum Outcome {
    Met(Arc<Remote>),
    /// Its log is another one now.
    Succeeded,
    Left,
}

struct Resolver {
    entries: Vec<String>,
    network: Arc<dyn Network>,
    tasks: Tasks,
    changes: mpsc::Sender<Change>,
    found: Found,
    roster: Roster,
    /// Entries that couldn't be looked up, which was told.
    failing: BTreeSet<String>,
    gateways: BTreeMap<SocketAddr, Gateway>,
    pending: FuturesUnordered<BoxFuture<'static, (SocketAddr, Outcome)>>,
}

impl Resolver {
    async fn run(mut self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let changes = self.changes.clone();
        loop {
            tokio::select! {
                () = changes.closed() => return,
                _ = ticks.tick() => self.look().await,
                Some((address, outcome)) = self.pending.next() => {
                    self.came(address, outcome).await;
                }
            }
        }
    }

    async fn look(&mut self) {
        let network = &self.network;
        let lookups = self.entries.iter().map(|entry| async move {
            let looked = tokio::time::timeout(LOOKUP, network.look_up(entry)).await;
            looked.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
        });
        let looked = join_all(lookups).await;
        let answers = self.entries.iter().zip(looked).map(|(entry, looked)| {
            match looked {
                Ok(addresses) => {
                    self.failing.remove(entry);
                    Some(addresses)
                }
                Err(error) => {
                    if self.failing.insert(entry.clone()) {
                        warn!(%entry, %error, "a gateway's name can't be looked up; what it stood for stays");
                    }
                    None
                }
            }
        });
        let answers = answers.collect();
        let diff = self.found.look(answers);
        for address in diff.left {
            info!(%address, "a gateway's address is gone");
            if let Some(gateway) = self.gateways.remove(&address) {
                gateway.left.cancel();
            }
            let steps = self.roster.gone(address);
            self.take(steps).await;
        }
        for address in diff.appeared {
            info!(%address, "a gateway's address appeared");
            let left = CancellationToken::new();
            let source = None;
            self.gateways.insert(address, Gateway { left, source });
            self.reach(address);
        }
        let gateways = &self.gateways;
        let steps = self.roster.prefer(|address| {
            let gateway = gateways.get(&address);
            let source = gateway.and_then(|gateway| gateway.source.as_ref());
            source.is_some_and(|source| *source.reached().borrow())
        });
        self.take(steps).await;
    }

    /// Tries an address until there is a gateway.
    fn reach(&mut self, address: SocketAddr) {
        let Some(gateway) = self.gateways.get(&address) else {
            return;
        };
        let left = gateway.left.clone();
        let channel = self.network.channel(address);
        let tasks = self.tasks.clone();
        let reaching = async move {
            let mut told = false;
            loop {
                match client::connect(channel.clone(), &tasks).await {
                    Ok(source) => return source,
                    Err(error) if !told => {
                        told = true;
                        warn!(%address, %error, "a gateway can't be reached; it is tried again");
                    }
                    Err(_again) => {}
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        let reached = async move {
            tokio::select! {
                () = left.cancelled() => (address, Outcome::Left),
                source = reaching => (address, Outcome::Met(source)),
            }
        };
        self.pending.push(reached.boxed());
    }

    async fn came(&mut self, address: SocketAddr, outcome: Outcome) {
        let Some(gateway) = self.gateways.get_mut(&address) else {
            return;
        };
        match outcome {
            // It appeared again since.
            Outcome::Left => {}
            Outcome::Met(source) => {
                let log = source.log();
                info!(%address, %log, "a gateway is reached");
                gateway.source = Some(Arc::clone(&source));
                let left = gateway.left.clone();
                let watching = async move {
                    tokio::select! {
                        () = left.cancelled() => (address, Outcome::Left),
                        _ = source.succeeded() => (address, Outcome::Succeeded),
                    }
                };
                self.pending.push(watching.boxed());
                let step = self.roster.met(address, log);
                self.take(step.into_iter().collect()).await;
            }
            Outcome::Succeeded => {
                gateway.source = None;
                let steps = self.roster.gone(address);
                self.take(steps).await;
                self.reach(address);
            }
        }
    }

    async fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            let change = match step {
                Step::Detach(log) => Change::Detached(log),
                Step::Attach(_, address) => {
                    let gateway = self.gateways.get(&address);
                    let Some(source) = gateway.and_then(|gateway| gateway.source.clone()) else {
                        continue;
                    };
                    Change::Attached(source)
                }
            };
            // Whoever takes changes may have gone; then this ends too.
            drop(self.changes.send(change).await);
        }
    }
}
