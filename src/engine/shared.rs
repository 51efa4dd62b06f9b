//! What all queues of an engine share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    journal::{IngestorUid, Journal, Subscription, SubscriptionError},
    ops::time::Clock,
};

use super::{
    account::Accounts,
    ingestors::{Ingestors, Namespaces},
    limiter::Limiter,
    metrics::Metrics,
    specs::Specs,
    writer::Writer,
};

/// Bodies, and what was decided of them, in memory at once, over all Ingestors, in KiB: 64 MiB. A queue that finds no
/// room waits, and the events stay in the journal.
const BUDGET_KIB: usize = 64 * 1_024;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) subscription: Arc<dyn Subscription>,
    pub(super) writer: Writer,
    pub(super) limiter: Arc<Limiter>,
    pub(super) specs: Specs,
    pub(super) ingestors: Ingestors,
    pub(super) namespaces: Namespaces,
    pub(super) accounts: Accounts,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) budget: Arc<Semaphore>,
    pub(super) slots: Slots,
    /// No new records; what is in memory is finished.
    pub(super) draining: CancellationToken,
    /// At once.
    pub(super) stop: CancellationToken,
    random: Mutex<StdRng>,
}

/// What a [`Shared`] is made of.
pub(super) struct Parts {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) subscription: Arc<dyn Subscription>,
    pub(super) writer: Writer,
    pub(super) limiter: Arc<Limiter>,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seed: u64,
    pub(super) stop: CancellationToken,
}

/// The queues that run: one per Ingestor with work.
#[derive(Debug, Default)]
pub(super) struct Slots {
    running: Mutex<HashMap<IngestorUid, Slot>>,
}

#[derive(Debug)]
struct Slot {
    /// Records came since the queue last began to fetch.
    more: bool,
    notify: Arc<Notify>,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            journal: parts.journal,
            subscription: parts.subscription,
            writer: parts.writer,
            limiter: parts.limiter,
            specs: Specs::default(),
            ingestors: Ingestors::default(),
            namespaces: Namespaces::default(),
            accounts: Accounts::default(),
            metrics: parts.metrics,
            clock: parts.clock,
            budget: Arc::new(Semaphore::new(BUDGET_KIB)),
            slots: Slots::default(),
            draining: CancellationToken::new(),
            stop: parts.stop,
            random: Mutex::new(StdRng::seed_from_u64(parts.seed)),
        }
    }

    /// Uniform in 0..1.
    pub(super) fn jitter(&self) -> f64 {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.random()
    }

    /// What an error of the subscription means: wait that long and try again, or (`None`) it is
    /// over, for all queues.
    pub(super) fn trouble(&self, error: &SubscriptionError) -> Option<Duration> {
        match error {
            SubscriptionError::Disk(_) => {
                self.metrics.commit_failures.inc();
                Some(Duration::from_secs(1))
            }
            SubscriptionError::Unreachable(_) => Some(Duration::from_millis(200)),
            SubscriptionError::Closing => {
                self.stop.cancel();
                None
            }
            SubscriptionError::Fenced(fenced) => {
                if !self.stop.is_cancelled() {
                    error!(%fenced, "another core owns the events now; this engine stops");
                }
                self.stop.cancel();
                None
            }
        }
    }
}

/// Sleeps until an instant of the engine's clock; for ever when there is none.
pub(super) async fn sleep_until(clock: &dyn Clock, until: Option<Instant>) {
    match until {
        Some(until) => {
            let left = until.saturating_duration_since(clock.instant());
            tokio::time::sleep(left).await;
        }
        None => std::future::pending().await,
    }
}

impl Slots {
    /// Notes that an Ingestor has records. `Some`: no queue runs for it; one is to be started.
    pub(super) fn wake(&self, uid: &IngestorUid) -> Option<Arc<Notify>> {
        let mut running = self.lock();
        if let Some(slot) = running.get_mut(uid) {
            slot.more = true;
            slot.notify.notify_one();
            return None;
        }
        let notify = Arc::new(Notify::new());
        let slot = Slot {
            more: false,
            notify: Arc::clone(&notify),
        };
        running.insert(uid.clone(), slot);
        Some(notify)
    }

    /// The queue begins to fetch: what came before is found by that.
    pub(super) fn fetching(&self, uid: &IngestorUid) {
        if let Some(slot) = self.lock().get_mut(uid) {
            slot.more = false;
        }
    }

    /// Whether records came since the queue last began to fetch.
    pub(super) fn more(&self, uid: &IngestorUid) -> bool {
        self.lock().get(uid).is_some_and(|slot| slot.more)
    }

    /// The queue has nothing left and wants to end; false: records came meanwhile.
    pub(super) fn leave(&self, uid: &IngestorUid) -> bool {
        let mut running = self.lock();
        if running.get(uid).is_some_and(|slot| slot.more) {
            return false;
        }
        running.remove(uid);
        true
    }

    /// The queue of `notify` is gone, however it ended; another's slot stays.
    pub(super) fn release(&self, uid: &IngestorUid, notify: &Arc<Notify>) {
        let mut running = self.lock();
        let own = |slot: &Slot| Arc::ptr_eq(&slot.notify, notify);
        if running.get(uid).is_some_and(own) {
            running.remove(uid);
        }
    }

    /// How many queues run.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether a queue runs for the Ingestor.
    pub(super) fn runs(&self, uid: &IngestorUid) -> bool {
        self.lock().contains_key(uid)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IngestorUid, Slot>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
