//! What waits for the next group commit, and the checks before anything may.
//!
//! The index knows only what is durable. What is staged or in flight is counted here beside it, and
//! taken back when its commit fails.

mod admit;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::oneshot;

pub(super) use self::admit::{Admission, Prepared};
use super::{
    cache::{Cache, Chunk},
    claims::Subscribers,
    disk::DiskFile,
    engine::{Engine, Recent, Waiters},
    entry::Origin2,
    flight::{Failure, Flight},
    format::{self, BATCH_HEADER, Kind, Place, SegmentId},
    index::{Index, NewRecord, count},
};
use crate::{
    api::SpecDigest,
    journal::{
        AppendError, Ended, Epoch, Fenced, Holder, IngestorUid, KeyHash, LetterId, Millis,
        SpecText, SubscriptionError,
    },
};

pub(super) type Reply = oneshot::Sender<Result<(), SubscriptionError>>;

/// Says which buckets could not be taken.
pub(super) type TakeReply = oneshot::Sender<Result<Vec<Fenced>, SubscriptionError>>;

/// What an entry does once it is durable.
#[derive(Debug)]
pub(super) enum What {
    Event(NewRecord),
    Spec {
        ingestor: u32,
        digest: SpecDigest,
        text: Arc<str>,
    },
    Commit {
        ingestor: u32,
        epoch: Epoch,
        ends: Vec<Ended>,
        reply: Option<Reply>,
    },
    Letter {
        ingestor: u32,
        epoch: Epoch,
        ended: Box<Ended>,
        at: Millis,
        reply: Option<Reply>,
    },
    Take {
        subscriber: u64,
        holder: Holder,
        epoch: Epoch,
        buckets: Vec<u16>,
        reply: Option<TakeReply>,
    },
    Forget {
        ingestor: u32,
    },
    /// Trimming wrote an entry again; `from` is where it lay.
    Moved {
        from: Place,
        kind: Moved,
    },
}

/// Which entry trimming wrote again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moved {
    Record { ingestor: u32, position: u64 },
    Key { position: u64 },
    Letter { position: u64 },
    Spec { digest: SpecDigest },
}

/// An entry of a [`Part`].
#[derive(Debug)]
pub(super) struct Op {
    offset: usize,
    len: u32,
    pub(super) what: What,
}

/// Entries that become one batch; room for its header comes first.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    pub(super) ops: Vec<Op>,
    place: (SegmentId, u64),
}

impl Part {
    fn with_capacity(bytes: usize, ops: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ops: Vec::with_capacity(ops),
            place: (0, 0),
        }
    }

    /// Room for one more entry; says where it begins.
    fn begin(&mut self) -> usize {
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH_HEADER, 0);
        }
        self.bytes.len()
    }

    pub(super) fn push(
        &mut self,
        engine: &Engine,
        kind: Kind,
        position: u64,
        payload: &[u8],
        what: What,
    ) {
        let offset = self.begin();
        let len = format::push_entry(
            &mut self.bytes,
            engine.seed,
            kind,
            position,
            payload,
            crc32c::crc32c(payload),
        );
        self.ops.push(Op { offset, len, what });
    }

    /// The batch lies at `offset` of `segment`.
    pub(super) fn place(&mut self, segment: SegmentId, offset: u64) {
        self.place = (segment, offset);
    }

    /// The entries with their places.
    pub(super) fn take_ops(&mut self) -> Vec<(Place, Op)> {
        let at = self.place;
        std::mem::take(&mut self.ops)
            .into_iter()
            .map(|op| (place_of(at, &op), op))
            .collect()
    }

    pub(super) fn into_chunk(self) -> Option<Chunk> {
        let start = u32::try_from(self.place.1).ok()?;
        (!self.bytes.is_empty()).then(|| Chunk {
            segment: self.place.0,
            start,
            bytes: Bytes::from(self.bytes),
        })
    }
}

fn place_of((segment, at): (SegmentId, u64), op: &Op) -> Place {
    let offset = u32::try_from(at + count(op.offset)).unwrap_or(u32::MAX);
    Place {
        segment,
        offset,
        len: op.len,
    }
}

