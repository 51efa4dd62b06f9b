//! The state of the model: processes with the product's cores, a store, what is under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zen_fabric::{
    coordination::{
        assign::assign,
        message::{Body, Message},
        names::{Holder, PodName},
        port::{Action, Answer, Input, Link, Moment, Object, Op, Record, RequestId},
        protocol::Protocol,
        records::{Life, MemberState},
        replica::{Me, Replica},
        timing::Timing,
    },
    journal::{Bucket, Epoch},
};

use crate::{ledger::Ledger, sealed::Sealed, store::Store};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000_000;
/// Clocks of processes begin somewhere.
const ORIGIN: u64 = 1_000 * SECOND;
/// After this long without an answer a client gives up (`Timing::request`).
const PATIENCE: u64 = 2 * SECOND;
/// A probe that fails is told again this often.
const PROBES: u64 = 450 * MS;

/// A process, or the place of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    /// Its core; absent: no process runs.
    pub(crate) core: Option<Sealed<Replica>>,
    /// How many processes the pod has had.
    pub(crate) life: u32,
    /// As whom it acts.
    pub(crate) holder: Option<Holder>,
    /// Whether effects may start.
    pub(crate) gate: bool,
    /// What it was told to work on.
    pub(crate) owns: BTreeMap<Bucket, Epoch>,
    /// Where its workers have not stopped.
    pub(crate) busy: BTreeSet<Bucket>,
    /// Its watches show nothing until then.
    pub(crate) blind: u64,
    /// When it starts again.
    pub(crate) back: Option<u64>,
}

/// Something on its way, or work that is about to end.
#[derive(Clone, Debug)]
pub(crate) enum Flight {
    /// To the store.
    Request {
        pod: usize,
        life: u32,
        id: RequestId,
        object: Object,
        op: Op,
        sent: u64,
    },
    /// To another replica.
    Message {
        pod: usize,
        from: Holder,
        message: Message,
    },
    /// From workers to their core.
    Input { pod: usize, life: u32, input: Input },
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fleet {
    pub(crate) now: u64,
    pub(crate) processes: Vec<Process>,
    pub(crate) store: Sealed<Store>,
    /// What arrives next, in any order; kept in one order, so that equal states are equal.
    pub(crate) flying: Vec<Sealed<Flight>>,
    /// What arrives late.
    pub(crate) held: Vec<Sealed<Flight>>,
    /// Requests whose answers don't come, and when the client gives up.
    pub(crate) unanswered: BTreeSet<(u64, usize, u32, RequestId)>,
    pub(crate) ledger: Sealed<Ledger>,
    /// Holders that are gone, and whose listeners refuse.
    refusing: BTreeSet<Holder>,
    /// When probes are told again.
    probes: Option<u64>,
    /// How many deviations may still come, and until when.
    pub(crate) left: u8,
    pub(crate) until: u64,
    /// When everything must be well.
    pub(crate) end: u64,
}

/// What every process is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) buckets: u16,
    pub(crate) protocol: Protocol,
}

fn name(pod: usize) -> PodName {
    PodName(format!("core-{pod}").into())
}

fn number(name: &PodName) -> usize {
    name.0.trim_start_matches("core-").parse().unwrap()
}

impl Fleet {
    /// That many replicas, about to start.
    pub(crate) fn new(replicas: usize, kind: Kind) -> Self {
        let place = Process {
            core: None,
            life: 0,
            holder: None,
            gate: false,
            owns: BTreeMap::new(),
            busy: BTreeSet::new(),
            blind: 0,
            back: None,
        };
        let mut fleet = Self {
            now: 0,
            processes: vec![place; replicas],
            store: Sealed::new(Store::default()),
            flying: Vec::new(),
            held: Vec::new(),
            unanswered: BTreeSet::new(),
            ledger: Sealed::new(Ledger::default()),
            refusing: BTreeSet::new(),
            probes: None,
            left: 0,
            until: 0,
            end: u64::MAX,
        };
        for pod in 0..replicas {
            fleet.start(pod, kind);
        }
        fleet
    }

