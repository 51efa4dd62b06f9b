//! Removes Observations whose time is over.
//!
//! Never one whose record isn't committed yet: its redelivery would make it anew. And one of a
//! window only after the window's end, when no uncommitted record of its Ingestor was accepted before
//! it: a late item would begin the window anew.

pub mod due;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    engine::{limiter::Limiter, metrics::Metrics, writer::Writer},
    journal::{FetchLimit, IngestorUid, Position, RecordId, Subscription},
    kube::{
        failure::{Cause, Failure, Verb},
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
        match swept {
            Ok(swept) => swept.tell(),
            Err(failure) => {
                warn!(%failure, "the sweep of expired observations ends early; the next one begins anew");
            }
        }
    }
}

/// What one sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Objects that were removed.
    pub removed: u64,
    /// Objects that stay although their time is over: their deletes failed.
    pub failed: u64,
    /// The first of these failures.
    pub first: Option<Failure>,
}

impl Swept {
    fn tell(&self) {
        if let Some(failure) = &self.first {
            warn!(
                %failure, failed = self.failed, removed = self.removed,
                "observations whose time is over could not be removed; the next sweep tries again"
            );
        }
    }
}

/// What one delete came to.
enum Removal {
    Removed,
    /// It is gone already, or another of its name is there.
    Gone,
    Failed(Failure),
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

    /// Looks at all Observations once. One that can't be removed keeps no other from it.
    ///
    /// # Errors
    /// A page can't be listed, or the server takes no deletes at all for now; what was removed stays
    /// removed.
    pub async fn sweep(&self) -> Result<Swept, Failure> {
        let mut swept = Swept::default();
        let mut next: Option<String> = None;
        loop {
            let read = self.writer.observations().page(PAGE, next.as_deref());
            let page = self.writer.call(Verb::List, read).await?;
            next = page.next().map(str::to_owned);
            for object in page.items {
                if !self.is_due(&object).await {
                    continue;
                }
                match self.remove(&object).await {
                    Removal::Removed => {
                        self.metrics.expired.inc();
                        swept.removed += 1;
                    }
                    Removal::Gone => {}
                    Removal::Failed(failure) if concerns_all(&failure) => return Err(failure),
                    Removal::Failed(failure) => {
                        swept.failed += 1;
                        swept.first.get_or_insert(failure);
                    }
                }
            }
            if next.is_none() {
                return Ok(swept);
            }
        }
    }

    async fn is_due(&self, object: &Aging) -> bool {
        match due(object, self.clock.now()) {
            Due::No => false,
            Due::Yes => true,
            Due::Unless {
                ingestor,
                record,
                before,
            } => {
                let uid = IngestorUid(ingestor.into());
                // What the journal doesn't tell now is asked again by the next sweep.
                let Ok(oldest) = self.subscription.oldest(&uid).await else {
                    return false;
                };
                let window_open = oldest.zip(before).is_some_and(|(oldest, end)| oldest < end);
                !window_open && (oldest.is_none() || self.is_committed(&uid, record).await)
            }
        }
    }

    /// Whether the journal has the record's end.
    async fn is_committed(&self, uid: &IngestorUid, record: RecordId) -> bool {
        let after = record.position.0.checked_sub(1).map(Position);
        let limit = FetchLimit {
            records: std::num::NonZeroU32::MIN,
            bytes: 1,
        };
        let found = self.subscription.fetch(uid, after, limit).await;
        found.is_ok_and(|found| found.first().is_none_or(|first| first.id != record))
    }

    async fn remove(&self, object: &Aging) -> Removal {
        let meta = &object.metadata;
        let (Some(namespace), Some(name), Some(uid)) = (&meta.namespace, &meta.name, &meta.uid)
        else {
            return Removal::Gone;
        };
        let permit = Arc::clone(&self.limiter).acquire().await;
        let delete = self.writer.observations().delete(namespace, name, uid);
        let outcome = self.writer.call(Verb::Delete, delete).await;
        drop(permit);
        match outcome {
            Ok(()) => Removal::Removed,
            Err(failure) if matches!(failure.cause.code(), Some(404 | 409)) => Removal::Gone,
            Err(failure) => Removal::Failed(failure),
        }
    }
}

/// Whether the next delete would fail as well: the server doesn't know us, asks for less, or isn't
/// there. All else may be one object's: a webhook, a policy, a namespace.
fn concerns_all(failure: &Failure) -> bool {
    match &failure.cause {
        Cause::Unreachable(_) => true,
        Cause::Refused { code, .. } => matches!(code, 401 | 429),
        Cause::TimedOut(_) | Cause::Garbled(_) => false,
    }
}
