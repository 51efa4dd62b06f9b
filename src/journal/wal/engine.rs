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
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use super::{
    cache::Cache,
    disk::{Disk, DiskFile},
    entry::{self, Standing},
    flight::Failure,
    format::{self, BATCH_HEADER, BatchHeader, Cut, Kind, Seed, SegmentHeader, SegmentId},
    index::{Index, Segment, count},
    options::{Durability, Options},
    recover::Found,
    stage::{Staged, State},
    trim::Trim,
};
use crate::{
    journal::{AppendError, Ended, Epoch, Fenced, LogId, Millis, SubscriptionError},
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
    salt: u64,
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
    previous: Option<Cut>,
    next_segment: SegmentId,
    pub(super) trim: Option<Trim>,
    /// When reading for trimming last failed.
    pub(super) trim_failed: Option<Millis>,
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
    fn close_segment(&self, io: &mut Io, active: &Active, durable: u64, written: u64) {
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

    // === Segments ===

    /// Opens a new segment: its header says where the one before ends, its first batch what every
    /// Ingestor has come to.
    fn rotate(&self, io: &mut Io, now: Millis) -> io::Result<()> {
        let id = io.next_segment;
        io.next_segment = id.saturating_add(1);
        let previous = io.active.as_ref().map_or(io.previous, |active| {
            Some(Cut {
                segment: active.id,
                len: active.used,
            })
        });
        let (snapshot, entries, next_position) = self.snapshot();
        let header = SegmentHeader {
            log: self.log,
            salt: self.salt,
            id,
            previous,
            next_position,
        };
        let mut bytes = header.encode().to_vec();
        if entries > 0 {
            let batch = BatchHeader {
                len: u32::try_from(snapshot.len()).unwrap_or(u32::MAX),
                count: entries,
                snapshot: true,
                durable: count(bytes.len()),
                written_at: now.0,
            };
            bytes.extend_from_slice(&batch.encode(self.seed, id));
            bytes.extend_from_slice(&snapshot);
        }
        let name = format::file_name(id);
        let file = self
            .disk
            .create(&name, self.options.segment_bytes.max(count(bytes.len())))?;
        if let Err(error) = self.begin(file.as_ref(), &bytes) {
            self.take_back(io, &name, file.as_ref(), previous);
            return Err(error);
        }
        let used = count(bytes.len());
        let closed = io.active.take().map(|active| active.file);
        {
            let mut state = self.state();
            state.files.insert(id, Arc::clone(&file));
            state.snapshot_bytes = count(snapshot.len());
            state.index.segments.insert(
                id,
                Segment {
                    bytes: used.max(self.options.segment_bytes),
                    live: 0,
                },
            );
        }
        if let Some(cut) = previous {
            self.release_tail(cut, closed.as_deref());
        }
        io.previous = None;
        io.active = Some(Active { id, file, used });
        Ok(())
    }

    fn begin(&self, file: &dyn DiskFile, bytes: &[u8]) -> io::Result<()> {
        file.write_at(0, bytes)?;
        #[cfg(feature = "testing")]
        if !self.options.is(Mutant::NoDataSync) {
            file.sync()?;
        }
        #[cfg(not(feature = "testing"))]
        file.sync()?;
        #[cfg(feature = "testing")]
        if self.options.is(Mutant::NoDirectorySync) {
            return Ok(());
        }
        self.disk.sync_dir()
    }

    /// A segment could not be begun. Whatever was said, its header may be durable, and so its file may
    /// be there after a power cut, removed or not: all that came behind the cut it names would be gone.
    /// So it is emptied durably before anything more is written behind the cut, and where that fails
    /// nothing is: the segment before it is closed for good.
    fn take_back(&self, io: &mut Io, name: &str, file: &dyn DiskFile, previous: Option<Cut>) {
        #[cfg(feature = "testing")]
        let emptied = self.options.is(Mutant::KeepHeaderAfterFailedSync)
            || file.truncate(0).and_then(|()| file.sync()).is_ok();
        #[cfg(not(feature = "testing"))]
        let emptied = file.truncate(0).and_then(|()| file.sync()).is_ok();
        if !emptied && let (Some(active), Some(cut)) = (io.active.clone(), previous) {
            warn!(
                segment = active.id,
                "a segment could be neither begun nor taken back; the one before it is closed for good"
            );
            self.close_segment(io, &active, cut.len, cut.len);
            // What was read of it to be carried is not written now.
            io.trim = None;
        }
        if let Err(error) = self.disk.remove(name) {
            // It holds nothing; the next start removes it.
            warn!(%error, %name, "removing a segment that could not be begun failed");
        }
    }

    /// Gives back what was allocated behind the end of a closed segment.
    fn release_tail(&self, cut: Cut, file: Option<&dyn DiskFile>) {
        let mut state = self.state();
        let known = state.files.get(&cut.segment).map(Arc::clone);
        if let Some(segment) = state.index.segments.get_mut(&cut.segment) {
            segment.bytes = cut.len;
        }
        drop(state);
        let file = known.as_deref().or(file);
        if let Some(Err(error)) = file.map(|file| file.truncate(cut.len)) {
            // Only room is lost.
            warn!(%error, segment = cut.segment, "truncating a closed segment failed");
        }
    }

    /// What every Ingestor has come to, and who holds which bucket: entries, and how many.
    fn snapshot(&self) -> (Vec<u8>, u32, u64) {
        let state = self.state();
        let index = &state.index;
        let (mut out, mut entries, mut payload) = (Vec::new(), 0, Vec::new());
        let mut push = |kind, payload: &mut Vec<u8>| {
            format::push_entry(
                &mut out,
                self.seed,
                kind,
                0,
                payload,
                crc32c::crc32c(payload),
            );
            payload.clear();
            entries += 1;
        };
        for ingestor in index
            .ingestors
            .iter()
            .filter(|ingestor| !Index::is_gone(ingestor))
        {
            let standing = Standing {
                ingestor: &ingestor.uid.0,
                tally: ingestor.tally,
                in_force: ingestor.in_force.and_then(|number| {
                    index
                        .specs
                        .get(usize::try_from(number).ok()?)?
                        .as_ref()
                        .map(|spec| spec.digest)
                }),
                forgotten: ingestor.forgotten,
            };
            entry::put_standing(&mut payload, &standing);
            push(Kind::Tally, &mut payload);
        }
        for ((epoch, holder), buckets) in index.holders() {
            entry::put_epochs(&mut payload, &holder, epoch, &buckets);
            push(Kind::Epochs, &mut payload);
        }
        (out, entries, state.next_position)
    }

    /// Removes a segment in which nothing is live.
    pub(super) fn remove_segment(&self, id: SegmentId) {
        {
            let mut state = self.state();
            state.files.remove(&id);
            state.index.segments.remove(&id);
            state.cache.drop_segment(id);
        }
        let name = format::file_name(id);
        if let Err(error) = self.disk.remove(&name) {
            // The next start removes it: it is not part of the log any more.
            warn!(%error, %name, "removing a trimmed segment failed");
        }
    }
}

pub(super) fn failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::StorageFull {
        Failure::NoSpace
    } else {
        Failure::Disk(error.to_string().into())
    }
}

impl From<Failure> for AppendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSpace => Self::NoSpace,
            Failure::Disk(error) => Self::Disk(error.as_ref().to_owned()),
        }
    }
}

impl From<Failure> for SubscriptionError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSpace => Self::Disk("no room".to_owned()),
            Failure::Disk(error) => Self::Disk(error.as_ref().to_owned()),
        }
    }
}

/// Those who wait for the end of a record.
pub(super) type Waiters = HashMap<u64, Vec<(u64, oneshot::Sender<Ended>)>>;

/// A subscription, as the log sees it.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) epoch: Epoch,
    pub(super) fenced: Option<Fenced>,
    /// Queues with records since they were last named.
    pub(super) dirty: BTreeSet<u32>,
    pub(super) notify: Arc<Notify>,
    pub(super) woken: bool,
}

/// Subscribers by number, and by bucket those whose epoch is the stored one.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    pub(super) all: BTreeMap<u64, Subscriber>,
    pub(super) by_bucket: HashMap<u16, Vec<u64>>,
    pub(super) next: u64,
    pub(super) to_wake: Vec<u64>,
}

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
