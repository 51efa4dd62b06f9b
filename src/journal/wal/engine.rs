//! The log at work: one lock for what is in memory, one for the disk, one committer that takes all
//! that was staged, writes it, syncs it, applies it and answers.
//!
//! ```text
//!  append ─┐                         ┌─ write ─ sync ─ apply ─ answer
//!  append ─┼─▶ staged ──take all──▶ cycle            (staged fills again meanwhile)
//!  commit ─┘
//! ```
//!
//! Nothing here is async or knows a thread: [`Engine::cycle`] is one group commit, whoever calls it.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    cache::Cache,
    committer::Unanswered,
    disk::{Disk, DiskFile},
    flight::Failure,
    format::{BATCH_HEADER, BatchHeader, Cut, Seed, SegmentId},
    index::count,
    options::{Durability, Options},
    recover::Found,
    stage::{Staged, State},
    trim::Trim,
};
use crate::{
    journal::{Ended, LogId, Millis},
    ops::time::Clock,
};

#[cfg(feature = "testing")]
use super::options::Mutant;

/// How often a disk that refused is tried again, and old things leave.
pub(super) const PROBE_MS: i64 = 250;
const SWEEP_MS: i64 = 1_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: LogId,
    pub(super) seed: Seed,
    pub(super) salt: u64,
    state: Mutex<State>,
    io: Mutex<Io>,
    /// Wakes the committer.
    pub(super) work: Condvar,
}

/// What only the committer touches.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) active: Option<Active>,
    /// Where the newest segment ends, once it is closed.
    pub(super) previous: Option<Cut>,
    pub(super) next_segment: SegmentId,
    pub(super) trim: Option<Trim>,
    /// When trimming last failed: a segment could not be read or removed.
    pub(super) trim_failed: Option<Millis>,
    /// A removed segment may still be back after a power cut.
    pub(super) removal_unsynced: bool,
    last_probe: Option<Millis>,
    last_sweep: Millis,
    /// Bytes appended and freed since trimming last worked.
    pub(super) churn: u64,
    pub(super) live_before: u64,
}

impl Io {
    /// The segment that the next one's header will name.
    pub(super) fn newest(&self) -> Option<SegmentId> {
        let closed = self.previous.map(|cut| cut.segment);
        self.active.as_ref().map(|active| active.id).or(closed)
    }
}

/// The segment that is written.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) id: SegmentId,
    pub(super) file: Arc<dyn DiskFile>,
    /// Written and durable up to here.
    pub(super) used: u64,
}

