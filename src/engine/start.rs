//! Starts the engine, says what it works on, and stops it.
//!
//! ```text
//!  attach, own, release, … ──▶ owned ──▶ each log (attached) ──▶ one queue per log and Ingestor ──▶ writer
//!  watch ──▶ today's Ingestors ──▶ pace, status                     report ──▶ status writes
//! ```
//!
//! An engine that was just started owns nothing and starts no effect: who it is, which logs there
//! are, which buckets are its own and whether the gate is open is said through its [`Handle`]. All of
//! that takes effect at once and waits for nothing; what comes of it is told as [`Notice`]s.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::Client;
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use super::owned::Notice;

use crate::{
    config,
    journal::{Bucket, Epoch, Holder, LogId, Source},
    kube::observations::Observations,
    ops::{
        ready::{Gate, Readiness},
        tasks::Tasks,
        time::Clock,
    },
    retention,
};

use super::{
    attached, hand,
    limiter::Limiter,
    load,
    metrics::Metrics,
    report,
    shared::{Parts, Shared},
    standby,
    stint::Log,
    watch,
    writer::Writer,
};

/// The gates that are shut until the first list of Ingestors is complete, and until events can be
/// worked on.
pub const GATES: [&str; 2] = ["ingestors", "events"];

/// Notices that are decided and not yet received: one, since what is behind it may still be taken
/// back. The others wait in the outbox, at most a few for each bucket.
const NOTICES: usize = 1;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// UID of the pod: stands in statuses beside the holder.
    pub pod_uid: String,
    /// Seed of the jitter; any will do.
    pub seed: u64,
    /// Status writes a second.
    pub status_writes_per_second: u32,
    /// How often Observations whose time is over are looked for.
    pub sweep_every: Duration,
}

impl Options {
    /// What a configuration asks for, in the pod of this UID.
    #[must_use]
    pub const fn from_config(engine: &config::Engine, pod_uid: String, seed: u64) -> Self {
        Self {
            pod_uid,
            seed,
            status_writes_per_second: engine.status_writes_per_second,
            sweep_every: engine.sweep_interval,
        }
    }

    /// The defaults for the pod of this UID.
    #[must_use]
    pub fn new(pod_uid: String, seed: u64) -> Self {
        Self::from_config(&config::Engine::default(), pod_uid, seed)
    }
}

/// What the engine works with.
#[derive(Clone)]
pub struct Ports {
    /// The Kubernetes API; a client without a retry of its own.
    pub client: Client,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// Why the engine can't start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The metrics are registered already.
    #[error("register the engine's metrics")]
    Metrics(#[from] prometheus::Error),
}

/// From the journals to Observations.
#[derive(Clone, Copy, Debug)]
pub struct Engine;

/// A running engine.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    tasks: Tasks,
    notices: Arc<Mutex<Option<mpsc::Receiver<Vec<Notice>>>>>,
}

impl Engine {
    /// Starts an engine that owns nothing.
    ///
    /// The gate `ingestors` opens when the first list of Ingestors is complete; before that no event
    /// is worked on, since its pace isn't known.
    ///
    /// # Errors
    /// The metrics can't be registered.
    pub fn start(
        options: Options,
        ports: Ports,
        registry: &Registry,
        readiness: &Readiness,
        tasks: &Tasks,
    ) -> Result<Handle, Error> {
        let metrics = Metrics::register(registry)?;
        let limiter = Limiter::new(Arc::clone(&ports.clock));
        let writer = Writer::new(
            Observations::new(ports.client.clone()),
            Arc::clone(&limiter),
            metrics.clone(),
            Arc::clone(&ports.clock),
        );
        let shared = Arc::new(Shared::new(Parts {
            writer,
            limiter,
            metrics,
            clock: Arc::clone(&ports.clock),
            seed: options.seed,
            stop: tasks.token().child_token(),
        }));
        let (to, notices) = mpsc::channel(NOTICES);
        spawn(options, ports.client, &shared, readiness, tasks);
        tasks.spawn("engine: notices", hand::tell(Arc::clone(&shared), to));
        Ok(Handle {
            shared,
            tasks: tasks.clone(),
            notices: Arc::new(Mutex::new(Some(notices))),
        })
    }
}

fn spawn(
    options: Options,
    client: Client,
    shared: &Arc<Shared>,
    readiness: &Readiness,
    tasks: &Tasks,
) {
    let [list, events] = GATES.map(|name| readiness.gate(name));
    let watching = watch::ingestors(Arc::clone(shared), client.clone(), list);
    tasks.spawn("engine: ingestors", watching);
    let watching = watch::namespaces(Arc::clone(shared), client.clone());
    tasks.spawn("engine: namespaces", watching);
    tasks.spawn("engine: events", serve(Arc::clone(shared), events));
    tasks.spawn("engine: load", load::run(Arc::clone(shared)));
    tasks.spawn("engine: releases", releases(Arc::clone(shared)));
    tasks.spawn("engine: standby", standby::run(Arc::clone(shared)));
    let writes = options.status_writes_per_second;
    let reporting = report::run(Arc::clone(shared), client, options.pod_uid, writes);
    tasks.spawn("engine: status", reporting);
    let sweeping = retention::run(
        retention::Sweeper::new(
            shared.writer.clone(),
            Arc::clone(shared) as _,
            Arc::clone(&shared.clock),
            shared.metrics.clone(),
            Arc::clone(&shared.limiter),
        ),
        options.sweep_every,
        shared.stop.clone(),
    );
    tasks.spawn("engine: retention", sweeping);
}

/// Says whether events can be worked on.
async fn serve(shared: Arc<Shared>, gate: Gate) {
    if !shared.listed().await {
        return;
    }
    gate.open();
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = shared.draining.cancelled() => {}
    }
    gate.shut("no events are taken any more");
}

