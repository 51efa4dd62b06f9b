//! Carries out what [`owned`](super::owned) decides.
//!
//! One lock orders everything that is said about buckets; it is never held across an await, and no
//! record needs it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures::future::join_all;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::journal::{Bucket, Claim, Epoch, Fenced, Holder, LogId, SubscriptionError};

use super::{
    owned::{Act, Notice, Owned},
    shared::Shared,
    stint::{Log, Session, Stint},
};

/// How long a log may take to say what it remembers: less than a leader waits for it.
const SURVEY: Duration = Duration::from_millis(400);

/// A log that has answered nothing for so long counts, for a release, as one that can't be reached:
/// well above what a commit takes on a slow disk, and with the second that a release waits anyhow
/// well below a leader's ladder.
const SILENT: Duration = Duration::from_secs(2);

impl Shared {
    fn owned(&self) -> MutexGuard<'_, Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something about buckets and does what follows.
    fn say<T>(&self, say: impl FnOnce(&mut Owned) -> (Vec<Act>, T)) -> T {
        let mut owned = self.owned();
        let (acts, told) = say(&mut owned);
        self.carry_out(&mut owned, acts);
        if owned.has_notice() {
            self.notices.notify_one();
        }
        told
    }

    fn carry_out(&self, owned: &mut Owned, acts: Vec<Act>) {
        let mut acts = VecDeque::from(acts);
        let mut let_go: BTreeMap<LogId, Vec<Bucket>> = BTreeMap::new();
        while let Some(act) = acts.pop_front() {
            let (Act::Begin(id, bucket) | Act::Drain(id, bucket) | Act::Stop(id, bucket)) = act;
            let Some(log) = self.logs.get(id) else {
                // Detached: its queues have ended with it.
                acts.extend(owned.idle(id, bucket));
                continue;
            };
            match act {
                Act::Begin(..) => {
                    if let Some(session) = log.session() {
                        let stint = Stint::new(&log, bucket, &session, &self.draining);
                        log.put(Arc::new(stint));
                    }
                }
                Act::Drain(..) => {
                    let stint = log.stint(bucket);
                    if let Some(stint) = &stint {
                        stint.draining.cancel();
                    }
                    if stint.is_none_or(|stint| stint.is_idle()) {
                        acts.extend(owned.idle(id, bucket));
                    }
                }
                Act::Stop(..) => {
                    if let Some(stint) = log.take(bucket) {
                        stint.stop.cancel();
                    }
                    let_go.entry(id).or_default().push(bucket);
                }
            }
        }
        for (log, buckets) in let_go {
            if let Some(session) = self.logs.get(log).and_then(|log| log.session()) {
                session.subscription.release(&buckets);
            }
        }
    }

    fn wake_logs(&self) {
        for log in self.logs.all() {
            log.wake.notify_one();
        }
    }

    // === commands ===

    pub(super) fn became(&self, holder: Option<Holder>) {
        self.say(|owned| (owned.became(holder), ()));
        for log in self.logs.all() {
            if let Some(session) = log.session() {
                session.over.cancel();
            }
        }
        self.wake_logs();
    }

    pub(super) fn own(&self, buckets: &[(Bucket, Epoch)]) {
        self.each(buckets, |owned, (bucket, epoch)| owned.own(bucket, epoch));
        self.wake_logs();
    }

    pub(super) fn release(&self, buckets: &[(Bucket, Epoch)]) {
        let now = self.clock.instant();
        self.each(buckets, |owned, (bucket, epoch)| {
            owned.release(bucket, epoch, now)
        });
        self.releasing.notify_one();
    }

    pub(super) fn drop_buckets(&self, buckets: &[Bucket]) {
        self.each(buckets, Owned::drop_bucket);
    }

    /// The same of many buckets at once.
    fn each<T: Copy>(&self, buckets: &[T], mut say: impl FnMut(&mut Owned, T) -> Vec<Act>) {
        self.say(|owned| {
            let acts = buckets.iter().flat_map(|bucket| say(owned, *bucket));
            (acts.collect(), ())
        });
    }

    pub(super) fn open_gate(&self, open: bool) {
        let moved = self
            .gate
            .send_if_modified(|now| std::mem::replace(now, open) != open);
        if moved {
            self.metrics.gate.set(i64::from(open));
            info!(open, "the write gate has moved");
        }
    }

