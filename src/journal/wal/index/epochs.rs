//! Who holds which bucket, and since which epoch: what a stale holder is refused by.

use std::collections::BTreeMap;

use super::Index;
use crate::journal::{BUCKETS, Bucket, Epoch, Fenced, Holder};

impl Index {
    pub(in crate::journal::wal) fn epoch(&self, bucket: u16) -> Option<&(Epoch, Holder)> {
        self.epochs.get(usize::from(bucket))?.as_ref()
    }

    /// The highest epoch of any bucket; 0: none was ever claimed.
    pub(in crate::journal::wal) fn highest_epoch(&self) -> Epoch {
        let epochs = self.epochs.iter().flatten().map(|(epoch, _)| *epoch);
        epochs.max().unwrap_or_default()
    }

    /// Whether `holder` may take the bucket at `epoch`.
    pub(in crate::journal::wal) fn may_take(
        &self,
        holder: &Holder,
        epoch: Epoch,
        bucket: u16,
    ) -> Result<(), Fenced> {
        match self.epoch(bucket) {
            Some((stored, by)) if *stored > epoch || (*stored == epoch && by != holder) => {
                Err(Fenced {
                    bucket: Bucket(bucket),
                    epoch: *stored,
                    holder: by.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Takes those of the buckets that may be taken; says which may not. What an entry takes depends
    /// on the entries before it alone, so that reading it again takes the same.
    pub(in crate::journal::wal) fn take(
        &mut self,
        holder: &Holder,
        epoch: Epoch,
        buckets: &[u16],
    ) -> Vec<Fenced> {
        let mut refused = Vec::new();
        for bucket in buckets {
            if let Err(fenced) = self.may_take(holder, epoch, *bucket) {
                refused.push(fenced);
            } else if let Some(place) = self.epochs.get_mut(usize::from(*bucket)) {
                *place = Some((epoch, holder.clone()));
            }
        }
        refused
    }

    /// Whether commits to this Ingestor under `epoch` still count.
    pub(in crate::journal::wal) fn may_commit(
        &self,
        number: u32,
        epoch: Epoch,
    ) -> Result<(), Fenced> {
        let Some(bucket) = self.ingestor(number).map(|ingestor| ingestor.bucket) else {
            return Ok(());
        };
        self.holds(bucket, epoch)
    }

    pub(in crate::journal::wal) fn holds(
        &self,
        bucket: Bucket,
        epoch: Epoch,
    ) -> Result<(), Fenced> {
        match self.epoch(bucket.0) {
            Some((stored, holder)) if *stored != epoch => Err(Fenced {
                bucket,
                epoch: *stored,
                holder: holder.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Buckets by (epoch, holder), for a snapshot.
    pub(in crate::journal::wal) fn holders(&self) -> BTreeMap<(Epoch, Holder), Vec<u16>> {
        let mut all: BTreeMap<_, Vec<u16>> = BTreeMap::new();
        for (bucket, held) in (0..BUCKETS).zip(&self.epochs) {
            if let Some(held) = held {
                all.entry(held.clone()).or_default().push(bucket);
            }
        }
        all
    }
}
