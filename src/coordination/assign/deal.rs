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
    buckets: Vec<(Bucket, u64)>,
    /// How much a pod may have above its share at least.
    slack: u64,
    owners: BTreeMap<Bucket, SlotId>,
    /// Zones of those who had what is without owner now, where they are known.
    former: BTreeMap<Bucket, &'a str>,
    books: Books,
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
    fit: Fit,
    preference: Preference,
    bucket: Bucket,
    to: SlotId,
    cost: u64,
}

/// First the largest that the excess has room for, then the smallest of the others: so the load that
/// moves is the excess and little more, in few buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Within(Reverse<u64>),
    Beyond(u64),
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
        mut buckets: Vec<(Bucket, u64)>,
        slack: u64,
        current: &BTreeMap<Bucket, Holder>,
    ) -> Self {
        buckets.sort_unstable_by_key(|(bucket, cost)| (Reverse(*cost), *bucket));
        let mut deal = Self {
            books: Books {
                held: slots.zeros(),
                bound: bounds(slots, None, total(&buckets), slack),
            },
            slots,
            slack,
            owners: BTreeMap::new(),
            former: BTreeMap::new(),
            buckets,
        };
        deal.keep(current);
        deal
    }

    /// What can stay, stays.
    fn keep(&mut self, current: &BTreeMap<Bucket, Holder>) {
        for (bucket, cost) in &self.buckets {
            let Some(holder) = current.get(bucket) else {
                continue;
            };
            if let Some(id) = self.slots.slot(holder) {
                self.owners.insert(*bucket, id);
                self.books.held.add(id, *cost);
            } else if let Some(zone) = self.slots.zone_of(holder) {
                self.former.insert(*bucket, zone);
            }
        }
    }

    /// Every bucket without owner gets one, if anybody takes.
    pub(super) fn place_homeless(&mut self) {
        for (bucket, cost) in &self.buckets {
            if self.owners.contains_key(bucket) {
                continue;
            }
            let zone = self.former.get(bucket).copied();
            if let Some(to) = best(self.slots, &self.books, (*bucket, *cost), zone) {
                self.books.held.add(to, *cost);
                self.owners.insert(*bucket, to);
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
                    self.owners.insert(relief.bucket, relief.to);
                    moved = true;
                }
            }
        }
    }

    /// The best move away from a pod that is over its bound.
    fn relief(&self, from: SlotId, gain_percent: u32) -> Option<Relief> {
        let (held, bound) = (self.books.held.of(from), self.books.bound.of(from));
        let excess = held.checked_sub(bound).filter(|excess| *excess > 0)?;
        let mut best: Option<Relief> = None;
        for (bucket, cost) in &self.buckets {
            let fit = if *cost <= excess {
                Fit::Within(Reverse(*cost))
            } else {
                Fit::Beyond(*cost)
            };
            let worse = best.is_some_and(|best| best.fit < fit);
            if worse || self.owners.get(bucket) != Some(&from) {
                continue;
            }
            let may = |to: SlotId| {
                to != from
                    && self.books.fits(to, *cost)
                    && self.gains(from, to, *cost, gain_percent)
            };
            let choices = self.slots.choices(*bucket).enumerate();
            let reliefs = choices
                .filter(|(_, to)| may(*to))
                .map(|(place, to)| Relief {
                    fit,
                    preference: preference(self.slots, None, place, to),
                    bucket: *bucket,
                    to,
                    cost: *cost,
                });
            best = best.into_iter().chain(reliefs).min();
        }
        best
    }

    /// Whether the pod that gives still carries so much more for its weight than the one that is
    /// given, with the bucket: `held/w − (held' + cost)/w' ≥ gain · mean`, multiplied out.
    fn gains(&self, from: SlotId, to: SlotId, cost: u64, gain_percent: u32) -> bool {
        let weight = |id| u128::from(self.slots.weight(id));
        let all_weight: u128 = self.slots.all().map(weight).sum();
        let all: u128 = total(&self.buckets).into();
        let held = |id| u128::from(self.books.held.of(id));
        let gives = held(from) * weight(to);
        let takes = (held(to) + u128::from(cost)) * weight(from);
        let least = u128::from(gain_percent) * all * weight(from) * weight(to);
        gives > takes && (gives - takes) * all_weight * 100 >= least
    }

    /// Who owns what.
    pub(super) fn owners(&self) -> impl Iterator<Item = (Bucket, SlotId)> + '_ {
        self.owners.iter().map(|(bucket, id)| (*bucket, *id))
    }

    /// What a candidate is given no more than.
    pub(super) fn bound(&self, id: SlotId) -> u64 {
        self.books.bound.of(id)
    }

    /// For each owner: where its buckets would go if it, alone, were gone.
    pub(super) fn standbys(&self) -> BTreeMap<Bucket, SlotId> {
        let mut of: BTreeMap<SlotId, Vec<(Bucket, u64)>> = BTreeMap::new();
        for (bucket, cost) in &self.buckets {
            if let Some(owner) = self.owners.get(bucket) {
                of.entry(*owner).or_default().push((*bucket, *cost));
            }
        }
        let mut standbys = BTreeMap::new();
        for (owner, buckets) in of {
            self.stand_by(owner, &buckets, &mut standbys);
        }
        standbys
    }

    fn stand_by(
        &self,
        owner: SlotId,
        buckets: &[(Bucket, u64)],
        standbys: &mut BTreeMap<Bucket, SlotId>,
    ) {
        let mut books = Books {
            held: self.books.held.clone(),
            bound: bounds(self.slots, Some(owner), total(&self.buckets), self.slack),
        };
        // The one that is gone has no room: of all that are over their bounds it is the most.
        books.held.set(owner, u64::MAX);
        for (bucket, cost) in buckets {
            let zone = self.slots.zone(owner);
            let found = best(self.slots, &books, (*bucket, *cost), zone);
            if let Some(to) = found.filter(|to| *to != owner) {
                books.held.add(to, *cost);
                standbys.insert(*bucket, to);
            }
        }
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
fn best(
    slots: &Slots<'_>,
    books: &Books,
    (bucket, cost): (Bucket, u64),
    zone: Option<&str>,
) -> Option<SlotId> {
    let key = |(place, to): &(usize, SlotId)| {
        let with = books.held.of(*to).saturating_add(cost);
        let over = with.saturating_sub(books.bound.of(*to));
        (over, preference(slots, zone, *place, *to))
    };
    let choices = slots.choices(bucket).enumerate();
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

fn total(buckets: &[(Bucket, u64)]) -> u64 {
    buckets.iter().map(|(_, cost)| *cost).sum()
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
