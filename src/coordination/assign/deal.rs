//! Buckets of one sort dealt out: what stays, where the homeless go, what is over the bound.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Owners,
    slots::{PerSlot, Role, SlotId, Slots},
};
use crate::journal::Bucket;

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
    /// Who had what is without owner now, where that one is known.
    former: BTreeMap<Bucket, SlotId>,
    accounts: Books,
}

/// What each taker has, and may have.
#[derive(Clone, Debug)]
struct Books {
    held: PerSlot,
    bound: PerSlot,
}

/// A move that balance would make, the best first by this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Relief {
    /// First the largest that the excess has room for, then the smallest of the others: so the load
    /// that moves is the excess and little more.
    fit: Fit,
    place: Preference,
    bucket: Bucket,
    to: SlotId,
    cost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Within(Reverse<u64>),
    Beyond(u64),
}

/// How good a pod is for a bucket among those within their bounds; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    build: Reverse<u64>,
    same_zone: bool,
    place: usize,
}

// === impl Deal ===

impl<'a> Deal<'a> {
    pub(super) fn new(
        slots: &'a Slots<'a>,
        mut buckets: Vec<(Bucket, u64)>,
        slack: u64,
        today: &Owners,
    ) -> Self {
        buckets.sort_unstable_by_key(|(bucket, cost)| (Reverse(*cost), *bucket));
        let mut deal = Self {
            slots,
            slack,
            owners: BTreeMap::new(),
            former: BTreeMap::new(),
            accounts: Books {
                held: PerSlot::zero(slots),
                bound: PerSlot::zero(slots),
            },
            buckets,
        };
        deal.keep(today);
        deal
    }

    /// What can stay, stays; bounds follow from what then is to be shared among those that take.
    fn keep(&mut self, today: &Owners) {
        let nobody_takes = self.slots.takers().is_empty();
        let mut to_share = 0_u64;
        for (bucket, cost) in &self.buckets {
            let owner = today.get(bucket).and_then(|pod| self.slots.slot(pod));
            let stays = owner.filter(|id| match self.slots.role(*id) {
                Role::Takes | Role::Keeps => true,
                Role::Leaves => nobody_takes,
                Role::Gone => false,
            });
            if let Some(id) = stays {
                self.owners.insert(*bucket, id);
                self.accounts.held.add(id, *cost);
            } else if let Some(id) = owner {
                self.former.insert(*bucket, id);
            }
            // What lies with one that only keeps is no part of what the others share.
            if stays.is_none_or(|id| self.slots.role(id) == Role::Takes) {
                to_share = to_share.saturating_add(*cost);
            }
        }
        self.accounts.bound = bounds(self.slots, None, to_share, self.slack);
    }

    /// Every bucket without owner gets one, if anybody takes.
    pub(super) fn place_homeless(&mut self) {
        for (bucket, cost) in &self.buckets {
            if self.owners.contains_key(bucket) {
                continue;
            }
            let former = self.former.get(bucket).copied();
            if let Some(to) = best(self.slots, &self.accounts, *bucket, *cost, former) {
                self.accounts.held.add(to, *cost);
                self.owners.insert(*bucket, to);
            }
        }
    }

