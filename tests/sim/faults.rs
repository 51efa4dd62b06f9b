//! What a plan's steps do, and what undoes them.

use serde_json::json;
use zen_fabric::coordination::{
    names::Holder,
    port::{Input, Object, Record},
};

use crate::{
    api::StatusAnswer,
    net::{Cut, Place},
    plan::{Family, Step},
    process::Phase,
    time::{MS, SECOND, Time},
    world::{Ask, Event, HAND, HEALING, Lossy, World},
};

impl World {
    /// A step of the plan.
    pub(crate) fn step(&mut self, number: usize) {
        if self.healed {
            return;
        }
        let step = self.plan.steps[number].1.clone();
        self.note("world", format_args!("{step:?}"));
        match step {
            Step::Crash { pod, back, renewed } => self.crash(pod, back, renewed, Phase::Dead),
            Step::Vanish { pod, back } => self.crash(pod, back, true, Phase::Vanished),
            Step::Pause { pod, after, span } => {
                self.pause(pod, after, span);
            }
            Step::Cut {
                from,
                to,
                how,
                span,
            } => {
                self.cut(from, to, Some(how));
                self.over_after(number, span);
            }
            Step::Isolate {
                pod,
                inward,
                outward,
                how,
                span,
            } => {
                self.isolate(pod, inward, outward, Some(how));
                self.over_after(number, span);
            }
            Step::Silence { how, span } => {
                for pod in 0..self.pods.len() {
                    self.isolate(pod, true, true, Some(how));
                }
                self.over_after(number, span);
            }
            Step::Storm {
                lost,
                doubled,
                late,
                span,
            } => {
                let weather = &mut self.net.weather;
                (weather.lost, weather.doubled, weather.late) = (lost, doubled, late);
                self.over_after(number, span);
            }
            Step::FrontDown { front, span } => {
                let until = self.now + span;
                for (index, one) in self.api.fronts.iter_mut().enumerate() {
                    if front == index || front == usize::MAX {
                        one.down_until = one.down_until.max(until);
                    }
                }
            }
            Step::FrontLag { front, lag, span } => {
                self.api.fronts[front].lag = lag;
                self.over_after(number, span);
            }
            Step::Stall { span } => self.api.stalled_until = self.now + span,
            Step::Slow { most, span } => {
                self.lossy.slow = most;
                self.over_after(number, span);
            }
            Step::Lossy { lost, late, span } => {
                (self.lossy.lost, self.lossy.late) = (lost, late);
                self.over_after(number, span);
            }
            Step::Watch { pod, which, span } => {
                let until = self.now + span;
                if let Some(process) = &mut self.pods[pod].process {
                    process.watches[which].dead_until = until;
                    let life = process.life;
                    if !process.watches[which].due {
                        process.watches[which].due = true;
                        self.queue.push(until, Event::Watch { pod, life, which });
                    }
                }
            }
            Step::Compact => self.api.compacted = self.api.commits.len(),
            Step::LogDown { log, span } => {
                self.log_stops(log);
                self.over_after(number, span);
            }
            Step::Drain { pod, back, renewed } => self.ask_to_drain(pod, back, renewed, number),
            Step::Undrain { pod } => {
                if let Some(process) = &mut self.pods[pod].process
                    && process.draining
                    && self.pods[pod].phase == Phase::Wanted
                {
                    self.undrain(pod);
                }
            }
            Step::Add { pod } => {
                self.pods[pod].phase = Phase::Wanted;
                self.queue.push(self.now, Event::Start { pod });
            }
            _ => self.operate(step),
        }
    }

    fn undrain(&mut self, pod: usize) {
        if let Some(process) = &mut self.pods[pod].process {
            process.draining = false;
            let life = process.life;
            self.feed(pod, life, Input::Undrain);
        }
    }

    fn over_after(&mut self, number: usize, span: Time) {
        self.queue.push(self.now + span, Event::Over(number));
    }