    // === logs ===

    /// The name under which a subscription is to be opened now.
    pub(super) fn holder(&self) -> Option<Holder> {
        self.owned().holder().cloned()
    }

    /// A subscription is open, unless the name has changed meanwhile.
    pub(super) fn opened(
        &self,
        log: &Log,
        holder: &Holder,
        open: impl FnOnce(u64) -> Session,
    ) -> Option<Session> {
        let mut owned = self.owned();
        if owned.holder() != Some(holder) || log.gone.is_cancelled() {
            return None;
        }
        let session = open(owned.opened(log.id));
        log.set_session(Some(session.clone()));
        Some(session)
    }

    /// The log is gone.
    pub(super) fn detach(&self, log: &Log) {
        let session = {
            // From here on no subscription of it is opened.
            let _owned = self.owned();
            log.gone.cancel();
            log.session()
        };
        if let Some(session) = session {
            self.closed(log, &session);
        }
    }

    pub(super) fn closed(&self, log: &Log, session: &Session) {
        session.over.cancel();
        self.say(|owned| (owned.closed(log.id, session.number), ()));
        log.set_session(None);
        log.clear();
    }

    pub(super) fn claims(&self, log: &Log, session: &Session) -> Vec<Claim> {
        self.owned().claims(log.id, session.number)
    }

    pub(super) fn answered(
        &self,
        log: &Log,
        session: &Session,
        claims: &[Claim],
        answer: Option<&[Fenced]>,
    ) {
        for fenced in answer.into_iter().flatten() {
            self.metrics.fenced.inc();
            info!(log = %log.id, %fenced, "a log refuses to hand a bucket over");
            // What it names is below: it is asked again, but not at once.
            let asked = claims.iter().find(|claim| claim.bucket == fenced.bucket);
            if asked.is_some_and(|claim| claim.epoch > Some(fenced.epoch)) {
                log.calm();
            }
        }
        self.say(|owned| {
            let acts = owned.answered(log.id, session.number, claims, answer);
            (acts, ())
        });
    }

    /// A log has refused a commit, or says that a bucket has another owner.
    pub(super) fn refused(&self, log: &Log, fenced: &Fenced) {
        self.metrics.fenced.inc();
        let (above, strange) = self.say(|owned| {
            let refused = owned.refused(log.id, fenced);
            (refused.acts, (refused.above, refused.strange))
        });
        if above {
            info!(log = %log.id, %fenced, "another replica has claimed a bucket; its work stops here");
        }
        if strange {
            log.calm();
        }
        log.wake.notify_one();
    }

    /// What an object's status says of its owner; true where that is above us, which is told once.
    pub(super) fn stored(&self, bucket: Bucket, epoch: Epoch, holder: &Holder) -> bool {
        self.say(|owned| (Vec::new(), owned.stored(bucket, epoch, holder)))
    }

    /// The last queue of a stint that drains has ended.
    pub(super) fn queues_ended(&self, stint: &Arc<Stint>) {
        let (log, bucket) = (stint.log.id, stint.bucket);
        self.say(|owned| {
            let current = stint.log.stint(bucket);
            let same = current.is_some_and(|current| Arc::ptr_eq(&current, stint));
            let acts = if same && stint.is_idle() {
                owned.idle(log, bucket)
            } else {
                Vec::new()
            };
            (acts, ())
        });
    }

    /// Ends releases that wait for logs that can't be reached, or don't answer; whether any bucket is still being
    /// released.
    pub(super) fn hurry_releases(&self) -> bool {
        let now = self.clock.instant();
        let silent = |log: &Log| log.silent_for(now) >= SILENT;
        let unreachable = |log| {
            let log = self.logs.get(log);
            log.is_none_or(|log| log.is_unreachable() || silent(&log))
        };
        let given_up = self.say(|owned| owned.overdue(now, unreachable));
        for (log, buckets) in given_up {
            warn!(
                %log, buckets,
                "buckets are released although their log can't be reached, or doesn't answer; what isn't committed stays in its journal for the next owner"
            );
        }
        self.owned().is_releasing()
    }

