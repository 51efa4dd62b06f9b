//! Who is served what: subscriptions, the buckets that each holds, and how a bucket changes hands.
//!
//! What is stored (`index::epochs`) decides; this is the memory beside it, of those who are served
//! now. A subscriber holds a bucket only under the stored epoch.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::{Notify, oneshot};

use super::{
    engine::Engine,
    entry,
    format::Kind,
    index::count,
    stage::{State, TakeReply, What, answer},
};
use crate::journal::{Bucket, Claim, Epoch, Fenced, Holder, SubscriptionError};

/// A subscription, as the log sees it.
#[derive(Debug)]
pub(super) struct Subscriber {
    holder: Holder,
    /// Buckets that it holds, under the stored epoch of each.
    buckets: BTreeMap<u16, Epoch>,
    /// Buckets that it lost and has not been told of.
    lost: VecDeque<Fenced>,
    /// Queues with records since they were last named.
    pub(super) dirty: BTreeSet<u32>,
    pub(super) notify: Arc<Notify>,
    pub(super) woken: bool,
}

impl Subscriber {
    pub(super) fn epoch(&self, bucket: Bucket) -> Option<Epoch> {
        self.buckets.get(&bucket.0).copied()
    }

    /// The next bucket that it lost.
    pub(super) fn next_lost(&mut self) -> Option<Fenced> {
        self.lost.pop_front()
    }
}

/// Subscribers by number, and by bucket those who hold it: one, or several of one holder.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    pub(super) all: BTreeMap<u64, Subscriber>,
    pub(super) by_bucket: HashMap<u16, Vec<u64>>,
    next: u64,
    pub(super) to_wake: Vec<u64>,
}

impl Subscribers {
    /// A subscriber without buckets; says its number.
    pub(super) fn open(&mut self, holder: Holder) -> u64 {
        let id = self.next;
        self.next += 1;
        let subscriber = Subscriber {
            holder,
            buckets: BTreeMap::new(),
            lost: VecDeque::new(),
            dirty: BTreeSet::new(),
            notify: Arc::default(),
            woken: false,
        };
        self.all.insert(id, subscriber);
        id
    }

    /// The subscriber is gone.
    pub(super) fn close(&mut self, id: u64) {
        if let Some(subscriber) = self.all.remove(&id) {
            for bucket in subscriber.buckets.keys() {
                self.unlist(*bucket, id);
            }
        }
    }

    /// The subscriber lets go of a bucket.
    pub(super) fn release(&mut self, id: u64, bucket: Bucket) {
        if let Some(subscriber) = self.all.get_mut(&id)
            && subscriber.buckets.remove(&bucket.0).is_some()
        {
            self.unlist(bucket.0, id);
        }
    }

    fn unlist(&mut self, bucket: u16, id: u64) {
        if let Some(ids) = self.by_bucket.get_mut(&bucket) {
            ids.retain(|one| *one != id);
            if ids.is_empty() {
                self.by_bucket.remove(&bucket);
            }
        }
    }

    /// The bucket was stored under (epoch, holder): whoever holds it under less loses it.
    fn dispossess(&mut self, bucket: u16, epoch: Epoch, holder: &Holder, except: u64) {
        let ids = self.by_bucket.get(&bucket).cloned().unwrap_or_default();
        for id in ids.into_iter().filter(|id| *id != except) {
            let Some(subscriber) = self.all.get_mut(&id) else {
                continue;
            };
            // The same epoch is the same holder's, whose connection was made anew.
            if subscriber.epoch(Bucket(bucket)) == Some(epoch) {
                continue;
            }
            subscriber.buckets.remove(&bucket);
            subscriber.lost.push_back(Fenced {
                bucket: Bucket(bucket),
                epoch,
                holder: holder.clone(),
            });
            subscriber.notify.notify_waiters();
            self.unlist(bucket, id);
        }
    }

    /// Gives the bucket to a subscriber; true: it did not hold it before.
    fn give(&mut self, id: u64, bucket: u16, epoch: Epoch) -> bool {
        let Some(subscriber) = self.all.get_mut(&id) else {
            return false;
        };
        // Old news, if it lost the bucket before.
        subscriber.lost.retain(|fenced| fenced.bucket.0 != bucket);
        let new = subscriber.buckets.insert(bucket, epoch).is_none();
        if new {
            self.by_bucket.entry(bucket).or_default().push(id);
        }
        new
    }
}

