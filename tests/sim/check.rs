//! The invariants, looked at after every event that could break one.

mod acts;
mod leases;
mod maps;
mod well;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use zen_fabric::{
    coordination::{
        names::{Holder, PodName},
        records::{MemberRecord, ShardMapSpec},
    },
    journal::{Bucket, Epoch},
};

use crate::{
    effects::Effects,
    plan::{Family, Plan, Step},
    time::{MS, SECOND, Time},
    world::bucket_of,
};

/// Fewest quiet seconds before a calm fleet's map may not change any more: everybody has joined,
/// and what had to move has moved.
const SETTLED: Time = 40 * SECOND;

/// How old the last confirmed renewal may be when an effect begins (`Timing::gate`), by the clock of
/// the process, with a timer's worth of slack.
const GATE: u64 = 10 * SECOND + 5 * MS;

/// How long an owner is asked before its bucket is taken without its answer (`Timing::ask` and
/// `Timing::warn`).
const DEADLINES: Time = 15 * SECOND;

/// `Timing::warn`.
const WARNED: Time = 5 * SECOND;

/// `Timing::lease`.
const LEASE: Time = 15 * SECOND;

/// How long a drain waits for others to take over (`Timing::drain`).
const DRAIN: Time = 25 * SECOND;

/// Most leaderships under a one-way partition of 300 s: damping doubles from 15 s, so that early
/// takeovers come at 15, 45, 105 and 225 s at the most; each may be followed by one release. With
/// those before the partition and after it.
const MOST_LEADERS: usize = 14;

/// Terms and versions from here on leave no room to heal; nobody takes one of them for granted.
const ROOM: u64 = (1 << 52) - 1 - (1 << 20);

/// What a log takes that is an effect.
const COMMIT: &str = "a commit";

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which invariant.
    pub(crate) invariant: &'static str,
    /// When.
    pub(crate) at: Time,
    /// What happened.
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.at / 1_000_000, self.at % 1_000_000);
        write!(
            f,
            "{} is broken at {seconds}.{micros:06}: {}",
            self.invariant, self.what
        )
    }
}

/// The last write of a member Lease.
#[derive(Clone, Debug)]
struct Written {
    at: Time,
    /// By which pod; absent: the operator.
    by: Option<usize>,
    record: Option<MemberRecord>,
}

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Check {
    /// The first rule that was broken.
    pub(crate) violation: Option<Violation>,
    /// Broken rules are counted, not reported: a baseline is measured.
    pub(crate) counting: bool,
    /// Writes and commits of an owner that a store took after it had taken a later owner's.
    pub(crate) stale: u64,
    family: Family,
    statuses: BTreeMap<usize, (Epoch, Holder)>,
    logs: BTreeMap<(usize, Bucket), (Epoch, Holder)>,
    issued: BTreeMap<(Bucket, Epoch), Holder>,
    /// To whom an editor's maps issued a bucket under an epoch: that is no write of the protocol's, but
    /// it is a map, and who reads it follows it.
    edited: BTreeSet<(Bucket, Epoch, Holder)>,
    terms: BTreeMap<u64, Holder>,
    leaders: usize,
    version: u64,
    last_map: Time,
    /// Until when a bucket is asked of its owner at least.
    listed: BTreeMap<Bucket, (Holder, Time)>,
    /// Who counted in the last maps, the newest last: a marker may be a version behind.
    voters: VecDeque<Vec<Holder>>,
    members: BTreeMap<PodName, Written>,
    /// When a voter's probes last said that a suspect's listeners refuse.
    refusals: BTreeMap<(Holder, Holder), Time>,
    doubled: u64,
    operated: bool,
    incarnations: BTreeMap<PodName, u64>,
    /// Processes that led and were declared dead, and when they learnt it.
    deposed: BTreeMap<(usize, u32), Time>,
    /// Somebody waited for a Lease to expire, since it was deposed of late.
    pub(crate) damped: bool,
    /// Since when a holder is in the map.
    joined: BTreeMap<Holder, Time>,
}