    /// Pods over their bounds give away what they are over, as long as it gains enough. Each move
    /// brings two pods closer together, so there is an end; passes go on until nothing moves, so that
    /// doing it again changes nothing.
    pub(super) fn balance(&mut self, min_gain: u16) {
        loop {
            let mut moved = false;
            for from in self.slots.takers() {
                while let Some(relief) = self.relief(*from, min_gain) {
                    self.accounts.held.take(*from, relief.cost);
                    self.accounts.held.add(relief.to, relief.cost);
                    self.owners.insert(relief.bucket, relief.to);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// The best move away from a pod that is over its bound.
    fn relief(&self, from: SlotId, min_gain: u16) -> Option<Relief> {
        let (held, bound) = (self.accounts.held.of(from), self.accounts.bound.of(from));
        let excess = held.checked_sub(bound).filter(|excess| *excess > 0)?;
        let mut best: Option<Relief> = None;
        for (bucket, cost) in &self.buckets {
            if self.owners.get(bucket) != Some(&from) {
                continue;
            }
            let fit = if *cost <= excess {
                Fit::Within(Reverse(*cost))
            } else {
                Fit::Beyond(*cost)
            };
            if best.is_some_and(|best| best.fit < fit) {
                continue;
            }
            let choices = self.slots.choices(*bucket).enumerate();
            let reliefs = choices
                .filter(|(_, to)| {
                    *to != from
                        && self.accounts.fits(*to, *cost)
                        && self.gains(from, *to, *cost, min_gain)
                })
                .map(|(place, to)| Relief {
                    fit,
                    place: preference(self.slots, None, place, to),
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
    fn gains(&self, from: SlotId, to: SlotId, cost: u64, min_gain: u16) -> bool {
        let weight = |id| u128::from(self.slots.weight(id));
        let (takers, held) = (self.slots.takers(), &self.accounts.held);
        let all_weight: u128 = takers.iter().map(|id| weight(*id)).sum();
        let all_held: u128 = takers.iter().map(|id| u128::from(held.of(*id))).sum();
        let gives = u128::from(held.of(from)) * weight(to);
        let takes = (u128::from(held.of(to)) + u128::from(cost)) * weight(from);
        let least = u128::from(min_gain) * all_held * weight(from) * weight(to);
        gives > takes && (gives - takes) * all_weight * 1_000 >= least
    }

    /// Who owns what.
    pub(super) fn owners(&self) -> impl Iterator<Item = (Bucket, SlotId)> + '_ {
        self.owners.iter().map(|(bucket, id)| (*bucket, *id))
    }

    /// The bound of one that takes.
    pub(super) fn bound(&self, id: SlotId) -> Option<u64> {
        let takes = self.slots.role(id) == Role::Takes;
        takes.then(|| self.accounts.bound.of(id))
    }

    /// For each owner: where its buckets would go if it, alone, were gone.
    pub(super) fn standbys(&self) -> impl Iterator<Item = (Bucket, SlotId)> + '_ {
        let mut of: BTreeMap<SlotId, Vec<(Bucket, u64)>> = BTreeMap::new();
        for (bucket, cost) in &self.buckets {
            if let Some(owner) = self.owners.get(bucket) {
                of.entry(*owner).or_default().push((*bucket, *cost));
            }
        }
        of.into_iter().flat_map(|(owner, buckets)| self.standbys_of(owner, &buckets))
    }

    fn standbys_of(&self, owner: SlotId, buckets: &[(Bucket, u64)]) -> Vec<(Bucket, SlotId)> {
        let others = self.slots.takers().iter().filter(|id| **id != owner);
        let held: u64 = others.map(|id| self.accounts.held.of(*id)).sum();
        let freed: u64 = buckets.iter().map(|(_, cost)| *cost).sum();
        let mut accounts = Books {
            held: self.accounts.held.clone(),
            bound: bounds(self.slots, Some(owner), held.saturating_add(freed), self.slack),
        };
        // Not within its bound, whatever it has: it is gone.
        accounts.held.set(owner, u64::MAX);
        let mut standbys = Vec::with_capacity(buckets.len());
        for (bucket, cost) in buckets {
            let found = best(self.slots, &accounts, *bucket, *cost, Some(owner));
            if let Some(to) = found.filter(|to| *to != owner) {
                accounts.held.add(to, *cost);
                standbys.push((*bucket, to));
            }
        }
        standbys
    }
}

// === impl Books ===

impl Books {
    fn fits(&self, to: SlotId, cost: u64) -> bool {
        self.held.of(to).saturating_add(cost) <= self.bound.of(to)
    }
}

/// The best pod for a bucket without owner: by preference among those within their bounds; where none
/// is, as nothing but rounding could bring about, the one that is least over.
fn best(
    slots: &Slots<'_>,
    accounts: &Books,
    bucket: Bucket,
    cost: u64,
    former: Option<SlotId>,
) -> Option<SlotId> {
    let choices = slots.choices(bucket).enumerate();
    let key = |(place, to): &(usize, SlotId)| {
        let with = accounts.held.of(*to).saturating_add(cost);
        let over = with.saturating_sub(accounts.bound.of(*to));
        (over, preference(slots, former, *place, *to))
    };
    choices.min_by_key(key).map(|(_, to)| to)
}

fn preference(
    slots: &Slots<'_>,
    former: Option<SlotId>,
    place: usize,
    to: SlotId,
) -> Preference {
    Preference {
        build: Reverse(slots.build(to)),
        same_zone: slots.same_zone(to, former),
        place,
    }
}

/// What each taker but `without` may have, if `total` is to be shared among them.
fn bounds(slots: &Slots<'_>, without: Option<SlotId>, total: u64, slack: u64) -> PerSlot {
    let mut bounds = PerSlot::zero(slots);
    let takers = || slots.takers().iter().filter(|id| Some(**id) != without);
    let all: u128 = takers().map(|id| u128::from(slots.weight(*id))).sum();
    for id in takers() {
        let share = u128::from(total) * u128::from(slots.weight(*id));
        let tenth_above = (share * BOUND_PERCENT / 100).checked_div(all).unwrap_or(0);
        let one_above = share.checked_div(all).unwrap_or(0) + u128::from(slack);
        let bound = tenth_above.max(one_above);
        bounds.set(*id, u64::try_from(bound).unwrap_or(u64::MAX));
    }
    bounds
}
