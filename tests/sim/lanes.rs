//! What passes between the lanes of a process and the logs.

use zen_fabric::{
    coordination::{names::Holder, port::Input},
    journal::Bucket,
};

use crate::{
    log::Refused,
    net::Place,
    time::{MS, SECOND, Time, between},
    work::LaneId,
    worker::Stage,
    world::{Event, LogAnswer, LogCall, World, key_of},
};

/// Records that are fetched at once: few, so that a hand-over meets half-finished batches.
const BATCH: usize = 3;

impl World {
    pub(crate) fn ask_log(&mut self, call: LogCall) {
        let (pod, life, log, bucket, ticket) =
            (call.pod, call.life, call.log, call.bucket, call.ticket);
        let retry = self.now + between(&mut self.rng, (500 * MS, SECOND));
        let (here, there) = (Place::Pod(pod), Place::Log(log));
        let delays = self.net.travel(here, there, &mut self.rng);
        for delay in delays.into_iter().flatten() {
            let event = Event::Log(Box::new(call.clone()));
            self.queue.push(self.now + delay, event);
        }
        self.queue.push(
            retry,
            Event::Retry {
                pod,
                life,
                id: (bucket, log, ticket),
            },
        );
        self.worked(pod);
    }

    /// A request arrives at a log.
    pub(crate) fn at_log(&mut self, mut call: LogCall) {
        if self.is_unsent(call.pod, call.life, &mut call.left) {
            let at = self.now + between(&mut self.rng, (100 * MS, 200 * MS));
            self.queue.push(at, Event::Log(Box::new(call)));
            return;
        }
        let (log, bucket, planted) = (call.log, call.bucket, self.planted);
        if !self.logs[log].up {
            return;
        }
        let done = match &call.commit {
            None => self.logs[log].subscribe(bucket, call.epoch, &call.holder, planted),
            Some(batch) => {
                let positions: Vec<u64> = batch.iter().map(|one| one.position).collect();
                let ended =
                    self.logs[log].commit(bucket, call.epoch, &call.holder, &positions, planted);
                if ended.is_ok() {
                    self.check
                        .committed(self.now, (log, bucket), call.epoch, &call.holder);
                    self.check.tally(self.now, log, self.logs[log].tally());
                }
                ended.map(drop)
            }
        };
        if call.commit.is_none() && done.is_ok() {
            self.check
                .claimed(self.now, (log, bucket), call.epoch, &call.holder);
        }
        if self.trace.is_written() {
            let what = if call.commit.is_some() {
                "commits"
            } else {
                "subscribes"
            };
            let positions: Vec<u64> = call
                .commit
                .iter()
                .flatten()
                .map(|one| one.position)
                .collect();
            self.note(
                &format!("log-{log}"),
                format_args!(
                    "{} {what} {positions:?} in bucket {} under epoch {}: {}",
                    call.holder,
                    bucket.0,
                    call.epoch.0,
                    match &done {
                        Ok(()) => "done".to_owned(),
                        Err(refused) => format!(
                            "refused, {} holds it at {}",
                            refused.holder, refused.epoch.0
                        ),
                    }
                ),
            );
        }
        // A gateway that was away has the claims, and nobody whom it serves.
        let served = self.logs[log].served(bucket) == Some(&call.holder);
        let answer = match done {
            Ok(()) if !served => LogAnswer::Broken,
            Ok(()) => LogAnswer::Done {
                epoch: call.epoch,
                records: self.logs[log].fetch(call.key, BATCH),
            },
            Err(refused) => LogAnswer::Refused(refused),
        };
        self.answer_lane(log, call.pod, call.life, (bucket, log, call.ticket), answer);
    }

    fn answer_lane(&mut self, log: usize, pod: usize, life: u32, id: LaneId, answer: LogAnswer) {
        let delays = self
            .net
            .travel(Place::Log(log), Place::Pod(pod), &mut self.rng);
        if let Some(delay) = delays[0] {
            self.to_lane(self.now + delay, pod, life, id, answer);
        }
    }

    /// At that time a lane hears this.
    fn to_lane(&mut self, at: Time, pod: usize, life: u32, id: LaneId, answer: LogAnswer) {
        let answer = Box::new(answer);
        let lane = Event::Lane {
            pod,
            life,
            id,
            answer,
        };
        self.queue.push(at, lane);
    }

    /// A log's answer arrives.
    pub(crate) fn from_log(&mut self, pod: usize, life: u32, id: LaneId, answer: LogAnswer) {
        if self.put_off(pod, life, |at| Event::Lane {
            pod: at,
            life,
            id,
            answer: Box::new(answer.clone()),
        }) {
            return;
        }
        let (bucket, log, _) = id;
        let Some(lane) = self.lane(pod, life, id) else {
            return;
        };
        match answer {
            LogAnswer::Done { epoch, records } => {
                let committed = matches!(lane.stage, Stage::Committing { .. });
                let empty = records.is_empty();
                lane.subscribed(epoch, records);
                if empty && let Some(key) = key_of(bucket, self.plan.keys) {
                    // What was accepted since the log answered is said to whom it finds listening.
                    self.queue.push(self.now + MS, Event::Push { log, key });
                }
                if committed {
                    self.dirty(pod, life, bucket);
                }
            }
            LogAnswer::Records(records) => {
                if lane.stage == Stage::Listening {
                    lane.records(records);
                }
            }
            LogAnswer::Broken => {
                lane.broke(None);
                self.later(pod, life, bucket, log);
            }
            LogAnswer::Refused(refused) => {
                lane.broke(Some(&refused));
                self.later(pod, life, bucket, log);
                self.fenced(pod, life, bucket, &refused);
            }
        }
        self.kick(pod, bucket);
    }