    fn start(&mut self, pod: usize, kind: Kind) {
        let process = &mut self.processes[pod];
        process.life += 1;
        process.back = None;
        process.blind = 0;
        let me = Me {
            fleet: "model".into(),
            pod: name(pod),
            pod_uid: format!("uid-{pod}").into(),
            address: format!("10.0.0.{pod}:7443").into(),
            region: "eu".into(),
            zone: format!("zone-{pod}").into(),
            weight: 100,
            build: "1".into(),
            protocol: zen_fabric::coordination::message::PROTOCOL,
            buckets: kind.buckets,
        };
        let seed = u64::try_from(pod).unwrap() * 1_000 + u64::from(process.life);
        let core = Replica::new(me, Timing::default(), assign, seed, kind.protocol);
        process.core = Some(Sealed::new(core.unwrap()));
        let mut todo = VecDeque::from([(pod, None), (pod, Some(Input::Ready))]);
        for (object, stored) in self.store.clone().all() {
            let object = object.clone();
            todo.push_back((pod, Some(Input::Seen { object, stored })));
        }
        if self.store.read(&Object::Map).is_none() {
            let (object, stored) = (Object::Map, None);
            todo.push_back((pod, Some(Input::Seen { object, stored })));
        }
        self.work(todo);
    }

    /// A process is gone; its node says that nobody listens.
    pub(crate) fn crash(&mut self, pod: usize, back: Option<u64>) {
        let process = &mut self.processes[pod];
        process.core = None;
        process.gate = false;
        process.owns.clear();
        process.busy.clear();
        process.back = back.map(|after| self.now + after);
        self.refusing.extend(process.holder.take());
        let lost = |flight: &Sealed<Flight>| match &**flight {
            Flight::Input { pod: whose, .. } => *whose != pod,
            Flight::Request { .. } | Flight::Message { .. } => true,
        };
        self.flying.retain(lost);
        self.refuse();
    }

    /// What a process asks for.
    pub(crate) fn tell(&mut self, pod: usize, input: Input) {
        self.work(VecDeque::from([(pod, Some(input))]));
    }

    /// Gives inputs to cores, and does what they decide, until nothing more follows at once.
    fn work(&mut self, mut todo: VecDeque<(usize, Option<Input>)>) {
        while let Some((pod, input)) = todo.pop_front() {
            let at = Moment(ORIGIN + self.now);
            let Some(core) = &mut self.processes[pod].core else {
                continue;
            };
            let actions = core.with(|core| {
                match input {
                    Some(input) => core.handle(at, input),
                    None => core.handle_timeout(at),
                }
                std::iter::from_fn(|| core.poll_action()).collect::<Vec<_>>()
            });
            for action in actions {
                self.perform(pod, action, &mut todo);
            }
        }
        if self.two_own() {
            self.ledger.with(Ledger::two_own);
        }
    }

    /// Whether two with an open gate own a bucket under one epoch.
    fn two_own(&self) -> bool {
        let open = || {
            self.processes
                .iter()
                .enumerate()
                .filter(|(_, one)| one.gate)
        };
        open().any(|(number, one)| {
            let mut later = open().filter(|(other, _)| *other > number);
            later.any(|(_, other)| {
                let mut own = one.owns.iter();
                own.any(|(bucket, epoch)| other.owns.get(bucket) == Some(epoch))
            })
        })
    }

    fn fly(&mut self, flight: Flight) {
        let flight = Sealed::new(flight);
        let at = self.flying.partition_point(|one| *one < flight);
        self.flying.insert(at, flight);
    }

    fn perform(&mut self, pod: usize, action: Action, todo: &mut VecDeque<(usize, Option<Input>)>) {
        let (life, sent) = (self.processes[pod].life, self.now);
        match action {
            Action::Request { id, object, op } => self.fly(Flight::Request {
                pod,
                life,
                id,
                object,
                op,
                sent,
            }),
            Action::Send { to, message } => self.send(pod, &to, message),
            Action::Own { bucket, epoch } => self.own(pod, bucket, epoch),
            Action::Release { bucket, epoch } => {
                let input = Input::Released { bucket, epoch };
                self.fly(Flight::Input { pod, life, input });
            }
            Action::Drop { bucket } => {
                self.processes[pod].owns.remove(&bucket);
                self.processes[pod].busy.remove(&bucket);
            }
            Action::Gate { open } => self.processes[pod].gate = open,
            Action::Became(holder) => {
                self.processes[pod].holder = Some(holder.clone());
                self.refusing.retain(|gone| gone.pod != holder.pod);
                for (other, process) in self.processes.iter().enumerate() {
                    let Some(peer) = process.holder.clone().filter(|_| other != pod) else {
                        continue;
                    };
                    let link = Link::Reached;
                    let holder = holder.clone();
                    todo.push_back((other, Some(Input::Link { holder, link })));
                    todo.push_back((pod, Some(Input::Link { holder: peer, link })));
                }
            }
            Action::Ended => self.crash(pod, None),
            Action::Survey | Action::Standby(_) | Action::Tell(_) => {}
        }
    }

