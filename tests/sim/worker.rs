//! What a process does with a bucket that has a key: subscribe, act, commit, report.
//!
//! Pure: each step says what to ask of a log or of the API, and takes what comes back. A bucket is
//! taken from each log on a lane of its own.

use zen_fabric::{coordination::names::Holder, journal::Epoch};

use crate::{
    effects::Aggregate,
    log::{Accepted, Refused, Verdict},
    mutants::Planted,
};

/// Work on a bucket.
#[derive(Debug)]
pub(crate) struct Work {
    /// The Ingestor.
    pub(crate) key: usize,
    /// Under which epoch.
    pub(crate) epoch: Epoch,
    /// As whom.
    pub(crate) holder: Holder,
    /// It is to stop as soon as nothing is in flight.
    pub(crate) releasing: bool,
    /// It has said that it stopped.
    pub(crate) released: bool,
    /// Per log.
    pub(crate) lanes: Vec<Lane>,
    /// The status of the Ingestor.
    pub(crate) status: Status,
}

/// Work on the records of one log.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The epoch that the log has accepted.
    pub(crate) epoch: Option<Epoch>,
    /// What it does.
    pub(crate) stage: Stage,
    /// What the log or the API is asked under: an answer to anything older is nobody's.
    pub(crate) ticket: u64,
}

/// What a lane does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing, until it tries to subscribe again.
    Idle,
    /// It has asked to subscribe.
    Subscribing,
    /// It waits for records.
    Listening,
    /// It has records, and does the effects of the one at `at`.
    Acting {
        /// The records.
        batch: Vec<Accepted>,
        /// How many are done.
        at: usize,
        /// Whether something is under way for it.
        flying: bool,
        /// The aggregate that it has read.
        read: Option<Aggregate>,
    },
    /// It has asked to commit these positions.
    Committing {
        /// The records.
        batch: Vec<Accepted>,
    },
}

/// The status of the Ingestor, as this owner keeps it.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// The version that it has read.
    pub(crate) version: Option<String>,
    /// There is something to write.
    pub(crate) dirty: bool,
    /// A read or write is under way, under this ticket.
    pub(crate) flying: Option<u64>,
    /// A timer is set.
    pub(crate) due: bool,
    /// It was refused: nothing more is written under this epoch.
    pub(crate) refused: bool,
}

/// What a lane wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Subscribe under the epoch of the work.
    Subscribe,
    /// Create the Observation of this event, then call back.
    Observe(Accepted),
    /// Read the aggregate.
    Read,
    /// Write the aggregate.
    Add {
        /// The version that was read.
        version: u64,
        /// What it becomes.
        next: Aggregate,
        /// Which events are in it that were not.
        events: Vec<Accepted>,
    },
    /// Commit these.
    Commit(Vec<Accepted>),
    /// Nothing, for now.
    Nothing,
}

impl Work {
    pub(crate) fn new(key: usize, epoch: Epoch, holder: Holder, logs: usize) -> Self {
        let lane = || Lane {
            epoch: None,
            stage: Stage::Idle,
            ticket: 0,
        };
        Self {
            key,
            epoch,
            holder,
            releasing: false,
            released: false,
            lanes: (0..logs).map(|_| lane()).collect(),
            status: Status::default(),
        }
    }

