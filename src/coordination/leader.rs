//! What the leader writes: the map.
//!
//! *Guarantees:* each version is a compare-and-swap on the one before, under a term that the Lease
//! gave to this holder alone. A bucket changes its owner only together with a new epoch, the very
//! version that does it; so no two holders are ever issued the same epoch of a bucket. A planned
//! move is committed when the owner has said that it stopped, at a version that lists the move, or
//! when its deadlines are over. Buckets of the dead go to their standbys in one write. With constant
//! inputs nothing is written.
//!
//! *Assumes* that the assignment is a function of its inputs that keeps what it can.
//!
//! *Still possible:* a leader that was deposed and doesn't know it writes one more version, if
//! nobody wrote since it read; the next leader goes on from that. At the last deadline a bucket has
//! two owners until the first of them sees the map; what it still writes is refused by its epoch
//! wherever the second has begun.

mod healing;
mod moves;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::{healing::Healing, moves::Moves, plan::Plan};
use super::{
    assign::rolling,
    chance::{Backoff, Chance},
    elector::Elector,
    event::Event,
    evidence::Evidence,
    layout::{Assign, Balance},
    message::Body,
    names::Holder,
    out::{Out, Purpose},
    port::{Answer, Moment, Object, Op, Record, ResourceVersion},
    protocol::planted,
    records::{Grant, Life, ShardMapSpec},
    view::{Known, View},
};
use crate::journal::{Bucket, Epoch};

/// The leader's work, while this replica leads.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// The term for which the map was read.
    term: Option<u64>,
    /// The map has to be read.
    pub(super) unsure: bool,
    /// What was planned for last: [`View::changes`] and its own.
    planned: Option<(u64, u64)>,
    /// Rises with each thing told to the leader.
    told: u64,
    moves: Moves,
    healing: Option<Healing>,
    /// What stores have accepted above what the map says.
    fences: BTreeMap<Bucket, (Epoch, Holder)>,
    loads: BTreeMap<Bucket, u32>,
    /// The loads as they were when balance was last looked at.
    weighed: BTreeMap<Bucket, u32>,
    /// The highest version known to anybody when the map was last asked for.
    asked_at: u64,
    /// A map that was made again was refused: the stored one can't be passed.
    stuck: bool,
    unreachable: BTreeSet<Holder>,
    /// Since when an update is rolling.
    rolling: Option<Moment>,
    rebalance: Moment,
    backoff: Backoff,
}

/// The other cores that the leader looks at.
pub(super) struct Desk<'a> {
    pub(super) view: &'a mut View,
    pub(super) elector: &'a mut Elector,
    pub(super) evidence: &'a Evidence,
    pub(super) assign: Assign,
    pub(super) chance: &'a mut Chance,
    pub(super) out: &'a mut Out,
}

// === impl Leader ===

impl Leader {
    pub(super) fn new(view: &View) -> Self {
        Self {
            term: None,
            unsure: false,
            planned: None,
            told: 0,
            moves: Moves::default(),
            healing: None,
            fences: BTreeMap::new(),
            loads: BTreeMap::new(),
            weighed: BTreeMap::new(),
            asked_at: 0,
            stuck: false,
            unreachable: BTreeSet::new(),
            rolling: None,
            rebalance: Moment(0),
            backoff: Backoff::new(view.timing.retry, view.timing.retry_most),
        }
    }

    /// An owner has stopped, at a version that lists the move.
    pub(super) fn released(
        &mut self,
        now: Moment,
        from: &Holder,
        buckets: &[(Bucket, Epoch)],
        version: u64,
    ) {
        for (bucket, _) in buckets {
            self.told += u64::from(self.moves.acknowledged(now, *bucket, from, version));
        }
    }

    /// A store has accepted this: where it is above what the map says, the bucket is issued again.
    pub(super) fn fenced(&mut self, bucket: Bucket, epoch: Epoch, holder: &Holder) {
        let known = self
            .fences
            .get(&bucket)
            .is_some_and(|(known, _)| *known >= epoch);
        if !known {
            self.fences.insert(bucket, (epoch, holder.clone()));
            self.told += 1;
        }
    }

    /// Measured loads: they are weighed when balance is looked at next.
    pub(super) fn load(&mut self, loads: &[(Bucket, u32)]) {
        self.loads.extend(loads.iter().copied());
    }

    /// A peer says what it remembers.
    pub(super) fn remembered(
        &mut self,
        number: Option<u64>,
        highest: u64,
        map: Option<&Arc<ShardMapSpec>>,
    ) {
        if let Some(healing) = &mut self.healing {
            healing.remembered(number, highest, map);
        }
    }

    /// Whether the map is being made again.
    pub(super) const fn is_healing(&self) -> bool {
        self.healing.is_some()
    }