    /// What an error of a subscription means: wait that long and try again, or (`None`) it is over
    /// for the queue.
    pub(super) fn trouble(&self, log: &Log, error: &SubscriptionError) -> Option<Duration> {
        match error {
            SubscriptionError::Disk(_) => {
                self.metrics.commit_failures.inc();
                Some(Duration::from_secs(1))
            }
            SubscriptionError::Unreachable(_) => {
                log.note(false);
                self.metrics.commit_failures.inc();
                Some(self.soon())
            }
            SubscriptionError::Closing => {
                self.log_closed(log);
                None
            }
            SubscriptionError::Fenced(fenced) => {
                self.refused(log, fenced);
                None
            }
        }
    }

    /// Between a half and a whole second.
    pub(super) fn soon(&self) -> Duration {
        Duration::from_secs(1).mul_f64(0.5 + self.jitter() / 2.0)
    }

    /// A journal of this process closes only with it; a gateway's comes back, or is detached.
    pub(super) fn log_closed(&self, log: &Log) {
        if log.source.is_local() {
            self.stop.cancel();
        } else if let Some(session) = log.session() {
            session.over.cancel();
        }
    }

    // === what is known ===

    /// The epoch under which effects of the bucket may be started.
    pub(super) fn epoch(&self, bucket: Bucket) -> Option<Epoch> {
        self.owned().epoch(bucket)
    }

    /// The same of all buckets, and under which name.
    pub(super) fn epochs(&self) -> (Option<Holder>, BTreeMap<Bucket, Epoch>) {
        let owned = self.owned();
        (owned.holder().cloned(), owned.epochs())
    }

    /// Waits until the first list of Ingestors is complete; false: the engine stops.
    pub(super) async fn listed(&self) -> bool {
        let mut changes = self.ingestors.changes();
        while !self.ingestors.is_complete() {
            tokio::select! {
                () = self.stop.cancelled() => return false,
                _ = changes.changed() => {}
            }
        }
        true
    }

    /// See [`Handle::backlog`](super::start::Handle::backlog).
    pub(super) fn backlog(&self) -> u64 {
        let (_, epochs) = self.epochs();
        let logs = self.logs.all();
        let tallies = logs.iter().flat_map(|log| log.source.tallies());
        tallies
            .filter(|(uid, _)| epochs.contains_key(&Bucket::of(uid)))
            .map(|(_, tally)| tally.backlog)
            .sum()
    }

    /// See [`Handle::survey`](super::start::Handle::survey).
    pub(super) async fn survey(&self) -> Vec<Epoch> {
        let logs = self.logs.all();
        let asked = join_all(logs.iter().map(|log| {
            // One that is away delays the others by no more than what they are waited for.
            tokio::time::timeout(SURVEY, log.source.highest_epoch())
        }));
        let answers = asked.await.into_iter().flatten();
        let mut epochs: Vec<Epoch> = answers.flatten().collect();
        if self.listed().await {
            let all = self.ingestors.all();
            let owners = all
                .iter()
                .filter_map(|(_, one)| one.status.as_ref()?.owner.as_ref());
            let stored = owners.filter_map(|owner| u64::try_from(owner.epoch).ok());
            epochs.extend(stored.max().map(Epoch));
        }
        epochs
    }

    /// So many events of a bucket have come to their end.
    pub(super) fn count(&self, bucket: Bucket, events: usize) {
        if let Some(count) = self.ended.get(usize::from(bucket.0)) {
            let events = u64::try_from(events).unwrap_or(u64::MAX);
            count.fetch_add(events, Ordering::Relaxed);
        }
    }

    pub(super) fn tell_load(&self, loads: Vec<(Bucket, u32)>) {
        self.say(|owned| {
            owned.load(loads);
            (Vec::new(), ())
        });
    }
}

/// Sends notices, all that there are at the moment at which they are sent.
pub(super) async fn tell(shared: Arc<Shared>, to: mpsc::Sender<Vec<Notice>>) {
    loop {
        let room = tokio::select! {
            () = shared.stop.cancelled() => return,
            room = to.reserve() => room,
        };
        let Ok(room) = room else {
            return;
        };
        while !shared.owned().has_notice() {
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = shared.notices.notified() => {}
            }
        }
        let mut owned = shared.owned();
        room.send(std::iter::from_fn(|| owned.notice()).collect());
    }
}
