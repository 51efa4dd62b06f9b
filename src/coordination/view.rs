//! What this replica knows: Leases, the map, links, and its own contact with the API server.
//!
//! Knowledge from a watch may be old, and from an answer is as new as its request. Nothing here
//! decides; the cores read it.

mod observed;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(super) use self::observed::{Known, Observed};
use super::{
    chance::mixed,
    contact::Contact,
    layout::{Balance, Candidate, Wanted},
    names::{Holder, PodName, REACHABLE},
    port::{Link, Moment, Object, Record, Stored},
    protocol::{Protocol, planted},
    records::{Grant, LeaderRecord, Life, MemberRecord, MemberState, ShardMapSpec},
    replica::Me,
    timing::Timing,
};
use crate::journal::Bucket;

/// Whether a holder lives, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its Lease says so.
    Alive,
    /// Its Lease, or the map, says that it is dead. That never becomes untrue.
    Dead,
    /// Nothing is known of it.
    Unknown,
}

/// What this replica knows.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) me: Me,
    pub(super) timing: Timing,
    pub(super) protocol: Protocol,
    /// As whom this replica acts.
    pub(super) holder: Option<Holder>,
    pub(super) ready: bool,
    pub(super) draining: bool,
    /// It drains by an operator's word, and doesn't leave.
    pub(super) stays: bool,
    /// The newest map seen, the one that is followed.
    pub(super) map: Option<Arc<ShardMapSpec>>,
    /// Since when.
    followed: Moment,
    /// The highest version seen here.
    pub(super) highest: u64,
    /// The highest term under which peers remember a map that was lost.
    pub(super) remembered: u64,
    /// The highest term that the leader Lease was seen at: where it and the map are deleted, nobody
    /// else may know it.
    pub(super) lease_term: u64,
    /// What the API server has for the map, as last heard.
    pub(super) stored_map: Known<Arc<ShardMapSpec>>,
    /// Member Leases, one's own too.
    pub(super) roster: BTreeMap<PodName, Observed<MemberRecord>>,
    pub(super) leader: Option<Observed<LeaderRecord>>,
    /// What probes last said.
    pub(super) links: BTreeMap<Holder, Link>,
    pub(super) contact: Contact,
    /// Buckets that the map gives to another without a higher epoch, or to the same one under a lower:
    /// an editor's slip. Nobody starts on them until the leader has issued them anew.
    pub(super) odd: BTreeSet<Bucket>,
    /// Rises with every change that could ask for another map.
    pub(super) changes: u64,
}

/// What a map turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Newer: it is followed.
    Newer,
    /// The one that is followed.
    Same,
    /// An answer to what was asked before the one that is followed was seen: nothing follows from it.
    Late,
    /// Older than one seen before, or another at the same version, or unreadable, or gone: the one
    /// that was followed stays.
    Odd,
}

// === impl View ===

impl View {
    /// The holder that the map has today of the pod of `holder`.
    pub(super) fn of_today(&self, holder: &Holder) -> Option<Holder> {
        let member = self.map.as_ref()?.members.get(&holder.pod)?;
        Some(Holder {
            pod: holder.pod.clone(),
            incarnation: member.incarnation,
        })
    }

    pub(super) fn new(me: Me, timing: Timing, protocol: Protocol) -> Self {
        Self {
            contact: Contact::new(&timing, protocol),
            me,
            timing,
            protocol,
            holder: None,
            ready: false,
            draining: false,
            stays: false,
            map: None,
            followed: Moment(0),
            highest: 0,
            remembered: 0,
            lease_term: 0,
            stored_map: Known::Unread,
            roster: BTreeMap::new(),
            leader: None,
            links: BTreeMap::new(),
            odd: BTreeSet::new(),
            changes: 0,
        }
    }

