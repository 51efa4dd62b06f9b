//! Requests to the API: how they travel, what becomes of them, and the watches.

use std::{collections::BTreeMap, sync::Arc};

use zen_fabric::{
    coordination::{
        names::PodName,
        port::{Answer, Input, Object, Op, Record, Stored},
    },
    journal::Epoch,
};

use crate::{
    log::Accepted,
    net::{Cut, Place},
    process::Waiting,
    time::{MS, SECOND, Time, between},
    world::{Ask, Call, Event, Reply, World},
};

/// How long after it was sent a write may still arrive: a proxy that has taken it, a connection
/// that is sent again by the kernel.
const LATEST: Time = 30 * SECOND;

impl World {
    /// A process asks the API.
    pub(crate) fn call(&mut self, pod: usize, ask: Ask) {
        self.calls += 1;
        let number = self.calls;
        let own = self.pods[pod].name.clone();
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        let sent = process.clock.local(self.now);
        let waiting = match &ask {
            Ask::Core { id, object, op } => Waiting {
                core: Some(*id),
                renews: renews(object, op, &own).then_some(sent),
            },
            _ => Waiting {
                core: None,
                renews: None,
            },
        };
        process.pending.insert(number, waiting);
        let worker = waiting.core.is_none();
        let (life, front) = (process.life, process.front);
        let mut call = Call {
            number,
            pod,
            life,
            front,
            sent: self.now,
            timed: false,
            left: false,
            ask,
        };
        let cut = self.net.is_cut(Place::Pod(pod), Place::Front(front));
        let down = self.api.fronts[front].down_until > self.now;
        if cut == Some(Cut::Reject) || (down && self.rng.chance(50)) {
            let at = self.now + between(&mut self.rng, (MS, 5 * MS));
            self.no_answer(call, at);
            self.other_front(pod);
        } else if cut.is_some() || down {
            let at = self.now + self.plan.patience;
            self.no_answer(call, at);
            self.other_front(pod);
        } else {
            let late = self.rng.chance(self.lossy.late);
            let mut delay = between(&mut self.rng, (300, 3 * MS));
            if self.lossy.slow > 0 {
                delay += self.rng.below(self.lossy.slow);
            }
            if late {
                delay += self.rng.below(LATEST);
            }
            if delay > self.plan.patience {
                self.give_up_later(&mut call);
            }
            self.queue
                .push(self.now + delay, Event::Call(Box::new(call)));
        }
        if worker {
            self.worked(pod);
        }
    }

    /// Whether a request is still in the memory of a process that was stopped: it was decided, and
    /// leaves when the process goes on, however late that is.
    pub(crate) fn is_unsent(&mut self, pod: usize, life: u32, left: &mut bool) -> bool {
        let stopped = self.pods[pod]
            .life(life)
            .is_some_and(|process| process.paused);
        *left = *left || !stopped || self.rng.chance(50);
        !*left
    }

    /// The client loses patience then.
    fn give_up_later(&mut self, call: &mut Call) {
        if !call.timed {
            call.timed = true;
            let at = (call.sent + self.plan.patience).max(self.now);
            self.no_answer(call.clone(), at);
        }
    }

    fn no_answer(&mut self, call: Call, at: Time) {
        let (pod, life, number) = (call.pod, call.life, call.number);
        let reply = Box::new(Reply::Nothing(Box::new(call.ask)));
        self.queue.push(
            at,
            Event::Reply {
                pod,
                life,
                call: number,
                reply,
            },
        );
    }

    /// A client that got no answer tries another server next time, mostly.
    fn other_front(&mut self, pod: usize) {
        let fronts = self.api.fronts.len();
        let change = self.rng.chance(70);
        let next = self.rng.index(fronts);
        if change && let Some(process) = &mut self.pods[pod].process {
            process.front = next;
        }
    }

