//! Processes: how they start, are fed, act, stop and end.

use std::collections::BTreeMap;

use zen_fabric::{
    coordination::{
        event::{Deposed, Event as Told},
        message::Message,
        names::Holder,
        port::{Action, Input, Object, Record},
        records::Life,
        replica::{Me, Replica},
    },
    journal::{Bucket, Epoch},
};

use crate::{
    brain::Brain,
    mutants::Planted,
    naive::Naive,
    net::Place,
    process::{Peer, Phase, Process, Watch},
    time::{LocalClock, MS, SECOND, Time, between},
    worker::Work,
    world::{Ask, BUCKETS, Event, World, key_of},
};

impl World {
    /// The kubelet starts a process.
    pub(crate) fn start(&mut self, pod: usize) {
        let place = &mut self.pods[pod];
        if place.returning && !place.runs() {
            place.returning = false;
            place.phase = Phase::Wanted;
        }
        if place.phase != Phase::Wanted || place.runs() {
            return;
        }
        if place.renewed {
            place.renewed = false;
            place.uid = format!("uid-{pod}-{}", place.lives).into();
        }
        let clock = LocalClock::new(self.now, self.plan.skew, self.plan.drift, &mut self.rng);
        let seed = self.rng.bits();
        let place = &mut self.pods[pod];
        place.lives += 1;
        let life = place.lives;
        let me = Me {
            fleet: "zen-fabric".into(),
            pod: place.name.clone(),
            pod_uid: place.uid.clone(),
            address: format!("10.0.0.{pod}:7443").into(),
            region: "eu".into(),
            zone: format!("zone-{}", place.zone).into(),
            weight: 100,
            build: format!("b{}", place.build).into(),
            protocol: place.protocol,
            buckets: BUCKETS,
        };
        let brain = if let Planted::Baseline(elect) = self.planted {
            Brain::Naive(Box::new(Naive::new(&me, seed, elect)))
        } else {
            let protocol = self.planted.protocol();
            let core = Replica::new(me, self.timing.clone(), self.assign, seed, protocol);
            Brain::Replica(Box::new(core.unwrap()))
        };
        let front = self.rng.index(self.api.fronts.len());
        self.pods[pod].process = Some(Process {
            life,
            clock,
            brain,
            paused: false,
            followed: 0,
            freeze_after: None,
            freeze_at_work: false,
            inbox: Default::default(),
            frozen: Default::default(),
            wake_at: None,
            gate: false,
            holder: None,
            draining: false,
            asked: 0,
            renewed: None,
            resumed: 0,
            pending: BTreeMap::new(),
            watches: [Watch::default(); 2],
            front,
            peers: BTreeMap::new(),
            work: BTreeMap::new(),
            owned: BTreeMap::new(),
            seen_marked: Default::default(),
            ended: false,
        });
        self.tell(pod, format_args!("starts (process {life})"));
        let local = clock.local(self.now);
        if let Some(process) = self.pods[pod].life(life) {
            process.brain.handle_timeout(local);
        }
        self.drain(pod);
        for which in 0..2 {
            let at = self.now + between(&mut self.rng, (5 * MS, 50 * MS));
            self.queue.push(at, Event::Watch { pod, life, which });
            if let Some(process) = self.pods[pod].life(life) {
                process.watches[which].due = true;
            }
        }
        let at = self.now + between(&mut self.rng, (100 * MS, 600 * MS));
        self.queue.push(at, Event::Ready { pod, life });
        let at = self.now + self.rng.below(10_000) * MS;
        self.queue.push(at, Event::Load { pod, life });
        let again = true;
        let at = self.now + self.rng.below(300) * MS;
        self.queue.push(at, Event::Probe { pod, life, again });
        let at = self.now + self.plan.bookmarks;
        self.queue.push(at, Event::Bookmark { pod, life });
    }

    /// A process is no more, whatever it was doing.
    pub(crate) fn kill(&mut self, pod: usize, phase: Phase) {
        if self.pods[pod].process.take().is_some() {
            self.tell(pod, format_args!("is gone"));
        }
        self.pods[pod].phase = phase;
        self.check_memory();
        self.probe_soon(pod);
    }