/// One group commit to be.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// Commits, subscriptions, specs: what may use the last sixteenth of a segment.
    pub(super) control: Part,
    pub(super) events: Part,
    /// For those who staged events, and for the others: without room only events fail.
    pub(super) flight: Arc<Flight>,
    pub(super) control_flight: Arc<Flight>,
}

impl Staged {
    pub(super) fn is_empty(&self) -> bool {
        self.control.ops.is_empty() && self.events.ops.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.control.bytes.len() + self.events.bytes.len()
    }
}

/// A key whose record is not durable yet.
#[derive(Debug)]
struct PendingKey {
    flight: Arc<Flight>,
}

/// All that is in memory, behind one lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) index: Index,
    pub(super) staged: Staged,
    pending_keys: HashMap<(u32, KeyHash), PendingKey>,
    pending_bytes: HashMap<u32, u64>,
    pending_total: u64,
    pending_replays: HashSet<LetterId>,
    pending_ends: HashMap<u64, Arc<Flight>>,
    pub(super) next_position: u64,
    last_epoch: u64,
    pub(super) files: BTreeMap<SegmentId, Arc<dyn DiskFile>>,
    pub(super) cache: Cache,
    pub(super) recent: Recent,
    pub(super) waiters: Waiters,
    pub(super) next_waiter: u64,
    pub(super) subscribers: Subscribers,
    /// Why appends are refused.
    pub(super) refusal: Option<Failure>,
    pub(super) closing: bool,
    /// Whether the committer waits to be woken.
    pub(super) committer_idle: bool,
    /// Events of the last commit.
    pub(super) last_events: usize,
    pub(super) torn_bytes: u64,
    pub(super) snapshot_bytes: u64,
    pub(super) syncs: u64,
    pub(super) appended: u64,
    pub(super) claims: Claims,
}

/// What became of claims, and of commits under a claim that was lost, since start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claims {
    pub(super) taken: u64,
    pub(super) refused: u64,
    pub(super) commits_refused: u64,
}

impl State {
    pub(super) fn new(
        index: Index,
        next_position: u64,
        files: BTreeMap<SegmentId, Arc<dyn DiskFile>>,
        torn_bytes: u64,
        cache: Cache,
    ) -> Self {
        Self {
            index,
            staged: Staged::default(),
            pending_keys: HashMap::new(),
            pending_bytes: HashMap::new(),
            pending_total: 0,
            pending_replays: HashSet::new(),
            pending_ends: HashMap::new(),
            next_position,
            last_epoch: 0,
            files,
            cache,
            recent: Recent::default(),
            waiters: Waiters::new(),
            next_waiter: 0,
            subscribers: Subscribers::default(),
            refusal: None,
            closing: false,
            committer_idle: false,
            last_events: 0,
            torn_bytes,
            snapshot_bytes: 0,
            syncs: 0,
            appended: 0,
            claims: Claims::default(),
        }
    }

    /// Takes all that was staged; what comes now is the next commit's.
    pub(super) fn take(&mut self) -> Staged {
        self.last_events = self.staged.events.ops.len();
        if self.staged.is_empty() {
            return Staged::default();
        }
        // The next one is likely as large; growing it would copy it several times.
        let next = Staged {
            control: Part::default(),
            events: Part::with_capacity(
                self.staged.events.bytes.len(),
                self.staged.events.ops.len(),
            ),
            flight: Arc::default(),
            control_flight: Arc::default(),
        };
        std::mem::replace(&mut self.staged, next)
    }

    /// The spec that is in force for an Ingestor.
    pub(super) fn in_force(&self, ingestor: &IngestorUid) -> Option<SpecText> {
        let number = self.index.number_of(ingestor)?;
        let spec = usize::try_from(self.index.ingestor(number)?.in_force?).ok()?;
        let spec = self
            .index
            .specs
            .get(spec)?
            .as_ref()
            .filter(|spec| spec.place.len > 0)?;
        Some(SpecText {
            digest: spec.digest,
            text: Arc::clone(&spec.text),
        })
    }