    fn send(&mut self, pod: usize, to: &Holder, message: Message) {
        let Some(from) = self.processes[pod].holder.clone() else {
            return;
        };
        let pod = number(&to.pod);
        // A hint at what is known changes nothing: it needs no step of its own.
        let known = self.processes[pod]
            .core
            .as_ref()
            .is_none_or(|core| core.standing().version >= message.version);
        if matches!(message.body, Body::Hint) && known {
            return;
        }
        self.fly(Flight::Message { pod, from, message });
    }

    fn own(&mut self, pod: usize, bucket: Bucket, epoch: Epoch) {
        let process = &mut self.processes[pod];
        let (life, Some(holder)) = (process.life, process.holder.clone()) else {
            return;
        };
        process.owns.insert(bucket, epoch);
        process.busy.insert(bucket);
        let claimed = self
            .ledger
            .with(|ledger| ledger.owns(bucket, epoch, &holder));
        if let Err((epoch, holder)) = claimed {
            let input = Input::Fenced {
                bucket,
                epoch,
                holder,
            };
            self.fly(Flight::Input { pod, life, input });
        }
    }

    /// Something arrives; `answers`: whether its answer does, too.
    pub(crate) fn arrive(&mut self, flight: &Flight, answers: bool) {
        match flight {
            Flight::Request { .. } => self.serve(flight, answers),
            Flight::Message { pod, from, message } => {
                let (from, message) = (from.clone(), message.clone());
                self.tell(*pod, Input::Message { from, message });
            }
            Flight::Input { pod, life, input } => {
                if self.processes[*pod].life == *life {
                    if let Input::Released { bucket, .. } = input {
                        self.processes[*pod].busy.remove(bucket);
                    }
                    self.tell(*pod, input.clone());
                }
            }
        }
    }

    fn serve(&mut self, flight: &Flight, answers: bool) {
        let Flight::Request {
            pod,
            life,
            id,
            object,
            op,
            sent,
        } = flight
        else {
            return;
        };
        let before = self.store.read(object);
        let answer = if matches!(op, Op::Read) {
            before.clone().map_or(Answer::Absent, Answer::Done)
        } else {
            self.store.with(|store| store.apply(object, op))
        };
        let after = self.store.read(object);
        let mut todo = VecDeque::new();
        let due = (sent + PATIENCE, *pod, *life, *id);
        if !answers {
            self.unanswered.insert(due);
        } else if self.processes[*pod].life == *life
            && (sent + PATIENCE > self.now || self.unanswered.remove(&due))
        {
            self.unanswered.remove(&due);
            let (request, answer) = (*id, answer);
            todo.push_back((*pod, Some(Input::Answer { request, answer })));
        }
        if before != after {
            if let Some(stored) = &after {
                let was = before.as_ref().map(|stored| &stored.record);
                let (now, processes) = (self.now, &self.processes);
                let what = (object, was, &stored.record);
                self.ledger
                    .with(|ledger| ledger.wrote(now, what, processes));
            }
            for (other, process) in self.processes.iter().enumerate() {
                if process.blind <= self.now {
                    let (object, stored) = (object.clone(), after.clone());
                    todo.push_back((other, Some(Input::Seen { object, stored })));
                }
            }
        }
        self.work(todo);
    }

    /// The request arrives later than its client waits, or whenever [`Fleet::land`] says.
    pub(crate) fn hold(&mut self, index: usize) {
        let flight = self.flying.remove(index);
        if let Flight::Request {
            pod,
            life,
            id,
            sent,
            ..
        } = &*flight
        {
            self.unanswered.insert((sent + PATIENCE, *pod, *life, *id));
        }
        self.held.push(flight);
    }

    /// What was held arrives.
    pub(crate) fn land(&mut self, index: usize) {
        let flight = self.held.remove(index);
        self.arrive(&flight, true);
    }