    /// A process that has ended by itself.
    pub(crate) fn exit(&mut self, pod: usize, life: u32) {
        if self.pods[pod].life(life).is_some() {
            let phase = self.pods[pod].phase;
            self.kill(pod, phase);
            if phase == Phase::Wanted {
                let at = self.now + self.rng.below(3_000) * MS;
                self.queue.push(at, Event::Start { pod });
            }
        }
    }

    /// A core's timer.
    pub(crate) fn wake(&mut self, pod: usize, life: u32, at: Time) {
        let now = self.now;
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        if process.wake_at != Some(at) {
            return;
        }
        process.wake_at = None;
        if process.paused {
            return;
        }
        process.brain.handle_timeout(process.clock.local(now));
        self.drain(pod);
    }

    /// Gives something to a core; a stopped process gets it when it goes on.
    pub(crate) fn feed(&mut self, pod: usize, life: u32, input: Input) {
        let now = self.now;
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        if process.paused {
            process.inbox.push_back(input);
            return;
        }
        if self.trace.is_written()
            && let Some(line) = brief(&input)
        {
            self.tell(pod, format_args!("← {line}"));
        }
        self.learn(pod, life, &input);
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        process.brain.handle(process.clock.local(now), input);
        self.drain(pod);
    }

    /// What the process beside its core learns from what the core is told.
    fn learn(&mut self, pod: usize, life: u32, input: &Input) {
        let Input::Seen { object, stored } = input else {
            return;
        };
        let Object::Member(name) = object else { return };
        let own = *name == self.pods[pod].name;
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        let record = stored.as_ref().and_then(|stored| match &stored.record {
            Record::Member(record) => Some(record),
            Record::Leader(_) | Record::Map(_) | Record::Malformed(_) => None,
        });
        if own {
            if let Some(record) = record
                && record.life == Life::Marked
            {
                process.seen_marked.insert(record.holder.clone());
            }
            return;
        }
        let lives = record.filter(|record| record.life == Life::Live);
        let holder = lives.map(|record| record.holder.clone());
        process
            .peers
            .retain(|peer, _| peer.pod != *name || Some(peer) == holder.as_ref());
        if let Some(holder) = holder {
            process.peers.entry(holder).or_insert_with(Peer::default);
        }
    }

    /// A message for whoever lives at a pod.
    pub(crate) fn hear(&mut self, pod: usize, from: Holder, message: Message) {
        let Some(life) = self.pods[pod].process.as_ref().map(|process| process.life) else {
            return;
        };
        self.feed(pod, life, Input::Message { from, message });
    }

    /// Does what a core has decided, and plans its next timer.
    pub(crate) fn drain(&mut self, pod: usize) {
        if let Some(process) = &mut self.pods[pod].process {
            let version = process.brain.standing().version;
            let before = std::mem::replace(&mut process.followed, version);
            let name = &self.pods[pod].name;
            self.check.follows(self.now, name, version, before);
        }
        while let Some(process) = &mut self.pods[pod].process {
            let Some(action) = process.brain.poll_action() else {
                break;
            };
            if process.paused {
                process.frozen.push_back(action);
                continue;
            }
            if let Some(left) = &mut process.freeze_after {
                if *left == 0 {
                    process.freeze_after = None;
                    process.paused = true;
                    process.frozen.push_back(action);
                    self.tell(
                        pod,
                        format_args!("stops (SIGSTOP) with decisions not carried out"),
                    );
                    continue;
                }
                *left -= 1;
            }
            self.perform(pod, action);
        }
        self.plan_wake(pod);
    }

    fn plan_wake(&mut self, pod: usize) {
        let now = self.now;
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        let Some(moment) = process.brain.poll_timeout() else {
            return;
        };
        let at = process.clock.world(moment).max(now);
        if process.wake_at.is_none_or(|planned| at < planned) {
            process.wake_at = Some(at);
            let life = process.life;
            self.queue.push(at, Event::Wake { pod, life, at });
        }
    }