    pub(super) fn used_share(&self, ingestor: u32) -> u64 {
        let durable = self
            .index
            .ingestor(ingestor)
            .map_or(0, |ingestor| ingestor.tally.backlog_bytes);
        durable + self.pending_bytes.get(&ingestor).copied().unwrap_or(0)
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.index
            .segments
            .values()
            .map(|segment| segment.bytes)
            .sum()
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.index.live_bytes + self.snapshot_bytes
    }

    /// Takes back what an event reserved.
    pub(super) fn release(&mut self, record: &NewRecord, len: u32) {
        let bytes = u64::from(len);
        self.pending_total = self.pending_total.saturating_sub(bytes);
        if let Some(pending) = self.pending_bytes.get_mut(&record.ingestor) {
            *pending = pending.saturating_sub(bytes);
            if *pending == 0 {
                self.pending_bytes.remove(&record.ingestor);
            }
        }
        if let Some(key) = &record.key {
            self.pending_keys.remove(&(record.ingestor, key.hash));
        }
        if let Origin2::Replay(letter) = record.origin {
            self.pending_replays.remove(&letter);
        }
    }

    /// The commit failed: nothing of it happened.
    pub(super) fn fail(&mut self, staged: &mut Staged, failure: &Failure) {
        self.fail_events(staged, failure);
        for (_, op) in staged.control.take_ops() {
            match op.what {
                What::Commit { reply, ends, .. } => {
                    self.settle_ends(ends.iter());
                    answer(reply, Err(failure.clone().into()));
                }
                What::Letter { reply, ended, .. } => {
                    self.settle_ends([ended.as_ref()].into_iter());
                    answer(reply, Err(failure.clone().into()));
                }
                What::Take { reply, .. } => answer(reply, Err(failure.clone().into())),
                What::Event(_) | What::Spec { .. } | What::Forget { .. } | What::Moved { .. } => {}
            }
        }
        staged.control_flight.land(Err(failure.clone()));
    }

    /// Only the events of a commit failed.
    pub(super) fn fail_events(&mut self, staged: &mut Staged, failure: &Failure) {
        for (place, op) in std::mem::take(&mut staged.events).take_ops() {
            if let What::Event(record) = &op.what {
                self.release(record, place.len);
            }
        }
        staged.flight.land(Err(failure.clone()));
    }

    /// Ends that are staged, so that no record's end is ever written twice.
    pub(super) fn reserve_ends(&mut self, positions: impl Iterator<Item = u64>) {
        for position in positions {
            self.pending_ends
                .insert(position, Arc::clone(&self.staged.control_flight));
        }
    }

    pub(super) fn settle_ends<'a>(&mut self, ends: impl Iterator<Item = &'a Ended>) {
        for ended in ends {
            self.pending_ends.remove(&ended.position.0);
        }
    }

    /// Something to wait for: an end of one of these positions is in flight.
    pub(super) fn pending_end(
        &self,
        mut positions: impl Iterator<Item = u64>,
    ) -> Option<Arc<Flight>> {
        positions.find_map(|position| self.pending_ends.get(&position).map(Arc::clone))
    }

    pub(super) fn refused(&self) -> Result<(), AppendError> {
        if self.closing {
            return Err(AppendError::Closing);
        }
        match &self.refusal {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// The next epoch for a set of buckets: above all that was ever stored or staged.
    pub(super) fn next_epoch(&mut self, buckets: impl Iterator<Item = u16>) -> Epoch {
        let stored = buckets
            .filter_map(|bucket| self.index.epoch(bucket))
            .map(|(epoch, _)| epoch.0);
        self.last_epoch = stored.max().unwrap_or(0).max(self.last_epoch) + 1;
        Epoch(self.last_epoch)
    }

    /// An epoch is going to be stored: the next one that is handed out lies above it.
    pub(super) fn seen_epoch(&mut self, epoch: Epoch) {
        self.last_epoch = self.last_epoch.max(epoch.0);
    }
}

pub(super) fn answer<T>(
    reply: Option<oneshot::Sender<Result<T, SubscriptionError>>>,
    result: Result<T, SubscriptionError>,
) {
    if let Some(reply) = reply {
        // Whoever asked may have gone.
        drop(reply.send(result));
    }
}
