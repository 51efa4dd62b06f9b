//! Buckets of one sort dealt out: what stays, where the homeless go, what is over the bound.

use std::{cmp::Reverse, collections::BTreeMap};

use super::slots::{PerSlot, SlotId, Slots};
use crate::{coordination::names::Holder, journal::Bucket};

/// The bound above a pod's share, in hundredths of the share (coordination.md, "Ring").
const BOUND_PERCENT: u128 = 110;

#[derive(Debug)]
pub(super) struct Deal<'a> {
    slots: &'a Slots<'a>,
    /// What there is to deal out, the heaviest first: what is hard to place is placed while there is
    /// room. Among equals by number.
    buckets: Vec<Item<'a>>,
    /// The cost of all, and the weight of all candidates.
    total: u64,
    all_weight: u64,
    /// How much a pod may have above its share at least.
    slack: u64,
    books: Books,
}

#[derive(Debug)]
struct Item<'a> {
    bucket: Bucket,
    cost: u64,
    owner: Option<SlotId>,
    /// Of one without owner: the zone of the one who had it, where that is known.
    former: Option<&'a str>,
}

/// What each candidate has, and may have.
#[derive(Clone, Debug)]
struct Books {
    held: PerSlot,
    bound: PerSlot,
}

/// A move that balance would make, the best first by this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Relief {
    preference: Preference,
    /// Index of the bucket.
    index: usize,
    to: SlotId,
    cost: u64,
}

/// Who may be given a bucket of some cost for balance: that depends on the cost alone.
#[derive(Debug)]
struct Open {
    cost: u64,
    may: PerSlot,
    /// The newest build among them.
    build: Option<usize>,
}

/// How good a pod is for a bucket among those within their bounds; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    build: usize,
    same_zone: bool,
    place: usize,
}

// === impl Deal ===

impl<'a> Deal<'a> {
    pub(super) fn new(
        slots: &'a Slots<'a>,
        mut costs: Vec<(Bucket, u64)>,
        slack: u64,
        current: &BTreeMap<Bucket, Holder>,
    ) -> Self {
        costs.sort_unstable_by_key(|(bucket, cost)| (Reverse(*cost), *bucket));
        let total = costs.iter().map(|(_, cost)| *cost).sum();
        let mut books = Books {
            held: slots.zeros(),
            bound: bounds(slots, None, total, slack),
        };
        // What can stay, stays.
        let keep = |(bucket, cost)| {
            let holder = current.get(&bucket);
            let owner = holder.and_then(|holder| slots.slot(holder));
            if let Some(id) = owner {
                books.held.add(id, cost);
            }
            Item {
                bucket,
                cost,
                owner,
                former: holder
                    .filter(|_| owner.is_none())
                    .and_then(|holder| slots.former_zone(holder)),
            }
        };
        Self {
            buckets: costs.into_iter().map(keep).collect(),
            all_weight: slots.all().map(|id| slots.weight(id)).sum(),
            slots,
            total,
            slack,
            books,
        }
    }

    /// Every bucket without owner gets one, if anybody takes.
    pub(super) fn place_homeless(&mut self) {
        for item in self.buckets.iter_mut().filter(|item| item.owner.is_none()) {
            item.owner = best(self.slots, &self.books, item, item.former);
            if let Some(to) = item.owner {
                self.books.held.add(to, item.cost);
            }
        }
    }

    /// Pods over their bounds give away what they are over, as long as it gains enough. Each move
    /// brings two pods closer together, so there is an end; passes go on until nothing moves, so that
    /// doing it again changes nothing.
    pub(super) fn balance(&mut self, gain_percent: u32) {
        let mut moved = true;
        while moved {
            moved = false;
            for from in self.slots.all() {
                while let Some(relief) = self.relief(from, gain_percent) {
                    self.books.held.take(from, relief.cost);
                    self.books.held.add(relief.to, relief.cost);
                    if let Some(item) = self.buckets.get_mut(relief.index) {
                        item.owner = Some(relief.to);
                    }
                    moved = true;
                }
            }
        }
    }

    /// The best move away from a pod that is over its bound: of the largest bucket that the excess has
    /// room for, else of the smallest that there is. So the load that moves is the excess and little
    /// more, in few buckets.
    fn relief(&self, from: SlotId, gain_percent: u32) -> Option<Relief> {
        let (held, bound) = (self.books.held.of(from), self.books.bound.of(from));
        let excess = held.checked_sub(bound).filter(|excess| *excess > 0)?;
        let beyond = self.buckets.partition_point(|item| item.cost > excess);
        let falling = (beyond..self.buckets.len()).chain((0..beyond).rev());
        let mut best: Option<Relief> = None;
        let mut open: Option<Open> = None;
        for index in falling {
            let Some(item) = self.buckets.get(index) else {
                continue;
            };
            if best.is_some_and(|best| best.cost != item.cost) {
                break;
            }
            if item.owner == Some(from) {
                let open = match open.take() {
                    Some(known) if known.cost == item.cost => open.insert(known),
                    _ => open.insert(self.open(from, item.cost, gain_percent)),
                };
                let found = open.relief(self.slots, index, item);
                best = best.into_iter().chain(found).min();
            }
        }
        best
    }