    fn perform(&mut self, pod: usize, action: Action) {
        if self.trace.is_written() {
            self.tell(pod, format_args!("→ {}", brief_action(&action)));
        }
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        let life = process.life;
        match action {
            Action::Request { id, object, op } => {
                self.check_request(pod, &object, &op);
                self.call(pod, Ask::Core { id, object, op });
            }
            Action::Survey => self.survey(pod, life),
            Action::Send { to, message } => self.send(pod, &to, message),
            Action::Own { bucket, epoch } => self.own(pod, bucket, epoch),
            Action::Release { bucket, epoch } => self.release(pod, life, bucket, epoch),
            Action::Drop { bucket } => {
                process.owned.remove(&bucket);
                process.work.remove(&bucket);
            }
            Action::Gate { open } => {
                process.gate = open;
                self.check_owners(pod);
                if open {
                    self.kick_all(pod);
                }
            }
            Action::Standby(_) => {}
            Action::Became(holder) => {
                process.holder = Some(holder.clone());
                // Work of the former holder must be over: the check tells if it goes on.
                self.check.became(self.now, pod, &holder);
                self.probe_soon(pod);
            }
            Action::Ended => {
                process.ended = true;
                let at = self.now + self.rng.below(20) * MS;
                self.queue.push(at, Event::Exit { pod, life });
            }
            Action::Tell(Told::Damped) => self.check.damped = true,
            Action::Tell(Told::Deposed(Deposed::Died)) => {
                self.check.deposed(self.now, pod, life);
            }
            Action::Tell(_) => {}
        }
    }

    fn send(&mut self, pod: usize, to: &Holder, message: Message) {
        let Some(other) = self.pods.iter().position(|one| one.name == to.pod) else {
            return;
        };
        let Some(from) = self.pods[pod]
            .process
            .as_ref()
            .and_then(|process| process.holder.clone())
        else {
            return;
        };
        let (here, there) = (Place::Pod(pod), Place::Pod(other));
        for delay in self
            .net
            .travel(here, there, &mut self.rng)
            .into_iter()
            .flatten()
        {
            let event = Event::Message {
                pod: other,
                from: from.clone(),
                message: Box::new(message.clone()),
            };
            self.queue.push(self.now + delay, event);
        }
    }

    fn own(&mut self, pod: usize, bucket: Bucket, epoch: Epoch) {
        let logs = self.logs.len();
        let key = key_of(bucket, self.plan.keys);
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        let Some(holder) = process.holder.clone() else {
            self.check.fault(
                self.now,
                "I2",
                format!("core-{pod} owns {bucket:?} before it has a name"),
            );
            return;
        };
        process.owned.insert(bucket, epoch);
        let Some(key) = key else { return };
        match process.work.get_mut(&bucket) {
            Some(work) if work.holder == holder => {
                work.raise(epoch, holder.clone());
                let (life, dirty) = (process.life, work.status.dirty);
                if dirty {
                    self.dirty(pod, life, bucket);
                }
            }
            Some(_) | None => {
                let work = Work::new(key, epoch, holder.clone(), logs);
                process.work.insert(bucket, work);
            }
        }
        self.check_started(pod, bucket, epoch, &holder);
        self.check_owners(pod);
        self.kick(pod, bucket);
    }

    fn release(&mut self, pod: usize, life: u32, bucket: Bucket, epoch: Epoch) {
        let now = self.now;
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        if let Some(work) = process.work.get_mut(&bucket) {
            work.releasing = true;
            work.released = false;
            self.kick(pod, bucket);
        } else {
            let at = now + self.rng.below(1_000);
            let input = Box::new(Input::Released { bucket, epoch });
            self.queue.push(at, Event::Input { pod, life, input });
        }
    }

