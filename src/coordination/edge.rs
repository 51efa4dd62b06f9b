//! A replica's coordination in the world: clocks, the API server, the other replicas, this pod's
//! workers.
//!
//! ```text
//!  watch ────────┐                         ┌──▶ objects    Leases, ShardMap, by compare-and-swap
//!  talk, gossip ─┼─▶ driver (one task) ────┼──▶ peers      one connection to each other replica
//!  desk ─────────┘    owns the Replica     └──▶ Work       this pod's workers
//! ```
//!
//! All that decides is the core's. The driver takes one thing at a time, gives it to the core and
//! carries out what it says; no other task holds any of it.

mod desk;
mod driver;
mod gossip;
mod listeners;
mod metrics;
mod objects;
mod peers;
pub mod snapshot;
mod talk;
mod watch;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use futures::future::BoxFuture;
use kube::Client;
use prometheus::Registry;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch as channel},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::{
    desk::Desk, driver::Driver, metrics::Metrics, peers::Peers, snapshot::Snapshot, talk::Net,
};
use super::{
    layout::Assign,
    names::Holder,
    port::Input,
    protocol::Protocol,
    replica::{Me, Replica},
    timing::{Timing, TimingError},
    wire::{Place, Seconds, message::Hello},
};
use crate::{
    journal::{Bucket, Epoch},
    ops::{tasks::Tasks, time::Clock},
    peer::{self, Bounds, Credentials, Expected, Role},
};

/// What watches show waits here; they wait with it.
const SEEN: usize = 256;

/// What peers say waits here; their connections wait with it.
const TOLD: usize = 512;

/// This pod's workers. No call waits for anything: the driver makes them.
pub trait Work: Send + Sync + 'static {
    /// This process acts as this holder from now on.
    fn became(&self, holder: Holder);
    /// Work on the buckets; where one is worked on already, its epoch rises without a pause.
    fn own(&self, buckets: &[(Bucket, Epoch)]);
    /// Start nothing new, finish what is in flight, commit, then say [`Input::Released`].
    fn release(&self, buckets: &[(Bucket, Epoch)]);
    /// Abandon the buckets now.
    fn drop_buckets(&self, buckets: &[Bucket]);
    /// Whether effects may be started at all.
    fn gate(&self, open: bool);
    /// The buckets for which caches are kept warm.
    fn standby(&self, buckets: Vec<Bucket>);
    /// The highest epochs that journals and statuses remember; those that can't be asked are left
    /// out.
    fn survey(&self) -> BoxFuture<'_, Vec<Epoch>>;
}

/// How a replica takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who it is.
    pub me: Me,
    /// Where it listens for operators; empty: nowhere. A second listener that must refuse before
    /// others call this process gone.
    pub admin: Arc<str>,
    /// Where the fleet's objects are.
    pub place: Place,
    /// How long everything takes.
    pub timing: Timing,
    /// The assignment.
    pub assign: Assign,
    /// Differs between processes.
    pub seed: u64,
}

/// What a replica needs of its process.
pub struct Ports {
    /// The API server.
    pub client: Client,
    /// Its certificates.
    pub credentials: Arc<Credentials>,
    /// Where it listens for peers; [`Me::address`] is how they reach it.
    pub listener: TcpListener,
    /// Its workers.
    pub work: Arc<dyn Work>,
    /// Its clocks.
    pub clock: Arc<dyn Clock>,
}

/// Why coordination did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The durations contradict each other.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The metrics can't be registered.
    #[error("register the metrics of coordination")]
    Metrics(#[from] prometheus::Error),
    /// The certificate is another's.
    #[error(
        "the certificate names {found}, and this replica is core {pod} of fleet {fleet}: issue one for it"
    )]
    Certificate {
        /// Whom it names.
        found: String,
        /// This pod.
        pod: String,
        /// This fleet.
        fleet: Arc<str>,
    },
}

/// A running replica.
#[derive(Clone)]
pub struct Handle {
    fleet: Arc<str>,
    replica: Arc<Mutex<Replica>>,
    desk: Arc<Desk>,
    ended: CancellationToken,
    clock: driver::Monotonic,
}

