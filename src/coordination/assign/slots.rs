//! The members as the deal sees them: by number, with what they do and the order of the ring.

use std::{collections::BTreeMap, sync::Arc};

use super::{Member, MemberState, Readiness};
use crate::{
    coordination::{
        names::PodName,
        ring::{Ring, Seat},
    },
    journal::Bucket,
};

/// A member's number, in the order of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SlotId(usize);

/// What happens to the buckets of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It keeps them, and may get more.
    Takes,
    /// It keeps them.
    Keeps,
    /// They go if anybody takes them.
    Leaves,
    /// They are without owner.
    Gone,
}

#[derive(Debug)]
struct Slot<'a> {
    pod: &'a PodName,
    member: &'a Member,
    role: Role,
}

#[derive(Debug)]
pub(super) struct Slots<'a> {
    slots: Vec<Slot<'a>>,
    ring: Ring,
    /// Which slot has which seat of the ring.
    seated: Vec<SlotId>,
    takers: Vec<SlotId>,
}

/// Weights above this count as this: products of weights and loads stay within 128 bits.
const MOST_WEIGHT: u32 = 1_000_000;

// === impl Slots ===

impl<'a> Slots<'a> {
    pub(super) fn new(region: &str, members: &'a BTreeMap<PodName, Member>) -> Self {
        let role = |member: &Member| match member.state {
            _ if *member.region != *region => Role::Gone,
            MemberState::Down => Role::Gone,
            MemberState::Draining | MemberState::Unreachable => Role::Leaves,
            MemberState::Active if member.weight == 0 => Role::Leaves,
            MemberState::Active => match member.readiness {
                Readiness::Ready => Role::Takes,
                Readiness::Starting => Role::Keeps,
            },
        };
        let slots: Vec<Slot<'a>> = members
            .iter()
            .map(|(pod, member)| Slot {
                pod,
                member,
                role: role(member),
            })
            .collect();
        let takers: Vec<SlotId> = (0..)
            .map(SlotId)
            .zip(&slots)
            .filter(|(_, slot)| slot.role == Role::Takes)
            .map(|(id, _)| id)
            .collect();
        // Only takers sit: who sits beside them changes nothing about their order.
        let seat = |slot: &Slot<'_>| Seat {
            weight: slot.member.weight.min(MOST_WEIGHT),
            zone: Arc::clone(&slot.member.zone),
        };
        let seats = slots.iter().filter(|slot| slot.role == Role::Takes);
        let ring = Ring::new(&seats.map(|slot| (slot.pod.clone(), seat(slot))).collect());
        Self {
            seated: takers.clone(),
            slots,
            ring,
            takers,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Those that may get buckets, by name.
    pub(super) fn takers(&self) -> &[SlotId] {
        &self.takers
    }

    /// For a bucket, those that may get it, in the order of the ring.
    pub(super) fn choices(&self, bucket: Bucket) -> impl Iterator<Item = SlotId> + '_ {
        let places = self.ring.places(bucket).iter();
        places.filter_map(|place| self.seated.get(usize::from(*place)).copied())
    }

    pub(super) fn slot(&self, pod: &PodName) -> Option<SlotId> {
        let found = self.slots.binary_search_by(|slot| slot.pod.cmp(pod));
        found.ok().map(SlotId)
    }

    pub(super) fn pod(&self, id: SlotId) -> Option<&'a PodName> {
        self.slots.get(id.0).map(|slot| slot.pod)
    }

    /// What happens to its buckets; as if it were gone where nobody has the number.
    pub(super) fn role(&self, id: SlotId) -> Role {
        self.slots.get(id.0).map_or(Role::Gone, |slot| slot.role)
    }

    pub(super) fn weight(&self, id: SlotId) -> u64 {
        let weight = |slot: &Slot<'_>| slot.member.weight.min(MOST_WEIGHT);
        self.slots.get(id.0).map(weight).map_or(0, u64::from)
    }

    pub(super) fn build(&self, id: SlotId) -> u64 {
        self.slots.get(id.0).map_or(0, |slot| slot.member.build)
    }

    /// Whether the two fail together, as far as anybody knows.
    pub(super) fn same_zone(&self, one: SlotId, other: Option<SlotId>) -> bool {
        let zone = |id: SlotId| self.slots.get(id.0).map(|slot| &slot.member.zone);
        other.is_some_and(|other| zone(one) == zone(other))
    }
}

/// A number for each slot.
#[derive(Clone, Debug)]
pub(super) struct PerSlot(Vec<u64>);

// === impl PerSlot ===

impl PerSlot {
    pub(super) fn zero(slots: &Slots<'_>) -> Self {
        Self(vec![0; slots.len()])
    }

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
