//! A small world for scenarios: an API server that is always right, a network with switches, and
//! replicas with workers. The simulator (`tests/sim`) has the unkind one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::super::{
    assign::assign,
    event::Event,
    names::{Holder, PodName},
    port::{
        Action, Answer, Input, Link, Moment, Object, Op, Record, RequestId, ResourceVersion, Stored,
    },
    protocol::Protocol,
    records::{LeaderRecord, MemberRecord, ShardMapSpec},
    replica::{Replica, Standing},
    timing::Timing,
};
use super::fixtures::{BUCKETS, me, pod};
use crate::journal::{Bucket, Epoch};

/// How one process can be cut off from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Cut {
    Drops,
    Rejects,
}

/// What comes when.
#[derive(Clone, Debug)]
enum Due {
    Input(usize, u64, Input),
    Arrive(usize, u64, RequestId, Object, Op),
}

#[expect(clippy::struct_excessive_bools, reason = "switches of a test")]
pub(in super::super) struct Process {
    pub(in super::super) replica: Replica,
    pub(in super::super) up: bool,
    pub(in super::super) paused: bool,
    /// Which run of the process: what was meant for an earlier one is lost.
    run: u64,
    holder: Option<Holder>,
    pub(in super::super) owns: BTreeMap<Bucket, Epoch>,
    pub(in super::super) open: bool,
    pub(in super::super) events: Vec<(Moment, Event)>,
    links: BTreeMap<Holder, (Link, Moment)>,
    pub(in super::super) ended: bool,
    held: Vec<Input>,
    pub(in super::super) standby: Vec<Bucket>,
    /// Its workers don't stop when asked.
    pub(in super::super) stubborn: bool,
}

pub(in super::super) struct World {
    pub(in super::super) now: Moment,
    pub(in super::super) processes: Vec<Process>,
    pub(in super::super) objects: BTreeMap<Object, Stored>,
    versions: u64,
    due: BTreeMap<(Moment, u64), Due>,
    order: u64,
    /// From, to.
    pub(in super::super) cuts: BTreeMap<(usize, usize), Cut>,
    /// Whether the API server answers this process.
    pub(in super::super) away: BTreeSet<usize>,
    /// Of these kinds of object the next write's answer is lost after it was done.
    pub(in super::super) lose: BTreeSet<Object>,
    pub(in super::super) writes: BTreeMap<Object, u32>,
    /// How often the map was read.
    pub(in super::super) map_reads: u32,
    pub(in super::super) surveyed: Option<u64>,
    probe: Moment,
    timing: Timing,
    pub(in super::super) protocol: Protocol,
    /// (bucket, epoch) → who worked under it with an open gate.
    pub(in super::super) worked: BTreeMap<(Bucket, Epoch), Holder>,
}

const LATENCY: Duration = Duration::from_millis(1);
const PROBE: Duration = Duration::from_millis(100);

// === impl World ===

impl World {
    pub(in super::super) fn new(replicas: usize) -> Self {
        Self::with(replicas, Protocol::default())
    }

    pub(in super::super) fn with(replicas: usize, protocol: Protocol) -> Self {
        let timing = Timing::default();
        let mut world = Self {
            now: Moment(1_000_000),
            processes: Vec::new(),
            objects: BTreeMap::new(),
            versions: 0,
            due: BTreeMap::new(),
            order: 0,
            cuts: BTreeMap::new(),
            away: BTreeSet::new(),
            lose: BTreeSet::new(),
            writes: BTreeMap::new(),
            map_reads: 0,
            surveyed: None,
            probe: Moment(0),
            timing,
            protocol,
            worked: BTreeMap::new(),
        };
        for n in 0..replicas {
            world.start(n);
        }
        world
    }

    /// A world that has settled: everybody is a member and every bucket has an owner.
    pub(in super::super) fn settled(replicas: usize) -> Self {
        let mut world = Self::new(replicas);
        world.run(Duration::from_secs(20));
        world.assert_healthy();
        world
    }