    /// Takes in what the API server says about a member or leader Lease. `asked`: when that was asked
    /// for; `None`: a watch shows it.
    pub(super) fn observe(
        &mut self,
        now: Moment,
        object: &Object,
        heard: Option<&Stored>,
        asked: Option<Moment>,
    ) {
        let changed = match object {
            Object::Leader => {
                let leader = self.leader.get_or_insert_with(|| Observed::new(now));
                let changed = leader.observe(now, heard, asked, |record| match record {
                    // As with maps: above that there is no room for the next leader.
                    Record::Leader(record) => Some(record.clone()).filter(|r| r.term < REACHABLE),
                    Record::Member(_) | Record::Map(_) | Record::Malformed(_) => None,
                });
                let term = leader.record.as_ref().map_or(0, |record| record.term);
                self.lease_term = self.lease_term.max(term);
                changed
            }
            Object::Member(pod) => {
                let member = self
                    .roster
                    .entry(pod.clone())
                    .or_insert_with(|| Observed::new(now));
                let before = member.record.as_ref().map(kernel);
                member.observe(now, heard, asked, |record| match record {
                    Record::Member(record) => Some(record.clone()).filter(|r| r.holder.pod == *pod),
                    Record::Leader(_) | Record::Map(_) | Record::Malformed(_) => None,
                });
                let changed = before != member.record.as_ref().map(kernel);
                if changed {
                    let dead: Vec<Holder> = self
                        .links
                        .keys()
                        .filter(|holder| holder.pod == *pod && self.fate(holder) == Fate::Dead)
                        .cloned()
                        .collect();
                    self.links.retain(|holder, _| !dead.contains(holder));
                }
                changed
            }
            Object::Map => false,
        };
        self.changes += u64::from(changed);
    }

    /// Takes in what the API server says about the map. What a watch says is believed only where it
    /// is newer than all that was seen; else it may merely be late, and an answer has to tell.
    pub(super) fn observe_map(
        &mut self,
        now: Moment,
        heard: Option<&Stored>,
        asked: Option<Moment>,
    ) -> Heard {
        let known = Known::of(heard, |record| match record {
            Record::Map(spec) => Some(Arc::clone(spec)).filter(|spec| self.sound(spec)),
            Record::Leader(_) | Record::Member(_) | Record::Malformed(_) => None,
        });
        let spec = match &known {
            Known::There { record, .. } => record.clone(),
            Known::Unread | Known::Absent => None,
        };
        if spec.is_some() && spec == self.map {
            self.stored_map = known;
            return Heard::Same;
        }
        let newer = spec.filter(|spec| {
            spec.version > self.highest || planted!(self.protocol, OlderMapFollowed)
        });
        if newer.is_none() && asked.is_some_and(|asked| asked < self.followed) {
            return Heard::Late;
        }
        if asked.is_some() || newer.is_some() {
            self.stored_map = known;
            self.changes += 1;
        }
        let Some(newer) = newer else {
            return Heard::Odd;
        };
        self.follow(now, newer);
        Heard::Newer
    }

    /// From now on this map is followed.
    pub(super) fn follow(&mut self, now: Moment, spec: Arc<ShardMapSpec>) {
        self.highest = self.highest.max(spec.version);
        self.followed = now;
        for pod in spec.members.keys() {
            // A member whose Lease was never seen: its clock begins here.
            self.roster
                .entry(pod.clone())
                .or_insert_with(|| Observed::new(now));
        }
        self.links.retain(|holder, _| {
            spec.members
                .get(&holder.pod)
                .is_none_or(|member| holder.incarnation >= member.incarnation)
                && spec.state(holder) != Some(MemberState::Down)
        });
        if let Some(before) = &self.map {
            let odd = |bucket: &Bucket, grant: &Grant| {
                before.grants.get(bucket).is_some_and(|old| {
                    let kept = self.odd.contains(bucket) && old == grant;
                    let slip = old.owner != grant.owner
                        && grant.epoch <= old.epoch
                        && !planted!(self.protocol, EpochKept);
                    kept || slip || grant.epoch < old.epoch
                })
            };
            self.odd = spec
                .grants
                .iter()
                .filter(|(bucket, grant)| odd(bucket, grant))
                .map(|(bucket, _)| *bucket)
                .collect();
        }
        self.map = Some(spec);
    }