    /// A request arrives.
    pub(crate) fn arrive(&mut self, mut call: Call) {
        if self.is_unsent(call.pod, call.life, &mut call.left) {
            let at = self.now + between(&mut self.rng, (100 * MS, 200 * MS));
            self.queue.push(at, Event::Call(Box::new(call)));
            return;
        }
        if self.api.fronts[call.front].down_until > self.now {
            self.give_up_later(&mut call);
            return;
        }
        if self.api.stalled_until > self.now {
            self.give_up_later(&mut call);
            let at = self.api.stalled_until + between(&mut self.rng, (MS, 50 * MS));
            self.queue.push(at, Event::Call(Box::new(call)));
            return;
        }
        let before = self.api.commits.len();
        let reply = self.carry_out(&call);
        self.after_commits(before, Some(call.pod), &call.ask);
        let cut = self
            .net
            .is_cut(Place::Front(call.front), Place::Pod(call.pod));
        if cut.is_some() || self.rng.chance(self.lossy.lost) {
            if self.trace.is_written() {
                self.note(
                    "api",
                    format_args!("the answer to core-{} is lost", call.pod),
                );
            }
            self.give_up_later(&mut call);
            return;
        }
        let mut delay = between(&mut self.rng, (300, 3 * MS));
        if self.lossy.slow > 0 {
            delay += self.rng.below(self.lossy.slow);
        }
        if self.now + delay > call.sent + self.plan.patience {
            self.give_up_later(&mut call);
        }
        let (pod, life, number) = (call.pod, call.life, call.number);
        self.queue.push(
            self.now + delay,
            Event::Reply {
                pod,
                life,
                call: number,
                reply: Box::new(reply),
            },
        );
    }

    fn carry_out(&mut self, call: &Call) -> Reply {
        let now = self.now;
        match &call.ask {
            Ask::Core { object, op, .. } => {
                let answer = self.api.core(now, object, op);
                if self.trace.is_written() && !matches!(op, Op::Read) {
                    let what = crate::report::op(object, op);
                    let became = crate::report::answer(&answer);
                    self.note("api", format_args!("core-{} {what}: {became}", call.pod));
                }
                Reply::Core(answer)
            }
            Ask::Observe {
                bucket,
                log,
                ticket,
                event,
                name,
                callback,
            } => {
                self.effects.observe(*event, *name);
                self.check.doubled(now, &self.effects);
                Reply::Observed {
                    bucket: *bucket,
                    log: *log,
                    ticket: *ticket,
                    event: *event,
                    callback: *callback,
                }
            }
            Ask::Read {
                bucket,
                log,
                ticket,
                key,
            } => Reply::Aggregate {
                bucket: *bucket,
                log: *log,
                ticket: *ticket,
                aggregate: self.effects.aggregate(*key),
            },
            Ask::Add {
                bucket,
                log,
                ticket,
                key,
                version,
                next,
                events,
            } => {
                let done = self.effects.add(*key, *version, next.clone(), events);
                self.check.doubled(now, &self.effects);
                Reply::Added {
                    bucket: *bucket,
                    log: *log,
                    ticket: *ticket,
                    done,
                }
            }
            Ask::ReadStatus {
                bucket,
                key,
                ticket,
            } => Reply::StatusRead {
                bucket: *bucket,
                ticket: *ticket,
                read: self.api.read_status(*key),
            },
            Ask::WriteStatus { bucket, ticket, .. } => Reply::StatusWritten {
                bucket: *bucket,
                ticket: *ticket,
                answer: self.write_status(call.pod, &call.ask),
            },
        }
    }

    /// Tells the checks what was changed, and the watches that there is something to see.
    pub(crate) fn after_commits(&mut self, before: usize, by: Option<usize>, ask: &Ask) {
        if self.api.commits.len() == before {
            return;
        }
        for index in before..self.api.commits.len() {
            self.check_commit(index, by, ask);
        }
        for pod in 0..self.pods.len() {
            for which in 0..2 {
                self.plan_watch(pod, which);
            }
        }
        let map = self.api.commits[before..]
            .iter()
            .any(|commit| commit.object == Object::Map);
        if map {
            for log in 0..self.logs.len() {
                let at = self.now + between(&mut self.rng, (MS, 300 * MS));
                self.queue.push(at, Event::View { log });
            }
        }
    }

