//! A log as the engine sees it, and the time in which one of its buckets is worked on.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::journal::{Bucket, LogId, Source, Subscription};

use super::{shared::Shared, silence::Silence};

/// Bodies, and what was decided of them, in memory at once, over all Ingestors of one log, in KiB:
/// 32 MiB. A queue that finds no room waits, and the events stay in the journal. Each log has its
/// own, so that one that answers slowly keeps no room from the others.
const BUDGET_KIB: usize = 32 * 1_024;

/// A log that is attached.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) id: LogId,
    pub(super) source: Arc<dyn Source>,
    pub(super) budget: Arc<Semaphore>,
    /// It is detached, or the engine stops.
    pub(super) gone: CancellationToken,
    /// Something is to be claimed, or the name has changed.
    pub(super) wake: Notify,
    session: Mutex<Option<Session>>,
    stints: RwLock<HashMap<Bucket, Arc<Stint>>>,
    unreachable: AtomicBool,
    silence: Mutex<Silence>,
    reached: AtomicBool,
    calm: AtomicBool,
}

/// An open subscription.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) subscription: Arc<dyn Subscription>,
    /// Cancelled when it is over.
    pub(super) over: CancellationToken,
}

/// The time in which a bucket of a log is worked on, from the claim to its end.
#[derive(Debug)]
pub(super) struct Stint {
    pub(super) log: Arc<Log>,
    pub(super) bucket: Bucket,
    pub(super) subscription: Arc<dyn Subscription>,
    /// No new records; what is in memory is finished.
    pub(super) draining: CancellationToken,
    /// At once.
    pub(super) stop: CancellationToken,
    queues: AtomicUsize,
}

/// A question to a log that isn't answered yet, or that was given up when this is dropped.
#[derive(Debug)]
pub(super) struct Question<'a>(&'a Log);

/// A queue's part in a stint; what is released waits for all of them to be dropped.
#[derive(Debug)]
pub(super) struct Turn {
    shared: Arc<Shared>,
    stint: Arc<Stint>,
}

impl Log {
    pub(super) fn new(source: Arc<dyn Source>, stop: &CancellationToken) -> Self {
        Self {
            id: source.log(),
            source,
            budget: Arc::new(Semaphore::new(BUDGET_KIB)),
            gone: stop.child_token(),
            wake: Notify::new(),
            session: Mutex::new(None),
            stints: RwLock::default(),
            unreachable: AtomicBool::new(false),
            silence: Mutex::default(),
            reached: AtomicBool::new(false),
            calm: AtomicBool::new(false),
        }
    }

    pub(super) fn session(&self) -> Option<Session> {
        self.lock().clone()
    }

    pub(super) fn set_session(&self, session: Option<Session>) {
        *self.lock() = session;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last call says that the log can't be reached.
    pub(super) fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    /// Whether it was reached since it was attached, so that its tallies are known.
    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// A question is asked, whose answer a release waits for. What waits by design for long, such as
    /// for new records, is none.
    pub(super) fn ask(&self, now: Instant) -> Question<'_> {
        self.silence().asked(now);
        Question(self)
    }

    /// How long it has answered nothing of what it was asked. A journal of this process is never
    /// silent: it hangs with its disk, and nobody else could take over what is in it.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        if self.source.is_local() {
            return Duration::ZERO;
        }
        self.silence().lasts(now)
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call was answered.
    pub(super) fn answered(&self, now: Instant) {
        self.silence().answered(now);
        self.note(true);
    }

    /// A call was answered, or can't be.
    pub(super) fn note(&self, reached: bool) {
        if self.is_unreachable() == reached {
            self.unreachable.store(!reached, Ordering::Relaxed);
        }
        if reached && !self.was_reached() {
            self.reached.store(true, Ordering::Relaxed);
        }
    }

    /// The next claim waits a moment: the log has refused what should have been ours.
    pub(super) fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed) && self.calm.swap(false, Ordering::Relaxed)
    }

    /// The stint of a bucket, if it is claimed.
    pub(super) fn stint(&self, bucket: Bucket) -> Option<Arc<Stint>> {
        let stints = self.stints.read().unwrap_or_else(PoisonError::into_inner);
        stints.get(&bucket).cloned()
    }

    pub(super) fn put(&self, stint: Arc<Stint>) {
        let mut stints = self.stints.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = stints.insert(stint.bucket, stint) {
            before.stop.cancel();
        }
    }

    /// Its subscription is over: every bucket's stint is.
    pub(super) fn clear(&self) {
        let mut stints = self.stints.write().unwrap_or_else(PoisonError::into_inner);
        // They name the log, which would else keep itself alive.
        for (_, stint) in stints.drain() {
            stint.stop.cancel();
        }
    }

    pub(super) fn take(&self, bucket: Bucket) -> Option<Arc<Stint>> {
        let mut stints = self.stints.write().unwrap_or_else(PoisonError::into_inner);
        stints.remove(&bucket)
    }
}

impl Stint {
    pub(super) fn new(
        log: &Arc<Log>,
        bucket: Bucket,
        session: &Session,
        draining: &CancellationToken,
    ) -> Self {
        Self {
            log: Arc::clone(log),
            bucket,
            subscription: Arc::clone(&session.subscription),
            draining: draining.child_token(),
            stop: session.over.child_token(),
            queues: AtomicUsize::new(0),
        }
    }

    /// Whether no queue runs.
    pub(super) fn is_idle(&self) -> bool {
        self.queues.load(Ordering::SeqCst) == 0
    }

    fn is_open(&self) -> bool {
        !self.draining.is_cancelled() && !self.stop.is_cancelled()
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.0.silence().over();
    }
}

impl Turn {
    /// `None`: the bucket is on its way out.
    pub(super) fn begin(shared: &Arc<Shared>, stint: Arc<Stint>) -> Option<Self> {
        // Counted before the look, so that whoever drains sees this queue, or this sees the drain.
        stint.queues.fetch_add(1, Ordering::SeqCst);
        let turn = Self {
            shared: Arc::clone(shared),
            stint,
        };
        turn.stint.is_open().then_some(turn)
    }

    pub(super) const fn stint(&self) -> &Arc<Stint> {
        &self.stint
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let last = self.stint.queues.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.stint.draining.is_cancelled() {
            self.shared.queues_ended(&self.stint);
        }
    }
}

/// The logs that are attached.
#[derive(Debug, Default)]
pub(super) struct Logs {
    by_id: RwLock<BTreeMap<LogId, Arc<Log>>>,
}

impl Logs {
    pub(super) fn get(&self, log: LogId) -> Option<Arc<Log>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.get(&log).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Log>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.values().cloned().collect()
    }

    /// Puts one in; gives the one that it takes the place of.
    pub(super) fn put(&self, log: Arc<Log>) -> Option<Arc<Log>> {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(log.id, log)
    }

    pub(super) fn take(&self, log: LogId) -> Option<Arc<Log>> {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.remove(&log)
    }
}
