//! Which buckets this replica works on, and how far it is with them in each log: pure.
//!
//! ```text
//!              own                  release                  the last queue ends
//!   nothing ─────────▶ working ──────────────▶ releasing ─────────────────────────▶ Released
//!      ▲               ▲    │ own, higher: the claims rise, log by log, without a pause
//!      │               └────┘                 │
//!      └────────── drop, another life ────────┘
//! ```
//!
//! A bucket is claimed in each log for itself. A log that refuses a claim, or a commit, ends the
//! bucket's work there and nowhere else, until it is owned anew under a higher epoch.
//!
//! What is to be done comes back as [`Act`]s, in order; what is to be told lies in the outbox, from
//! which a `Released` is taken back where the bucket is owned or dropped before it was sent.

mod work;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::journal::{Bucket, Claim, Epoch, Fenced, Holder, LogId};

use self::work::{Claimed, Releasing, Work};

/// So long a release waits for a log that can't be reached: what isn't committed there stays in its
/// journal, for the next owner.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the engine tells who coordinates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nothing of the bucket is in flight, and what was finished is committed.
    Released {
        /// Which.
        bucket: Bucket,
        /// As `release` named it.
        epoch: Epoch,
    },
    /// What stores an effect has refused one, or shows that it would: another is above us.
    Fenced {
        /// Which.
        bucket: Bucket,
        /// The stored epoch.
        epoch: Epoch,
        /// The stored holder.
        holder: Holder,
    },
    /// The measured load of all owned buckets.
    Load(Vec<(Bucket, u32)>),
}

/// What is to be done in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// The bucket is claimed: its queues are worked on from now on.
    Begin(LogId, Bucket),
    /// Nothing new is fetched for its queues; what is in memory is finished.
    Drain(LogId, Bucket),
    /// Its queues are abandoned, and the subscription lets go of the bucket.
    Stop(LogId, Bucket),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Owned {
    holder: Option<Holder>,
    work: BTreeMap<Bucket, Work>,
    /// Logs with an open subscription, each with the number of that.
    open: BTreeMap<LogId, u64>,
    opened: u64,
    outbox: VecDeque<Notice>,
}

/// What follows from a log's refusal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) acts: Vec<Act>,
    /// Whom the log has accepted is above us.
    pub(super) above: bool,
    /// It should not have refused: whatever the reason, it is asked again after a while.
    pub(super) strange: bool,
}

impl Owned {
    /// Under which name claims are made.
    pub(super) const fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    /// Another life: every bucket is dropped, every subscription is over.
    pub(super) fn became(&mut self, holder: Option<Holder>) -> Vec<Act> {
        self.holder = holder;
        self.outbox.clear();
        let work = std::mem::take(&mut self.work);
        self.open.clear();
        work.into_iter()
            .flat_map(|(bucket, work)| work.stops(bucket))
            .collect()
    }

    /// Works on a bucket from now on; where it is worked on already, the epoch rises. Without a name
    /// nothing is owned.
    pub(super) fn own(&mut self, bucket: Bucket, epoch: Epoch) -> Vec<Act> {
        if self.holder.is_none() {
            return Vec::new();
        }
        let mut acts = Vec::new();
        if let Some(work) = self.work.get_mut(&bucket) {
            if work.releasing.is_none() {
                work.rise(epoch);
                return acts;
            }
            // Claimed anew, its queues are named anew: those that have ended begin again.
            acts = self.drop_bucket(bucket);
        }
        self.take_back(bucket);
        self.work.insert(bucket, Work::new(epoch));
        acts
    }

    /// Finishes a bucket. One that isn't worked on is released at once; one that is being released
    /// already stays so, and is told once.
    pub(super) fn release(&mut self, bucket: Bucket, epoch: Epoch, now: Instant) -> Vec<Act> {
        let Some(work) = self.work.get_mut(&bucket) else {
            self.take_back(bucket);
            self.outbox.push_back(Notice::Released { bucket, epoch });
            return Vec::new();
        };
        if work.releasing.is_some() {
            return Vec::new();
        }
        work.releasing = Some(Releasing { epoch, since: now });
        let worked_on = work.claims.iter().filter(|(_, it)| it.is_worked_on());
        let mut acts: Vec<Act> = worked_on.map(|(log, _)| Act::Drain(*log, bucket)).collect();
        acts.extend(self.finish(bucket));
        acts
    }

    /// Abandons a bucket.
    pub(super) fn drop_bucket(&mut self, bucket: Bucket) -> Vec<Act> {
        self.take_back(bucket);
        let work = self.work.remove(&bucket);
        work.map(|work| work.stops(bucket).collect())
            .unwrap_or_default()
    }

    /// A `Released` that wasn't sent yet is none any more.
    fn take_back(&mut self, of: Bucket) {
        self.outbox
            .retain(|notice| !matches!(notice, Notice::Released { bucket, .. } if *bucket == of));
    }