/// Starts a replica, as part of `tasks`.
///
/// # Errors
/// When it can't; nothing runs then.
pub fn start(
    options: Options,
    ports: Ports,
    registry: &Registry,
    tasks: &Tasks,
) -> Result<Handle, Error> {
    let Options {
        me,
        admin,
        place,
        timing,
        assign,
        seed,
    } = options;
    check(&me, &ports.credentials)?;
    let lease = Seconds(u32::try_from(timing.lease.as_secs()).unwrap_or(u32::MAX));
    let limit = timing.request;
    let replica = Replica::new(me.clone(), timing, assign, seed, Protocol::default())?;
    let metrics = Metrics::register(registry)?;
    let clock = driver::Monotonic::start(Arc::clone(&ports.clock));

    let (seen, watched) = mpsc::channel(SEEN);
    for (name, watch) in watch::both(&ports.client, &place, &seen, &metrics) {
        tasks.spawn(name, watch.run(tasks.token()));
    }
    let (said, told) = mpsc::channel(TOLD);
    let (hello, greeting) = channel::channel(None);
    let net = Net {
        me: me.pod.clone(),
        fleet: Arc::clone(&me.fleet),
        protocol: me.protocol,
        hello: greeting,
        told: said,
        credentials: Arc::clone(&ports.credentials),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
        once: Arc::default(),
        connections: Arc::new(AtomicU64::new(0)),
    };
    let (credentials, only_cores) = (ports.credentials, Expected::role(Role::Core));
    let routes = Routes::new(net.server());
    peer::serve(
        ports.listener,
        credentials,
        only_cores,
        routes,
        tasks,
        Bounds::default(),
    );

    let handle = Handle {
        fleet: Arc::clone(&me.fleet),
        replica: Arc::new(Mutex::new(replica)),
        desk: Arc::default(),
        ended: CancellationToken::new(),
        clock: clock.clone(),
    };
    let driver = Driver {
        replica: Arc::clone(&handle.replica),
        desk: Arc::clone(&handle.desk),
        ended: handle.ended.clone(),
        peers: Peers::new(net, hello, card(&me, admin), seed),
        objects: objects::Objects {
            client: ports.client,
            place,
            lease,
            limit,
            clock: ports.clock,
            metrics: metrics.clone(),
        },
        work: ports.work,
        clock,
        metrics,
        told: driver::Told::default(),
    };
    let stop = tasks.token();
    tasks.spawn("coordination", Box::pin(driver.run(watched, told, stop)));
    Ok(handle)
}

/// A replica whose certificate is another's would be refused by everybody.
fn check(me: &Me, credentials: &Credentials) -> Result<(), Error> {
    let found = credentials.identity();
    let pod = found.pod.as_deref() == Some(&*me.pod.0);
    if found.fleet == me.fleet && found.role == Role::Core && pod {
        return Ok(());
    }
    Err(Error::Certificate {
        found: found.to_string(),
        pod: me.pod.to_string(),
        fleet: Arc::clone(&me.fleet),
    })
}

/// How a replica introduces itself; the holder is filled in once there is one.
fn card(me: &Me, admin: Arc<str>) -> Hello {
    Hello {
        fleet: Arc::clone(&me.fleet),
        protocol: me.protocol,
        holder: Holder {
            pod: me.pod.clone(),
            incarnation: 0,
        },
        region: Arc::clone(&me.region),
        zone: Arc::clone(&me.zone),
        build: Arc::clone(&me.build),
        address: Arc::clone(&me.address),
        admin: reachable(admin, &me.address),
    }
}

/// A listener on all addresses is reached where the other one is: whoever connected to `0.0.0.0`
/// would find itself. The same holds for a loopback address where peers are elsewhere: then there is
/// no second listener that they could look for.
fn reachable(admin: Arc<str>, address: &str) -> Arc<str> {
    let Ok(at) = admin.parse::<SocketAddr>() else {
        return admin;
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let peers_here = host
        .trim_matches(['[', ']'])
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.is_loopback());
    if at.ip().is_unspecified() {
        format!("{host}:{}", at.port()).into()
    } else if at.ip().is_loopback() && !peers_here {
        Arc::from("")
    } else {
        admin
    }
}

// === impl Handle ===

impl Handle {
    /// Takes what workers and operators say: Ready, Drain, Vacate, Undrain, Released, Fenced, Load.
    /// It never waits, and none of it is lost. What only the edge says is not taken.
    pub fn input(&self, input: Input) {
        self.desk.put(input);
    }

    /// What the replica knows and does.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot::of(&self.fleet, &replica, self.clock.now())
    }

    /// Cancelled once everything is given away and the process may end.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("fleet", &self.fleet)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_listener_on_all_addresses_is_found_beside_the_other() {
        for (admin, address, expected) in [
            ("0.0.0.0:9090", "10.0.0.7:7443", "10.0.0.7:9090"),
            ("[::]:9090", "[fd00::7]:7443", "[fd00::7]:9090"),
            ("[::]:9090", "core-0.cores:7443", "core-0.cores:9090"),
            ("127.0.0.1:9090", "127.0.0.1:7443", "127.0.0.1:9090"),
            ("[::1]:9090", "[::1]:7443", "[::1]:9090"),
            ("127.0.0.1:9090", "10.0.0.7:7443", ""),
            ("127.0.0.1:9090", "core-0.cores:7443", ""),
            ("", "10.0.0.7:7443", ""),
        ] {
            assert_eq!(&*reachable(admin.into(), address), expected);
        }
    }
}
