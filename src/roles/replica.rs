//! One replica of those that share the work: coordination, and the engine that works on what this one
//! owns. The part that `core` and `dev` share.
//!
//! ```text
//!  coordination ──own, release, drop, gate──▶ engine ──▶ Kubernetes API
//!       ▲   └──────released, fenced, load───────┘ ▲
//!  Leases, ShardMap, peers                        └── logs of gateways
//! ```

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ::kube::Client;
use axum::Router;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{net::TcpListener, sync::mpsc};
use tracing::warn;

use super::{
    base::Base,
    error::{Error, peer_failed},
    ingress::Ingress,
    options, peer_files,
};
use crate::{
    config::{self, Config},
    coordination::{
        assign::assign,
        edge::{self, Work, snapshot},
        message::PROTOCOL,
        names::{Holder, PodName},
        port::Input,
        replica::Me,
        timing::Timing,
        wire::Place,
    },
    engine::start::{self as engine, Engine, Notice, Ports},
    journal::{
        self, BUCKETS, Bucket, Epoch,
        remote::resolve::{self, Change},
    },
    kube,
    ops::{
        admin::{
            fleet::{self, Fleet, Member, Status},
            token::Token,
        },
        tasks::Tasks,
        threads::Threads,
    },
    peer::{self, Credentials},
};

/// The gates of this part: the engine's, and being a member of the fleet.
pub(super) const GATES: [&str; 3] = [engine::GATES[0], engine::GATES[1], FLEET];

const FLEET: &str = "fleet";

/// How often it is looked whether this replica is a member; a first leader takes some 100 ms.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running replica.
#[derive(Debug)]
pub(super) struct Replica {
    engine: engine::Handle,
    seen: Arc<Seen>,
    /// Where other replicas reach it.
    peer: String,
    /// Where events come from: ended last.
    tasks: Tasks,
    /// What the engine runs on, where that is its own.
    _threads: Option<Threads>,
    /// What takes part in the fleet.
    coordination: Tasks,
}

/// Of the Kubernetes API.
struct Clients {
    /// For Leases and the map.
    own: Client,
    /// For events.
    engine: Client,
}

/// What the admin port shows and takes.
#[derive(Debug)]
struct Seen {
    fleet: edge::Handle,
    engine: engine::Handle,
    pod: String,
    region: String,
}

impl Replica {
    /// One of several, in a process of its own: events come from the gateways that the configuration
    /// names.
    ///
    /// The engine works on threads of its own, with a client of its own: whatever events cost to
    /// decide, heartbeats and answers to challenges don't wait for it.
    pub(super) async fn among(config: &Config, base: &Base, client: Client) -> Result<Self, Error> {
        let fleet = &config.fleet;
        let pod = (
            fleet.pod_name.as_deref().unwrap_or_default(),
            fleet.pod_uid.as_deref().unwrap_or_default(),
        );
        let threads = Threads::start("zen-engine", config.engine.threads)?;
        let kubeconfig = config.api.kubeconfig.as_deref();
        let (engines, _) = threads.make(kube::client::of(kubeconfig)).await?;
        let clients = Clients {
            own: client,
            engine: engines,
        };
        let files = peer_files(fleet);
        let (replica, credentials) =
            Self::start(config, base, clients, Some(threads), pod, files).await?;
        let gateways = fleet.gateways.iter().flat_map(|text| text.split(','));
        let gateways = gateways.map(|entry| entry.trim().to_owned()).collect();
        let network = Arc::new(resolve::Peers::new(credentials));
        let changes = resolve::follow(gateways, network, &replica.tasks);
        let engine = replica.engine.clone();
        replica.tasks.spawn("replica: logs", take(changes, engine));
        Ok(replica)
    }

    /// The only one, in the process of the gateway: events come from its journal.
    pub(super) async fn within(
        config: &Config,
        base: &Base,
        client: Client,
        pod: (&str, &str),
        files: peer::Files,
        ingress: &Ingress,
    ) -> Result<Self, Error> {
        let clients = Clients {
            own: client.clone(),
            engine: client,
        };
        let (replica, _) = Self::start(config, base, clients, None, pod, files).await?;
        replica.engine.attach(Arc::new(ingress.source()));
        Ok(replica)
    }