impl Check {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            violation: None,
            counting: false,
            stale: 0,
            family: plan.family,
            statuses: BTreeMap::new(),
            logs: BTreeMap::new(),
            issued: BTreeMap::new(),
            edited: BTreeSet::new(),
            terms: BTreeMap::new(),
            leaders: 0,
            version: 0,
            last_map: 0,
            listed: BTreeMap::new(),
            voters: VecDeque::new(),
            members: BTreeMap::new(),
            refusals: BTreeMap::new(),
            doubled: 0,
            operated: false,
            incarnations: BTreeMap::new(),
            deposed: BTreeMap::new(),
            damped: false,
            joined: BTreeMap::new(),
        }
    }

    /// A rule is broken.
    pub(crate) fn fault(&mut self, at: Time, invariant: &'static str, what: String) {
        if self.violation.is_none() && !self.counting {
            self.violation = Some(Violation {
                invariant,
                at,
                what,
            });
        }
    }

    // === I1, I9 and effects ===

    /// A log took a claim.
    pub(crate) fn claimed(
        &mut self,
        at: Time,
        place: (usize, Bucket),
        epoch: Epoch,
        holder: &Holder,
    ) {
        self.rises(at, place, epoch, holder, "a claim");
    }

    /// A log took a commit.
    pub(crate) fn committed(
        &mut self,
        at: Time,
        place: (usize, Bucket),
        epoch: Epoch,
        holder: &Holder,
    ) {
        self.rises(at, place, epoch, holder, COMMIT);
    }

    fn rises(
        &mut self,
        at: Time,
        place: (usize, Bucket),
        epoch: Epoch,
        holder: &Holder,
        what: &str,
    ) {
        let last = self
            .logs
            .entry(place)
            .or_insert_with(|| (epoch, holder.clone()));
        if is_stale(last, epoch, holder) {
            self.stale += u64::from(what == COMMIT);
            let text = format!(
                "log {} took {what} of {holder} under epoch {} in bucket {}, after {} under {}",
                place.0, epoch.0, place.1.0, last.1, last.0.0
            );
            self.fault(at, "I1", text);
        } else {
            *last = (epoch, holder.clone());
        }
    }

    /// A status was written.
    pub(crate) fn reported(&mut self, at: Time, key: usize, epoch: Epoch, holder: &Holder) {
        let last = self
            .statuses
            .entry(key)
            .or_insert_with(|| (epoch, holder.clone()));
        if is_stale(last, epoch, holder) {
            self.stale += 1;
            let text = format!(
                "the status of key {key} took a write of {holder} under epoch {}, after {} under {}",
                epoch.0, last.1, last.0.0
            );
            self.fault(at, "I1", text);
        } else {
            *last = (epoch, holder.clone());
        }
    }

    /// Somebody with `kubectl` wrote an owner into a status: that is what counts from now on.
    pub(crate) fn edited_status(&mut self, key: usize, epoch: Epoch, holder: Holder) {
        // A baseline, which knows no owners, would be charged for every write from now on.
        if !self.counting {
            self.statuses.insert(key, (epoch, holder));
        }
    }

    /// A log's numbers after a commit.
    pub(crate) fn tally(
        &mut self,
        at: Time,
        log: usize,
        (accepted, ends, backlog): (u64, u64, u64),
    ) {
        if accepted != ends + backlog {
            let text = format!(
                "log {log}: {accepted} accepted, {ends} ended, {backlog} wait: they don't add up"
            );
            self.fault(at, "I9", text);
        }
    }

    /// An effect was done.
    pub(crate) fn doubled(&mut self, at: Time, effects: &Effects) {
        if effects.doubled > self.doubled {
            self.doubled = effects.doubled;
            self.fault(at, "I4", "an event had its effect twice".to_owned());
        }
    }

    // === what was told and seen ===

    /// A holder was refused by another's listeners.
    pub(crate) fn refused(&mut self, at: Time, voter: Holder, suspect: Holder) {
        self.refusals.insert((voter, suspect), at);
    }

    /// A process has a name.
    pub(crate) fn became(&mut self, at: Time, pod: usize, holder: &Holder) {
        let last = self.incarnations.entry(holder.pod.clone()).or_insert(0);
        if holder.incarnation <= *last && !self.operated {
            let text = format!("core-{pod} became {holder}, which was there before");
            self.fault(at, "I8", text);
        } else {
            *last = holder.incarnation.max(*last);
        }
    }

    /// A process learns that it led and was declared dead.
    pub(crate) fn deposed(&mut self, at: Time, pod: usize, life: u32) {
        self.deposed.insert((pod, life), at);
    }

    /// The operator has changed or deleted something: numbers may begin anew where nothing
    /// remembers them.
    pub(crate) fn operated(&mut self, step: &Step) {
        self.operated = true;
        let forgets = match step {
            Step::DeleteAll | Step::EditMap { .. } => true,
            Step::Restore { map, leader, .. } => *map && *leader,
            _ => false,
        };
        if forgets {
            self.terms.clear();
        }
    }

    /// Nobody runs who could remember more than what is stored: numbers begin anew above that.
    pub(crate) fn forgotten(&mut self, version: u64, term: u64) {
        self.version = self.version.min(version);
        self.issued.retain(|(_, epoch), _| epoch.0 <= version);
        self.terms.retain(|known, _| *known <= term);
    }

    /// An effect begins though the last renewal that came to be confirmed was sent that long ago.
    pub(crate) fn gate(&mut self, at: Time, holder: &Holder, age: u64) {
        if age > GATE {
            let text = format!("{holder} begins an effect {age} µs after its last renewal");
            self.fault(at, "gate", text);
        }
    }

    // === maps ===

    /// A process follows a map.
    pub(crate) fn follows(&mut self, at: Time, pod: &PodName, version: u64, before: u64) {
        if version < before {
            let text = format!("{pod} follows version {version} of the map after {before}");
            self.fault(at, "map", text);
        }
    }

    fn map_written(&mut self, at: Time, map: &ShardMapSpec, by: Option<usize>, keys: usize) {
        if self.voters.len() == 3 {
            self.voters.pop_front();
        }
        self.voters.push_back(map.voters().collect());
        if by.is_none() {
            for bucket in (0..keys).map(bucket_of) {
                if let Some(grant) = map.grants.get(&bucket) {
                    self.edited
                        .insert((bucket, grant.epoch, grant.owner.clone()));
                }
            }
            return;
        }
        self.last_map = at;
        for (holder, _) in map.holders() {
            self.joined.entry(holder).or_insert(at);
        }
        if map.version <= self.version {
            let text = format!(
                "a map of version {} was written after one of version {}",
                map.version, self.version
            );
            self.fault(at, "I8", text);
        }
        self.version = self.version.max(map.version);
        let known = self
            .terms
            .entry(map.term)
            .or_insert_with(|| map.leader.clone());
        if *known != map.leader {
            let text = format!(
                "term {} was {known}'s and is now {}'s",
                map.term, map.leader
            );
            self.fault(at, "I8", text);
        }
        for key in 0..keys {
            let bucket = bucket_of(key);
            let Some(grant) = map.grants.get(&bucket) else {
                continue;
            };
            let owner = grant.owner.clone();
            if self.is_edited(bucket, grant.epoch, &owner) {
                // It is carried on, not issued.
                continue;
            }
            let issued = self.issued.entry((bucket, grant.epoch)).or_insert(owner);
            if *issued != grant.owner {
                let text = format!(
                    "epoch {} of bucket {} was issued to {issued} and to {}",
                    grant.epoch.0, bucket.0, grant.owner
                );
                self.fault(at, "I8", text);
            }
        }
    }

    /// Whether an editor's map issued this.
    fn is_edited(&self, bucket: Bucket, epoch: Epoch, holder: &Holder) -> bool {
        !self.edited.is_empty() && self.edited.contains(&(bucket, epoch, holder.clone()))
    }

    /// Whether an editor's map gave to one what another map gave to another, under the same epoch: then
    /// only what stores effects tells them apart.
    fn is_contested(&self, bucket: Bucket, epoch: Epoch, holder: &Holder) -> bool {
        let issued = self.issued.get(&(bucket, epoch));
        let others = self
            .edited
            .iter()
            .filter(|(one, at, _)| (*one, *at) == (bucket, epoch));
        let mut owners = issued.into_iter().chain(others.map(|(_, _, owner)| owner));
        self.is_edited(bucket, epoch, holder) && owners.any(|owner| owner != holder)
    }

    /// Whether the fleet was calm as long as nothing happened to it.
    pub(crate) fn stood_still(&mut self, now: Time) {
        if self.family == Family::Calm && self.last_map > SETTLED {
            let text = format!(
                "nothing happened, and the map was written at {} s",
                self.last_map / SECOND
            );
            self.fault(now, "I10", text);
        }
        if self.family == Family::OneWay && self.leaders > MOST_LEADERS {
            let text = format!("{} leaderships under one one-way partition", self.leaders);
            self.fault(now, "I10", text);
        }
    }
}

fn is_stale((epoch, holder): &(Epoch, Holder), next: Epoch, by: &Holder) -> bool {
    next < *epoch || (next == *epoch && by != holder)
}