    // === logs ===

    /// A subscription of a log is open; the number names it.
    pub(super) fn opened(&mut self, log: LogId) -> u64 {
        self.opened += 1;
        self.open.insert(log, self.opened);
        self.opened
    }

    /// A subscription is over.
    pub(super) fn closed(&mut self, log: LogId, session: u64) -> Vec<Act> {
        if self.open.get(&log) != Some(&session) {
            return Vec::new();
        }
        self.open.remove(&log);
        let mut acts = Vec::new();
        let buckets: Vec<Bucket> = self.work.keys().copied().collect();
        for bucket in buckets {
            let Some(work) = self.work.get_mut(&bucket) else {
                continue;
            };
            if work.claims.remove(&log).is_some() {
                acts.push(Act::Stop(log, bucket));
                acts.extend(self.finish(bucket));
            }
        }
        acts
    }

    /// What is to be claimed in a log now; all of it goes in one call, whose answer comes to
    /// [`Owned::answered`] before this is asked again.
    pub(super) fn claims(&mut self, log: LogId, session: u64) -> Vec<Claim> {
        if self.open.get(&log) != Some(&session) {
            return Vec::new();
        }
        let mut claims = Vec::new();
        let working = self.work.iter_mut();
        for (bucket, work) in working.filter(|(_, work)| work.releasing.is_none()) {
            let epoch = work.epoch;
            let before = match work.claims.get(&log) {
                None => None,
                Some(Claimed::At(at)) if *at < epoch => Some(*at),
                Some(Claimed::At(_) | Claimed::Asked { .. } | Claimed::Refused) => continue,
            };
            work.claims.insert(log, Claimed::Asked { epoch, before });
            claims.push(Claim {
                bucket: *bucket,
                epoch: Some(epoch),
            });
        }
        claims
    }

    /// The answer to a claim: those refused; `None`: nobody knows whether it was carried out.
    pub(super) fn answered(
        &mut self,
        log: LogId,
        session: u64,
        claims: &[Claim],
        refused: Option<&[Fenced]>,
    ) -> Vec<Act> {
        if self.open.get(&log) != Some(&session) {
            return Vec::new();
        }
        let refusals: BTreeMap<Bucket, &Fenced> = refused
            .unwrap_or_default()
            .iter()
            .map(|fenced| (fenced.bucket, fenced))
            .collect();
        let mut acts = Vec::new();
        for claim in claims {
            let bucket = claim.bucket;
            let Some(fenced) = refusals.get(&bucket) else {
                acts.extend(self.settled(log, claim, refused.is_some()));
                acts.extend(self.finish(bucket));
                continue;
            };
            if let Some(before) = self.is_asked(log, claim)
                && let Some(work) = self.work.get_mut(&bucket)
            {
                match before {
                    Some(before) => drop(work.claims.insert(log, Claimed::At(before))),
                    None => drop(work.claims.remove(&log)),
                }
                acts.extend(self.refused(log, fenced).acts);
            }
        }
        acts
    }