    /// Starts a process, or starts it again.
    pub(in super::super) fn start(&mut self, n: usize) {
        let run = self.processes.get(n).map_or(1, |process| process.run + 1);
        let seed = u64::try_from(n).unwrap() * 1000 + run;
        let replica =
            Replica::new(me(n), self.timing.clone(), assign, seed, self.protocol).unwrap();
        let process = Process {
            replica,
            up: true,
            paused: false,
            run,
            holder: None,
            owns: BTreeMap::new(),
            open: false,
            events: Vec::new(),
            links: BTreeMap::new(),
            ended: false,
            held: Vec::new(),
            standby: Vec::new(),
            stubborn: false,
        };
        if n < self.processes.len() {
            self.processes[n] = process;
        } else {
            self.processes.push(process);
        }
        for (object, stored) in self.objects.clone() {
            let stored = Some(stored);
            self.later(n, Input::Seen { object, stored });
        }
        self.later(n, Input::Current);
        self.later(n, Input::Ready);
        self.processes[n].replica.handle_timeout(self.now);
        self.carry_out(n);
    }

    pub(in super::super) fn kill(&mut self, n: usize) {
        self.processes[n].up = false;
        self.processes[n].owns.clear();
        self.processes[n].open = false;
    }

    pub(in super::super) fn pause(&mut self, n: usize) {
        self.processes[n].paused = true;
    }

    pub(in super::super) fn resume(&mut self, n: usize) {
        self.processes[n].paused = false;
        for input in std::mem::take(&mut self.processes[n].held) {
            self.later(n, input);
        }
    }

    pub(in super::super) fn tell(&mut self, n: usize, input: Input) {
        self.processes[n].replica.handle(self.now, input);
        self.carry_out(n);
    }

    fn later(&mut self, n: usize, input: Input) {
        let run = self.processes[n].run;
        self.at(self.now.after(LATENCY), Due::Input(n, run, input));
    }

    fn at(&mut self, moment: Moment, due: Due) {
        self.order += 1;
        self.due.insert((moment, self.order), due);
    }