    /// A stopped process takes no answers; they wait in its sockets.
    pub(crate) fn put_off(
        &mut self,
        pod: usize,
        life: u32,
        event: impl Fn(usize) -> Event,
    ) -> bool {
        let stopped = self.pods[pod]
            .life(life)
            .is_some_and(|process| process.paused);
        if stopped {
            let at = self.now + between(&mut self.rng, (100 * MS, 200 * MS));
            self.queue.push(at, event(pod));
        }
        stopped
    }

    /// The lane tries again after a while. Its stage is left `Subscribing` until then.
    fn later(&mut self, pod: usize, life: u32, bucket: Bucket, log: usize) {
        let at = self.now + between(&mut self.rng, (200 * MS, SECOND));
        let Some(work) = self.work(pod, life, bucket) else {
            return;
        };
        let lane = &mut work.lanes[log];
        lane.stage = Stage::Subscribing;
        let ticket = lane.ticket;
        self.queue.push(
            at,
            Event::Retry {
                pod,
                life,
                id: (bucket, log, ticket),
            },
        );
    }

    /// Nothing came: the lane asks again.
    pub(crate) fn retry_lane(&mut self, pod: usize, life: u32, id: LaneId) {
        if self.put_off(pod, life, |at| Event::Retry { pod: at, life, id }) {
            return;
        }
        let Some(lane) = self.lane(pod, life, id) else {
            return;
        };
        match &lane.stage {
            Stage::Subscribing => lane.stage = Stage::Idle,
            Stage::Committing { batch } => {
                let at = batch.len();
                let batch = batch.clone();
                lane.stage = Stage::Acting {
                    batch,
                    at,
                    flying: false,
                    read: None,
                };
            }
            Stage::Idle | Stage::Listening | Stage::Acting { .. } => {}
        }
        self.kick(pod, id.0);
    }

    pub(crate) fn fenced(&mut self, pod: usize, life: u32, bucket: Bucket, refused: &Refused) {
        let own = self
            .work(pod, life, bucket)
            .is_some_and(|work| work.holder == refused.holder && work.epoch >= refused.epoch);
        if !own {
            let input = Input::Fenced {
                bucket,
                epoch: refused.epoch,
                holder: refused.holder.clone(),
            };
            self.feed(pod, life, input);
        }
    }

    /// A gateway ends a subscription that a newer map doesn't name.
    pub(crate) fn end_subscription(
        &mut self,
        log: usize,
        bucket: Bucket,
        holder: &Holder,
        refused: Refused,
    ) {
        let Some(pod) = self.pods.iter().position(|one| one.name == holder.pod) else {
            return;
        };
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        let (life, lane) = (process.life, process.work.get(&bucket));
        let Some(ticket) = lane.map(|work| work.lanes[log].ticket) else {
            return;
        };
        let answer = LogAnswer::Refused(refused);
        self.ends(pod, life, (bucket, log, ticket), answer);
    }

    /// A connection ends: its other end finds out, at once or by its keepalive.
    fn ends(&mut self, pod: usize, life: u32, id: LaneId, answer: LogAnswer) {
        let (_, log, _) = id;
        let delays = self
            .net
            .travel(Place::Log(log), Place::Pod(pod), &mut self.rng);
        let later = between(&mut self.rng, (SECOND, 3 * SECOND));
        let at = self.now + delays[0].unwrap_or(later);
        self.to_lane(at, pod, life, id, answer);
    }

    /// A log tells whom it serves that there is something. A connection that is cut breaks, and what
    /// is to be said is said on the next one.
    pub(crate) fn push(&mut self, log: usize, key: usize) {
        let bucket = crate::world::bucket_of(key);
        if !self.logs[log].up {
            return;
        }
        let Some(holder) = self.logs[log].served(bucket).cloned() else {
            return;
        };
        let Some(pod) = self.pods.iter().position(|one| one.name == holder.pod) else {
            return;
        };
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        if process.holder.as_ref() != Some(&holder) {
            return;
        }
        let life = process.life;
        let Some(lane) = process.work.get(&bucket).map(|work| &work.lanes[log]) else {
            return;
        };
        if lane.stage != Stage::Listening {
            return;
        }
        let ticket = lane.ticket;
        let delays = self
            .net
            .travel(Place::Log(log), Place::Pod(pod), &mut self.rng);
        let Some(delay) = delays[0] else {
            let at = self.now + 300 * MS;
            self.queue.push(at, Event::Push { log, key });
            return;
        };
        let records = self.logs[log].fetch(key, BATCH);
        if records.is_empty() {
            return;
        }
        let (at, id) = (self.now + delay, (bucket, log, ticket));
        self.to_lane(at, pod, life, id, LogAnswer::Records(records));
    }

    /// The keys' events that wait are told again to those who are served them.
    pub(crate) fn push_all(&mut self) {
        for log in 0..self.logs.len() {
            for key in 0..self.plan.keys {
                let at = self.now + MS;
                self.queue.push(at, Event::Push { log, key });
            }
        }
    }

    /// A gateway stops: connections break.
    pub(crate) fn log_stops(&mut self, log: usize) {
        let planted = self.planted;
        self.logs[log].stop(planted);
        self.note(&format!("log-{log}"), format_args!("stops"));
        for pod in 0..self.pods.len() {
            let Some(process) = &self.pods[pod].process else {
                continue;
            };
            let life = process.life;
            let lanes: Vec<(Bucket, u64)> = process
                .work
                .iter()
                .map(|(bucket, work)| (*bucket, work.lanes[log].ticket))
                .collect();
            for (bucket, ticket) in lanes {
                self.ends(pod, life, (bucket, log, ticket), LogAnswer::Broken);
            }
        }
    }
}