    /// What a step did is over.
    pub(crate) fn over(&mut self, number: usize) {
        if self.healed && !matches!(self.plan.steps[number].1, Step::Drain { .. }) {
            return;
        }
        match self.plan.steps[number].1.clone() {
            Step::Cut { from, to, .. } => self.cut(from, to, None),
            Step::Isolate {
                pod,
                inward,
                outward,
                ..
            } => self.isolate(pod, inward, outward, None),
            Step::Silence { .. } => {
                for pod in 0..self.pods.len() {
                    self.isolate(pod, true, true, None);
                }
            }
            Step::Storm { .. } => self.net.weather = crate::net::Weather::FINE,
            Step::FrontLag { front, .. } => self.api.fronts[front].lag = 0,
            Step::Slow { .. } => self.lossy.slow = 0,
            Step::Lossy { .. } => (self.lossy.lost, self.lossy.late) = (0, 0),
            Step::LogDown { log, .. } => self.log_starts(log),
            Step::Drain { pod, back, renewed } => self.drain_ends(pod, back, renewed),
            _ => {}
        }
    }

    fn log_starts(&mut self, log: usize) {
        if !self.logs[log].up {
            self.logs[log].up = true;
            self.note(&format!("log-{log}"), format_args!("starts"));
            self.queue.push(self.now + 10 * MS, Event::View { log });
        }
    }

    fn crash(&mut self, pod: usize, back: Time, renewed: bool, phase: Phase) {
        if self.pods[pod].phase != Phase::Wanted {
            return;
        }
        self.kill(pod, phase);
        self.come_back(pod, back, renewed);
    }

    /// The kubelet, or another node, has the pod again after a while. Until then its phase says how
    /// its node answers.
    fn come_back(&mut self, pod: usize, back: Time, renewed: bool) {
        self.pods[pod].returning = true;
        self.pods[pod].renewed = renewed;
        self.queue.push(self.now + back, Event::Start { pod });
    }

    fn pause(&mut self, pod: usize, after: u32, span: Time) {
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        let life = process.life;
        if after >= 3 {
            process.freeze_at_work = true;
        } else if after == 0 {
            self.stop(pod);
        } else {
            process.freeze_after = Some(after);
        }
        self.queue
            .push(self.now + span, Event::Resume { pod, life });
    }

    fn cut(&mut self, from: Place, to: Place, how: Option<Cut>) {
        let fronts = self.api.fronts.len();
        let ends: Vec<Place> = match to {
            Place::Front(usize::MAX) => (0..fronts).map(Place::Front).collect(),
            other => vec![other],
        };
        for to in ends {
            match how {
                Some(how) => self.net.cut(from, to, how),
                None => self.net.mend_link(from, to),
            }
        }
    }

    fn isolate(&mut self, pod: usize, inward: bool, outward: bool, how: Option<Cut>) {
        for other in 0..self.pods.len() {
            if other == pod {
                continue;
            }
            if outward {
                self.cut(Place::Pod(pod), Place::Pod(other), how);
            }
            if inward {
                self.cut(Place::Pod(other), Place::Pod(pod), how);
            }
        }
    }

    fn ask_to_drain(&mut self, pod: usize, back: bool, renewed: bool, number: usize) {
        // The last one stays: a fleet of none heals nothing.
        let others = self
            .pods
            .iter()
            .filter(|one| one.phase == Phase::Wanted)
            .count();
        if self.pods[pod].phase != Phase::Wanted || (!back && others < 2) {
            return;
        }
        self.pods[pod].renewed = back && renewed;
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        if process.draining {
            return;
        }
        process.draining = true;
        process.asked = self.now;
        let life = process.life;
        if !back {
            self.pods[pod].phase = Phase::Dead;
        }
        self.feed(pod, life, Input::Drain);
        // The grace period of 40 s, after which the kubelet kills.
        self.over_after(number, 40 * SECOND);
    }

    fn drain_ends(&mut self, pod: usize, back: bool, renewed: bool) {
        let overdue = self.pods[pod]
            .process
            .as_ref()
            .is_some_and(|process| process.draining);
        if overdue {
            self.kill(pod, Phase::Dead);
            if back {
                let pause = self.rng.below(2_000) * MS;
                self.come_back(pod, pause, renewed);
            }
        }
    }