/// Connections of a replica that is new: what it takes over writes a few events at once. More are
/// opened when they are used, and cost the server more than they are worth before.
const CONNECTIONS: usize = 4;

/// Handshakes take milliseconds; a server that is slow with them is no reason to stay away.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// How often it is looked whether a release waits in vain: a tenth of how long it waits.
const HURRY_EVERY: Duration = Duration::from_millis(100);

async fn releases(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.releasing.notified() => {}
        }
        while !shared.stop.is_cancelled() && shared.hurry_releases() {
            tokio::time::sleep(HURRY_EVERY).await;
        }
    }
}

impl Handle {
    /// Another life: every bucket is dropped at once, and subscriptions are opened under the new
    /// name. Without one nothing is subscribed to and nothing is owned.
    pub fn became(&self, holder: Option<Holder>) {
        self.shared.became(holder);
    }

    /// A log appears; what is owned is claimed there too. One of the same id takes its place.
    pub fn attach(&self, source: Arc<dyn Source>) {
        let log = Arc::new(Log::new(source, &self.shared.stop));
        self.detach(log.id);
        self.shared.logs.put(Arc::clone(&log));
        let following = attached::run(Arc::clone(&self.shared), log, self.tasks.clone());
        self.tasks.spawn("engine: log", following);
    }

    /// A log is gone, and what is under way in it is abandoned: its gateway has left.
    pub fn detach(&self, log: LogId) {
        if let Some(log) = self.shared.logs.take(log) {
            self.shared.detach(&log);
        }
    }

    /// Works on each bucket under its epoch. Where one is worked on already, its epoch rises log by log
    /// without a pause; one that isn't above is ignored. All of them become one claim for each log.
    pub fn own(&self, buckets: &[(Bucket, Epoch)]) {
        self.shared.own(buckets);
    }

    /// Starts nothing new on the buckets, finishes and commits what is in memory, and tells
    /// [`Notice::Released`] of each then, once, unless it is dropped first. A log that can't be reached
    /// is waited for a second, one that doesn't answer for two; what isn't committed then stays in its
    /// journal.
    pub fn release(&self, buckets: &[(Bucket, Epoch)]) {
        self.shared.release(buckets);
    }

    /// Abandons buckets now: nothing more of them is started, and what is under way isn't waited for.
    pub fn drop_buckets(&self, buckets: &[Bucket]) {
        self.shared.drop_buckets(buckets);
    }

    /// Whether effects may be started: writes to the API, claims, commits. Those under way end;
    /// caches, watches and reading go on. An engine starts with its gate shut.
    pub fn gate(&self, open: bool) {
        self.shared.open_gate(open);
    }

    /// Keeps caches warm for these buckets; see `engine::standby`.
    pub fn standby(&self, buckets: Vec<Bucket>) {
        self.shared.standby.set(buckets);
    }

    /// What is told from now on. There is one receiver; `None`: it was taken before.
    #[must_use]
    pub fn notices(&self) -> Option<mpsc::Receiver<Vec<Notice>>> {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.take()
    }

    /// Opens some connections to the API server: the first writes after a takeover would else begin
    /// with a handshake. Gives up after a while.
    pub async fn connect(&self) {
        let observations = self.shared.writer.observations().clone();
        let (connected, done) = oneshot::channel();
        // There where they are to be used.
        self.tasks.spawn("engine: connections", async move {
            let connecting = observations.connect(CONNECTIONS);
            drop(tokio::time::timeout(CONNECTED_WITHIN, connecting).await);
            // Whoever waited may have gone.
            connected.send(()).ok();
        });
        // Not sent: the process ends.
        drop(done.await);
    }

    /// Waits until the first list of Ingestors is complete, or the engine has stopped.
    pub async fn listed(&self) {
        self.shared.listed().await;
    }

    /// Events that wait in the buckets that are owned, in all logs, as far as they have told.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.shared.backlog()
    }

    /// The highest epoch that each log remembers, and that statuses do: what heals a lost `ShardMap`.
    /// Logs that can't be reached are left out; waits for the first list of Ingestors.
    pub async fn survey(&self) -> Vec<Epoch> {
        self.shared.survey().await
    }

    /// For tests, a core without peers: takes a name of its own, `pod#n`, and owns every bucket at
    /// epoch `n`, which is above all that is remembered.
    #[cfg(feature = "testing")]
    pub async fn alone(&self, pod: &str) {
        let highest = self.survey().await.into_iter().max().unwrap_or_default();
        let epoch = Epoch(highest.0.saturating_add(1));
        self.became(Some(Holder(format!("{pod}#{}", epoch.0).into())));
        self.gate(true);
        let all = (0..crate::journal::BUCKETS).map(Bucket);
        self.own(&all.map(|bucket| (bucket, epoch)).collect::<Vec<_>>());
    }

    /// Takes no new records, finishes and commits what is in memory, and stops: within `deadline`,
    /// else what is left stays in the journal. True if everything was finished.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.shared.draining.cancel();
        let finished = tokio::time::timeout(deadline, self.idle()).await.is_ok();
        if finished {
            info!("engine drained");
        } else {
            let queues = self.shared.slots.len();
            warn!(
                queues,
                "engine stopped before all was finished; the journal has it"
            );
        }
        self.shared.stop.cancel();
        finished
    }

    /// Cancelled when the engine has stopped: drained, or the journal of this process has closed.
    #[must_use]
    pub fn stopped(&self) -> CancellationToken {
        self.shared.stop.clone()
    }

    async fn idle(&self) {
        // A queue's last act is to leave its slot; there is no event for the last of many.
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while self.shared.slots.len() > 0 && !self.shared.stop.is_cancelled() {
            tick.tick().await;
        }
    }
}