    /// Does what is due, while this replica leads.
    pub(super) fn step(&mut self, now: Moment, mut desk: Desk<'_>) {
        let Some(term) = desk.elector.term().filter(|_| desk.view.holder.is_some()) else {
            if self.term.take().is_some() {
                self.stand_down();
            }
            return;
        };
        if self.term != Some(term) {
            // A new leader begins with what is stored, not with what a watch last showed.
            self.unsure |= self.term.is_none();
            self.term = Some(term);
            self.planned = None;
        }
        let unreachable = desk.evidence.all_unreachable();
        if unreachable != self.unreachable || self.moves.due(now) || self.rebalance <= now {
            self.unreachable = unreachable;
            self.told += 1;
        }
        if desk.out.busy(&Object::Map) || desk.elector.bumping() {
            return;
        }
        if let Some(until) = self.backoff.waits(now) {
            desk.out.wake_at(until);
            return;
        }
        if self.unsure || matches!(desk.view.stored_map, Known::Unread) {
            self.unsure = false;
            self.asked_at = desk.view.highest_anywhere();
            desk.out.ask(now, Object::Map, Purpose::Read, Op::Read);
            return;
        }
        bury(now, desk.view, desk.out);
        if let Some(until) = self.moves.gathers(now, desk.view.timing.gather) {
            desk.out.wake_at(until);
            return;
        }
        self.lead(now, term, &mut desk);
        if let Some(due) = self.moves.next(now) {
            desk.out.wake_at(due);
        }
        if now < self.rebalance {
            desk.out.wake_at(self.rebalance);
        }
    }

    fn stand_down(&mut self) {
        self.moves = Moves::default();
        self.healing = None;
        self.fences.clear();
        self.planned = None;
        self.unsure = false;
    }

    fn lead(&mut self, now: Moment, term: u64, desk: &mut Desk<'_>) {
        let known = desk.view.highest_anywhere();
        let (stored, at) = match desk.view.stored_map.clone() {
            Known::Unread => return,
            Known::Absent => (None, None),
            Known::There {
                record,
                resource_version,
                uid,
            } => (record, Some((resource_version, uid))),
        };
        // One that is not followed although it was just read is another at a version that is taken: it
        // was created anew. Nobody would ever follow it.
        let sound =
            stored.filter(|map| map.version >= known && desk.view.map.as_ref() == Some(map));
        let Some(map) = sound else {
            if self.asked_at < known {
                // Somebody has seen a newer one since this was read: perhaps it is only late.
                self.unsure = true;
                desk.out.wake_at(now);
            } else {
                self.heal(now, term, at, desk);
            }
            return;
        };
        self.healing = None;
        let me = desk.view.holder.clone();
        let others = map.term > term || (map.term == term && Some(&map.leader) != me.as_ref());
        if others && !planted!(desk.view.protocol, TermFromLeaseAlone) {
            desk.elector.bump();
            return;
        }
        let planned = (desk.view.changes, self.told);
        if self.planned == Some(planned) {
            return;
        }
        self.planned = Some(planned);
        if self.rebalance <= now {
            self.rebalance = now.after(desk.view.timing.rebalance);
            self.weighed.clone_from(&self.loads);
        }
        if let Some(next) = self.plan(now, term, &map, desk) {
            write(now, next, at.map(|(at, _)| at), desk.out);
        }
    }

    fn plan(
        &mut self,
        now: Moment,
        term: u64,
        map: &Arc<ShardMapSpec>,
        desk: &mut Desk<'_>,
    ) -> Option<Arc<ShardMapSpec>> {
        let view = &*desk.view;
        self.moves.look(now, map, &view.timing);
        let balance = self.balance(now, map, view);
        let plan = Plan {
            now,
            term,
            view,
            evidence: desk.evidence,
            assign: desk.assign,
            moves: &self.moves,
            fences: &self.fences,
            loads: &self.weighed,
            balance,
        };
        let (next, events) = plan.next(map);
        for event in events {
            desk.out.tell(event);
        }
        next.map(Arc::new)
    }

    /// While an update is rolling, nothing moves for balance: it would move once too often. But one
    /// that is stuck half-way must not keep a fleet unbalanced for ever.
    fn balance(&mut self, now: Moment, map: &ShardMapSpec, view: &View) -> Balance {
        if !rolling(&view.wanted(map)) {
            self.rolling = None;
            return Balance::Free;
        }
        let until = self.rolling.get_or_insert(now).after(view.timing.rolling);
        if now < until {
            Balance::Held
        } else {
            Balance::Free
        }
    }