    /// Goes on under a higher epoch, log by log, without a pause.
    pub(crate) fn raise(&mut self, epoch: Epoch, holder: Holder) {
        if self.releasing {
            // What was not begun was left to the log: it is asked for again.
            for lane in &mut self.lanes {
                if lane.stage == Stage::Listening {
                    lane.stage = Stage::Idle;
                }
            }
        }
        self.epoch = epoch;
        self.holder = holder;
        self.releasing = false;
        self.released = false;
        self.status.refused = false;
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_still(&self) -> bool {
        let moving = |lane: &Lane| match &lane.stage {
            Stage::Idle | Stage::Listening => false,
            Stage::Subscribing => false,
            Stage::Acting { at, flying, .. } => *flying || *at > 0,
            Stage::Committing { .. } => true,
        };
        self.status.flying.is_none() && !self.lanes.iter().any(moving)
    }

    /// What the lane wants next.
    pub(crate) fn want(&mut self, log: usize, gate: bool, planted: Planted) -> Want {
        let (epoch, releasing) = (self.epoch, self.releasing);
        let lane = &mut self.lanes[log];
        if !releasing {
            lane.pass_filtered();
        }
        match &mut lane.stage {
            // What is in flight is committed under the epoch that the log has accepted.
            Stage::Idle | Stage::Listening if releasing => Want::Nothing,
            Stage::Idle => Want::Subscribe,
            Stage::Listening if lane.epoch != Some(epoch) => Want::Subscribe,
            Stage::Subscribing | Stage::Listening | Stage::Committing { .. } => Want::Nothing,
            Stage::Acting { flying: true, .. } => Want::Nothing,
            Stage::Acting { batch, at, .. } if *at >= batch.len() => {
                let batch = batch.clone();
                lane.stage = Stage::Committing {
                    batch: batch.clone(),
                };
                Want::Commit(batch)
            }
            Stage::Acting { batch, at, .. } if releasing => {
                // What has begun is finished, what has not begun is left to the next owner.
                batch.truncate(*at);
                if batch.is_empty() {
                    lane.stage = Stage::Listening;
                    return Want::Nothing;
                }
                let batch = batch.clone();
                lane.stage = Stage::Committing {
                    batch: batch.clone(),
                };
                Want::Commit(batch)
            }
            Stage::Acting { .. } if !gate => Want::Nothing,
            Stage::Acting {
                batch,
                at,
                flying,
                read,
            } => act(batch, *at, flying, read, log, planted),
        }
    }
}

/// The next effect of a batch.
fn act(
    batch: &[Accepted],
    at: usize,
    flying: &mut bool,
    read: &mut Option<Aggregate>,
    log: usize,
    planted: Planted,
) -> Want {
    let event = batch[at];
    match (event.verdict, read.take()) {
        // Passed before.
        (Verdict::Filter, _) => Want::Nothing,
        (Verdict::Observe, _) => {
            *flying = true;
            Want::Observe(event)
        }
        (Verdict::Add, None) => {
            *flying = true;
            Want::Read
        }
        (Verdict::Add, Some(aggregate)) => {
            let covered = aggregate.applied.get(&log).copied().unwrap_or_default();
            let same = batch[at..]
                .iter()
                .take_while(|one| one.verdict == Verdict::Add);
            let events: Vec<Accepted> = same
                .filter(|one| {
                    one.position > covered || planted == Planted::AggregateWithoutPosition
                })
                .copied()
                .collect();
            *flying = true;
            let version = aggregate.version;
            let mut next = aggregate;
            next.count += u64::try_from(events.len()).unwrap();
            for event in &events {
                next.applied.insert(log, event.position);
            }
            Want::Add {
                version,
                next,
                events,
            }
        }
    }
}

impl Lane {
    /// What a filter drops has no effect but its end.
    fn pass_filtered(&mut self) {
        if let Stage::Acting {
            batch,
            at,
            flying: false,
            ..
        } = &mut self.stage
        {
            let open = &batch[*at..];
            *at += open
                .iter()
                .take_while(|one| one.verdict == Verdict::Filter)
                .count();
        }
    }

    /// The log has accepted an epoch and gives what waits.
    pub(crate) fn subscribed(&mut self, epoch: Epoch, records: Vec<Accepted>) {
        self.epoch = Some(epoch);
        self.records(records);
    }

    /// Records came.
    pub(crate) fn records(&mut self, batch: Vec<Accepted>) {
        self.stage = if batch.is_empty() {
            Stage::Listening
        } else {
            Stage::Acting {
                batch,
                at: 0,
                flying: false,
                read: None,
            }
        };
    }

    /// The effect of the event under way is done; an added run counts as one step each.
    pub(crate) fn done(&mut self) {
        if let Stage::Acting {
            batch, at, flying, ..
        } = &mut self.stage
        {
            *flying = false;
            let adds = batch
                .get(*at)
                .is_some_and(|one| one.verdict == Verdict::Add);
            *at += 1;
            while adds
                && batch
                    .get(*at)
                    .is_some_and(|one| one.verdict == Verdict::Add)
            {
                *at += 1;
            }
        }
    }

    /// The effect under way has failed, or must begin again.
    pub(crate) fn again(&mut self, aggregate: Option<Aggregate>) {
        if let Stage::Acting { flying, read, .. } = &mut self.stage {
            *flying = false;
            *read = aggregate;
        }
    }

    /// The log refuses, or the connection broke: what was under way there is nobody's.
    pub(crate) fn broke(&mut self, _why: Option<&Refused>) {
        self.epoch = None;
        self.stage = Stage::Idle;
        self.ticket += 1;
    }
}
