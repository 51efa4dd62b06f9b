//! The next version of the map, from the present one and all that is known.

use std::collections::BTreeMap;

use super::{
    super::{
        event::Event,
        evidence::Evidence,
        layout::{Assign, Balance, Layout, Wanted},
        names::{Holder, PodName, REACHABLE},
        port::Moment,
        protocol::planted,
        records::{Grant, Member, MemberRecord, MemberState, Move, ShardMapSpec, Stage},
        text::fit,
        view::{Fate, View},
    },
    above,
    moves::{Moves, Turn},
};
use crate::journal::{Bucket, Epoch};

/// All that the next map depends on.
pub(super) struct Plan<'a> {
    pub(super) now: Moment,
    pub(super) term: u64,
    pub(super) view: &'a View,
    pub(super) evidence: &'a Evidence,
    pub(super) assign: Assign,
    pub(super) moves: &'a Moves,
    pub(super) fences: &'a BTreeMap<Bucket, (Epoch, Holder)>,
    pub(super) loads: &'a BTreeMap<Bucket, u32>,
    pub(super) balance: Balance,
}

// === impl Plan ===

impl Plan<'_> {
    /// The next map; `None`: the present one is right.
    pub(super) fn next(&self, map: &ShardMapSpec) -> (Option<ShardMapSpec>, Vec<Event>) {
        let Some(me) = self.view.holder.clone() else {
            return (None, Vec::new());
        };
        let mut events = Vec::new();
        let mut next = ShardMapSpec {
            term: self.term,
            leader: me,
            ..map.clone()
        };
        let fenced = self.fenced(map, &mut events);
        let floor = fenced.iter().map(|(_, epoch)| epoch.0);
        let version = floor.fold(map.version, u64::max) + 1;
        self.members(&mut next);
        let layout = (self.assign)(&self.wanted(&next));
        self.adopt(&mut next, &layout, version);
        self.advance(&mut next, version, &mut events);
        self.ask(&mut next, &layout, version);
        for (bucket, _) in &fenced {
            reissue(&mut next, *bucket, version);
            events.push(Event::Reissued(*bucket));
        }
        for bucket in &self.view.odd {
            reissue(&mut next, *bucket, version);
        }
        if next == *map {
            return (None, events);
        }
        next.version = version;
        if fit(&mut next).postponed > 0 {
            // Perhaps there was nothing but what had no room.
            next.version = map.version;
            if next == *map {
                return (None, events);
            }
            next.version = version;
        }
        (Some(next), events)
    }

    /// Buckets of which a store has accepted more than the map says.
    fn fenced(&self, map: &ShardMapSpec, events: &mut Vec<Event>) -> Vec<(Bucket, Epoch)> {
        let mut passed = Vec::new();
        for (bucket, (epoch, holder)) in self.fences {
            let grant = map.grants.get(bucket);
            if !grant.is_some_and(|grant| above(*epoch, holder, grant)) {
                continue;
            }
            // Passing it would use up the numbers that the whole fleet has left.
            if epoch.0 >= REACHABLE {
                events.push(Event::EpochAtMaximum {
                    bucket: *bucket,
                    epoch: *epoch,
                });
            } else {
                passed.push((*bucket, *epoch));
            }
        }
        passed
    }

    /// The fleet as its Leases say.
    fn members(&self, next: &mut ShardMapSpec) {
        let view = self.view;
        for (pod, member) in &mut next.members {
            let holder = Holder {
                pod: pod.clone(),
                incarnation: member.incarnation,
            };
            let record = view.record(pod).filter(|record| record.holder == holder);
            member.state = self.state(&holder, record, member.state);
        }
        next.members.retain(|pod, member| {
            let buried = view
                .roster
                .get(pod)
                .is_none_or(|observed| observed.resource_version.is_none());
            member.state.lives() || !buried
        });
        let me = view.holder.iter().filter_map(|me| {
            let record = view.record(&me.pod)?;
            (record.holder == *me && view.ready && !view.draining).then_some((me, record))
        });
        let others = view
            .peers()
            .filter(|(holder, record)| self.welcome(holder, record));
        let joining: Vec<(PodName, Member)> = me
            .chain(others)
            .filter(|(holder, _)| {
                let member = next.members.get(&holder.pod);
                member.is_none_or(|member| member.incarnation < holder.incarnation)
            })
            .map(|(holder, record)| (holder.pod.clone(), Member::joined(record)))
            .collect();
        next.members.extend(joining);
    }

    fn state(
        &self,
        holder: &Holder,
        record: Option<&MemberRecord>,
        before: MemberState,
    ) -> MemberState {
        let me = self.view.holder.as_ref() == Some(holder);
        if !me && self.view.fate(holder) == Fate::Dead {
            return MemberState::Down;
        }
        let drains = if me {
            self.view.draining
        } else {
            record.map_or(before == MemberState::Draining, |record| record.draining)
        };
        if drains {
            MemberState::Draining
        } else if self.evidence.unreachable(holder) {
            MemberState::Unreachable
        } else if before.lives() {
            MemberState::Active
        } else {
            before
        }
    }

    /// Whether another may join: it is Ready, near, and speaks as this one does. One that can't be
    /// reached waits, or it would be given work only to lose it.
    fn welcome(&self, holder: &Holder, record: &MemberRecord) -> bool {
        let me = &self.view.me;
        record.ready
            && !record.draining
            && record.region == me.region
            && record.protocol.abs_diff(me.protocol) <= 1
            && self.view.reaches(holder)
    }

    /// What is asked of the assignment.
    fn wanted(&self, next: &ShardMapSpec) -> Wanted {
        let wanted = self.view.wanted(next);
        Wanted {
            loads: self.loads.clone(),
            balance: self.balance,
            ..wanted
        }
    }

    /// Gives what nobody alive owns to who takes it in one write.
    fn adopt(&self, next: &mut ShardMapSpec, layout: &Layout, version: u64) {
        for (bucket, place) in layout {
            let owned = next.grants.get(bucket).is_some_and(|grant| {
                let state = next.state(&grant.owner);
                state.is_some_and(MemberState::lives)
            });
            if !owned {
                next.moves.remove(bucket);
                self.grant(next, *bucket, place.owner.clone(), version);
            }
        }
    }

    /// Issues a bucket to a holder.
    fn grant(&self, next: &mut ShardMapSpec, bucket: Bucket, owner: Holder, version: u64) {
        let before = next.grants.get(&bucket).map(|grant| grant.epoch);
        let kept = before.filter(|_| planted!(self.view.protocol, EpochKept));
        let epoch = kept.unwrap_or(Epoch(version));
        next.grants.insert(bucket, Grant { owner, epoch });
    }

    /// Takes the moves under way a step further.
    fn advance(&self, next: &mut ShardMapSpec, version: u64, events: &mut Vec<Event>) {
        for (bucket, of) in next.moves.clone() {
            let owner = next.grants.get(&bucket).map(|grant| &grant.owner);
            let taker = next.state(&of.to) == Some(MemberState::Active);
            if owner != Some(&of.from) || !taker {
                // The owner goes on: nobody takes it from it.
                next.moves.remove(&bucket);
                continue;
            }
            let skip = planted!(self.view.protocol, SkipAcknowledgement);
            let turn = if skip {
                Turn::Commit
            } else {
                self.moves.turn(self.now, bucket)
            };
            let slow = |stage| Event::Slow {
                bucket,
                owner: of.from.clone(),
                stage,
            };
            match turn {
                Turn::Wait => {}
                Turn::Rise(stage) => {
                    events.push(slow(stage));
                    next.moves.insert(bucket, Move { stage, ..of });
                }
                Turn::Commit => {
                    if !skip && !self.moves.is_acknowledged(bucket) {
                        events.push(slow(Stage::Fence));
                    }
                    next.moves.remove(&bucket);
                    self.grant(next, bucket, of.to, version);
                }
            }
        }
    }

    /// Whether a holder hears at once what concerns it.
    fn reached(&self, holder: &Holder) -> bool {
        self.view.holder.as_ref() == Some(holder) || self.view.reaches(holder)
    }

    /// Asks owners for what another should have: all of those that give up everything, and what
    /// balance is worth.
    fn ask(&self, next: &mut ShardMapSpec, layout: &Layout, version: u64) {
        let most = usize::from(next.buckets)
            * usize::try_from(self.view.timing.moving_permille).unwrap_or(1000)
            / 1000;
        let mut room = most.max(1).saturating_sub(next.moves.len());
        let (mut leaving, mut better) = (Vec::new(), Vec::new());
        for (bucket, place) in layout {
            let Some(grant) = next.grants.get(bucket) else {
                continue;
            };
            if grant.owner == place.owner || next.moves.contains_key(bucket) {
                continue;
            }
            let of = Move {
                from: grant.owner.clone(),
                to: place.owner.clone(),
                since: version,
                stage: Stage::Ask,
            };
            match next.state(&grant.owner) {
                // A pod that isn't reached hears of nothing in time, and its loads are old.
                Some(MemberState::Active) => {
                    if self.reached(&of.from) && self.reached(&of.to) {
                        better.push((*bucket, of));
                    }
                }
                Some(MemberState::Draining | MemberState::Unreachable) => {
                    leaving.push((*bucket, of));
                }
                Some(MemberState::Down) | None => {}
            }
        }
        for (bucket, of) in leaving.into_iter().chain(better) {
            if room == 0 {
                break;
            }
            room -= 1;
            next.moves.insert(bucket, of);
        }
    }
}

/// The same owner, at a new epoch.
fn reissue(next: &mut ShardMapSpec, bucket: Bucket, version: u64) {
    if let Some(grant) = next.grants.get_mut(&bucket) {
        grant.epoch = Epoch(version);
    }
}
