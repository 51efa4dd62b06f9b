//! Works on the records of one Ingestor in one log: fetches, decides, writes, commits. Runs while
//! there is work, and keeps nothing in memory while it can only wait.

pub(super) mod contain;
mod fetch;
mod tenant;
mod wait;
mod write;

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use crate::journal::{Ended, FetchLimit, IngestorUid, Position, SubscriptionError};
use crate::kube::failure::Verb;

use self::fetch::{Fetched, fetch};
use super::{
    account::Account,
    limiter::Permit,
    queue::{Batch, Window},
    shared::{Shared, optional, sleep_until},
    stint::Stint,
    writer::Written,
};

/// Records of one Ingestor in memory: a second's worth of all that an API server takes.
const MOST_RECORDS: usize = 1_024;
/// Their items: four explosions of the largest size.
const MOST_ITEMS: usize = 4_096;
/// What these take in memory, about; one larger record may come alone. At 1.5 KiB for an item it is
/// as many as there may be records.
const MOST_BYTES: usize = 2 * 1_024 * 1_024;
/// One fetch.
const FETCH_RECORDS: u32 = 256;
/// Bodies of one fetch.
const FETCH_BYTES: usize = 256 * 1_024;
/// Records to choose a probe from: as many as the holds remember names.
const PROBE_RECORDS: u32 = 64;
/// Records of one Ingestor that are passed over, at most: reading and deciding them again takes about
/// a second. Beyond, no name goes on until a held one does.
const MOST_PASSED: usize = 8_192;
/// Items of one name in one write: as many as one explosion may have.
const BATCH_ITEMS: usize = 1_000;
/// Writes of one Ingestor under way: as many as the limiter ever lets go.
const MOST_WRITES: usize = 128;
/// What comes for an aggregate in this time after a write goes with the next, unless that is a whole
/// batch, or the window is full: then waiting gathers nothing more.
const COALESCE: Duration = Duration::from_secs(1);

type Writing = BoxFuture<'static, (Batch, Written)>;
type Committing = BoxFuture<'static, (Vec<Ended>, Result<(), SubscriptionError>)>;

/// The work on one Ingestor in one log.
struct Queue {
    shared: Arc<Shared>,
    stint: Arc<Stint>,
    uid: IngestorUid,
    account: Arc<Account>,
    more: Arc<Notify>,
    changes: watch::Receiver<u64>,
    gate: watch::Receiver<bool>,
    window: Window,
    /// The last record that was admitted.
    cursor: Option<Position>,
    exhausted: bool,
    /// See [`Ledger::crowded`](super::account::Ledger).
    crowded: bool,
    /// See [`Ledger::freed`](super::account::Ledger).
    freed: u64,
    room: Option<OwnedSemaphorePermit>,
    fetching: Option<BoxFuture<'static, Result<Fetched, SubscriptionError>>>,
    writing: FuturesUnordered<Writing>,
    asking: Option<BoxFuture<'static, Permit>>,
    permit: Option<Permit>,
    ends: Vec<Ended>,
    committing: Option<Committing>,
    /// The journal's disk failed: not before.
    not_before: Option<Instant>,
    /// The pace lets the next write go then.
    paced_until: Option<Instant>,
    /// Nothing is in memory until then (`None` inside: until the spec changes).
    #[expect(
        clippy::option_option,
        reason = "not parked; parked for good; parked until a time"
    )]
    parked: Option<Option<Instant>>,
    flushed: bool,
}

/// What happened next.
enum Event {
    Fetched(Result<Fetched, SubscriptionError>),
    Wrote(Batch, Written),
    Committed(Vec<Ended>, Result<(), SubscriptionError>),
    Granted(Permit),
    More,
    Changed,
    Gate,
    Time,
    Draining,
    Stop,
}

impl Queue {
    fn new(shared: Arc<Shared>, stint: Arc<Stint>, uid: IngestorUid, more: Arc<Notify>) -> Self {
        Self {
            account: shared.accounts.of(&uid),
            changes: shared.ingestors.changes(),
            gate: shared.gate.subscribe(),
            flushed: stint.draining.is_cancelled(),
            shared,
            stint,
            uid,
            more,
            window: Window::default(),
            cursor: None,
            exhausted: false,
            crowded: false,
            freed: 0,
            room: None,
            fetching: None,
            writing: FuturesUnordered::new(),
            asking: None,
            permit: None,
            ends: Vec::new(),
            committing: None,
            not_before: None,
            paced_until: None,
            parked: None,
        }
    }

