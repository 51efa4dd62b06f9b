//! What the workers of a process do next, and what the API answers them.

use zen_fabric::{coordination::port::Input, journal::Bucket};

use crate::{
    mutants::Planted,
    time::{MS, between},
    worker::{Lane, Stage, Want, Work},
    world::{Ask, Event, LogCall, Reply, World},
};

/// Which lane, and under which ticket it asked.
pub(crate) type LaneId = (Bucket, usize, u64);

impl World {
    /// Every lane of a process does what it can.
    pub(crate) fn kick_all(&mut self, pod: usize) {
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        let buckets: Vec<Bucket> = process.work.keys().copied().collect();
        for bucket in buckets {
            self.kick(pod, bucket);
        }
    }

    /// Every lane of a bucket does what it can.
    pub(crate) fn kick(&mut self, pod: usize, bucket: Bucket) {
        for log in 0..self.logs.len() {
            self.kick_lane(pod, bucket, log);
        }
        self.released(pod, bucket);
    }

    pub(crate) fn work(&mut self, pod: usize, life: u32, bucket: Bucket) -> Option<&mut Work> {
        let process = self.pods[pod].life(life)?;
        process.work.get_mut(&bucket)
    }

    pub(crate) fn lane(
        &mut self,
        pod: usize,
        life: u32,
        (bucket, log, ticket): LaneId,
    ) -> Option<&mut Lane> {
        let lane = self.work(pod, life, bucket)?.lanes.get_mut(log)?;
        (lane.ticket == ticket).then_some(lane)
    }

    fn kick_lane(&mut self, pod: usize, bucket: Bucket, log: usize) {
        let planted = self.planted;
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        if process.paused {
            return;
        }
        let (life, gate) = (process.life, process.gate);
        let Some(work) = process.work.get_mut(&bucket) else {
            return;
        };
        let want = work.want(log, gate, planted);
        let (key, holder, epoch) = (work.key, work.holder.clone(), work.epoch);
        let lane = &mut work.lanes[log];
        if want == Want::Nothing {
            return;
        }
        lane.ticket += 1;
        let ticket = lane.ticket;
        let effect = matches!(want, Want::Observe(_) | Want::Add { .. });
        match want {
            Want::Nothing => {}
            want @ (Want::Subscribe | Want::Commit(_)) => {
                let (epoch, commit) = if let Want::Commit(batch) = want {
                    (lane.epoch.unwrap_or(epoch), Some(batch))
                } else {
                    lane.stage = Stage::Subscribing;
                    (epoch, None)
                };
                self.ask_log(LogCall {
                    pod,
                    life,
                    log,
                    bucket,
                    key,
                    ticket,
                    left: false,
                    holder,
                    epoch,
                    commit,
                });
            }
            Want::Observe(event) => {
                let today = self.specs[key];
                let name = match planted {
                    Planted::TodaysSpec => today,
                    _ => event.spec,
                };
                let callback = match planted {
                    Planted::EpochInCallbackKey => epoch.0,
                    _ => 0,
                };
                let event = (event.log, event.position);
                self.call(
                    pod,
                    Ask::Observe {
                        bucket,
                        log,
                        ticket,
                        event,
                        name,
                        callback,
                    },
                );
            }
            Want::Read => self.call(
                pod,
                Ask::Read {
                    bucket,
                    log,
                    ticket,
                    key,
                },
            ),
            Want::Add {
                version,
                next,
                events,
            } => {
                let events = events.iter().map(|one| (one.log, one.position)).collect();
                self.call(
                    pod,
                    Ask::Add {
                        bucket,
                        log,
                        ticket,
                        key,
                        version,
                        next,
                        events,
                    },
                );
            }
        }
        self.check_acts(pod, effect);
    }

    /// Says that a bucket is released when nothing is in flight.
    fn released(&mut self, pod: usize, bucket: Bucket) {
        let early = self.planted == Planted::ReleasedInFlight;
        let Some(process) = &mut self.pods[pod].process else {
            return;
        };
        if process.paused {
            return;
        }
        let life = process.life;
        let Some(work) = process.work.get_mut(&bucket) else {
            return;
        };
        if work.releasing && !work.released && (early || work.is_still()) {
            work.released = true;
            let epoch = work.epoch;
            let input = Box::new(Input::Released { bucket, epoch });
            self.queue.push(self.now, Event::Input { pod, life, input });
        }
    }

    /// What the API answered to a worker.
    pub(crate) fn worker_reply(&mut self, pod: usize, life: u32, reply: Reply) {
        let bucket = match reply {
            Reply::Core(_) => return,
            Reply::Observed {
                bucket,
                log,
                ticket,
                event,
                callback,
            } => {
                let at = self.now + between(&mut self.rng, (MS, 20 * MS));
                if self.lane(pod, life, (bucket, log, ticket)).is_some() {
                    let key = callback;
                    self.queue.push(at, Event::Callback { event, key });
                }
                if let Some(lane) = self.lane(pod, life, (bucket, log, ticket)) {
                    lane.done();
                }
                bucket
            }
            Reply::Aggregate {
                bucket,
                log,
                ticket,
                aggregate,
            } => {
                if let Some(lane) = self.lane(pod, life, (bucket, log, ticket)) {
                    lane.again(Some(aggregate));
                }
                bucket
            }
            Reply::Added {
                bucket,
                log,
                ticket,
                done,
            } => {
                if let Some(lane) = self.lane(pod, life, (bucket, log, ticket)) {
                    if done {
                        lane.done();
                    } else {
                        lane.again(None);
                    }
                }
                bucket
            }
            Reply::StatusRead {
                bucket,
                ticket,
                read,
            } => {
                self.status_read(pod, life, bucket, ticket, read);
                bucket
            }
            Reply::StatusWritten {
                bucket,
                ticket,
                answer,
            } => {
                self.status_written(pod, life, bucket, ticket, answer);
                bucket
            }
            Reply::Nothing(ask) => self.unanswered(pod, life, *ask),
        };
        self.kick(pod, bucket);
    }

    /// Nobody knows whether it was done: it is begun again.
    fn unanswered(&mut self, pod: usize, life: u32, ask: Ask) -> Bucket {
        match ask {
            Ask::Core { .. } => Bucket(u16::MAX),
            Ask::Observe {
                bucket,
                log,
                ticket,
                ..
            }
            | Ask::Read {
                bucket,
                log,
                ticket,
                ..
            }
            | Ask::Add {
                bucket,
                log,
                ticket,
                ..
            } => {
                if let Some(lane) = self.lane(pod, life, (bucket, log, ticket)) {
                    lane.again(None);
                }
                bucket
            }
            Ask::ReadStatus { bucket, ticket, .. } | Ask::WriteStatus { bucket, ticket, .. } => {
                self.status_again(pod, life, bucket, ticket);
                bucket
            }
        }
    }
}