    /// Plans a look of a watch at what it has not shown.
    fn plan_watch(&mut self, pod: usize, which: usize) {
        let now = self.now;
        let delay = between(&mut self.rng, (200, 3 * MS));
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        let (life, front) = (process.life, process.front);
        let watch = &mut process.watches[which];
        let Some(shown) = watch.shown.filter(|_| !watch.due) else {
            return;
        };
        let Some(next) = self.api.commits.get(shown) else {
            return;
        };
        watch.due = true;
        let visible = (next.at + self.api.fronts[front].lag).max(now) + delay;
        let at = visible.max(watch.dead_until);
        self.queue.push(at, Event::Watch { pod, life, which });
    }

    /// A watch shows what is new, or begins with a list.
    pub(crate) fn watch(&mut self, pod: usize, life: u32, which: usize) {
        let (now, patience) = (self.now, self.plan.patience);
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        let front = process.front;
        let watch = &mut process.watches[which];
        watch.due = false;
        let shown = watch.shown;
        let dead_until = watch.dead_until;
        let down = self.api.fronts[front].down_until;
        let cut = !self.net.both(Place::Pod(pod), Place::Front(front));
        if down > now || cut || dead_until > now {
            // It hangs or is refused; the client tries again, maybe elsewhere.
            self.other_front(pod);
            if let Some(process) = self.pods[pod].life(life) {
                process.watches[which].due = true;
            }
            let pause = between(&mut self.rng, (100 * MS, patience));
            let at = (now + pause).max(dead_until);
            self.queue.push(at, Event::Watch { pod, life, which });
            return;
        }
        let visible = self.api.visible(front, now);
        match shown {
            Some(shown) if shown >= self.api.compacted => {
                if visible > shown {
                    self.show(pod, life, which, shown, visible);
                }
            }
            Some(_) | None => self.list(pod, life, which, shown, visible),
        }
        self.plan_watch(pod, which);
    }

    fn show(&mut self, pod: usize, life: u32, which: usize, shown: usize, visible: usize) {
        if let Some(process) = self.pods[pod].life(life) {
            process.watches[which].shown = Some(visible);
        }
        for index in shown..visible {
            let commit = &self.api.commits[index];
            if is_of(&commit.object, which) {
                let input = Input::Seen {
                    object: commit.object.clone(),
                    stored: commit.stored.clone(),
                };
                self.feed(pod, life, input);
            }
        }
    }

    /// A list from a server's cache: what it has now, maybe older than what was seen already.
    fn list(&mut self, pod: usize, life: u32, which: usize, shown: Option<usize>, visible: usize) {
        let of = |stored: Vec<(Object, Option<Stored>)>| -> BTreeMap<Object, Stored> {
            let there = stored
                .into_iter()
                .filter(|(object, _)| is_of(object, which));
            there
                .filter_map(|(object, stored)| Some((object, stored?)))
                .collect()
        };
        let known = of(self.api.stored_at(shown.unwrap_or(0)));
        let found = of(self.api.stored_at(visible));
        if let Some(process) = self.pods[pod].life(life) {
            process.watches[which].shown = Some(visible);
        }
        for object in known.keys().filter(|object| !found.contains_key(*object)) {
            let input = Input::Seen {
                object: object.clone(),
                stored: None,
            };
            self.feed(pod, life, input);
        }
        if which == 1 && found.is_empty() && shown.is_none() {
            let input = Input::Seen {
                object: Object::Map,
                stored: None,
            };
            self.feed(pod, life, input);
        }
        for (object, stored) in found {
            let stored = Some(stored);
            self.feed(pod, life, Input::Seen { object, stored });
        }
        self.feed(pod, life, Input::Current);
    }