    /// Every process is told whose listeners refuse.
    fn refuse(&mut self) {
        let store = &self.store;
        self.refusing.retain(|gone| {
            let lease = store.read(&Object::Member(gone.pod.clone()));
            matches!(lease.map(|stored| stored.record), Some(Record::Member(record))
                if record.holder == *gone && record.life == Life::Live)
        });
        self.probes = (!self.refusing.is_empty()).then_some(self.now + PROBES);
        let mut todo = VecDeque::new();
        for holder in &self.refusing {
            for pod in 0..self.processes.len() {
                let (holder, link) = (holder.clone(), Link::Refused);
                todo.push_back((pod, Some(Input::Link { holder, link })));
            }
        }
        self.work(todo);
    }

    /// Nothing is under way: time goes on to what is due next.
    pub(crate) fn tick(&mut self, kind: Kind) {
        let timers = self.processes.iter().filter_map(|process| {
            let moment = process.core.as_ref()?.poll_timeout()?;
            Some(moment.0.saturating_sub(ORIGIN))
        });
        let others = self.processes.iter().flat_map(|process| {
            let sees = (process.blind > self.now).then_some(process.blind);
            [process.back, sees].into_iter().flatten()
        });
        let unanswered = self.unanswered.first().map(|(due, ..)| *due);
        let next = timers.chain(others).chain(unanswered).chain(self.probes);
        let before = self.now;
        self.now = next.min().unwrap_or(self.end).max(self.now);
        self.give_up();
        for pod in 0..self.processes.len() {
            let process = &self.processes[pod];
            if process.back.is_some_and(|at| at <= self.now) {
                self.start(pod, kind);
            } else if process.blind > before && process.blind <= self.now {
                self.list(pod);
            }
        }
        if self.probes.is_some_and(|at| at <= self.now) {
            self.refuse();
        }
        let at = Moment(ORIGIN + self.now);
        let due = self.processes.iter().enumerate().filter(|(_, process)| {
            let timer = process.core.as_ref().and_then(|core| core.poll_timeout());
            timer.is_some_and(|timer| timer <= at)
        });
        let due: VecDeque<_> = due.map(|(pod, _)| (pod, None)).collect();
        self.work(due);
    }

    fn give_up(&mut self) {
        while let Some(due) = self.unanswered.first().copied()
            && due.0 <= self.now
        {
            self.unanswered.remove(&due);
            let (_, pod, life, request) = due;
            if self.processes[pod].life == life {
                let answer = Answer::Unknown;
                self.tell(pod, Input::Answer { request, answer });
            }
        }
    }

    /// A watch begins anew with a list.
    fn list(&mut self, pod: usize) {
        let all = self.store.clone();
        let seen = all.all().map(|(object, stored)| {
            let object = object.clone();
            (pod, Some(Input::Seen { object, stored }))
        });
        let todo = seen.chain([(pod, Some(Input::Current))]).collect();
        self.work(todo);
    }

    /// Whether every bucket is worked on by whom the map names, and everybody who runs is in it.
    pub(crate) fn is_well(&self) -> bool {
        let Some(Record::Map(map)) = self.store.read(&Object::Map).map(|stored| stored.record)
        else {
            return false;
        };
        let runs = self.processes.iter().filter(|one| one.core.is_some());
        let members = runs.clone().all(|one| {
            let holder = one.holder.as_ref();
            one.gate && holder.is_some_and(|holder| map.state(holder) == Some(MemberState::Active))
        });
        let owned = map.grants.iter().all(|(bucket, grant)| {
            let mut owners = runs.clone();
            let owner = owners.find(|one| one.holder.as_ref() == Some(&grant.owner));
            owner.is_some_and(|owner| owner.owns.get(bucket) == Some(&grant.epoch))
                && self.ledger.claimed(*bucket, grant.epoch, &grant.owner)
        });
        members && owned && map.moves.is_empty() && !map.grants.is_empty()
    }

    /// Who leads by the Lease, if that is a process.
    pub(crate) fn leader(&self) -> Option<usize> {
        let stored = self.store.read(&Object::Leader)?;
        let Record::Leader(record) = stored.record else {
            return None;
        };
        record.holder.map(|holder| number(&holder.pod))
    }
}