    /// Who may be given a bucket of this cost for balance.
    fn open(&self, from: SlotId, cost: u64, gain_percent: u32) -> Open {
        let mut open = Open {
            cost,
            may: self.slots.zeros(),
            build: None,
        };
        for to in self.slots.all().filter(|to| *to != from) {
            if self.books.fits(to, cost) && self.gains(from, to, cost, gain_percent) {
                open.may.set(to, 1);
                let build = self.slots.build(to);
                open.build = Some(open.build.map_or(build, |newest| newest.min(build)));
            }
        }
        open
    }

    /// Whether the pod that gives still carries so much more for its weight than the one that is
    /// given, with the bucket: `held/w − (held' + cost)/w' ≥ gain · mean`, multiplied out.
    fn gains(&self, from: SlotId, to: SlotId, cost: u64, gain_percent: u32) -> bool {
        let weight = |id| u128::from(self.slots.weight(id));
        let held = |id| u128::from(self.books.held.of(id));
        let gives = held(from) * weight(to);
        let takes = (held(to) + u128::from(cost)) * weight(from);
        let mean = u128::from(self.total) * weight(from) * weight(to);
        let gain = gives.saturating_sub(takes) * u128::from(self.all_weight);
        gain > 0 && gain * 100 >= mean * u128::from(gain_percent)
    }

    /// Who owns what.
    pub(super) fn owners(&self) -> impl Iterator<Item = (Bucket, SlotId)> + '_ {
        let owned = |item: &Item<'_>| item.owner.map(|owner| (item.bucket, owner));
        self.buckets.iter().filter_map(owned)
    }

    /// What a candidate is given no more than.
    pub(super) fn bound(&self, id: SlotId) -> u64 {
        self.books.bound.of(id)
    }

    /// For each owner: where its buckets would go if it, alone, were gone.
    pub(super) fn standbys(&self) -> BTreeMap<Bucket, SlotId> {
        let mut standbys = BTreeMap::new();
        for owner in self.slots.all() {
            let mut books = Books {
                held: self.books.held.clone(),
                bound: bounds(self.slots, Some(owner), self.total, self.slack),
            };
            // The one that is gone has no room: of all that are over their bounds it is the most.
            books.held.set(owner, u64::MAX);
            let zone = self.slots.zone(owner);
            for item in self.buckets.iter().filter(|item| item.owner == Some(owner)) {
                let found = best(self.slots, &books, item, zone);
                if let Some(to) = found.filter(|to| *to != owner) {
                    books.held.add(to, item.cost);
                    standbys.insert(item.bucket, to);
                }
            }
        }
        standbys
    }
}

// === impl Open ===

impl Open {
    /// The best move of a bucket: to the first of its choices that may and has the newest build of
    /// those that may.
    fn relief(&self, slots: &Slots<'_>, index: usize, item: &Item<'_>) -> Option<Relief> {
        let newest = self.build?;
        let mut choices = slots.choices(item.bucket).enumerate();
        let good = |to: SlotId| self.may.of(to) == 1 && slots.build(to) == newest;
        let (place, to) = choices.find(|(_, to)| good(*to))?;
        Some(Relief {
            preference: preference(slots, None, place, to),
            index,
            to,
            cost: item.cost,
        })
    }
}

// === impl Books ===

impl Books {
    fn fits(&self, to: SlotId, cost: u64) -> bool {
        self.held.of(to).saturating_add(cost) <= self.bound.of(to)
    }
}

/// The best pod for a bucket without owner: by preference among those within their bounds; where none
/// is, the one that is least over.
fn best(slots: &Slots<'_>, books: &Books, item: &Item<'_>, zone: Option<&str>) -> Option<SlotId> {
    let key = |(place, to): &(usize, SlotId)| {
        let with = books.held.of(*to).saturating_add(item.cost);
        let over = with.saturating_sub(books.bound.of(*to));
        (over, preference(slots, zone, *place, *to))
    };
    let choices = slots.choices(item.bucket).enumerate();
    choices.min_by_key(key).map(|(_, to)| to)
}

/// `zone`: where the owner is, or was.
fn preference(slots: &Slots<'_>, zone: Option<&str>, place: usize, to: SlotId) -> Preference {
    Preference {
        build: slots.build(to),
        same_zone: zone.is_some() && slots.zone(to) == zone,
        place,
    }
}

/// What each but `without` may have, if they share `total`.
fn bounds(slots: &Slots<'_>, without: Option<SlotId>, total: u64, slack: u64) -> PerSlot {
    let mut bounds = slots.zeros();
    let share = || slots.all().filter(|id| Some(*id) != without);
    let all: u128 = share().map(|id| u128::from(slots.weight(id))).sum();
    for id in share() {
        let share = u128::from(total) * u128::from(slots.weight(id));
        let tenth_above = (share * BOUND_PERCENT / 100).checked_div(all).unwrap_or(0);
        let one_above = share.checked_div(all).unwrap_or(0) + u128::from(slack);
        let bound = tenth_above.max(one_above);
        bounds.set(id, u64::try_from(bound).unwrap_or(u64::MAX));
    }
    bounds
}
