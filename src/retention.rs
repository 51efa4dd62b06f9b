//! Removes Observations whose time is over.
//!
//! Each replica looks at all of them and removes those of the buckets that it owns; of one that no
//! Ingestor stands behind, its own UID says which bucket. Never one whose record isn't committed yet: its redelivery would make it anew. And one of a
//! window only after the window's end, when no uncommitted record of its Ingestor was accepted before
//! it: a late item would begin the window anew.
//!
//! Lists are dear where there are many Observations, and every replica makes them: after a long sweep
//! the pause is long, too.

pub mod due;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    api::annotations::INGESTOR_UID,
    engine::{limiter::Limiter, metrics::Metrics, writer::Writer},
    journal::{IngestorUid, Millis, RecordId},
    kube::{
        failure::{Cause, Failure, Verb},
        observations::Aging,
    },
    ops::time::Clock,
};

use self::due::{Due, due};

/// Objects of one page; a page of small Observations is about 1 MiB.
const PAGE: u32 = 500;

/// What retention asks of those who work on events. What can't be answered now is asked again by the
/// next sweep.
pub trait Backlog: Send + Sync + std::fmt::Debug {
    /// Whether effects on the Ingestor may be started here and now.
    fn is_ours(&self, ingestor: &IngestorUid) -> bool;

    /// When the oldest event without an end was accepted, over all logs; the outer `None`: one of
    /// them can't tell.
    #[expect(clippy::option_option, reason = "unknown; no event waits; the oldest")]
    fn oldest(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Option<Option<Millis>>>;

    /// Whether the record has its end. One of a log that is gone for good has.
    fn is_committed(&self, ingestor: &IngestorUid, record: RecordId) -> BoxFuture<'_, bool>;
}

/// Looks for Observations whose time is over.
#[derive(Debug)]
pub struct Sweeper {
    writer: Writer,
    backlog: Arc<dyn Backlog>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    limiter: Arc<Limiter>,
}

/// After a sweep comes a pause of at least so many times what it took.
const PAUSE: u32 = 19;

/// But of no more than so many times the usual one.
const LONGEST: u32 = 10;

/// How long to wait before the next sweep, after one that took so long.
fn pause(every: Duration, took: Duration) -> Duration {
    let most = every.saturating_mul(LONGEST);
    took.saturating_mul(PAUSE).clamp(every, most)
}

/// Sweeps until it is stopped: after `every`, or less often where a sweep takes long.
pub async fn run(sweeper: Sweeper, every: Duration, stop: CancellationToken) {
    let mut wait = every;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let begun = sweeper.clock.instant();
        let swept = tokio::select! {
            () = stop.cancelled() => return,
            swept = sweeper.sweep() => swept,
        };
        let took = sweeper.clock.instant().saturating_duration_since(begun);
        wait = pause(every, took);
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
        backlog: Arc<dyn Backlog>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        limiter: Arc<Limiter>,
    ) -> Self {
        Self {
            writer,
            backlog,
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
        let now = self.clock.now();
        match due(object, now) {
            Due::No => false,
            Due::Yes => self.backlog.is_ours(&whose(object)),
            Due::Unless {
                ingestor,
                record,
                before,
            } => {
                let uid = IngestorUid(ingestor.into());
                if !self.backlog.is_ours(&uid) {
                    return false;
                }
                let Some(oldest) = self.backlog.oldest(&uid).await else {
                    return false;
                };
                let window_open = oldest.zip(before).is_some_and(|(oldest, end)| oldest < end);
                !window_open && (oldest.is_none() || self.backlog.is_committed(&uid, record).await)
            }
        }
    }

    async fn remove(&self, object: &Aging) -> Removal {
        let meta = &object.metadata;
        let (Some(namespace), Some(name), Some(uid)) = (&meta.namespace, &meta.name, &meta.uid)
        else {
            return Removal::Gone;
        };
        let permit = Arc::clone(&self.limiter).acquire().await;
        // Time has passed.
        if !self.backlog.is_ours(&whose(object)) {
            return Removal::Gone;
        }
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

/// The Ingestor whose bucket the object belongs to; one without counts by its own UID.
fn whose(object: &Aging) -> IngestorUid {
    let annotations = object.metadata.annotations.as_ref();
    let ingestor = annotations.and_then(|all| all.get(INGESTOR_UID));
    let uid = ingestor.or(object.metadata.uid.as_ref());
    IngestorUid(uid.map(String::as_str).unwrap_or_default().into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_long_sweep_comes_a_long_pause() {
        let secs = Duration::from_secs;
        let every = secs(60);
        assert_eq!(pause(every, Duration::ZERO), every);
        assert_eq!(pause(every, secs(3)), every, "5 % of the time");
        assert_eq!(pause(every, secs(10)), secs(190));
        assert_eq!(pause(every, secs(100)), secs(600));
        assert_eq!(pause(Duration::ZERO, secs(1)), Duration::ZERO);
        assert_eq!(pause(Duration::MAX, Duration::MAX), Duration::MAX);
    }
}