    // === the operator ===

    fn operate(&mut self, step: Step) {
        let (now, before) = (self.now, self.api.commits.len());
        self.check.operated(&step);
        match step {
            Step::DeleteLeader => {
                self.api.remove(now, &Object::Leader);
            }
            Step::DeleteMember { pod } => {
                let object = Object::Member(self.pods[pod].name.clone());
                self.api.remove(now, &object);
            }
            Step::DeleteMap => {
                self.api.remove(now, &Object::Map);
            }
            Step::DeleteLeaderAndMap => {
                self.api.remove(now, &Object::Map);
                self.api.remove(now, &Object::Leader);
            }
            Step::DeleteAll => {
                self.api.remove(now, &Object::Map);
                self.api.remove(now, &Object::Leader);
                for pod in 0..self.pods.len() {
                    let object = Object::Member(self.pods[pod].name.clone());
                    self.api.remove(now, &object);
                }
            }
            Step::EditLeader { foreign } => {
                self.api.edit(now, &Object::Leader, |value| {
                    if foreign {
                        value["spec"]["holderIdentity"] = json!("somebody#1");
                    } else {
                        value["spec"]["leaseTransitions"] = json!(7);
                    }
                });
            }
            Step::EditMember { pod, up } => {
                let object = Object::Member(self.pods[pod].name.clone());
                let name = self.pods[pod].name.clone();
                self.api.edit(now, &object, |value| {
                    let text = value["spec"]["holderIdentity"].as_str().unwrap_or_default();
                    let number = text
                        .parse::<Holder>()
                        .map_or(1, |holder| holder.incarnation);
                    let next = (number + up).saturating_sub(1).max(1);
                    value["spec"]["holderIdentity"] = json!(format!("{name}#{next}"));
                });
            }
            Step::SpoilMember { pod } => {
                let object = Object::Member(self.pods[pod].name.clone());
                self.api.edit(now, &object, |value| {
                    value["metadata"]["annotations"]["zen.io/claim"] = json!("mine");
                });
            }
            Step::EditMap { term } => {
                self.api.edit(now, &Object::Map, |value| {
                    let spec = &mut value["spec"];
                    let number = |field: &serde_json::Value| field.as_u64().unwrap_or_default();
                    let (version, now_term) = (number(&spec["version"]), number(&spec["term"]));
                    spec["version"] = json!(version + 1);
                    spec["term"] = json!(now_term + term);
                });
            }
            Step::SpoilMap { how, numbers } => {
                let lives = self.lives();
                let edit = |value: &mut serde_json::Value| how.apply(numbers, value, &lives);
                let done = if numbers.anew {
                    self.api.edit_anew(now, &Object::Map, edit)
                } else {
                    self.api.edit(now, &Object::Map, edit)
                };
                self.note_edit(done, &Object::Map);
            }
            Step::SpoilLeader { how } => {
                let (lives, uids) = (self.lives(), self.uids());
                let edit = |value: &mut serde_json::Value| how.apply(value, &lives, &uids);
                let done = self.api.edit(now, &Object::Leader, edit);
                self.note_edit(done, &Object::Leader);
            }
            Step::Restore {
                map,
                leader,
                permille,
            } => self.restore(map, leader, permille),
            Step::EditStatus { key, up } => self.edit_status(key, up),
            Step::EditSpec { key } => self.specs[key] += 1,
            _ => {}
        }
        let none = Ask::ReadStatus {
            bucket: Default::default(),
            key: 0,
            ticket: 0,
        };
        self.after_commits(before, None, &none);
        self.check_memory();
    }

    /// What came of an edit.
    fn note_edit(&mut self, done: bool, object: &Object) {
        if !self.trace.is_written() {
            return;
        }
        let stored = self.api.stored(object).map(|one| &one.record);
        let record = stored.map_or_else(|| "nothing".to_owned(), crate::report::record);
        let became = if done { "" } else { " is refused; there" };
        self.note("world", format_args!("the edit{became} is {record}"));
    }

