//! What all queues of an engine share.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Instant,
};

use futures::future::BoxFuture;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{journal::BUCKETS, ops::time::Clock};

use super::{
    account::Accounts,
    ingestors::{Ingestors, Namespaces},
    limiter::Limiter,
    metrics::Metrics,
    owned::Owned,
    slots::Slots,
    specs::Specs,
    standby::Standby,
    stint::Logs,
    writer::Writer,
};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) logs: Logs,
    pub(super) owned: Mutex<Owned>,
    /// Something is to be told.
    pub(super) notices: Notify,
    /// A bucket is to be released.
    pub(super) releasing: Notify,
    /// Whether effects may be started.
    pub(super) gate: watch::Sender<bool>,
    pub(super) standby: Standby,
    /// Events that came to their end, by bucket.
    pub(super) ended: Vec<AtomicU64>,
    pub(super) writer: Writer,
    pub(super) limiter: Arc<Limiter>,
    pub(super) specs: Specs,
    pub(super) ingestors: Ingestors,
    pub(super) namespaces: Namespaces,
    pub(super) accounts: Accounts,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) slots: Slots,
    /// No new records; what is in memory is finished.
    pub(super) draining: CancellationToken,
    /// At once.
    pub(super) stop: CancellationToken,
    random: Mutex<StdRng>,
}

/// What a [`Shared`] is made of.
pub(super) struct Parts {
    pub(super) writer: Writer,
    pub(super) limiter: Arc<Limiter>,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seed: u64,
    pub(super) stop: CancellationToken,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            logs: Logs::default(),
            owned: Mutex::default(),
            notices: Notify::new(),
            releasing: Notify::new(),
            gate: watch::Sender::new(false),
            standby: Standby::default(),
            ended: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            writer: parts.writer,
            limiter: parts.limiter,
            specs: Specs::default(),
            ingestors: Ingestors::default(),
            namespaces: Namespaces::default(),
            accounts: Accounts::default(),
            metrics: parts.metrics,
            clock: parts.clock,
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

    /// Whether effects may be started.
    pub(super) fn may_start(&self) -> bool {
        *self.gate.borrow()
    }
}

/// The value of a future that may be under way; without one, for ever.
pub(super) async fn optional<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(running) => {
            let value = running.await;
            *future = None;
            value
        }
        None => std::future::pending().await,
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