    /// Works until there is nothing left, or the bucket is taken away.
    async fn run(mut self) {
        self.follow_spec().await;
        loop {
            let now = self.shared.clock.instant();
            self.not_before = self.not_before.filter(|at| *at > now);
            self.start_fetch(now);
            self.start_writes(now);
            self.start_commit(now);
            if self.is_over() {
                return;
            }
            self.park_if_idle(now);
            match self.next().await {
                Event::Fetched(outcome) => self.fetched(outcome),
                Event::Wrote(batch, written) => self.wrote(batch, written),
                Event::Committed(ends, outcome) => self.committed(ends, outcome),
                Event::Granted(permit) => self.permit = Some(permit),
                Event::More => self.more_came(),
                Event::Changed => self.follow_spec().await,
                Event::Gate => {}
                Event::Time => self.parked = None,
                Event::Draining => {
                    self.flushed = true;
                    self.window.wake_all();
                }
                Event::Stop => return,
            }
        }
    }

    async fn next(&mut self) -> Event {
        let wake = self.next_wake();
        let (shared, stint) = (Arc::clone(&self.shared), Arc::clone(&self.stint));
        tokio::select! {
            biased;
            () = stint.stop.cancelled() => Event::Stop,
            Some((batch, written)) = self.writing.next() => Event::Wrote(batch, written),
            (ends, outcome) = optional(&mut self.committing) => Event::Committed(ends, outcome),
            outcome = optional(&mut self.fetching) => Event::Fetched(outcome),
            permit = optional(&mut self.asking) => Event::Granted(permit),
            () = self.more.notified() => Event::More,
            Ok(()) = self.changes.changed() => Event::Changed,
            Ok(()) = self.gate.changed() => Event::Gate,
            () = stint.draining.cancelled(), if !self.flushed => Event::Draining,
            () = sleep_until(&*shared.clock, wake) => Event::Time,
        }
    }

    /// Pace and pauses follow today's spec. An Ingestor that the watch hasn't shown is asked for: it
    /// is new, or gone, and then its backlog has no pace.
    async fn follow_spec(&mut self) {
        let per_minute = match self.shared.ingestors.get(&self.uid) {
            Some(ingestor) => ingestor.spec.output.observation.max_per_minute,
            None => unknown(&self.shared, &self.stint, &self.uid).await,
        };
        let mut ledger = self.account.lock();
        if ledger.pace.set(per_minute) {
            self.parked = None;
        }
    }

    // === fetching ===

    fn start_fetch(&mut self, now: Instant) {
        self.tell_crowded();
        let blocked = self.exhausted
            || self.fetching.is_some()
            || self.parked.is_some()
            || self.flushed
            || self.window.passed_over() >= MOST_PASSED
            || self.not_before.is_some_and(|at| at > now);
        if blocked {
            return;
        }
        let (most, held) = {
            let ledger = self.account.lock();
            let most = ledger
                .pace
                .within(now, Duration::from_secs(1), FETCH_RECORDS);
            (most, ledger.holds.width(2) == 1)
        };
        // Held: a few records, so that a probe has names to choose from. Paced: what can be written
        // within a second. Else refill when half is done, so that a fetch is worth its while.
        let most = if held { most.min(PROBE_RECORDS) } else { most };
        let Some(records) = NonZeroU32::new(most).filter(|_| self.has_room(most)) else {
            return;
        };
        let limit = FetchLimit {
            records,
            bytes: FETCH_BYTES,
        };
        let (shared, stint) = (Arc::clone(&self.shared), Arc::clone(&self.stint));
        self.fetching = Some(fetch(shared, stint, self.uid.clone(), self.cursor, limit).boxed());
    }

    /// Whether held names stop all others is told in the status.
    fn tell_crowded(&mut self) {
        let crowded = self.window.passed_over() >= MOST_PASSED;
        if self.crowded != crowded && self.parked.is_none() {
            self.crowded = crowded;
            self.account.lock().crowded = crowded;
        }
    }

    /// Whether more is to be fetched. What waits behind names that are held makes room for others.
    fn has_room(&mut self, most: u32) -> bool {
        let limited = most < FETCH_RECORDS;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let fits = |window: &Window, held: usize| {
            // What is held is no work for now, and one name is one write.
            let work = window.names().saturating_sub(held);
            !is_full(window) && (work <= most || !limited)
        };
        if fits(&self.window, 0) {
            return true;
        }
        let account = Arc::clone(&self.account);
        let ledger = account.lock();
        let is_held = |name: &str| ledger.holds.attempts(name) > 0;
        let passed = !ledger.holds.is_free() && self.window.pass_over(is_held);
        let held = self.window.held(is_held);
        drop(ledger);
        if passed {
            self.trim_room();
        }
        fits(&self.window, held)
    }