    async fn start(
        config: &Config,
        base: &Base,
        clients: Clients,
        threads: Option<Threads>,
        (pod, uid): (&str, &str),
        files: peer::Files,
    ) -> Result<(Self, Arc<Credentials>), Error> {
        let tasks = threads.as_ref().map_or_else(Tasks::new, Threads::tasks);
        let coordination = Tasks::new();
        let gate = base.readiness.gate(FLEET);
        gate.shut("waiting to become a member of the fleet");
        let ports = Ports {
            client: clients.engine,
            clock: Arc::clone(&base.clock),
        };
        let options = options::engine(&config.engine, uid);
        let engine = Engine::start(options, ports, &base.registry, &base.readiness, &tasks)?;
        let credentials = Credentials::load(files, &base.registry)
            .await
            .map_err(peer_failed)?;
        credentials.follow(&coordination);
        let (listener, bound) = listen(&config.fleet).await?;
        let peer = match &config.fleet.peer_address {
            Some(told) => told.clone(),
            None => bound.to_string(),
        };
        let ports = edge::Ports {
            client: clients.own,
            credentials: Arc::clone(&credentials),
            listener,
            work: Arc::new(Worker(engine.clone())),
            clock: Arc::clone(&base.clock),
        };
        let admin = base.admin.to_string();
        // By its own kubeconfig it runs beside the cluster: there is no Pod that could own anything.
        let owned = config.api.kubeconfig.is_none();
        let options = taking_part(&config.fleet, (pod, uid), (&peer, &admin), owned);
        let fleet =
            edge::start(options, ports, &base.registry, &coordination).map_err(peer_failed)?;
        if let Some(notices) = engine.notices() {
            coordination.spawn("replica: notices", tell(notices, fleet.clone()));
        }
        let seen = Arc::new(Seen {
            fleet,
            engine: engine.clone(),
            pod: pod.to_owned(),
            region: config.fleet.region.clone(),
        });
        let (joining, stop) = (Arc::clone(&seen), coordination.token());
        coordination.spawn("replica: joining", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = joining.join() => gate.open(),
            }
        });
        let replica = Self {
            engine,
            seen,
            peer,
            tasks,
            _threads: threads,
            coordination,
        };
        Ok((replica, credentials))
    }

    /// Under which name it acts: `pod#incarnation`.
    pub(super) fn holder(&self) -> String {
        self.seen.fleet.snapshot().holder.unwrap_or_default()
    }

    /// Where other replicas reach it.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// The admin port's view of the fleet, and what an operator may ask.
    pub(super) fn routes(&self, token: Token) -> Router {
        let seen: Arc<dyn Fleet> = Arc::<Seen>::clone(&self.seen);
        fleet::open(Arc::clone(&seen)).merge(fleet::guarded(seen, token))
    }

    /// Waits until a part is gone that the process can't be without.
    pub(super) async fn broken(&self) -> Error {
        let engine = self.engine.stopped();
        tokio::select! {
            biased;
            task = self.tasks.broken() => Error::Panicked(task),
            task = self.coordination.broken() => Error::Panicked(task),
            () = engine.cancelled() => Error::EngineStopped,
        }
    }

    /// Gives everything away as long as somebody takes it, finishes what is in flight, says goodbye,
    /// and ends: all of it within `grace`.
    pub(super) async fn stop(&self, grace: Duration) {
        let fleet = &self.seen.fleet;
        fleet.input(Input::Drain);
        let ended = fleet.ended();
        let most = grace * 3 / 4;
        if tokio::time::timeout(most, ended.cancelled()).await.is_err() {
            warn!(
                "the fleet did not take everything over in time; what is left is taken over later"
            );
        }
        self.engine.drain(grace / 8).await;
        for tasks in [&self.coordination, &self.tasks] {
            // What does not end is told by `stop` itself and cut off with the process.
            tasks.stop(grace / 16).await.ok();
        }
    }
}

/// Attaches the logs of gateways that appear, and detaches those that leave.
async fn take(mut changes: mpsc::Receiver<Change>, engine: engine::Handle) {
    while let Some(change) = changes.recv().await {
        match change {
            Change::Attached(source) => engine.attach(source),
            Change::Detached(log) => engine.detach(log),
        }
    }
}