    pub(in super::super) fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        self.run_until(end, |_| false);
    }

    /// Runs until something holds; how long that took.
    pub(in super::super) fn until(
        &mut self,
        most: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Duration {
        let begin = self.now;
        self.run_until(begin.after(most), &holds);
        assert!(holds(self), "not within {most:?}");
        self.now.since(begin)
    }

    fn run_until(&mut self, end: Moment, holds: impl Fn(&Self) -> bool) {
        let mut spins = 0;
        while !holds(self) {
            let due = self.due.keys().next().map(|(moment, _)| *moment);
            let wake = (0..self.processes.len()).filter_map(|n| self.wake(n)).min();
            let next = [due, wake, Some(self.probe)]
                .into_iter()
                .flatten()
                .min()
                .unwrap();
            if next > end {
                self.now = end;
                return;
            }
            spins = if next <= self.now { spins + 1 } else { 0 };
            assert!(spins < 10_000, "the world spins at {:?}", self.now);
            self.now = self.now.max(next);
            if self.probe <= self.now {
                self.probes();
                self.probe = self.now.after(PROBE);
            } else if due.is_some_and(|due| due <= self.now) {
                let (_, due) = self.due.pop_first().unwrap();
                self.happen(due);
            } else {
                for n in 0..self.processes.len() {
                    if self.wake(n).is_some_and(|wake| wake <= self.now) {
                        self.processes[n].replica.handle_timeout(self.now);
                        self.carry_out(n);
                    }
                }
            }
        }
    }

    fn wake(&self, n: usize) -> Option<Moment> {
        let process = &self.processes[n];
        (process.up && !process.paused)
            .then(|| process.replica.poll_timeout())
            .flatten()
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Input(n, run, input) => {
                let process = &mut self.processes[n];
                if !process.up || process.run != run {
                } else if process.paused {
                    process.held.push(input);
                } else {
                    process.replica.handle(self.now, input);
                    self.carry_out(n);
                }
            }
            Due::Arrive(n, run, request, object, op) => {
                let answer = if self.away.contains(&n) {
                    Answer::Unknown
                } else {
                    self.serve(&object, op)
                };
                if self.processes[n].run == run {
                    self.later(n, Input::Answer { request, answer });
                }
            }
        }
    }

    fn serve(&mut self, object: &Object, op: Op) -> Answer {
        let present = self.objects.get(object).cloned();
        let reads = matches!(op, Op::Read);
        self.map_reads += u32::from(reads && *object == Object::Map);
        let answer = match (op, present) {
            (Op::Read, Some(stored)) => Answer::Done(stored),
            (Op::Read | Op::Replace { .. } | Op::Delete { .. }, None) => Answer::Absent,
            (Op::Create(_), Some(_)) => Answer::Exists,
            (Op::Create(record), None) => self.store(object, record, None),
            (
                Op::Replace {
                    record,
                    resource_version,
                },
                Some(stored),
            ) => {
                if resource_version.is_empty() || resource_version == stored.resource_version {
                    self.store(object, record, Some(&stored))
                } else {
                    Answer::Conflict
                }
            }
            (
                Op::Delete {
                    uid,
                    resource_version,
                },
                Some(stored),
            ) => {
                if uid == stored.uid && resource_version == stored.resource_version {
                    self.delete(object);
                    Answer::Absent
                } else {
                    Answer::Conflict
                }
            }
        };
        if !reads && matches!(answer, Answer::Done(_)) && self.lose.remove(object) {
            return Answer::Unknown;
        }
        answer
    }

    /// Stores, as the API server would with the CRD's rules.
    fn store(&mut self, object: &Object, record: Record, before: Option<&Stored>) -> Answer {
        if let (Record::Map(new), Some(Record::Map(old))) = (&record, before.map(|b| &b.record)) {
            let term = new.term > old.term || (new.term == old.term && new.leader == old.leader);
            if new.version <= old.version || !term {
                return Answer::Refused(Arc::from("the map's rule"));
            }
        }
        *self.writes.entry(object.clone()).or_default() += 1;
        Answer::Done(self.put(object, record))
    }

    /// Stores without any rule: an operator's hand.
    pub(in super::super) fn put(&mut self, object: &Object, record: Record) -> Stored {
        self.versions += 1;
        let uid = self.objects.get(object).map_or_else(
            || Arc::from(format!("u{}", self.versions)),
            |stored| Arc::clone(&stored.uid),
        );
        let resource_version: ResourceVersion = Arc::from(self.versions.to_string());
        let stored = Stored {
            record,
            resource_version,
            uid,
        };
        self.objects.insert(object.clone(), stored.clone());
        self.watch(object, Some(&stored));
        stored
    }

    pub(in super::super) fn delete(&mut self, object: &Object) {
        self.objects.remove(object);
        self.watch(object, None);
    }

    fn watch(&mut self, object: &Object, stored: Option<&Stored>) {
        for n in 0..self.processes.len() {
            if !self.away.contains(&n) {
                let (object, stored) = (object.clone(), stored.cloned());
                self.later(n, Input::Seen { object, stored });
            }
        }
    }

    fn carry_out(&mut self, n: usize) {
        while let Some(action) = self.processes[n].replica.poll_action() {
            let process = &mut self.processes[n];
            let run = process.run;
            match action {
                Action::Request { id, object, op } => {
                    let moment = self.now.after(LATENCY);
                    self.at(moment, Due::Arrive(n, run, id, object, op));
                }
                Action::Send { to, message } => {
                    let Some(from) = process.holder.clone() else {
                        continue;
                    };
                    let to = Self::index(&to.pod);
                    if !self.cuts.contains_key(&(n, to)) && self.processes[to].up {
                        self.later(to, Input::Message { from, message });
                    }
                }
                Action::Own { bucket, epoch } => {
                    process.owns.insert(bucket, epoch);
                }
                Action::Release { bucket, epoch } => {
                    process.owns.remove(&bucket);
                    if !process.stubborn {
                        self.later(n, Input::Released { bucket, epoch });
                    }
                }
                Action::Drop { bucket } => {
                    process.owns.remove(&bucket);
                }
                Action::Gate { open } => process.open = open,
                Action::Standby(buckets) => process.standby = buckets,
                Action::Became(holder) => process.holder = Some(holder),
                Action::Ended => {
                    process.ended = true;
                    process.up = false;
                    process.owns.clear();
                }
                Action::Survey => {
                    if let Some(epoch) = self.surveyed {
                        self.later(n, Input::Surveyed(Epoch(epoch)));
                    }
                }
                Action::Tell(event) => process.events.push((self.now, event)),
            }
        }
        self.check(n);
    }

    /// No two holders work under one epoch of a bucket.
    fn check(&mut self, n: usize) {
        let process = &self.processes[n];
        let Some(holder) = process.holder.clone().filter(|_| process.open) else {
            return;
        };
        for (bucket, epoch) in &process.owns {
            let before = self.worked.insert((*bucket, *epoch), holder.clone());
            assert!(
                before.is_none() || before.as_ref() == Some(&holder),
                "{bucket:?} at {epoch:?}: {before:?}, now {holder}"
            );
        }
    }

    fn probes(&mut self) {
        for n in 0..self.processes.len() {
            if self.away.contains(&n) || !self.processes[n].up {
                continue;
            }
            self.later(n, Input::Current);
            for other in (0..self.processes.len()).filter(|other| *other != n) {
                let target = &self.processes[other];
                let Some(holder) = target.holder.clone() else {
                    continue;
                };
                let link = match self.cuts.get(&(n, other)) {
                    Some(Cut::Drops) => Link::Silent,
                    Some(Cut::Rejects) => Link::Refused,
                    None if !target.up => Link::Refused,
                    None if target.paused => Link::Silent,
                    None => Link::Reached,
                };
                let told = self.processes[n].links.get(&holder);
                let news = told.is_none_or(|(told, at)| {
                    *told != link
                        || (link != Link::Reached
                            && self.now.since(*at) >= Duration::from_millis(400))
                });
                if news {
                    let links = &mut self.processes[n].links;
                    links.insert(holder.clone(), (link, self.now));
                    self.later(n, Input::Link { holder, link });
                }
            }
        }
    }

    fn index(pod: &PodName) -> usize {
        pod.0.trim_start_matches("core-").parse().unwrap()
    }

    pub(in super::super) fn standing(&self, n: usize) -> Standing {
        self.processes[n].replica.standing()
    }

    pub(in super::super) fn map(&self) -> Arc<ShardMapSpec> {
        match &self.objects[&Object::Map].record {
            Record::Map(map) => Arc::clone(map),
            other => panic!("{other:?}"),
        }
    }

    pub(in super::super) fn lease(&self) -> LeaderRecord {
        match &self.objects[&Object::Leader].record {
            Record::Leader(record) => record.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(in super::super) fn member(&self, n: usize) -> MemberRecord {
        match &self.objects[&Object::Member(pod(n))].record {
            Record::Member(record) => record.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(in super::super) fn member_object(n: usize) -> Object {
        Object::Member(pod(n))
    }

    pub(in super::super) fn leader(&self) -> usize {
        let holder = self.lease().holder.expect("somebody leads");
        Self::index(&holder.pod)
    }

    /// Every bucket is worked on by exactly one live process with an open gate, as the map says.
    pub(in super::super) fn is_healthy(&self) -> bool {
        if !self.objects.contains_key(&Object::Map) {
            return false;
        }
        let map = self.map();
        (0..BUCKETS).map(Bucket).all(|bucket| {
            let Some(grant) = map.grants.get(&bucket) else {
                return false;
            };
            let owner = Self::index(&grant.owner.pod);
            let owners = self.processes.iter().enumerate().filter(|(_, process)| {
                process.up && !process.paused && process.owns.contains_key(&bucket)
            });
            let owners: Vec<usize> = owners.map(|(n, _)| n).collect();
            let process = &self.processes[owner];
            owners == [owner]
                && process.open
                && process.holder.as_ref() == Some(&grant.owner)
                && process.owns.get(&bucket) == Some(&grant.epoch)
        })
    }

    pub(in super::super) fn assert_healthy(&self) {
        assert!(self.is_healthy(), "{}", self.describe());
    }

    pub(in super::super) fn describe(&self) -> String {
        let mut text = format!("at {:?}\n", self.now);
        for (object, stored) in &self.objects {
            text += &format!("{object:?}: {:?}\n", stored.record);
        }
        for (n, process) in self.processes.iter().enumerate() {
            text += &format!("{n}: {:?} {:?}\n", process.replica.standing(), process.owns);
            for (at, event) in process.events.iter().rev().take(8).rev() {
                text += &format!("   {} {event:?}\n", at.0);
            }
        }
        text
    }

    pub(in super::super) fn count(&self, n: usize, wanted: impl Fn(&Event) -> bool) -> usize {
        let events = self.processes[n].events.iter();
        events.filter(|(_, event)| wanted(event)).count()
    }
}
