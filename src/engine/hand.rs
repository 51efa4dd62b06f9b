//! Carries out what [`owned`](super::owned) decides.
//!
//! One lock orders everything that is said about buckets; it is never held across an await, and no
//! record needs it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::journal::{Bucket, Claim, Epoch, Fenced, Holder, LogId, SubscriptionError};

use super::{
    owned::{Act, Notice, Owned},
    shared::Shared,
    stint::{Log, Session, Stint},
};

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
                    stint.iter().for_each(|stint| stint.draining.cancel());
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

    pub(super) fn own(&self, bucket: Bucket, epoch: Epoch) {
        self.say(|owned| (owned.own(bucket, epoch), ()));
        self.wake_logs();
    }

    pub(super) fn release(&self, bucket: Bucket, epoch: Epoch) {
        let now = self.clock.instant();
        self.say(|owned| (owned.release(bucket, epoch, now), ()));
        self.releasing.notify_one();
    }

    pub(super) fn drop_bucket(&self, bucket: Bucket) {
        self.say(|owned| (owned.drop_bucket(bucket), ()));
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
        if owned.holder() != Some(holder) {
            return None;
        }
        let session = open(owned.opened(log.id));
        log.set_session(Some(session.clone()));
        Some(session)
    }

    pub(super) fn closed(&self, log: &Log, session: &Session) {
        session.over.cancel();
        self.say(|owned| (owned.closed(log.id, session.number), ()));
        log.set_session(None);
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
            self.note_refusal(log, fenced);
        }
        self.say(|owned| {
            let acts = owned.answered(log.id, session.number, claims, answer);
            (acts, ())
        });
    }

    /// A log has refused a commit, or says that a bucket has another owner.
    pub(super) fn refused(&self, log: &Log, fenced: &Fenced) {
        self.note_refusal(log, fenced);
        self.say(|owned| (owned.refused(log.id, fenced), ()));
        log.wake.notify_one();
    }

    fn note_refusal(&self, log: &Log, fenced: &Fenced) {
        self.metrics.fenced.inc();
        let above = self
            .owned()
            .is_above(fenced.bucket, fenced.epoch, &fenced.holder);
        if above {
            info!(log = %log.id, %fenced, "another replica has claimed the bucket; its work stops here");
        } else {
            log.calm();
        }
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

    /// Ends releases that wait for logs that can't be reached; whether any bucket is still being
    /// released.
    pub(super) fn hurry_releases(&self) -> bool {
        let now = self.clock.instant();
        let unreachable = |log| self.logs.get(log).is_none_or(|log| log.is_unreachable());
        let given_up = self.say(|owned| owned.overdue(now, unreachable));
        for (log, buckets) in given_up {
            warn!(
                %log, buckets,
                "buckets are released although their log can't be reached; what isn't committed stays in its journal for the next owner"
            );
        }
        self.owned().is_releasing()
    }

    /// What an error of a subscription means: wait that long and try again, or (`None`) it is over
    /// for the queue.
    pub(super) fn trouble(
        &self,
        log: &Log,
        error: &SubscriptionError,
    ) -> Option<std::time::Duration> {
        match error {
            SubscriptionError::Disk(_) => {
                self.metrics.commit_failures.inc();
                Some(std::time::Duration::from_secs(1))
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
    pub(super) fn soon(&self) -> std::time::Duration {
        std::time::Duration::from_secs(1).mul_f64(0.5 + self.jitter() / 2.0)
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

    pub(super) fn tell_load(&self, loads: Vec<(Bucket, u32)>) {
        self.say(|owned| {
            owned.load(loads);
            (Vec::new(), ())
        });
    }
}

/// Sends notices, each decided on at the moment at which it is sent.
pub(super) async fn tell(shared: Arc<Shared>, to: mpsc::Sender<Notice>) {
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
        if let Some(notice) = owned.notice() {
            room.send(notice);
        }
    }
}
