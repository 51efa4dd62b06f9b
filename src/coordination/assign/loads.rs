//! What buckets weigh.

use crate::journal::{BUCKETS, Bucket, IngestorUid};

/// The load of each bucket: what was measured, and at least the number of its Ingestors. In any unit,
/// the same for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loads(Vec<u32>);

// === impl Loads ===

impl Loads {
    /// One for each of these Ingestors.
    #[must_use]
    pub fn counted<'a>(ingestors: impl IntoIterator<Item = &'a IngestorUid>) -> Self {
        let mut loads = Self::default();
        for uid in ingestors {
            if let Some(load) = loads.slot(Bucket::of(uid)) {
                *load = load.saturating_add(1);
            }
        }
        loads
    }

    /// The bucket weighs at least as much as was measured.
    pub fn raise(&mut self, bucket: Bucket, measured: u32) {
        if let Some(load) = self.slot(bucket) {
            *load = measured.max(*load);
        }
    }

    /// The load of a bucket.
    #[must_use]
    pub fn of(&self, bucket: Bucket) -> u32 {
        self.0.get(usize::from(bucket.0)).copied().unwrap_or(0)
    }

    /// The load of all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().copied().map(u64::from).sum()
    }

    fn slot(&mut self, bucket: Bucket) -> Option<&mut u32> {
        self.0.get_mut(usize::from(bucket.0))
    }
}

impl Default for Loads {
    /// Nothing.
    fn default() -> Self {
        Self(vec![0; usize::from(BUCKETS)])
    }
}

impl FromIterator<(Bucket, u32)> for Loads {
    fn from_iter<I: IntoIterator<Item = (Bucket, u32)>>(loads: I) -> Self {
        let mut all = Self::default();
        for (bucket, load) in loads {
            all.raise(bucket, load);
        }
        all
    }
}
