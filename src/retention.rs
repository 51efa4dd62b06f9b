//! Removes Observations whose time is over.
//!
//! Never one whose record isn't committed yet: its redelivery would make it anew. And one of a
//! window only when no uncommitted record of its Ingestor was accepted before the window's end: a
//! late item would begin the window anew.

pub mod due;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    engine::{limiter::Limiter, metrics::Metrics, writer::Writer},
    journal::{FetchLimit, IngestorUid, Position, Subscription},
    kube::{
        failure::{Failure, Verb},
        observations::Aging,
    },
    ops::time::Clock,
};

use self::due::{Due, due};

/// Objects of one page; a page of small Observations is about 1 MiB.
const PAGE: u32 = 500;

/// Looks for Observations whose time is over.
#[derive(Debug)]
pub struct Sweeper {
    writer: Writer,
    subscription: Arc<dyn Subscription>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    limiter: Arc<Limiter>,
}

/// Sweeps until it is stopped.
pub async fn run(sweeper: Sweeper, every: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let swept = tokio::select! {
            () = stop.cancelled() => return,
            swept = sweeper.sweep() => swept,
        };
        if let Err(failure) = swept {
            warn!(%failure, "the sweep of expired observations ends early; the next one goes on");
        }
    }
}

impl Sweeper {
    /// Deletes go through `writer`'s budget and the `limiter`.
    #[must_use]
    pub const fn new(
        writer: Writer,
        subscription: Arc<dyn Subscription>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        limiter: Arc<Limiter>,
    ) -> Self {
        Self {
            writer,
            subscription,
            clock,
            metrics,
            limiter,
        }
    }

    /// Looks at all Observations once; gives how many were removed.
    ///
    /// # Errors
    /// A page can't be listed, or a delete fails; what was removed stays removed.
    pub async fn sweep(&self) -> Result<u64, Failure> {
        let mut removed = 0;
        let mut next: Option<String> = None;
        loop {
            let read = self.writer.observations().page(PAGE, next.as_deref());
            let page = self.writer.call(Verb::List, read).await?;
            next = page.next().map(str::to_owned);
            for object in page.items {
                if self.is_due(&object).await && self.remove(&object).await? {
                    self.metrics.expired.inc();
                    removed += 1;
                }
            }
            if next.is_none() {
                return Ok(removed);
            }
        }
    }

    async fn is_due(&self, object: &Aging) -> bool {
        match due(object, self.clock.now()) {
            Due::No => false,
            Due::Yes => true,
            Due::Unless {
                ingestor,
                log: _,
                position,
                before,
            } => {
                let uid = IngestorUid(ingestor.into());
                let oldest = self.subscription.oldest(&uid);
                let window_open = oldest.zip(before).is_some_and(|(oldest, end)| oldest < end);
                !window_open && (oldest.is_none() || self.is_committed(&uid, position).await)
            }
        }
    }

    /// Whether the journal has the record's end. A log that isn't ours has its own core to ask.
    async fn is_committed(&self, uid: &IngestorUid, position: Position) -> bool {
        let after = position.0.checked_sub(1).map(Position);
        let limit = FetchLimit {
            records: std::num::NonZeroU32::MIN,
            bytes: 1,
        };
        let found = self.subscription.fetch(uid, after, limit).await;
        found.is_ok_and(|found| {
            found
                .first()
                .is_none_or(|record| record.id.position != position)
        })
    }

    async fn remove(&self, object: &Aging) -> Result<bool, Failure> {
        let meta = &object.metadata;
        let (Some(namespace), Some(name), Some(uid)) = (&meta.namespace, &meta.name, &meta.uid)
        else {
            return Ok(false);
        };
        let permit = Arc::clone(&self.limiter).acquire().await;
        let delete = self.writer.observations().delete(namespace, name, uid);
        let outcome = self.writer.call(Verb::Delete, delete).await;
        drop(permit);
        match outcome {
            Ok(()) => Ok(true),
            // Gone already, or another of the same name.
            Err(failure) if matches!(failure.cause.code(), Some(404 | 409)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