    /// Whether a map says only what can be.
    pub(super) fn sound(&self, spec: &ShardMapSpec) -> bool {
        spec.is_sound(self.me.buckets)
    }

    /// Whether a pod has no member Lease at all; one that can't be read is one.
    pub(super) fn has_no_lease(&self, pod: &PodName) -> bool {
        self.roster
            .get(pod)
            .is_none_or(|observed| observed.resource_version.is_none())
    }

    /// Whether a life has not begun: its pod has no member Lease, or that of an earlier life.
    pub(super) fn is_unborn(&self, holder: &Holder) -> bool {
        self.record(&holder.pod).map_or_else(
            || self.has_no_lease(&holder.pod),
            |record| record.holder.incarnation < holder.incarnation,
        )
    }

    /// Whether this holder lives.
    pub(super) fn fate(&self, holder: &Holder) -> Fate {
        let mapped = self
            .map
            .as_ref()
            .and_then(|map| map.members.get(&holder.pod));
        if mapped.is_some_and(|member| {
            member.incarnation > holder.incarnation
                || (member.incarnation == holder.incarnation && !member.state.lives())
        }) {
            return Fate::Dead;
        }
        let Some(record) = self.record(&holder.pod) else {
            return Fate::Unknown;
        };
        match (
            record.holder.incarnation.cmp(&holder.incarnation),
            record.life,
        ) {
            (std::cmp::Ordering::Greater, _)
            | (std::cmp::Ordering::Equal, Life::Marked | Life::Gone) => Fate::Dead,
            (std::cmp::Ordering::Equal, Life::Live) => Fate::Alive,
            (std::cmp::Ordering::Less, _) => Fate::Unknown,
        }
    }

    pub(super) fn record(&self, pod: &PodName) -> Option<&MemberRecord> {
        self.roster.get(pod)?.record.as_ref()
    }

