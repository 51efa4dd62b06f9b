//! The assignment: which pod owns which bucket, and which is its warm standby.
//!
//! The ring says where a bucket would like to be; this says where it goes, given what there is: who
//! may take, how heavy buckets are, and where they lie today. In order of weight:
//!
//! 1. **What can stay, stays.** Equal input moves nothing, and neither does a new leader. A bucket
//!    leaves its owner only where that one is gone, gives away, or carries more than its bound.
//! 2. **Nobody is given more than its bound**: the larger of 1.10 times its share of the load, and
//!    its share and the heaviest bucket. The second makes it always possible: as long as a bucket has
//!    no owner, some pod carries no more than its share, and with any bucket no more than its bound
//!    (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2018).
//! 3. Among those within their bounds **the newest build comes first**, so that what a rolling update
//!    takes from an old pod goes to a new one and moves once; then another zone than the owner's; then
//!    the order of the ring.
//!
//! The standby of a bucket is where it would go if its owner, alone, were gone: found by the same
//! code, so that the caches that were kept warm are those that are needed.
//!
//! Buckets without load, which a small fleet has many of, are dealt out by number in the same way,
//! apart from the others: the next Ingestor then finds the fleet balanced.
//!
//! Everything is integers and ordered maps: equal input gives equal bytes, on every machine.

mod deal;
mod slots;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    buckets::Buckets,
    layout::{Balance, Layout, Place, Wanted},
    names::Holder,
};
use crate::journal::{Bucket, IngestorUid};

use deal::Deal;
use slots::Slots;

/// What one pod carries today, and may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its buckets.
    pub buckets: Buckets,
    /// Their load.
    pub load: u64,
    /// The load that it is given no more than; `None` where it is given nothing.
    pub bound: Option<u64>,
}

/// Who is to own each bucket, and who stands by. It depends on `wanted` alone.
///
/// It holds that
/// - with its own answer as `current` it gives the same answer again;
/// - a bucket leaves a candidate only from above that one's bound, and one is given a bucket only
///   within its bound;
/// - every bucket has an owner if there is a candidate.
///
/// A pod may stay above its bound where no single move gains as much as [`Wanted::gain_percent`], or
/// while [`Wanted::balance`] holds it.
#[must_use]
pub fn assign(wanted: &Wanted) -> Layout {
    let slots = Slots::new(wanted);
    let mut layout = Layout::new();
    for mut deal in deals(&slots, wanted) {
        deal.place_homeless();
        match wanted.balance {
            Balance::Free => deal.balance(wanted.gain_percent),
            Balance::Held => {}
        }
        let standbys = deal.standbys();
        for (bucket, owner) in deal.owners() {
            let Some(owner) = slots.holder(owner).cloned() else {
                continue;
            };
            let standby = standbys
                .get(&bucket)
                .and_then(|id| slots.holder(*id))
                .cloned();
            layout.insert(bucket, Place { owner, standby });
        }
    }
    layout
}

/// What each candidate, and each owner of today, carries today and may carry.
#[must_use]
pub fn accounts(wanted: &Wanted) -> BTreeMap<Holder, Account> {
    let slots = Slots::new(wanted);
    let [loaded, _] = deals(&slots, wanted);
    let bounds = wanted.candidates.keys().map(|holder| {
        let account = Account {
            bound: slots.slot(holder).map(|id| loaded.bound(id)),
            ..Account::default()
        };
        (holder.clone(), account)
    });
    let mut accounts: BTreeMap<Holder, Account> = bounds.collect();
    for (bucket, holder) in &wanted.current {
        let account = accounts.entry(holder.clone()).or_default();
        account.buckets.insert(*bucket);
        account.load += u64::from(wanted.loads.get(bucket).copied().unwrap_or(0));
    }
    accounts
}

/// Candidates with a weight, in the order of the ring for a bucket.
#[must_use]
pub fn choices(wanted: &Wanted, bucket: Bucket) -> Vec<Holder> {
    let slots = Slots::new(wanted);
    let holders = slots.choices(bucket).filter_map(|id| slots.holder(id));
    holders.cloned().collect()
}

/// Whether candidates are of different builds: an update is rolling.
#[must_use]
pub fn rolling(wanted: &Wanted) -> bool {
    let builds: BTreeSet<&str> = wanted.candidates.values().map(|c| &*c.build).collect();
    builds.len() > 1
}

/// The number of Ingestors in each bucket: the least that it weighs.
#[must_use]
pub fn counted<'a>(ingestors: impl IntoIterator<Item = &'a IngestorUid>) -> BTreeMap<Bucket, u32> {
    let mut loads = BTreeMap::new();
    for uid in ingestors {
        let load: &mut u32 = loads.entry(Bucket::of(uid)).or_default();
        *load = load.saturating_add(1);
    }
    loads
}

/// Buckets with load and buckets without, each dealt out for itself.
fn deals<'a>(slots: &'a Slots<'a>, wanted: &Wanted) -> [Deal<'a>; 2] {
    let (mut loaded, mut empty) = (Vec::new(), Vec::new());
    for bucket in (0..wanted.buckets).map(Bucket) {
        match wanted.loads.get(&bucket).copied().unwrap_or(0) {
            0 => empty.push((bucket, 1)),
            load => loaded.push((bucket, u64::from(load))),
        }
    }
    let heaviest = loaded.iter().map(|(_, load)| *load).max().unwrap_or(0);
    let slack = u64::from(wanted.buckets / EMPTY_PER_SLACK).max(1);
    [
        Deal::new(slots, loaded, heaviest, &wanted.current),
        Deal::new(slots, empty, slack, &wanted.current),
    ]
}

/// A pod may have one empty bucket above its share for so many buckets that there are, where a tenth
/// of the share is less: under 1 % of them all. They cost nothing, and are not worth a write of the map
/// as one more or less comes to be empty.
const EMPTY_PER_SLACK: u16 = 128;

#[cfg(test)]
mod tests;