    /// Both watches have shown what their server has.
    pub(crate) fn bookmark(&mut self, pod: usize, life: u32) {
        let now = self.now;
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        let front = process.front;
        let shown = process.watches.map(|watch| watch.shown);
        let well = process.watches.iter().all(|watch| watch.dead_until <= now);
        let reached = self.net.both(Place::Pod(pod), Place::Front(front))
            && self.api.fronts[front].down_until <= now
            && self.api.stalled_until <= now;
        let visible = self.api.visible(front, now);
        if well && reached && shown.iter().all(|shown| *shown >= Some(visible)) {
            self.feed(pod, life, Input::Current);
        }
        let at = now + self.plan.bookmarks;
        self.queue.push(at, Event::Bookmark { pod, life });
    }

    /// An answer, or the end of patience, whichever comes first.
    pub(crate) fn reply(&mut self, pod: usize, life: u32, number: u64, reply: Reply) {
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        let Some(Waiting { core, renews }) = process.pending.get(&number).copied() else {
            return;
        };
        if process.paused && core.is_none() {
            // It waits in the socket.
            let at = self.now + between(&mut self.rng, (100 * MS, 200 * MS));
            let reply = Box::new(reply);
            let call = number;
            self.queue.push(
                at,
                Event::Reply {
                    pod,
                    life,
                    call,
                    reply,
                },
            );
            return;
        }
        process.pending.remove(&number);
        if let Some(request) = core {
            let answer = match reply {
                Reply::Core(answer) => answer,
                _ => Answer::Unknown,
            };
            if renews.is_some() && matches!(answer, Answer::Done(_)) {
                process.renewed = process.renewed.max(renews);
            }
            self.feed(pod, life, Input::Answer { request, answer });
            return;
        }
        self.worker_reply(pod, life, reply);
    }

    /// An event is accepted by a gateway, until everything is mended.
    pub(crate) fn accept(&mut self) {
        if self.healed {
            return;
        }
        let key = self.rng.index(self.plan.keys);
        let log = self.rng.index(self.logs.len());
        if self.rng.chance(5) {
            // Its author is at work.
            self.specs[key] += 1;
        }
        if self.logs[log].up {
            let verdict = match self.rng.below(5) {
                0 => crate::log::Verdict::Filter,
                1 | 2 => crate::log::Verdict::Add,
                _ => crate::log::Verdict::Observe,
            };
            let event = self.logs[log].append(Accepted {
                log,
                position: 0,
                key,
                verdict,
                spec: self.specs[key],
            });
            self.accepted.push(event);
            self.queue.push(self.now + MS, Event::Push { log, key });
        }
        let pace = self.plan.pace;
        let at = self.now + pace / 2 + self.rng.below(pace);
        self.queue.push(at, Event::Accept);
    }

    /// A gateway reads the newest map that its server shows.
    pub(crate) fn view(&mut self, log: usize) {
        if !self.logs[log].up {
            return;
        }
        let Some(stored) = self.api.stored(&Object::Map) else {
            return;
        };
        let Record::Map(map) = &stored.record else {
            return;
        };
        // As `roles/map/follower.rs`: what says what can't be is passed over, however high its version.
        if !map.is_sound(map.buckets) {
            return;
        }
        let mut view = crate::log::View {
            uid: Arc::clone(&stored.uid),
            version: map.version,
            owners: BTreeMap::new(),
        };
        for key in 0..self.plan.keys {
            let bucket = crate::world::bucket_of(key);
            if let Some(grant) = map.grants.get(&bucket) {
                let (epoch, owner): (Epoch, _) = (grant.epoch, grant.owner.clone());
                view.owners.insert(bucket, (epoch, owner));
            }
        }
        let ended = self.logs[log].saw(view);
        for (bucket, holder, refused) in ended {
            self.end_subscription(log, bucket, &holder, refused);
        }
    }
}

/// Whether a request renews, or claims, the member Lease of the pod that asks.
fn renews(object: &Object, op: &Op, own: &PodName) -> bool {
    let (Object::Member(pod), Op::Replace { .. } | Op::Create(_)) = (object, op) else {
        return false;
    };
    pod == own
}

fn is_of(object: &Object, which: usize) -> bool {
    (which == 1) == (*object == Object::Map)
}