    /// The live holders of all member Leases but this one's.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&Holder, &MemberRecord)> {
        self.roster
            .values()
            .filter_map(|observed| observed.record.as_ref())
            .filter(|record| record.life == Life::Live && record.holder.pod != self.me.pod)
            .map(|record| (&record.holder, record))
            .filter(|(holder, _)| self.fate(holder) == Fate::Alive)
    }

    /// Whether there is any other pod's member Lease but a goodbye. One that is marked is company: it may
    /// be back already.
    pub(super) fn has_company(&self) -> bool {
        self.roster.iter().any(|(pod, observed)| {
            let gone = |record: &MemberRecord| record.life == Life::Gone;
            *pod != self.me.pod
                && observed.resource_version.is_some()
                && !observed.record.as_ref().is_some_and(gone)
        })
    }

    /// Whom the leader Lease names.
    pub(super) fn leading(&self) -> Option<&Holder> {
        self.leader.as_ref()?.record.as_ref()?.holder.as_ref()
    }

    /// Whether this replica's own probes reach a holder.
    pub(super) fn reaches(&self, holder: &Holder) -> bool {
        self.links.get(holder) == Some(&Link::Reached)
    }

    /// Whether this replica's own probes say that a holder doesn't answer.
    pub(super) fn suspects(&self, holder: &Holder) -> bool {
        matches!(self.links.get(holder), Some(Link::Refused | Link::Silent))
    }

    /// Those who may lead now besides this replica: live, Ready, not draining, not suspected.
    pub(super) fn heirs(&self) -> impl Iterator<Item = (&Holder, &MemberRecord)> {
        self.peers()
            .filter(|(holder, record)| record.ready && !record.draining && !self.suspects(holder))
    }

    /// Whether this replica may lead: Ready, and not draining; one that drains and stays leads where
    /// nobody else may.
    pub(super) fn may_lead(&self) -> bool {
        self.ready && (!self.draining || (self.stays && self.heirs().next().is_none()))
    }

    /// How many candidates come before this replica when `term` ends: rendezvous order, so that each
    /// term has another and all observers agree about it.
    pub(super) fn rank(&self, term: u64) -> u32 {
        let mine = draw(term, &self.me.pod);
        let before = self
            .heirs()
            .filter(|(holder, _)| draw(term, &holder.pod) > mine)
            .count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// The highest number of a map that anybody is known to have seen.
    pub(super) fn highest_anywhere(&self) -> u64 {
        self.roster
            .values()
            .filter_map(|observed| observed.record.as_ref())
            .map(|record| record.seen)
            .filter(|seen| *seen < REACHABLE)
            .fold(self.highest, u64::max)
    }

    /// The term of the map that the API server has, or of the one that is followed, or of one that
    /// peers remember.
    pub(super) fn map_term(&self) -> u64 {
        if planted!(self.protocol, TermFromLeaseAlone) {
            return 0;
        }
        let stored = match &self.stored_map {
            Known::There { record, .. } => record.as_ref().map_or(0, |spec| spec.term),
            Known::Unread | Known::Absent => 0,
        };
        let followed = self.map.as_ref().map_or(0, |map| map.term);
        stored.max(followed).max(self.remembered)
    }

    /// The question to the assignment that a map poses; what moves already counts as moved.
    pub(super) fn wanted(&self, map: &ShardMapSpec) -> Wanted {
        let candidates = map
            .holders()
            .filter(|(_, member)| member.state == MemberState::Active)
            .map(|(holder, member)| {
                let record = self
                    .record(&holder.pod)
                    .filter(|record| record.holder == holder);
                let candidate = Candidate {
                    zone: Arc::clone(&member.zone),
                    region: record
                        .map_or_else(|| Arc::clone(&self.me.region), |r| Arc::clone(&r.region)),
                    weight: member.weight,
                    build: record.map_or_else(|| Arc::from(""), |r| Arc::clone(&r.build)),
                };
                (holder, candidate)
            })
            .collect();
        let mut wanted = Wanted {
            buckets: map.buckets,
            candidates,
            current: map
                .grants
                .iter()
                .map(|(bucket, grant)| (*bucket, grant.owner.clone()))
                .collect(),
            zones: map
                .holders()
                .filter(|(_, member)| member.state != MemberState::Active)
                .map(|(holder, member)| (holder, Arc::clone(&member.zone)))
                .collect(),
            loads: BTreeMap::new(),
            balance: Balance::Free,
            gain_percent: self.timing.gain_percent,
        };
        for (bucket, of) in &map.moves {
            if wanted.candidates.contains_key(&of.to) {
                wanted.current.insert(*bucket, of.to.clone());
            }
        }
        wanted
    }

    /// Every pod that a Lease or the map names.
    pub(super) fn named(&self) -> BTreeSet<Holder> {
        let mapped = self.map.iter().flat_map(|map| map.holders());
        let alive = mapped
            .filter(|(_, member)| member.state.lives())
            .map(|(holder, _)| holder);
        alive
            .chain(self.leading().cloned())
            .chain(self.peers().map(|(holder, _)| holder.clone()))
            .filter(|holder| Some(holder) != self.holder.as_ref())
            .collect()
    }
}

/// What of a member Lease could ask for another map.
fn kernel(record: &MemberRecord) -> (Holder, Life, bool, bool, u32) {
    (
        record.holder.clone(),
        record.life,
        record.ready,
        record.draining,
        record.weight,
    )
}

/// A pod's place when a term ends.
fn draw(term: u64, pod: &PodName) -> (u64, &PodName) {
    let hash = pod.0.bytes().fold(mixed(term), |hash, byte| {
        mixed(hash ^ u64::from(byte)).wrapping_add(0x9e37_79b9_7f4a_7c15)
    });
    (hash, pod)
}