    /// Makes the map again, where it is missing, unreadable, or older than one that was seen.
    fn heal(
        &mut self,
        now: Moment,
        term: u64,
        at: Option<(ResourceVersion, Arc<str>)>,
        desk: &mut Desk<'_>,
    ) {
        if std::mem::take(&mut self.stuck) {
            // Its numbers leave no room above them; a new object has room.
            unmap(now, at, desk.out);
            return;
        }
        let view = &*desk.view;
        if self.healing.is_none() {
            self.healing = Some(Healing::begin(now, view, desk.chance, desk.out));
            // What a leader wrote under this term and what is to come must differ in their term.
            if view.map_term() > 0 {
                desk.elector.bump();
            }
        }
        let Some(healing) = &self.healing else {
            return;
        };
        if let Some(due) = healing.waits(now) {
            desk.out.wake_at(due);
            return;
        }
        desk.view.remembered = desk.view.remembered.max(healing.term());
        if desk.view.map_term() >= term {
            desk.elector.bump();
            return;
        }
        let Some(map) = healing.map(desk.view, desk.chance) else {
            return;
        };
        let planned = self.plan(now, term, &Arc::new(map), desk);
        if let Some(next) = planned {
            self.planned = None;
            write(now, next, at.map(|(at, _)| at), desk.out);
        }
    }

    /// An answer about the map came; the view knows it already.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        purpose: &Purpose,
        answer: &Answer,
        mut desk: Desk<'_>,
    ) {
        match (answer, purpose) {
            (Answer::Done(_), Purpose::Map(next)) => self.wrote(next, &mut desk),
            (Answer::Done(_) | Answer::Absent, _) => self.backoff.reset(),
            (Answer::Conflict | Answer::Exists, _) => self.unsure = true,
            (Answer::Refused(why), _) => {
                desk.out.tell(Event::WriteRefused(Arc::clone(why)));
                // Perhaps its term: a higher one, on what is stored now.
                self.stuck = self.healing.is_some();
                self.unsure = true;
                self.planned = None;
                self.backoff.failed(now, desk.chance);
                desk.elector.bump();
            }
            (Answer::Unknown, Purpose::Map(next)) => {
                if planted!(desk.view.protocol, UnknownIsDone) {
                    desk.view.follow(now, Arc::clone(next));
                    self.wrote(next, &mut desk);
                }
                self.unknown(now, desk.chance);
            }
            (Answer::Unknown, _) => self.unknown(now, desk.chance),
        }
    }

    fn unknown(&mut self, now: Moment, chance: &mut Chance) {
        self.unsure = true;
        self.planned = None;
        self.backoff.failed(now, chance);
    }

    fn wrote(&mut self, map: &Arc<ShardMapSpec>, desk: &mut Desk<'_>) {
        self.backoff.reset();
        self.healing = None;
        self.fences.retain(|bucket, (epoch, holder)| {
            map.grants
                .get(bucket)
                .is_none_or(|grant| above(*epoch, holder, grant))
        });
        let issued = map
            .grants
            .values()
            .filter(|grant| grant.epoch.0 == map.version)
            .count();
        desk.out.tell(Event::Wrote {
            version: map.version,
            issued,
            moves: map.moves.len(),
        });
        desk.out.seen(map.version);
        for (peer, _) in desk.view.peers() {
            desk.out.send(peer, Body::Hint);
        }
    }
}

/// Whether what a store has accepted is above what the map grants, or equal under another holder.
pub(super) fn above(epoch: Epoch, holder: &Holder, grant: &Grant) -> bool {
    epoch > grant.epoch || (epoch == grant.epoch && *holder != grant.owner)
}

fn write(now: Moment, next: Arc<ShardMapSpec>, at: Option<ResourceVersion>, out: &mut Out) {
    let record = Record::Map(Arc::clone(&next));
    let op = match at {
        Some(resource_version) => Op::Replace {
            record,
            resource_version,
        },
        None => Op::Create(record),
    };
    out.ask(now, Object::Map, Purpose::Map(next), op);
}

fn unmap(now: Moment, at: Option<(ResourceVersion, Arc<str>)>, out: &mut Out) {
    if let Some((resource_version, uid)) = at {
        let op = Op::Delete {
            uid,
            resource_version,
        };
        out.ask(now, Object::Map, Purpose::Unmap, op);
    }
}

/// Deletes member Leases that have been dead for long.
fn bury(now: Moment, view: &View, out: &mut Out) {
    for (pod, observed) in &view.roster {
        let dead = observed
            .record
            .as_ref()
            .is_some_and(|record| record.life != Life::Live);
        let (true, Some(at)) = (dead, &observed.resource_version) else {
            continue;
        };
        let Some(due) = view.contact.due(now, observed.changed, view.timing.bury) else {
            continue;
        };
        let object = Object::Member(pod.clone());
        if now < due {
            out.wake_at(due);
        } else if !out.busy(&object) {
            let op = Op::Delete {
                uid: Arc::clone(&observed.uid),
                resource_version: Arc::clone(at),
            };
            out.ask(now, object, Purpose::Bury, op);
        }
    }
}

#[cfg(test)]
mod tests;