impl State {
    /// A claim is durable.
    pub(super) fn apply_take(
        &mut self,
        id: u64,
        holder: &Holder,
        epoch: Epoch,
        buckets: &[u16],
        reply: Option<TakeReply>,
    ) {
        let refused = self.index.take(holder, epoch, buckets);
        let is_taken = |bucket: &u16| refused.iter().all(|fenced| fenced.bucket.0 != *bucket);
        let taken: Vec<u16> = buckets.iter().copied().filter(is_taken).collect();
        self.claims.taken += count(taken.len());
        self.claims.refused += count(refused.len());
        self.hand_over(id, holder, epoch, &taken);
        answer(reply, Ok(refused));
    }

    /// Serves buckets, stored under (epoch, holder), to a subscriber, and to nobody below it.
    fn hand_over(&mut self, id: u64, holder: &Holder, epoch: Epoch, buckets: &[u16]) {
        let mut new = BTreeSet::new();
        for bucket in buckets {
            self.subscribers.dispossess(*bucket, epoch, holder, id);
            if self.subscribers.give(id, *bucket, epoch) {
                new.insert(*bucket);
            }
        }
        let Some(subscriber) = self.subscribers.all.get_mut(&id) else {
            return;
        };
        if new.is_empty() {
            return;
        }
        let waiting = (0..)
            .zip(&self.index.ingestors)
            .filter(|(_, one)| !one.queue.is_empty() && new.contains(&one.bucket.0));
        subscriber.dirty.extend(waiting.map(|(number, _)| number));
        subscriber.notify.notify_waiters();
    }
}

/// What became of claims that were to be staged.
struct Claiming {
    refused: Vec<Fenced>,
    staged: Vec<oneshot::Receiver<Result<Vec<Fenced>, SubscriptionError>>>,
}

/// See [`crate::journal::Subscription::claim`].
pub(super) async fn claim(
    engine: &Engine,
    id: u64,
    claims: Vec<Claim>,
) -> Result<Vec<Fenced>, SubscriptionError> {
    let mut claiming = stage(engine, id, &claims)?;
    for answer in claiming.staged {
        let refused = answer
            .await
            .map_err(|_lost| SubscriptionError::Disk("the claim was lost".to_owned()))??;
        claiming.refused.extend(refused);
    }
    Ok(claiming.refused)
}

/// Stages one entry for each epoch; what is stored already is handed over at once.
fn stage(engine: &Engine, id: u64, claims: &[Claim]) -> Result<Claiming, SubscriptionError> {
    let mut state = engine.state();
    let holder = match state.subscribers.all.get(&id) {
        Some(subscriber) if !state.closing => subscriber.holder.clone(),
        _ => return Err(SubscriptionError::Closing),
    };
    let mut claiming = Claiming {
        refused: Vec::new(),
        staged: Vec::new(),
    };
    for (epoch, buckets) in by_epoch(&mut state, claims) {
        let mut unstored = Vec::new();
        let mut stored = Vec::new();
        for bucket in buckets {
            match state.index.may_take(&holder, epoch, bucket) {
                Err(fenced) => claiming.refused.push(fenced),
                Ok(()) if state.index.epoch(bucket).is_some_and(|(e, _)| *e == epoch) => {
                    stored.push(bucket);
                }
                Ok(()) => unstored.push(bucket),
            }
        }
        state.hand_over(id, &holder, epoch, &stored);
        if !unstored.is_empty() {
            state.seen_epoch(epoch);
            let mut payload = Vec::new();
            entry::put_epochs(&mut payload, &holder, epoch, &unstored);
            let (reply, answer) = oneshot::channel();
            let what = What::Take {
                subscriber: id,
                holder: holder.clone(),
                epoch,
                buckets: unstored,
                reply: Some(reply),
            };
            engine.stage(&mut state, Kind::Epochs, 0, &payload, what);
            claiming.staged.push(answer);
        }
    }
    state.claims.refused += count(claiming.refused.len());
    Ok(claiming)
}

/// The buckets by epoch, each once, at the highest that is claimed.
fn by_epoch(state: &mut State, claims: &[Claim]) -> BTreeMap<Epoch, BTreeSet<u16>> {
    let unnamed = claims.iter().filter(|claim| claim.epoch.is_none());
    let mut unnamed = unnamed.map(|claim| claim.bucket.0).peekable();
    let next = match unnamed.peek() {
        Some(_) => state.next_epoch(unnamed),
        None => Epoch(0),
    };
    let mut highest: BTreeMap<u16, Epoch> = BTreeMap::new();
    for claim in claims {
        let epoch = highest.entry(claim.bucket.0).or_default();
        *epoch = (*epoch).max(claim.epoch.unwrap_or(next));
    }
    let mut by_epoch: BTreeMap<Epoch, BTreeSet<u16>> = BTreeMap::new();
    for (bucket, epoch) in highest {
        by_epoch.entry(epoch).or_default().insert(bucket);
    }
    by_epoch
}