    /// The epoch before, if this very claim is the one that the bucket waits for.
    #[expect(
        clippy::option_option,
        reason = "not asked; asked for the first time; to rise"
    )]
    fn is_asked(&self, log: LogId, claim: &Claim) -> Option<Option<Epoch>> {
        match self.work.get(&claim.bucket)?.claims.get(&log)? {
            Claimed::Asked { epoch, before } if Some(*epoch) == claim.epoch => Some(*before),
            Claimed::Asked { .. } | Claimed::At(_) | Claimed::Refused => None,
        }
    }

    fn settled(&mut self, log: LogId, claim: &Claim, done: bool) -> Option<Act> {
        let bucket = claim.bucket;
        let Some(before) = self.is_asked(log, claim) else {
            // Dropped meanwhile, and perhaps owned anew: then it is claimed anew.
            return Some(Act::Stop(log, bucket));
        };
        let work = self.work.get_mut(&bucket)?;
        let at = if done { claim.epoch } else { before };
        let wanted = work.releasing.is_none() || before.is_some();
        let Some(at) = at.filter(|_| wanted) else {
            work.claims.remove(&log);
            return Some(Act::Stop(log, bucket));
        };
        work.claims.insert(log, Claimed::At(at));
        before.is_none().then_some(Act::Begin(log, bucket))
    }

    /// A log has refused a claim or a commit, and says whom it has accepted.
    pub(super) fn refused(&mut self, log: LogId, fenced: &Fenced) -> Refused {
        let bucket = fenced.bucket;
        let above = self.stored(bucket, fenced.epoch, &fenced.holder);
        let Some(work) = self.work.get_mut(&bucket) else {
            return Refused::default();
        };
        let at = work.claims.get(&log).copied();
        let worked_on = at.is_some_and(Claimed::is_worked_on);
        let next = match at {
            _ if above && work.releasing.is_none() => Some(Claimed::Refused),
            // Old news, or of the epoch before the one that is being claimed.
            Some(Claimed::Asked { epoch, .. }) if work.releasing.is_none() => {
                let before = None;
                Some(Claimed::Asked { epoch, before })
            }
            // The log doesn't serve it, whatever the reason; it is claimed again.
            Some(Claimed::At(_) | Claimed::Refused | Claimed::Asked { .. }) | None => None,
        };
        match next {
            Some(next) => drop(work.claims.insert(log, next)),
            None => drop(work.claims.remove(&log)),
        }
        let mut acts = Vec::new();
        if worked_on {
            acts.push(Act::Stop(log, bucket));
        }
        acts.extend(self.finish(bucket));
        Refused {
            acts,
            above,
            strange: !above && next.is_none() && worked_on,
        }
    }

    /// What stores a bucket's effects shows whom it has accepted; told where that is above us, once.
    /// True if it is.
    pub(super) fn stored(&mut self, bucket: Bucket, epoch: Epoch, holder: &Holder) -> bool {
        if !self.is_above(bucket, epoch, holder) {
            return false;
        }
        if let Some(work) = self.work.get_mut(&bucket)
            && work.is_news(epoch, holder)
        {
            let holder = holder.clone();
            self.outbox.push_back(Notice::Fenced {
                bucket,
                epoch,
                holder,
            });
        }
        true
    }

    fn is_above(&self, bucket: Bucket, epoch: Epoch, holder: &Holder) -> bool {
        self.work.get(&bucket).is_some_and(|work| {
            let other = self.holder.as_ref() != Some(holder);
            epoch > work.epoch || (epoch == work.epoch && other)
        })
    }

    // === releasing ===

    /// The last queue of a bucket in a log has ended.
    pub(super) fn idle(&mut self, log: LogId, bucket: Bucket) -> Vec<Act> {
        let Some(work) = self.work.get_mut(&bucket) else {
            return Vec::new();
        };
        if work.releasing.is_none() || work.claims.remove(&log).is_none() {
            return Vec::new();
        }
        let mut acts = vec![Act::Stop(log, bucket)];
        acts.extend(self.finish(bucket));
        acts
    }

    /// Whether any bucket is being released.
    pub(super) fn is_releasing(&self) -> bool {
        self.work.values().any(|work| work.releasing.is_some())
    }

    /// Releases don't wait longer for logs that can't be reached; gives where they did.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        unreachable: impl Fn(LogId) -> bool,
    ) -> (Vec<Act>, BTreeMap<LogId, usize>) {
        let (mut acts, mut given_up) = (Vec::new(), BTreeMap::new());
        let late: Vec<(LogId, Bucket)> = self
            .work
            .iter()
            .filter(|(_, work)| {
                let since = work.releasing.map(|releasing| releasing.since);
                since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE)
            })
            .flat_map(|(bucket, work)| work.claims.keys().map(|log| (*log, *bucket)))
            .filter(|(log, _)| unreachable(*log))
            .collect();
        for (log, bucket) in late {
            *given_up.entry(log).or_default() += 1;
            acts.extend(self.idle(log, bucket));
        }
        (acts, given_up)
    }

    /// Tells a release that nothing is left of.
    fn finish(&mut self, bucket: Bucket) -> Vec<Act> {
        let Some(work) = self.work.get(&bucket) else {
            return Vec::new();
        };
        let busy = work.claims.values().any(|it| it.is_worked_on());
        let Some(releasing) = work.releasing.filter(|_| !busy) else {
            return Vec::new();
        };
        let acts = self.drop_bucket(bucket);
        let epoch = releasing.epoch;
        self.outbox.push_back(Notice::Released { bucket, epoch });
        acts
    }

    // === what is known ===

    /// The epoch under which effects of the bucket may be started.
    pub(super) fn epoch(&self, bucket: Bucket) -> Option<Epoch> {
        self.work.get(&bucket).and_then(Work::effective)
    }

    /// The same of all buckets.
    pub(super) fn epochs(&self) -> BTreeMap<Bucket, Epoch> {
        let all = self.work.iter();
        all.filter_map(|(bucket, work)| Some((*bucket, work.effective()?)))
            .collect()
    }

    /// A load to be told; it takes the place of one that wasn't sent yet.
    pub(super) fn load(&mut self, loads: Vec<(Bucket, u32)>) {
        self.outbox
            .retain(|notice| !matches!(notice, Notice::Load(_)));
        self.outbox.push_back(Notice::Load(loads));
    }

    /// The next notice to send.
    pub(super) fn notice(&mut self) -> Option<Notice> {
        self.outbox.pop_front()
    }

    /// Whether there is one.
    pub(super) fn has_notice(&self) -> bool {
        !self.outbox.is_empty()
    }
}

#[cfg(test)]
mod tests;
