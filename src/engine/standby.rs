//! Keeps caches warm for the buckets of which this replica is the second choice.
//!
//! Warm means: when such a bucket becomes its own, the first event of each Ingestor is decided with
//! what is in memory. The watch holds every Ingestor anyway, and a subscription is open to every log;
//! what takes time is compiling decision specs, about a millisecond each. So today's specs of these
//! Ingestors are compiled ahead, from the watch: nothing is asked of a journal or of the API server.
//! A backlog under an older spec, or a gateway of another release that writes a spec's text in its
//! own way, is compiled when it is met.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    api::{DecisionSpec, Ingestor, SpecDigest},
    journal::Bucket,
};

use super::shared::Shared;

/// Specs compiled ahead, at most: half of what is kept, so that those in use stay.
const MOST: usize = 750;

/// Changes of Ingestors are followed this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct Standby {
    buckets: Mutex<BTreeSet<Bucket>>,
    changed: Notify,
}

impl Standby {
    pub(super) fn set(&self, buckets: Vec<Bucket>) {
        let buckets = buckets.into_iter().collect();
        *self.buckets.lock().unwrap_or_else(PoisonError::into_inner) = buckets;
        self.changed.notify_one();
    }

    fn buckets(&self) -> BTreeSet<Bucket> {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.clone()
    }
}

/// Runs until the engine stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.ingestors.changes();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.standby.changed.notified() => {}
            Ok(()) = changes.changed() => {}
        }
        warm(&shared).await;
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn warm(shared: &Shared) {
    let buckets = shared.standby.buckets();
    if buckets.is_empty() {
        return;
    }
    let all = shared.ingestors.all();
    let ours = all
        .iter()
        .filter(|(uid, _)| buckets.contains(&Bucket::of(uid)));
    for (_, ingestor) in ours.take(MOST) {
        if let Some(text) = text(shared, ingestor) {
            // One that doesn't compile is told when an event needs it.
            drop(
                shared
                    .specs
                    .get(SpecDigest::of(&text), || Some(text.into())),
            );
        }
        tokio::task::yield_now().await;
    }
}

/// The text that the gateway puts into the journal.
fn text(shared: &Shared, ingestor: &Ingestor) -> Option<String> {
    let namespace = ingestor.metadata.namespace.as_deref()?;
    let uid = shared.namespaces.uid(namespace)?;
    DecisionSpec::of(ingestor, &uid).to_text().ok()
}