/// Opens the port for other replicas.
async fn listen(fleet: &config::Fleet) -> Result<(TcpListener, SocketAddr), Error> {
    let address = SocketAddr::new(fleet.peer_bind, fleet.peer_port);
    let failed = |source| Error::Listen {
        what: "other replicas",
        address,
        setting: "peer-port",
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

fn taking_part(
    fleet: &config::Fleet,
    (pod, uid): (&str, &str),
    (peer, admin): (&str, &str),
    owned: bool,
) -> edge::Options {
    edge::Options {
        me: Me {
            fleet: fleet.name.as_str().into(),
            pod: PodName(pod.into()),
            pod_uid: uid.into(),
            address: peer.into(),
            region: fleet.region.as_str().into(),
            zone: fleet.zone.as_str().into(),
            weight: fleet.weight,
            build: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            buckets: BUCKETS,
        },
        admin: admin.into(),
        place: Place {
            namespace: fleet.namespace.as_str().into(),
            release: fleet.name.as_str().into(),
            owned,
        },
        timing: Timing::default(),
        assign,
        seed: rand::random(),
    }
}

/// Hands on what the engine tells.
async fn tell(mut notices: mpsc::Receiver<Vec<Notice>>, fleet: edge::Handle) {
    while let Some(told) = notices.recv().await {
        for input in told.into_iter().filter_map(input) {
            fleet.input(input);
        }
    }
}

fn input(notice: Notice) -> Option<Input> {
    Some(match notice {
        Notice::Released { bucket, epoch } => Input::Released { bucket, epoch },
        Notice::Fenced {
            bucket,
            epoch,
            holder,
        } => {
            let Ok(holder) = holder.0.parse::<Holder>() else {
                warn!(holder = %holder.0, bucket = bucket.0, "a store names an owner that is no holder; it is left alone");
                return None;
            };
            Input::Fenced {
                bucket,
                epoch,
                holder,
            }
        }
        Notice::Load(loads) => Input::Load(loads),
    })
}

impl Seen {
    /// Says that caches are filled and connections open, and waits until this replica is a member.
    async fn join(&self) {
        self.engine.listed().await;
        self.engine.connect().await;
        self.fleet.input(Input::Ready);
        while !self.is_member() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the map names this replica as it is now.
    fn is_member(&self) -> bool {
        let seen = self.fleet.snapshot();
        let me = seen.holder.as_deref();
        seen.members
            .iter()
            .any(|member| Some(&*member.holder) == me && member.state.is_some())
    }
}

impl Fleet for Seen {
    fn status(&self) -> Status {
        let seen = self.fleet.snapshot();
        let leader = seen.leader.as_deref();
        let me = seen.holder.as_deref();
        let members = seen.members.iter().map(|member| {
            let mine = Some(&*member.holder) == me;
            Member {
                pod: member.pod.clone(),
                holder: member.holder.clone(),
                state: state(member),
                zone: member.zone.clone(),
                build: member.build.clone(),
                leads: Some(&*member.holder) == leader,
                buckets: member.buckets,
                epochs: member.epochs.clone(),
                link: member.link.clone(),
                gate: mine.then(|| gate(seen.gate_open).to_owned()),
                backlog: mine.then(|| self.engine.backlog()),
            }
        });
        Status {
            fleet: seen.fleet.clone(),
            region: self.region.clone(),
            answered_by: seen.holder.clone(),
            pod: self.pod.clone(),
            leader: seen.leader.clone(),
            term: seen.leader_term,
            version: seen.version,
            buckets: BUCKETS,
            moving: seen.moves.len(),
            members: members.collect(),
        }
    }

    fn drain(&self) {
        self.fleet.input(Input::Vacate);
    }

    fn undrain(&self) {
        self.fleet.input(Input::Undrain);
    }
}

/// What the map says of a member, or else its Lease.
fn state(member: &snapshot::Member) -> String {
    match (&member.state, &member.life) {
        (Some(state), _) => state.clone(),
        (None, Some(life)) if life == "Live" => "Joining".to_owned(),
        (None, Some(life)) => life.clone(),
        (None, None) => "Unknown".to_owned(),
    }
}

const fn gate(open: bool) -> &'static str {
    if open { "open" } else { "shut" }
}

/// What coordination decides, carried out by the engine.
#[derive(Debug)]
struct Worker(engine::Handle);

impl Work for Worker {
    fn became(&self, holder: Holder) {
        self.0.became(Some(journal::Holder::from(&holder)));
    }

    fn own(&self, buckets: &[(Bucket, Epoch)]) {
        self.0.own(buckets);
    }

    fn release(&self, buckets: &[(Bucket, Epoch)]) {
        self.0.release(buckets);
    }

    fn drop_buckets(&self, buckets: &[Bucket]) {
        self.0.drop_buckets(buckets);
    }

    fn gate(&self, open: bool) {
        self.0.gate(open);
    }

    fn standby(&self, buckets: Vec<Bucket>) {
        self.0.standby(buckets);
    }

    fn survey(&self) -> BoxFuture<'_, Vec<Epoch>> {
        self.0.survey().boxed()
    }
}
