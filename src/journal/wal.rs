//! The segment log: one replica's journal, durable by group-committed syncs.
//!
//! ```text
//!  append ─▶ stage ─▶ engine: write, sync, apply ─▶ answer        the committer, one thread
//!                        │                 └─▶ index ─▶ fetch     a function of the entries alone
//!                        └─▶ trim: carry what is live, remove the oldest segment
//! ```
//!
//! - `format` says how segments, batches and entries lie on disk, `entry` what entries say.
//! - `scan` and `recover` read a log at start; `ops::disk` is the way to the files, real or simulated.
//! - `subscription` serves a core the buckets that it has claimed, `claims` hands them over.
//! - `stage` holds what waits for the next commit, `engine` makes it durable, `apply` does the rest.

mod apply;
mod cache;
mod claims;
mod committer;
mod engine;
mod entry;
mod flight;
mod format;
mod index;
mod options;
mod read;
mod recover;
mod scan;
mod segments;
mod stage;
mod stats;
mod subscription;
mod trim;
mod wait;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio_util::sync::CancellationToken;

use self::{
    disk::{Disk, OpenDirError, RealDisk},
    engine::{Engine, Next},
    format::Kind,
    index::Index,
    read::{Entry, read_off_thread},
    stage::{Admission, Prepared, What},
};
use super::{
    AppendError, Appended, DeadLetter, Ended, Epoch, Event, Holder, IngestorUid, Journal, LetterId,
    LetterSummary, LogId, Position, RecordId, Seen, Share, SpecText, Stats, Subscription,
    SubscriptionError, Tally,
};
use crate::{api::SpecDigest, ops::time::Clock};

pub use crate::ops::disk;
#[cfg(feature = "testing")]
pub use options::Mutant;
pub use options::{Durability, Options, OptionsError};
pub use recover::RecoverError;

/// A segment log that is open. Dropped, it syncs what was staged and lets its directory go.
pub struct Wal {
    engine: Arc<Engine>,
    committer: Mutex<Option<JoinHandle<()>>>,
    broken: CancellationToken,
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("log", &self.engine.log)
            .finish_non_exhaustive()
    }
}

