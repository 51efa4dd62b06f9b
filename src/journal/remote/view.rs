//! Who the `ShardMap` says holds a bucket, as a gateway sees it: pure but for the notice of changes.
//!
//! What is stored in the log is what fences. The map only lets a gateway refuse earlier whom the
//! fleet has replaced already, before the next owner has claimed here.

use std::fmt;

use tokio::sync::watch;

use crate::journal::{Bucket, Epoch, Fenced, Holder};

/// A bucket in a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The map's version.
    pub version: u64,
    /// Who holds the bucket.
    pub holder: Holder,
    /// Since which version.
    pub epoch: Epoch,
}

/// A gateway's view of the map.
pub trait MapView: Send + Sync + fmt::Debug + 'static {
    /// The bucket in the newest map that was seen; `None`: none was, or nobody holds it.
    fn bucket(&self, bucket: Bucket) -> Option<Named>;

    /// Rises with every map that is seen.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// A view without a map: everything is accepted.
#[derive(Debug, Default)]
pub struct NoMap {
    changes: watch::Sender<u64>,
}

impl MapView for NoMap {
    fn bucket(&self, _: Bucket) -> Option<Named> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Whether the map refuses `holder` the bucket under `epoch`: it is no older than that, and names
/// another. An older map knows nothing of the claim, so it accepts.
#[must_use]
pub fn refusal(
    named: Option<Named>,
    holder: &Holder,
    bucket: Bucket,
    epoch: Epoch,
) -> Option<Fenced> {
    let named = named?;
    (named.version >= epoch.0 && named.holder != *holder).then_some(Fenced {
        bucket,
        epoch: named.epoch,
        holder: named.holder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_that_knows_the_claim_and_names_another_refuses() {
        let (me, other) = (Holder("core-0#2".into()), Holder("core-1#1".into()));
        let named = |version, holder: &Holder| {
            Some(Named {
                version,
                holder: holder.clone(),
                epoch: Epoch(6),
            })
        };
        let refused = |named| refusal(named, &me, Bucket(3), Epoch(7));
        assert_eq!(refused(None), None, "no map");
        assert_eq!(refused(named(6, &other)), None, "an older map");
        assert_eq!(refused(named(9, &me)), None, "it is named");
        let earlier = Holder("core-0#1".into());
        for (version, holder) in [(7, &other), (8, &other), (7, &earlier)] {
            let expected = Fenced {
                bucket: Bucket(3),
                epoch: Epoch(6),
                holder: holder.clone(),
            };
            assert_eq!(refused(named(version, holder)), Some(expected));
        }
    }
}
