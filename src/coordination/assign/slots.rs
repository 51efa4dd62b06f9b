//! The candidates as the deal sees them: by number, with the order of the ring.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    coordination::{
        layout::{Candidate, Wanted},
        names::{Holder, newer},
        ring::{Ring, Seat},
    },
    journal::Bucket,
};

/// A candidate's number, in the order of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SlotId(usize);

#[derive(Debug)]
struct Slot<'a> {
    holder: &'a Holder,
    candidate: &'a Candidate,
    weight: u64,
    /// 0 for the newest build there is, 1 for the one before, and so on.
    build: usize,
}

/// All that may own and has a weight.
#[derive(Debug)]
pub(super) struct Slots<'a> {
    slots: Vec<Slot<'a>>,
    zones: &'a BTreeMap<Holder, Arc<str>>,
    candidates: &'a BTreeMap<Holder, Candidate>,
    ring: Ring,
}

/// Weights above this count as this: products of weights and loads stay within 128 bits.
const MOST_WEIGHT: u32 = 1_000_000;

// === impl Slots ===

impl<'a> Slots<'a> {
    pub(super) fn new(wanted: &'a Wanted) -> Self {
        let may = || {
            wanted
                .candidates
                .iter()
                .filter(|(_, candidate)| candidate.weight > 0)
        };
        let mut builds: Vec<&str> = may().map(|(_, candidate)| &*candidate.build).collect();
        builds.sort_by(|a, b| newer(b, a));
        builds.dedup_by(|a, b| newer(a, b).is_eq());
        let slots: Vec<Slot<'a>> = may()
            .map(|(holder, candidate)| Slot {
                holder,
                weight: u64::from(candidate.weight.min(MOST_WEIGHT)),
                build: builds
                    .iter()
                    .position(|build| newer(build, &candidate.build).is_eq())
                    .unwrap_or(builds.len()),
                candidate,
            })
            .collect();
        let seats = slots.iter().map(|slot| Seat {
            // The pod, not the holder: one that comes back finds its place as it was.
            pod: slot.holder.pod.clone(),
            weight: slot.candidate.weight.min(MOST_WEIGHT),
            zone: Arc::clone(&slot.candidate.zone),
        });
        Self {
            ring: Ring::new(wanted.buckets, seats.collect()),
            zones: &wanted.zones,
            candidates: &wanted.candidates,
            slots,
        }
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> impl Iterator<Item = SlotId> + use<> {
        (0..self.slots.len()).map(SlotId)
    }

    /// All of them, in the order of the ring for a bucket.
    pub(super) fn choices(&self, bucket: Bucket) -> impl Iterator<Item = SlotId> + '_ {
        let places = self.ring.places(bucket).iter();
        places.map(|place| SlotId(usize::from(*place)))
    }

    pub(super) fn slot(&self, holder: &Holder) -> Option<SlotId> {
        let found = self.slots.binary_search_by(|slot| slot.holder.cmp(holder));
        found.ok().map(SlotId)
    }

    pub(super) fn holder(&self, id: SlotId) -> Option<&'a Holder> {
        self.slots.get(id.0).map(|slot| slot.holder)
    }

    pub(super) fn weight(&self, id: SlotId) -> u64 {
        self.slots.get(id.0).map_or(0, |slot| slot.weight)
    }

    /// How many builds are newer.
    pub(super) fn build(&self, id: SlotId) -> usize {
        self.slots.get(id.0).map_or(usize::MAX, |slot| slot.build)
    }

    /// The zone of one that is no candidate, where it is known.
    pub(super) fn former_zone(&self, holder: &Holder) -> Option<&'a str> {
        let weightless = || {
            self.candidates
                .get(holder)
                .map(|candidate| &*candidate.zone)
        };
        self.zones
            .get(holder)
            .map(|zone| &**zone)
            .or_else(weightless)
    }

    pub(super) fn zone(&self, id: SlotId) -> Option<&'a str> {
        self.slots.get(id.0).map(|slot| &*slot.candidate.zone)
    }

    /// A number for each, zero.
    pub(super) fn zeros(&self) -> PerSlot {
        PerSlot(vec![0; self.slots.len()])
    }
}

/// A number for each slot.
#[derive(Clone, Debug)]
pub(super) struct PerSlot(Vec<u64>);

// === impl PerSlot ===

impl PerSlot {
    pub(super) fn of(&self, id: SlotId) -> u64 {
        self.0.get(id.0).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, id: SlotId, number: u64) {
        if let Some(slot) = self.0.get_mut(id.0) {
            *slot = number;
        }
    }

    pub(super) fn add(&mut self, id: SlotId, number: u64) {
        self.set(id, self.of(id).saturating_add(number));
    }

    pub(super) fn take(&mut self, id: SlotId, number: u64) {
        self.set(id, self.of(id).saturating_sub(number));
    }
}
