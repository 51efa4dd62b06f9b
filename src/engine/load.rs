//! How much work each owned bucket is, for the ring.

mod rates;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::journal::{Bucket, Epoch};

use self::rates::Load;
use super::shared::Shared;

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(1);

/// Measures until the engine stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut load = Load::default();
    let mut seen: BTreeMap<Bucket, u64> = BTreeMap::new();
    let (mut version, mut ingestors) = (None, BTreeMap::new());
    let changes = shared.ingestors.changes();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = *changes.borrow();
        if version != Some(now) {
            version = Some(now);
            ingestors = shared.ingestors.by_bucket();
        }
        let (_, epochs) = shared.epochs();
        let owned = i64::try_from(epochs.len()).unwrap_or(i64::MAX);
        shared.metrics.owned.set(owned);
        let ended = since(&shared, &epochs, &mut seen);
        if let Some(loads) = load.measure(shared.clock.instant(), &ended, &ingestors) {
            shared.tell_load(loads);
        }
    }
}

fn since(
    shared: &Shared,
    epochs: &BTreeMap<Bucket, Epoch>,
    seen: &mut BTreeMap<Bucket, u64>,
) -> BTreeMap<Bucket, u64> {
    let count = |bucket: Bucket| {
        let count = shared.ended.get(usize::from(bucket.0))?;
        Some(count.load(Ordering::Relaxed))
    };
    let owned = epochs.keys();
    owned
        .filter_map(|bucket| {
            let now = count(*bucket)?;
            let before = seen.insert(*bucket, now).unwrap_or(now);
            Some((*bucket, now.saturating_sub(before)))
        })
        .collect()
}
