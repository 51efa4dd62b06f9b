//! Starts the engine and stops it.
//!
//! ```text
//!  subscription.ready ──▶ dispatch ──▶ one queue per Ingestor with work (worker) ──▶ writer
//!  watch ──▶ today's Ingestors ──▶ pace, status                report ──▶ status writes
//! ```

use std::{sync::Arc, time::Duration};

use kube::Client;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config,
    journal::{BUCKETS, Bucket, Claim, Holder, Journal, SubscriptionError, facts::FactSource},
    kube::observations::Observations,
    ops::{
        ready::{Gate, Readiness},
        tasks::Tasks,
        time::Clock,
    },
    retention,
};

use super::{
    limiter::Limiter,
    metrics::Metrics,
    report,
    shared::{Parts, Shared},
    watch,
    worker::contain,
    writer::Writer,
};

/// The gates that are shut until the first list of Ingestors is complete, and until events are
/// worked on.
pub const GATES: [&str; 2] = ["ingestors", "events"];

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who subscribes: `pod#incarnation`.
    pub holder: Holder,
    /// Seed of the jitter; any will do.
    pub seed: u64,
    /// Status writes a second.
    pub status_writes_per_second: u32,
    /// How often Observations whose time is over are looked for.
    pub sweep_every: Duration,
}

impl Options {
    /// What a configuration asks for, under the name `holder`.
    #[must_use]
    pub const fn from_config(engine: &config::Engine, holder: Holder, seed: u64) -> Self {
        Self {
            holder,
            seed,
            status_writes_per_second: engine.status_writes_per_second,
            sweep_every: engine.sweep_interval,
        }
    }

    /// The defaults for `holder`.
    #[must_use]
    pub fn new(holder: Holder, seed: u64) -> Self {
        Self::from_config(&config::Engine::default(), holder, seed)
    }
}

/// What the engine works with.
#[derive(Clone)]
pub struct Ports {
    /// The Kubernetes API; a client without a retry of its own.
    pub client: Client,
    /// Where events come from.
    pub journal: Arc<dyn Journal>,
    /// What the gateway knows of each Ingestor.
    pub facts: Arc<dyn FactSource>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports")
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

/// Why the engine can't start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal refuses.
    #[error("subscribe to the journal's events")]
    Subscribe(#[from] SubscriptionError),
    /// The metrics are registered already.
    #[error("register the engine's metrics")]
    Metrics(#[from] prometheus::Error),
}

/// From the journal to Observations.
#[derive(Clone, Copy, Debug)]
pub struct Engine;

/// A running engine.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Engine {
    /// Takes over all buckets and works on what is in them.
    ///
    /// The gate `ingestors` opens when the first list of Ingestors is complete; before that no event
    /// is worked on, since its pace isn't known.
    ///
    /// # Errors
    /// The journal refuses the subscription, or the metrics can't be registered.
    pub async fn start(
        options: Options,
        ports: Ports,
        registry: &Registry,
        readiness: &Readiness,
        tasks: &Tasks,
    ) -> Result<Handle, Error> {
        let metrics = Metrics::register(registry)?;
        let subscription = ports.journal.subscribe(options.holder.clone())?;
        let claims = (0..BUCKETS).map(|bucket| Claim {
            bucket: Bucket(bucket),
            epoch: None,
        });
        if let Some(fenced) = subscription.claim(claims.collect()).await?.pop() {
            return Err(SubscriptionError::Fenced(fenced).into());
        }
        let limiter = Limiter::new(Arc::clone(&ports.clock));
        let writer = Writer::new(
            Observations::new(ports.client.clone()),
            Arc::clone(&limiter),
            metrics.clone(),
            Arc::clone(&ports.clock),
        );
        let shared = Arc::new(Shared::new(Parts {
            journal: Arc::clone(&ports.journal),
            subscription,
            writer,
            limiter,
            metrics,
            clock: Arc::clone(&ports.clock),
            seed: options.seed,
            stop: tasks.token().child_token(),
        }));
        spawn(&options, &ports, &shared, readiness, tasks);
        Ok(Handle { shared })
    }
}

fn spawn(
    options: &Options,
    ports: &Ports,
    shared: &Arc<Shared>,
    readiness: &Readiness,
    tasks: &Tasks,
) {
    let client = &ports.client;
    let [list, events] = GATES.map(|name| readiness.gate(name));
    let watching = watch::ingestors(Arc::clone(shared), client.clone(), list);
    tasks.spawn("engine: ingestors", watching);
    let watching = watch::namespaces(Arc::clone(shared), client.clone());
    tasks.spawn("engine: namespaces", watching);
    let dispatching = dispatch(Arc::clone(shared), tasks.clone(), events);
    tasks.spawn("engine: dispatch", dispatching);
    let reporting = report::run(
        Arc::clone(shared),
        client.clone(),
        Arc::clone(&ports.facts),
        options.status_writes_per_second,
    );
    tasks.spawn("engine: status", reporting);
    let sweeping = retention::run(
        retention::Sweeper::new(
            shared.writer.clone(),
            Arc::clone(&shared.subscription),
            Arc::clone(&shared.clock),
            shared.metrics.clone(),
            Arc::clone(&shared.limiter),
        ),
        options.sweep_every,
        shared.stop.clone(),
    );
    tasks.spawn("engine: retention", sweeping);
}

/// Starts a queue for each Ingestor that has records and none.
async fn dispatch(shared: Arc<Shared>, tasks: Tasks, gate: Gate) {
    let mut changes = shared.ingestors.changes();
    while !shared.ingestors.is_complete() {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = changes.changed() => {}
        }
    }
    gate.open();
    loop {
        let ready = tokio::select! {
            () = shared.stop.cancelled() => break,
            () = shared.draining.cancelled() => break,
            ready = shared.subscription.ready() => ready,
        };
        match ready {
            Ok(ready) => {
                for uid in ready {
                    if let Some(more) = shared.slots.wake(&uid) {
                        let working = contain::run(Arc::clone(&shared), uid, more);
                        tasks.spawn_contained("engine: queue", working);
                    }
                }
            }
            Err(error) => match shared.trouble(&error) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => break,
            },
        }
    }
    gate.shut("no events are taken any more");
}

impl Handle {
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

    /// Cancelled when the engine has stopped: drained, or another core took the events over.
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