    /// The present life of every pod, or the first one that it will have.
    fn lives(&self) -> Vec<Holder> {
        let of = |place: &crate::process::Pod| {
            let process = place.process.as_ref();
            let holder = process.and_then(|process| process.holder.clone());
            holder.unwrap_or_else(|| Holder {
                pod: place.name.clone(),
                incarnation: 1,
            })
        };
        self.pods.iter().map(of).collect()
    }

    fn uids(&self) -> Vec<String> {
        self.pods.iter().map(|one| one.uid.to_string()).collect()
    }

    fn restore(&mut self, map: bool, leader: bool, permille: u64) {
        let now = self.now;
        let past = u64::try_from(self.api.commits.len()).unwrap() * permille / 1_000;
        let then = self.api.stored_at(usize::try_from(past).unwrap());
        for (object, stored) in then {
            let wanted = (object == Object::Map && map) || (object == Object::Leader && leader);
            let Some(stored) = stored.filter(|_| wanted) else {
                continue;
            };
            if !matches!(stored.record, Record::Malformed(_)) {
                self.api.restore(now, &object, &stored);
            }
        }
    }

    fn edit_status(&mut self, key: usize, up: u64) {
        let now = self.now;
        let stored = self.api.read_status(key).owner;
        let highest = match self.api.stored(&Object::Map).map(|stored| &stored.record) {
            Some(Record::Map(map)) => map.version,
            Some(Record::Leader(_) | Record::Member(_) | Record::Malformed(_)) | None => 0,
        };
        let epoch = stored.map_or(0, |(epoch, _)| epoch.0).max(highest) + 1 + up;
        let epoch = zen_fabric::journal::Epoch(epoch);
        let holder: Holder = "somebody#1".parse().unwrap();
        let owner = Some((&epoch, &holder, "uid-x"));
        if let StatusAnswer::Done(_) = self.api.write_status(now, key, None, owner, 0) {
            self.check.edited_status(key, epoch, holder);
        }
    }

    /// Everything is mended: the network, the API, gateways, processes.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.note("world", format_args!("everything is mended"));
        self.net.mend();
        self.lossy = Lossy::default();
        self.api.stalled_until = self.now;
        for front in &mut self.api.fronts {
            front.lag = 0;
            front.down_until = self.now;
        }
        for log in 0..self.logs.len() {
            self.log_starts(log);
        }
        for pod in 0..self.pods.len() {
            if let Some(process) = &mut self.pods[pod].process {
                for watch in &mut process.watches {
                    watch.dead_until = self.now;
                }
                let life = process.life;
                let stops = process.freeze_after.is_some() || process.freeze_at_work;
                if process.paused || stops {
                    self.resume(pod, life);
                }
            } else if self.pods[pod].returning || self.pods[pod].phase == Phase::Wanted {
                self.queue.push(self.now, Event::Start { pod });
            }
        }
        self.push_all();
        let at = self.now + 2 * SECOND;
        self.queue.push(at, Event::Look);
    }

    fn healing(&self) -> Time {
        match self.plan.family {
            // Where the hand deposed everybody, the Lease has to expire; by the slowest clock.
            Family::Hand if self.check.damped => HAND + 17 * SECOND,
            Family::Hand => HAND,
            _ => HEALING,
        }
    }

    /// Is the fleet well? If not by the end of its time, a rule is broken.
    pub(crate) fn look(&mut self) {
        if self.check.counting {
            self.done = self.now >= self.plan.heal + 20 * SECOND;
            self.queue.push(self.now + SECOND, Event::Look);
            return;
        }
        match self.ails() {
            None => self.done = true,
            Some(what) if self.now >= self.plan.heal + self.healing() => {
                self.check.fault(self.now, "I3", what);
                self.done = true;
            }
            Some(_) => {
                let at = self.now + SECOND;
                self.queue.push(at, Event::Look);
            }
        }
    }
}
