//! The invariants, looked at after every event that could break one.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use zen_fabric::{
    coordination::{
        names::{Holder, PodName},
        port::{Object, Op, Record},
        records::{Life, Member, MemberRecord, MemberState, ShardMapSpec, Stage},
    },
    journal::{Bucket, Epoch},
};

use crate::{
    effects::Effects,
    mutants::Planted,
    plan::{Family, Plan, Step},
    probe::{LATE_VOTE, VOTE},
    time::{MS, SECOND, Time},
    worker::Stage as LaneStage,
    world::{Ask, World, bucket_of, key_of},
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

// === what needs the world ===

impl World {
    /// A core asks something: not as somebody who it knows is dead.
    pub(crate) fn check_request(&mut self, pod: usize, object: &Object, op: &Op) {
        let (Op::Replace { record, .. } | Op::Create(record)) = op else {
            return;
        };
        let (Object::Member(_), Record::Member(record)) = (object, record) else {
            return;
        };
        let own = record.holder.pod == self.pods[pod].name && record.life == Life::Live;
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        if own && process.seen_marked.contains(&record.holder) && record.challenge.is_none() {
            let text = format!("{} renews although it has seen its mark", record.holder);
            self.check.fault(self.now, "I11", text);
        }
    }

    /// A worker asks a log or the API; whether that begins an effect.
    pub(crate) fn check_acts(&mut self, pod: usize, effect: bool) {
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        if let (Some(renewed), Some(holder)) = (process.renewed, process.holder.clone())
            && effect
            && self.now > process.resumed + 11 * SECOND
        {
            let age = process.clock.local(self.now).0 - renewed.0;
            self.check.gate(self.now, &holder, age);
        }
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        let acts = process
            .work
            .values()
            .find(|work| process.seen_marked.contains(&work.holder));
        if let Some(work) = acts {
            let text = format!("{} acts although it has seen its mark", work.holder);
            self.check.fault(self.now, "I11", text);
        }
    }

    /// A process was told to own a bucket.
    pub(crate) fn check_started(
        &mut self,
        pod: usize,
        bucket: Bucket,
        epoch: Epoch,
        holder: &Holder,
    ) {
        let issued = self.check.issued.get(&(bucket, epoch));
        let given = issued == Some(holder) || self.check.is_edited(bucket, epoch, holder);
        if !given && !matches!(self.planted, Planted::Baseline(_)) {
            let text = format!(
                "core-{pod} starts as {holder} under epoch {} in bucket {}, which no map gave it",
                epoch.0, bucket.0
            );
            self.check.fault(self.now, "I2", text);
        }
    }

    /// At most one owner with an open gate per bucket and epoch.
    pub(crate) fn check_owners(&mut self, pod: usize) {
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        if !process.gate {
            return;
        }
        for (bucket, work) in &process.work {
            for (other, place) in self.pods.iter().enumerate() {
                let Some(rival) = place.process.as_ref().filter(|_| other != pod) else {
                    continue;
                };
                let both = rival
                    .work
                    .get(bucket)
                    .is_some_and(|one| one.epoch == work.epoch);
                let contested = both
                    && [
                        Some(&work.holder),
                        rival.work.get(bucket).map(|one| &one.holder),
                    ]
                    .into_iter()
                    .flatten()
                    .any(|holder| self.check.is_contested(*bucket, work.epoch, holder));
                if rival.gate && both && !contested {
                    let text = format!(
                        "core-{pod} and core-{other} both own bucket {} under epoch {}",
                        bucket.0, work.epoch.0
                    );
                    self.check.fault(self.now, "I2", text);
                    return;
                }
            }
        }
    }

    /// A Lease or the map was changed.
    pub(crate) fn check_commit(&mut self, index: usize, by: Option<usize>, _ask: &Ask) {
        let now = self.now;
        let commit = self.api.commits[index].clone();
        let record = commit.stored.map(|stored| stored.record);
        match (&commit.object, record) {
            (Object::Map, Some(Record::Map(map))) => {
                self.check_moved(index, by, &map);
                self.check.map_written(now, &map, by, self.plan.keys);
            }
            (Object::Leader, Some(Record::Leader(leader))) => {
                self.check_leader(index, by, &leader);
            }
            (Object::Member(pod), record) => {
                let record = match record {
                    Some(Record::Member(record)) => Some(record),
                    Some(Record::Leader(_) | Record::Map(_) | Record::Malformed(_)) | None => None,
                };
                self.check_member(pod.clone(), by, record);
            }
            (Object::Map | Object::Leader, _) => {}
        }
    }

    /// Where an editor has made numbers fall while no process runs, or the last one that knew higher
    /// ones is gone, nothing but what is stored is remembered.
    pub(crate) fn check_memory(&mut self) {
        if !self.check.operated || self.pods.iter().any(|place| place.process.is_some()) {
            return;
        }
        let (mut version, mut term) = (None, 0);
        if let Some(Record::Map(map)) = self.api.stored(&Object::Map).map(|one| &one.record) {
            (version, term) = (Some(map.version), map.term);
        }
        if let Some(Record::Leader(leader)) =
            self.api.stored(&Object::Leader).map(|one| &one.record)
        {
            term = term.max(leader.term);
        }
        let members = self.check.members.values();
        let seen = members
            .filter_map(|one| Some(one.record.as_ref()?.seen))
            .max();
        // A missing map is made again above what journals remember; one that is there is believed.
        let version = version.map_or(u64::MAX, |version| version.max(seen.unwrap_or_default()));
        self.check.forgotten(version, term);
    }

    /// When the object was last written before.
    fn changed_before(&self, index: usize) -> Time {
        let object = &self.api.commits[index].object;
        let earlier = self.api.commits[..index].iter().rev();
        let mut same = earlier.filter(|commit| commit.object == *object);
        same.next().map_or(0, |commit| commit.at)
    }

    fn before(&self, index: usize) -> Option<&Record> {
        let object = &self.api.commits[index].object;
        let earlier = self.api.commits[..index].iter().rev();
        let mut same = earlier.filter(|commit| commit.object == *object);
        same.next()?.stored.as_ref().map(|stored| &stored.record)
    }

    fn check_leader(
        &mut self,
        index: usize,
        by: Option<usize>,
        leader: &zen_fabric::coordination::records::LeaderRecord,
    ) {
        let (now, naive) = (self.now, matches!(self.planted, Planted::Baseline(_)));
        let before = self.before(index).cloned();
        let Some(Record::Leader(before)) = before else {
            self.check.leaders += 1;
            return;
        };
        let changed = leader.holder != before.holder;
        if changed && leader.holder.is_some() {
            self.check.leaders += 1;
        }
        if by.is_none() || naive {
            return;
        }
        // What leaves no room above it is no term, whoever wrote it: it is passed over.
        if before.term >= ROOM {
            return;
        }
        let since = self.changed_before(index);
        // One that nobody has ever been is an editor's: it has no peace that could be disturbed.
        let incarnations = &self.check.incarnations;
        let was = before.holder.as_ref();
        let somebody = was.is_some_and(|holder| incarnations.contains_key(&holder.pod));
        if changed && somebody && now < since + self.slow(LEASE) {
            self.check_early(by, leader.holder.as_ref());
        }
        let taken = changed && leader.holder.is_some() && leader.term <= before.term;
        if taken || leader.term < before.term {
            let text = format!(
                "the leader Lease was {:?}'s at term {}, and is {:?}'s at term {}",
                before.holder, before.term, leader.holder, leader.term
            );
            self.check.fault(now, "I8", text);
        }
    }

    /// One that led and was declared dead, and lives, leaves it to others to take over early for one
    /// Lease duration at least.
    fn check_early(&mut self, by: Option<usize>, holder: Option<&Holder>) {
        let (Some(pod), Some(holder)) = (by, holder) else {
            return;
        };
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        // Where nobody else lives, there is nobody whom it could disturb.
        let others = self.check.members.iter().any(|(other, written)| {
            let live = |record: &MemberRecord| record.life == Life::Live;
            *other != holder.pod && written.record.as_ref().is_some_and(live)
        });
        let deposed = self
            .check
            .deposed
            .get(&(pod, process.life))
            .filter(|_| others);
        if deposed.is_some_and(|at| self.now < at + self.slow(LEASE)) {
            let text = format!("{holder} was deposed of late and takes over early again");
            self.check.fault(self.now, "I10", text);
        }
    }

    /// A bucket got another owner: the former one has stopped, is dead, or was fenced.
    fn check_moved(&mut self, index: usize, by: Option<usize>, map: &ShardMapSpec) {
        let before = match self.before(index).cloned() {
            Some(Record::Map(before)) => before.moves.clone(),
            Some(Record::Leader(_) | Record::Member(_) | Record::Malformed(_)) | None => {
                BTreeMap::new()
            }
        };
        for (bucket, of) in &before {
            let Some(key) = key_of(*bucket, self.plan.keys) else {
                continue;
            };
            let moved = map
                .grants
                .get(bucket)
                .is_some_and(|grant| grant.owner != of.from);
            let lives = map.state(&of.from).is_some_and(MemberState::lives);
            let asked = self
                .check
                .listed
                .get(bucket)
                .filter(|(from, _)| *from == of.from);
            let fenced = asked.is_some_and(|(_, until)| self.now >= *until);
            if by.is_none() || !moved || !lives || fenced {
                continue;
            }
            let busy = self.pods.iter().any(|place| {
                let Some(process) = &place.process else {
                    return false;
                };
                let work = process.work.get(bucket);
                work.is_some_and(|work| {
                    work.holder == of.from && (!work.released || !work.is_still())
                })
            });
            if busy {
                let text = format!(
                    "bucket {} (key {key}) moves from {} to {} while that works on it",
                    bucket.0, of.from, of.to
                );
                self.check.fault(self.now, "I4", text);
            }
        }
        let (asked, warned) = (self.slow(DEADLINES), self.slow(WARNED));
        let now = self.now;
        let listed = &mut self.check.listed;
        listed.retain(|bucket, (from, _)| {
            let of = map.moves.get(bucket);
            of.is_some_and(|of| of.from == *from)
        });
        for (bucket, of) in &map.moves {
            // An editor may have begun with the warning.
            let hurried = by.is_none() && of.stage != Stage::Ask;
            let until = now + if hurried { warned } else { asked };
            let listed = listed
                .entry(*bucket)
                .or_insert_with(|| (of.from.clone(), until));
            listed.1 = listed.1.min(until);
        }
    }

    /// A span that a process waits, as the fastest clock of the schedule shows it.
    fn slow(&self, span: Time) -> Time {
        span - span * (self.plan.drift + 1) / 1_000_000 - 20 * MS
    }

    /// A member Lease was written: nobody is marked who has renewed since the evidence.
    fn check_member(&mut self, pod: PodName, by: Option<usize>, record: Option<MemberRecord>) {
        let now = self.now;
        let next = Written {
            at: now,
            by,
            record: record.clone(),
        };
        let before = self.check.members.insert(pod.clone(), next);
        let (Some(record), Some(before), Some(by)) = (record, before, by) else {
            return;
        };
        let Some(old) = before.record.filter(|old| old.holder == record.holder) else {
            return;
        };
        if record.life == Life::Gone {
            self.check_goodbye(&record.holder);
        }
        if record.life != Life::Marked || old.life != Life::Live {
            return;
        }
        if matches!(self.check.family, Family::Calm | Family::Outage) {
            let text = format!(
                "{} was marked though all that happened was {:?}",
                record.holder, self.check.family
            );
            self.check.fault(now, "I11", text);
        }
        let suspect = self.pods.iter().position(|one| one.name == pod);
        let lives = suspect.is_some_and(|suspect| {
            let process = self.pods[suspect].process.as_ref();
            process.is_some_and(|process| process.holder.as_ref() == Some(&record.holder))
        });
        if !lives || before.by.is_none() {
            return;
        }
        let age = now - before.at;
        let stale = age >= self.slow(LEASE);
        let challenged =
            old.challenge.is_some() && before.by != suspect && age >= self.slow(SECOND);
        let late = self
            .plan
            .steps
            .iter()
            .any(|(_, step)| matches!(step, Step::Storm { .. }));
        let since = before
            .at
            .saturating_sub(if late { LATE_VOTE } else { VOTE });
        let refused = |voter: &Holder| {
            let votes = &self.check.refusals;
            let seen = votes.get(&(voter.clone(), record.holder.clone()));
            seen.is_some_and(|seen| *seen >= since)
        };
        let majority = self.check.voters.iter().any(|voters| {
            let those = voters.iter().filter(|voter| refused(voter));
            those.count() * 2 > voters.len()
        });
        if !(stale || challenged || majority) {
            let text = format!(
                "core-{by} marked {}, which lives and wrote its Lease {age} µs before",
                record.holder
            );
            self.check.fault(now, "I11", text);
        }
    }

    /// One that drains has said goodbye: where another could take what it has, that was taken before,
    /// or its deadline is over. Looked at where nothing but updates happens, and everybody knows
    /// everybody.
    fn check_goodbye(&mut self, holder: &Holder) {
        let stored = self.api.stored(&Object::Map).map(|stored| &stored.record);
        let Some(Record::Map(map)) = stored else {
            return;
        };
        let of = |holder: &Holder| self.pods.iter().find(|one| one.name == holder.pod);
        let overdue = of(holder)
            .and_then(|place| place.process.as_ref())
            .is_none_or(|process| self.now >= process.asked + self.slow(DRAIN));
        let takes = |(other, member): (Holder, &Member)| {
            let process = of(&other).and_then(|place| place.process.as_ref());
            let here = process.is_some_and(|process| {
                process.holder.as_ref() == Some(&other) && !process.draining && !process.paused
            });
            other != *holder && here && member.state == MemberState::Active
        };
        let left = map.grants.values().any(|grant| grant.owner == *holder);
        // One that has not seen that it is in the map goes at once.
        let joined = self.check.joined.get(holder);
        let overdue = overdue || joined.is_none_or(|at| self.now < at + 100 * MS);
        if self.check.family == Family::Rollout && left && !overdue && map.holders().any(takes) {
            let text = format!("{holder} says goodbye while it owns what others could take");
            self.check.fault(self.now, "I4", text);
        }
    }

    /// What keeps the fleet from being well, if anything does.
    pub(crate) fn ails(&mut self) -> Option<String> {
        let now = self.now;
        if !self.api.is_well(now) {
            return Some("the API is not back".to_owned());
        }
        let Some(Record::Map(map)) = self.api.stored(&Object::Map).map(|one| one.record.clone())
        else {
            return Some("there is no map".to_owned());
        };
        if !map.moves.is_empty() {
            return Some(format!("{} buckets still move", map.moves.len()));
        }
        for place in &self.pods {
            let Some(process) = &place.process else {
                if place.phase == crate::process::Phase::Wanted {
                    return Some(format!("{} doesn't run", place.name));
                }
                continue;
            };
            let standing = process.brain.standing();
            let Some(holder) = &standing.holder else {
                return Some(format!("{} has no name", place.name));
            };
            if place.phase != crate::process::Phase::Wanted || process.draining {
                return Some(format!("{} has not gone", place.name));
            }
            if standing.version != map.version {
                return Some(format!("{holder} follows version {}", standing.version));
            }
            if !standing.open {
                return Some(format!("the gate of {holder} is shut"));
            }
            let state = map.state(holder);
            if state != Some(MemberState::Active) {
                return Some(format!("{holder} is {state:?} in the map"));
            }
        }
        if let Some(what) = self.leaderless() {
            return Some(what);
        }
        for key in 0..self.plan.keys {
            if let Some(what) = self.unowned(key, &map) {
                return Some(what);
            }
        }
        for (number, log) in self.logs.iter().enumerate() {
            let (_, _, backlog) = log.tally();
            if backlog > 0 {
                return Some(format!("{backlog} events wait in log {number}"));
            }
        }
        let lost = self
            .accepted
            .iter()
            .find_map(|event| self.effects.fault(event));
        if lost.is_none() {
            self.check.stood_still(now);
        }
        lost
    }

    fn leaderless(&self) -> Option<String> {
        let stored = self.api.stored(&Object::Leader).map(|one| &one.record);
        let Some(Record::Leader(leader)) = stored else {
            return Some("there is no leader Lease".to_owned());
        };
        let leads = self.pods.iter().any(|place| {
            let process = place.process.as_ref();
            process.is_some_and(|process| {
                process.holder == leader.holder && process.brain.standing().term.is_some()
            })
        });
        (!leads).then(|| {
            format!(
                "the leader Lease is {:?}'s, who doesn't lead",
                leader.holder
            )
        })
    }

    fn unowned(&self, key: usize, map: &ShardMapSpec) -> Option<String> {
        let bucket = bucket_of(key);
        let Some(grant) = map.grants.get(&bucket) else {
            return Some(format!("nobody owns key {key}"));
        };
        let place = self.pods.iter().find(|one| one.name == grant.owner.pod)?;
        let Some(process) = &place.process else {
            return Some(format!("{} owns key {key} and doesn't run", grant.owner));
        };
        let Some(work) = process.work.get(&bucket) else {
            return Some(format!("{} doesn't work on key {key}", grant.owner));
        };
        if work.status.refused || work.status.dirty {
            return Some(format!("the status of key {key} is not written"));
        }
        if work.holder != grant.owner || work.epoch != grant.epoch {
            return Some(format!(
                "key {key} is {}'s under {}, and {} works on it under {}",
                grant.owner, grant.epoch.0, work.holder, work.epoch.0
            ));
        }
        let reads = work
            .lanes
            .iter()
            .all(|lane| lane.epoch == Some(grant.epoch) && lane.stage == LaneStage::Listening);
        if !reads || !process.gate {
            return Some(format!(
                "{} owns key {key} and doesn't read it",
                grant.owner
            ));
        }
        None
    }
}