/// Why a log can't be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options contradict each other.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The directory can't be used.
    #[error(transparent)]
    Dir(#[from] OpenDirError),
    /// What lies there can't be read.
    #[error("cannot read the journal")]
    Recover(#[from] RecoverError),
    /// The committer's thread can't be started.
    #[error("cannot start the journal's committer")]
    Thread(#[source] std::io::Error),
}

impl Wal {
    /// Opens the log in `dir`, which is made if it is missing; reads it, so call it where waiting is
    /// allowed.
    ///
    /// # Errors
    /// The options contradict each other, another process has the directory, or it can't be read.
    pub fn open(
        dir: &Path,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, OpenError> {
        options.validate()?;
        let disk = Arc::new(RealDisk::open(dir)?);
        let fresh = (LogId(rand::random()), rand::random());
        Self::start(Engine::new(
            Arc::<RealDisk>::clone(&disk) as Arc<dyn Disk>,
            options.clone(),
            Arc::clone(&clock),
            recover::recover(disk.as_ref(), &options, clock.now(), fresh)?,
        ))
    }

    /// Opens the log on any disk, with a committer.
    ///
    /// # Errors
    /// As [`Wal::open`].
    #[cfg(feature = "testing")]
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: Options,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Arc<Self>, OpenError> {
        Self::start(Self::engine_on(disk, options, clock, seed)?)
    }

    /// Opens the log on any disk without a committer: [`Wal::step`] is its only motion, so that the
    /// same steps always do the same.
    ///
    /// # Errors
    /// As [`Wal::open`].
    #[cfg(feature = "testing")]
    pub fn open_manual(
        disk: Arc<dyn Disk>,
        options: Options,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Arc<Self>, OpenError> {
        let engine = Arc::new(Self::engine_on(disk, options, clock, seed)?);
        Ok(Arc::new(Self {
            engine,
            committer: Mutex::new(None),
            broken: CancellationToken::new(),
        }))
    }

    #[cfg(feature = "testing")]
    fn engine_on(
        disk: Arc<dyn Disk>,
        options: Options,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Engine, OpenError> {
        options.validate()?;
        // Any salt will do; the log's id is the seed's low half.
        let fresh = (
            LogId(u32::try_from(seed & u64::from(u32::MAX)).unwrap_or_default()),
            seed ^ 0x5eed_5eed_5eed_5eed,
        );
        let found = recover::recover(disk.as_ref(), &options, clock.now(), fresh)?;
        Ok(Engine::new(disk, options, clock, found))
    }

    /// One group commit; false: nothing is left to do.
    #[cfg(feature = "testing")]
    pub fn step(&self) -> bool {
        self.engine.cycle() == Next::Again
    }

    fn start(engine: Engine) -> Result<Arc<Self>, OpenError> {
        let engine = Arc::new(engine);
        let committer = Arc::clone(&engine);
        let broken = CancellationToken::new();
        let tell = broken.clone();
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || committer::run(&committer, &tell))
            .map_err(OpenError::Thread)?;
        Ok(Arc::new(Self {
            engine,
            committer: Mutex::new(Some(thread)),
            broken,
        }))
    }

    /// Cancelled when the committer has panicked: nothing can be made durable any more, the log is
    /// closed, and what was staged has failed.
    #[must_use]
    pub fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    /// Lets the committer finish, and waits for it: one group commit at most. Subscriptions that are
    /// still there find the log closed.
    fn stop(&self) {
        let mut state = self.engine.state();
        state.closing = true;
        for subscriber in state.subscribers.all.values() {
            subscriber.notify.notify_waiters();
        }
        // Whoever waits for an end hears that none will come.
        state.waiters.clear();
        self.engine.wake(&mut state);
        drop(state);
        let committer = self
            .committer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(committer) = committer {
            // It tells of a panic by itself.
            drop(committer.join());
        } else {
            while !self.engine.state().staged.is_empty() && self.engine.cycle() == Next::Again {}
        }
        self.engine.disk.release();
    }

    async fn append_event(&self, event: Event, force: bool) -> Result<Appended, AppendError> {
        let prepared = Prepared::new(&event, force, self.engine.options.record_bytes)?;
        // What follows needs the encoded form alone.
        drop(event);
        loop {
            match self.engine.admit(&prepared)? {
                Admission::Staged(flight, id) => {
                    flight.landed().await?;
                    return Ok(Appended::Accepted(id));
                }
                Admission::After(flight) => {
                    // Failed or not, what is known afterwards decides.
                    drop(flight.landed().await);
                }
                Admission::Known { slot, same } => {
                    let Some(seen) = self.recall(slot.position, slot.place()).await? else {
                        continue;
                    };
                    return if same {
                        Ok(Appended::Replayed(seen))
                    } else {
                        Err(AppendError::Conflict(seen))
                    };
                }
            }
        }
    }

    /// What is known of a key; `None`: it was moved or lost meanwhile.
    async fn recall(
        &self,
        position: u64,
        place: format::Place,
    ) -> Result<Option<Seen>, AppendError> {
        let source = self.engine.state().source(place);
        let entry = read_off_thread(vec![source], self.engine.seed).await.pop();
        let record = RecordId {
            log: self.engine.log,
            position: Position(position),
        };
        match entry {
            Some(Entry::Failed(error)) => Err(AppendError::Disk(error.to_string())),
            Some(entry) => {
                let seen = Engine::seen(record, &entry);
                if seen.is_none() {
                    let mut state = self.engine.state();
                    let still = state
                        .index
                        .keys
                        .by_position(position)
                        .is_some_and(|key| key.place() == place);
                    if still {
                        state.index.lose_key(position);
                    }
                }
                Ok(seen)
            }
            None => Err(AppendError::Disk("reading a key's entry failed".to_owned())),
        }
    }

    async fn put(&self, ingestor: IngestorUid, text: Arc<str>) -> Result<SpecDigest, AppendError> {
        let digest = SpecDigest::of(&text);
        let size = text.len() + ingestor.0.len();
        if size > self.engine.options.record_bytes {
            return Err(AppendError::TooLarge {
                size,
                limit: self.engine.options.record_bytes,
            });
        }
        let flight = {
            let mut state = self.engine.state();
            state.refused()?;
            if state
                .in_force(&ingestor)
                .is_some_and(|spec| spec.digest == digest)
            {
                return Ok(digest);
            }
            let number = state.index.number(&ingestor);
            let mut payload = Vec::new();
            entry::put_spec(&mut payload, &ingestor, &text);
            let what = What::Spec {
                ingestor: number,
                digest,
                text,
            };
            self.engine.stage(
                &mut state,
                Kind::Spec,
                recover::SPEC_IN_FORCE,
                &payload,
                what,
            )
        };
        flight.landed().await?;
        Ok(digest)
    }

    async fn forget_ingestor(&self, ingestor: IngestorUid) -> Result<(), AppendError> {
        let flight = {
            let mut state = self.engine.state();
            state.refused()?;
            let Some(number) = state.index.number_of(&ingestor) else {
                return Ok(());
            };
            if state
                .index
                .ingestor(number)
                .is_none_or(|ingestor| ingestor.forgotten)
            {
                return Ok(());
            }
            let what = What::Forget { ingestor: number };
            self.engine
                .stage(&mut state, Kind::Forget, 0, ingestor.0.as_bytes(), what)
        };
        Ok(flight.landed().await?)
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Journal for Wal {
    fn log(&self) -> LogId {
        self.engine.log
    }

    fn put_spec(
        &self,
        ingestor: &IngestorUid,
        text: Arc<str>,
    ) -> BoxFuture<'_, Result<SpecDigest, AppendError>> {
        self.put(ingestor.clone(), text).boxed()
    }

    fn spec_in_force(&self, ingestor: &IngestorUid) -> Option<SpecText> {
        self.engine.state().in_force(ingestor)
    }

    fn forget(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Result<(), AppendError>> {
        self.forget_ingestor(ingestor.clone()).boxed()
    }

    fn append(&self, event: Event) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.append_event(event, true).boxed()
    }

    fn ended(&self, record: RecordId) -> BoxFuture<'_, Option<Ended>> {
        self.wait_for_end(record).boxed()
    }

    fn tally(&self, ingestor: &IngestorUid) -> Tally {
        let state = self.engine.state();
        let number = state.index.number_of(ingestor);
        number
            .and_then(|number| state.index.ingestor(number))
            .map_or_else(Tally::default, |ingestor| state.index.tally(ingestor))
    }

    fn tallies(&self) -> Vec<(IngestorUid, Tally)> {
        let state = self.engine.state();
        let known = state
            .index
            .ingestors
            .iter()
            .filter(|ingestor| !Index::is_gone(ingestor));
        known
            .map(|ingestor| (ingestor.uid.clone(), state.index.tally(ingestor)))
            .collect()
    }

    fn share(&self, ingestor: &IngestorUid) -> Share {
        let state = self.engine.state();
        let used = state
            .index
            .number_of(ingestor)
            .map_or(0, |number| state.used_share(number));
        Share {
            used,
            limit: self.engine.options.share_bytes,
        }
    }

    fn subscribe(&self, holder: Holder) -> Result<Arc<dyn Subscription>, SubscriptionError> {
        subscription::subscribe(Arc::clone(&self.engine), holder)
    }

    fn highest_epoch(&self) -> Epoch {
        self.engine.state().index.highest_epoch()
    }

    fn letters(&self, after: Option<LetterId>, limit: usize) -> BoxFuture<'_, Vec<LetterSummary>> {
        let engine = Arc::clone(&self.engine);
        read::off_thread(move || engine.list_letters(after, limit))
            .map(Option::unwrap_or_default)
            .boxed()
    }

    fn letter(&self, id: LetterId) -> BoxFuture<'_, Option<DeadLetter>> {
        let engine = Arc::clone(&self.engine);
        read::off_thread(move || engine.read_letter(id))
            .map(Option::flatten)
            .boxed()
    }

    fn replay(&self, event: Event, force: bool) -> BoxFuture<'_, Result<RecordId, AppendError>> {
        async move {
            // A replay has no key: the letter's mark is what keeps it single.
            let event = Event { key: None, ..event };
            match self.append_event(event, force).await? {
                Appended::Accepted(id) => Ok(id),
                Appended::Replayed(seen) => Ok(seen.record),
            }
        }
        .boxed()
    }

    fn stats(&self) -> Stats {
        self.engine.stats()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            let engine = Arc::clone(&self.engine);
            let committer = {
                let mut state = self.engine.state();
                state.closing = true;
                self.engine.wake(&mut state);
                drop(state);
                self.committer
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take()
            };
            let finish = move || match committer {
                // It tells of a panic by itself.
                Some(committer) => drop(committer.join()),
                None => while !engine.state().staged.is_empty() && engine.cycle() == Next::Again {},
            };
            // Done or not, the log is closed.
            let _finished: Option<()> = read::off_thread(finish).await;
            self.stop();
        }
        .boxed()
    }
}