    fn fetched(&mut self, outcome: Result<Fetched, SubscriptionError>) {
        let fetched = match outcome {
            Ok(fetched) => fetched,
            Err(error) => return self.subscription_failed(&error),
        };
        self.stint.log.answered(self.shared.clock.instant());
        let more = self.shared.slots.more(&self.uid, self.stint.log.id);
        self.exhausted = fetched.exhausted && !more;
        if let Some(room) = fetched.room {
            match &mut self.room {
                Some(mine) => mine.merge(room),
                None => self.room = Some(room),
            }
        }
        for decided in fetched.decided {
            self.cursor = Some(decided.record.id.position);
            self.tell_errors(&decided.decision);
            let items = decided.decision.items;
            self.window
                .admit(&decided.record, &decided.home, items, decided.size);
        }
        self.wake_gathered();
        if let Some(trouble) = fetched.trouble {
            self.held("", &trouble);
            self.not_before = self
                .account
                .lock()
                .holds
                .wait(self.shared.clock.instant(), "");
        }
        self.trim_room();
    }

    fn tell_errors(&self, decision: &super::pipeline::Decision) {
        let Some(error) = decision.errors.first() else {
            return;
        };
        let count = u64::try_from(decision.errors.len()).unwrap_or(u64::MAX);
        self.shared.metrics.expression_errors.inc_by(count);
        let message = format!("{}: {}", error.field, error.message);
        self.account.lock().expression = Some((self.shared.clock.now(), message));
    }

    fn subscription_failed(&mut self, error: &SubscriptionError) {
        if let Some(wait) = self.shared.trouble(&self.stint.log, error) {
            self.not_before = Some(self.shared.clock.instant() + wait);
        }
    }

    /// Gives back room that nothing needs any more.
    fn trim_room(&mut self) {
        let need = self.window.bytes().div_ceil(1_024);
        if let Some(room) = &mut self.room {
            let spare = room.num_permits().saturating_sub(need);
            drop(room.split(spare));
        }
    }

    // === committing ===

    fn start_commit(&mut self, now: Instant) {
        self.ends.extend(self.window.ended());
        let wait = self.not_before.is_some_and(|at| at > now) || !self.shared.may_start();
        if self.committing.is_some() || self.ends.is_empty() || wait {
            return;
        }
        let (stint, uid) = (Arc::clone(&self.stint), self.uid.clone());
        let ends = std::mem::take(&mut self.ends);
        let commit = async move {
            let asked = stint.log.ask(now);
            let outcome = stint.subscription.commit(&uid, ends.clone()).await;
            drop(asked);
            (ends, outcome)
        };
        self.committing = Some(commit.boxed());
    }

    fn committed(&mut self, ends: Vec<Ended>, outcome: Result<(), SubscriptionError>) {
        if let Err(error) = outcome {
            self.ends.splice(0..0, ends);
            return self.subscription_failed(&error);
        }
        self.stint.log.answered(self.shared.clock.instant());
        self.shared.count(self.stint.bucket, ends.len());
        self.window.committed(&ends);
        self.trim_room();
        if is_full(&self.window) {
            self.wake_gathered();
        }
        for end in ends {
            self.shared.metrics.ended(end.items);
            if let Some(letter) = end.letters.last() {
                let message = format!("{}: {}", letter.reason, letter.message);
                self.account.lock().letter = Some((self.shared.clock.now(), message));
            }
        }
    }
}

/// Whether a window takes nothing more in: refilled when half is done, so that a fetch is worth its
/// while.
fn is_full(window: &Window) -> bool {
    window.len() >= MOST_RECORDS / 2
        || window.items() >= MOST_ITEMS / 2
        || window.bytes() >= MOST_BYTES / 2
}

/// The pace of an Ingestor that the watch hasn't shown.
async fn unknown(shared: &Shared, stint: &Stint, uid: &IngestorUid) -> Option<u32> {
    let asked = stint.log.ask(shared.clock.instant());
    let text = stint.log.source.spec_in_force(uid).await;
    drop(asked);
    let text = text?;
    let digest = text.digest;
    let decider = shared.specs.get(digest, || Some(text.text)).ok()??;
    let identity = &decider.compiled.spec().ingestor;
    let writer = &shared.writer;
    let read = writer
        .observations()
        .ingestor(&identity.namespace, &identity.name);
    let ingestor = writer.call(Verb::Get, read).await.ok()?;
    let same = ingestor.metadata.uid.as_deref() == Some(&*uid.0);
    same.then_some(ingestor.spec.output.observation.max_per_minute)?
}