/// What [`Engine::cycle`] leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is more.
    Again,
    /// Nothing, until something is staged or time passes.
    Idle,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held is a bug that was reported; what is in memory is still what it was.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        clock: Arc<dyn Clock>,
        found: Found,
    ) -> Self {
        let now = clock.now();
        let engine = Self {
            disk,
            clock,
            log: found.log,
            seed: Seed::of_log(found.salt),
            salt: found.salt,
            io: Mutex::new(Io {
                active: None,
                previous: found.previous,
                next_segment: found.next_segment,
                trim: None,
                trim_failed: None,
                removal_unsynced: true,
                last_probe: None,
                last_sweep: now,
                churn: 0,
                live_before: found.index.live_bytes,
            }),
            state: Mutex::new(State::new(
                found.index,
                found.next_position,
                found.files,
                found.torn_bytes,
                Cache::new(options.cache_bytes),
            )),
            work: Condvar::new(),
            options,
        };
        // A disk without room for a segment may still serve what it holds.
        engine.probe(&mut lock(&engine.io), now);
        engine
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes all that was staged, makes it durable, applies it, answers. One call at a time; what is
    /// staged meanwhile is the next call's.
    pub(super) fn cycle(&self) -> Next {
        let mut io = lock(&self.io);
        let now = self.clock.now();
        if now.0.saturating_sub(io.last_sweep.0) >= SWEEP_MS {
            io.last_sweep = now;
            self.state().index.expire(now);
        }
        let refused = io.active.is_none() || self.state().refusal.is_some();
        if refused
            && io
                .last_probe
                .is_none_or(|last| now.0.saturating_sub(last.0) >= PROBE_MS)
        {
            self.probe(&mut io, now);
        }
        // Carried records come first in the log: a commit that is staged now lies behind them.
        if io
            .trim_failed
            .is_some_and(|at| now.0.saturating_sub(at.0) >= PROBE_MS)
        {
            io.trim_failed = None;
        }
        let carried = self.trim(&mut io, now);
        let mut staged = self.state().take();
        let _unanswered = Unanswered::of(&staged);
        let idle = staged.is_empty() && carried.is_empty();
        if !idle {
            self.commit(&mut io, &mut staged, carried, now);
        }
        if idle && !self.wants_trim(&io) {
            Next::Idle
        } else {
            Next::Again
        }
    }

    /// Opens a new segment to see whether the disk works again.
    fn probe(&self, io: &mut Io, now: Millis) {
        io.last_probe = Some(now);
        match self.rotate(io, now) {
            Ok(()) => {
                if self.state().refusal.take().is_some() {
                    info!("the journal's disk works again");
                }
            }
            Err(error) => self.refuse(&failure(&error)),
        }
    }

    /// Appends are refused until a new segment can be opened.
    fn refuse(&self, failure: &Failure) {
        let mut state = self.state();
        if state.refusal.is_none() {
            warn!(?failure, "the journal refuses appends");
        }
        state.refusal = Some(failure.clone());
    }

    fn commit(&self, io: &mut Io, staged: &mut Staged, mut carried: Staged, now: Millis) {
        let needed = count(carried.len() + staged.len() + 3 * BATCH_HEADER);
        let full = |io: &Io, limit: u64| {
            io.active
                .as_ref()
                .is_none_or(|active| active.used + needed > limit)
        };
        if full(io, self.options.append_limit())
            && let Err(error) = self.rotate(io, now)
        {
            let failure = failure(&error);
            self.refuse(&failure);
            // What frees room goes on in the last sixteenth: ends first, then what trimming carries.
            self.state().fail_events(staged, &failure);
            let fits = |io: &Io, bytes: usize| {
                io.active.as_ref().is_some_and(|active| {
                    active.used + count(bytes + 2 * BATCH_HEADER) <= self.options.segment_bytes
                })
            };
            if !fits(io, carried.len() + staged.len()) {
                carried = Staged::default();
                io.trim = None;
            }
            if !fits(io, staged.len()) {
                self.state().fail(staged, &failure);
                return;
            }
        }
        let Some(active) = io.active.clone() else {
            self.state()
                .fail(staged, &Failure::Disk("no segment is open".into()));
            return;
        };
        self.write(io, active, staged, carried, now);
    }

    /// Writes the three parts, each as a batch, syncs once, and applies.
    fn write(
        &self,
        io: &mut Io,
        active: Active,
        staged: &mut Staged,
        mut carried: Staged,
        now: Millis,
    ) {
        let durable = active.used;
        let mut used = active.used;
        let mut result = Ok(());
        for part in [
            &mut carried.control,
            &mut staged.control,
            &mut staged.events,
        ] {
            if part.ops.is_empty() {
                continue;
            }
            part.place(active.id, used);
            let header = BatchHeader {
                len: u32::try_from(part.bytes.len() - BATCH_HEADER).unwrap_or(u32::MAX),
                count: u32::try_from(part.ops.len()).unwrap_or(u32::MAX),
                snapshot: false,
                durable,
                written_at: now.0,
            };
            if let Some(head) = part.bytes.first_chunk_mut() {
                *head = header.encode(self.seed, active.id);
            }
            result = result.and_then(|()| active.file.write_at(used, &part.bytes));
            used += count(part.bytes.len());
        }
        #[cfg(feature = "testing")]
        if self.options.is(Mutant::AnswerBeforeSync) && result.is_ok() {
            self.apply_in_pieces(staged, carried, now);
            drop(self.sync(&active));
            self.advance(io, active, used);
            return;
        }
        let result = result.and_then(|()| self.sync(&active));
        match result {
            Ok(()) => {
                io.churn += used - durable;
                self.advance(io, active, used);
                self.state().syncs += 1;
                self.apply_in_pieces(staged, carried, now);
            }
            Err(error) => {
                let failure = failure(&error);
                warn!(%error, segment = active.id, "writing the journal failed; its segment is closed for good");
                self.close_segment(io, &active, durable, used);
                io.trim = None;
                self.refuse(&failure);
                // A next segment, if there can be one, cuts this one before anybody is answered.
                if io.active.is_none() {
                    self.probe(io, now);
                }
                self.state().fail(staged, &failure);
            }
        }
    }

    fn sync(&self, active: &Active) -> io::Result<()> {
        #[cfg(feature = "testing")]
        if self.options.is(Mutant::NoDataSync) {
            return Ok(());
        }
        match self.options.durability {
            Durability::Synced => active.file.sync(),
            Durability::Unsafe => Ok(()),
        }
    }

    fn advance(&self, io: &mut Io, active: Active, used: u64) {
        let bytes = used.max(self.options.segment_bytes);
        self.state()
            .index
            .segments
            .entry(active.id)
            .or_default()
            .bytes = bytes;
        io.active = Some(Active { used, ..active });
    }

    /// After a failure: nothing is ever written to this segment again, and it ends where it was durable.
    pub(super) fn close_segment(&self, io: &mut Io, active: &Active, durable: u64, written: u64) {
        #[cfg(feature = "testing")]
        if self.options.is(Mutant::ReuseAfterFailedSync) {
            io.active = Some(Active {
                used: written,
                ..active.clone()
            });
            return;
        }
        // The written part is on disk as long as the file is.
        self.state()
            .index
            .segments
            .entry(active.id)
            .or_default()
            .bytes = written.max(self.options.segment_bytes);
        io.previous = Some(Cut {
            segment: active.id,
            len: durable,
        });
        io.active = None;
    }

    /// Applies a durable batch. In pieces, so that appends don't wait for the lock as long as a whole
    /// batch takes; nobody is answered before all of it is applied.
    fn apply_in_pieces(&self, staged: &mut Staged, carried: Staged, now: Millis) {
        const PIECE: usize = 64;
        self.state().apply_carried(carried);
        let mut events = std::mem::take(&mut staged.events);
        self.state()
            .apply_control(self, std::mem::take(&mut staged.control), now);
        let mut ops = events.take_ops();
        loop {
            let rest = ops.split_off(ops.len().min(PIECE));
            let mut state = self.state();
            state.apply_events(&ops);
            if rest.is_empty() {
                state.remember(events.into_chunk());
                break;
            }
            drop(state);
            ops = rest;
        }
        self.state().wake_subscribers();
        staged.flight.land(Ok(()));
        staged.control_flight.land(Ok(()));
    }
}

pub(super) fn failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::StorageFull {
        Failure::NoSpace
    } else {
        Failure::Disk(error.to_string().into())
    }
}

/// Those who wait for the end of a record.
pub(super) type Waiters = HashMap<u64, Vec<(u64, oneshot::Sender<Ended>)>>;

/// Which Ingestor a recent position belongs to; the rest is searched for.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(u64, u32)>);

impl Recent {
    /// 65,536 of 16 bytes: two seconds at 30,000/s, longer than anybody takes to begin to wait.
    const MAX: usize = 1 << 16;

    pub(super) fn push(&mut self, position: u64, ingestor: u32) {
        if self.0.len() == Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back((position, ingestor));
    }

    pub(super) fn get(&self, position: u64) -> Option<u32> {
        let index = self
            .0
            .binary_search_by_key(&position, |(position, _)| *position)
            .ok()?;
        self.0.get(index).map(|(_, ingestor)| *ingestor)
    }
}