    /// The map is lost: every log and the statuses are asked what they hold.
    fn survey(&mut self, pod: usize, life: u32) {
        let buckets: Vec<Bucket> = (0..self.plan.keys).map(crate::world::bucket_of).collect();
        for log in 0..self.logs.len() {
            let reached = self.net.both(Place::Pod(pod), Place::Log(log));
            if !self.logs[log].up || !reached {
                continue;
            }
            let claims = buckets.iter().filter_map(|one| self.logs[log].claim(*one));
            let highest = claims.map(|(epoch, _)| *epoch).max().unwrap_or_default();
            let at = self.now + between(&mut self.rng, (MS, 20 * MS));
            let input = Box::new(Input::Surveyed(highest));
            self.queue.push(at, Event::Input { pod, life, input });
        }
        for key in 0..self.plan.keys {
            let ticket = u64::MAX;
            let bucket = crate::world::bucket_of(key);
            self.call(
                pod,
                Ask::ReadStatus {
                    bucket,
                    key,
                    ticket,
                },
            );
        }
    }

    /// A process tells its core what its buckets weigh.
    pub(crate) fn measure(&mut self, pod: usize, life: u32) {
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        let owned: Vec<Bucket> = process.owned.keys().copied().collect();
        let weigh = |bucket: Bucket| {
            let load = key_of(bucket, self.plan.keys).map(|key| self.plan.loads[key]);
            (bucket, load.unwrap_or_default())
        };
        let loads = owned.into_iter().map(weigh).collect();
        self.feed(pod, life, Input::Load(loads));
        let at = self.now + 10 * SECOND;
        self.queue.push(at, Event::Load { pod, life });
    }

    /// A worker has asked something: a process that was to stop there stops.
    pub(crate) fn worked(&mut self, pod: usize) {
        let stops = self.pods[pod]
            .process
            .as_mut()
            .is_some_and(|process| std::mem::take(&mut process.freeze_at_work));
        if stops {
            self.stop(pod);
        }
    }

    /// SIGSTOP now.
    pub(crate) fn stop(&mut self, pod: usize) {
        if let Some(process) = &mut self.pods[pod].process {
            process.paused = true;
            self.tell(pod, format_args!("stops (SIGSTOP)"));
        }
    }

    /// SIGCONT: what was decided is done, then timers and inputs come, in either order.
    pub(crate) fn resume(&mut self, pod: usize, life: u32) {
        let now = self.now;
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        process.freeze_after = None;
        process.freeze_at_work = false;
        if !process.paused {
            return;
        }
        process.paused = false;
        process.resumed = now;
        let frozen = std::mem::take(&mut process.frozen);
        let inbox = std::mem::take(&mut process.inbox);
        self.tell(pod, format_args!("goes on (SIGCONT)"));
        for action in frozen {
            self.perform(pod, action);
        }
        let timers_first = self.rng.chance(50);
        if timers_first {
            self.timers(pod);
        }
        for input in inbox {
            self.feed(pod, life, input);
        }
        self.timers(pod);
        self.kick_all(pod);
    }

    fn timers(&mut self, pod: usize) {
        let now = self.now;
        if let Some(process) = &mut self.pods[pod].process
            && !process.paused
        {
            process.brain.handle_timeout(process.clock.local(now));
            self.drain(pod);
        }
    }
}

/// An input in a few words; nothing for what says nothing.
fn brief(input: &Input) -> Option<String> {
    Some(match input {
        Input::Current => return None,
        Input::Seen { object, stored } => match stored {
            Some(stored) => format!(
                "sees {object:?} at {}: {}",
                stored.resource_version,
                crate::report::record(&stored.record)
            ),
            None => format!("sees that {object:?} is gone"),
        },
        Input::Answer { request, answer } => {
            format!(
                "gets answer {}: {}",
                request.0,
                crate::report::answer(answer)
            )
        }
        other => shorten(&format!("{other:?}")),
    })
}

fn brief_action(action: &Action) -> String {
    match action {
        Action::Request { id, object, op } => {
            format!("asks {}: {}", id.0, crate::report::op(object, op))
        }
        Action::Tell(event) => format!("tells {event:?}"),
        other => shorten(&format!("{other:?}")),
    }
}

fn shorten(text: &str) -> String {
    const MOST: usize = 420;
    if text.len() <= MOST {
        text.to_owned()
    } else {
        let cut: String = text.chars().take(MOST).collect();
        format!("{cut}…")
    }
}
