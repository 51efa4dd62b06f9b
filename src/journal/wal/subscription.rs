//! What a subscriber has: the queues of its buckets, each under its epoch.

use std::{collections::HashSet, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::oneshot;

use super::{
    claims,
    engine::Engine,
    entry::{self, LetterEntry},
    flight::Flight,
    format::Kind,
    index::count,
    read::{Entry, read_off_thread},
    stage::{State, What},
};
use crate::{
    api::SpecDigest,
    journal::{
        Bucket, Claim, Ended, Epoch, Fenced, FetchLimit, Fetched, Holder, IngestorUid, LogId,
        Millis, Position, Record, Subscription, SubscriptionError,
    },
};

/// See the module.
#[derive(Debug)]
pub(super) struct WalSubscription {
    engine: Arc<Engine>,
    id: u64,
}

/// Trimming may move a record while it is read, and a disk recover.
const FICKLE: &str = "a record could not be read at first, and then could";

fn lost<E>(_: E) -> SubscriptionError {
    SubscriptionError::Disk("the commit was lost".to_owned())
}

pub(super) fn subscribe(
    engine: Arc<Engine>,
    holder: Holder,
) -> Result<Arc<dyn Subscription>, SubscriptionError> {
    let id = {
        let mut state = engine.state();
        if state.closing {
            return Err(SubscriptionError::Closing);
        }
        state.subscribers.open(holder)
    };
    Ok(Arc::new(WalSubscription { engine, id }))
}

impl Drop for WalSubscription {
    fn drop(&mut self) {
        self.engine.state().subscribers.close(self.id);
    }
}

/// What became of ends that were to be staged.
enum Staging {
    /// They all have one.
    Nothing,
    Staged(oneshot::Receiver<Result<(), SubscriptionError>>),
    /// One of them is in flight.
    After(Arc<Flight>),
}

/// Raw entries of a queue, as they lie.
struct Chosen {
    number: u32,
    positions: Vec<u64>,
    sources: Vec<super::read::Source>,
}

/// A queue of this subscription.
#[derive(Clone, Copy)]
struct Held {
    /// The epoch under which its bucket is held.
    epoch: Epoch,
    /// The number of its Ingestor; `None`: nothing is known of it.
    number: Option<u32>,
}

impl WalSubscription {
    fn is_open(state: &State) -> Result<(), SubscriptionError> {
        if state.closing {
            return Err(SubscriptionError::Closing);
        }
        Ok(())
    }

    fn epoch_in(&self, state: &State, bucket: Bucket) -> Option<Epoch> {
        state.subscribers.all.get(&self.id)?.epoch(bucket)
    }

    /// The queue of an Ingestor whose bucket is held.
    fn held(&self, state: &State, ingestor: &IngestorUid) -> Result<Held, SubscriptionError> {
        Self::is_open(state)?;
        let bucket = Bucket::of(ingestor);
        let Some(epoch) = self.epoch_in(state, bucket) else {
            let stored = state.index.epoch(bucket.0).cloned();
            let (epoch, holder) = stored.unwrap_or_else(|| (Epoch(0), Holder("".into())));
            return Err(Fenced {
                bucket,
                epoch,
                holder,
            }
            .into());
        };
        Ok(Held {
            epoch,
            number: state.index.number_of(ingestor),
        })
    }

    /// Whether a commit that was refused is to be made again: the bucket rose to another epoch of
    /// this subscription while it was in flight.
    fn rose(&self, ingestor: &IngestorUid, result: &Result<(), SubscriptionError>) -> bool {
        matches!(result, Err(SubscriptionError::Fenced(_)))
            && self
                .epoch_in(&self.engine.state(), Bucket::of(ingestor))
                .is_some()
    }

    async fn ready_queues(&self) -> Result<Vec<IngestorUid>, SubscriptionError> {
        loop {
            let notify = {
                let state = self.engine.state();
                state
                    .subscribers
                    .all
                    .get(&self.id)
                    .map(|subscriber| Arc::clone(&subscriber.notify))
            };
            let notify = notify.ok_or(SubscriptionError::Closing)?;
            let notified = notify.notified();
            tokio::pin!(notified);
            // Before the look below, so that no record comes unnoticed in between.
            notified.as_mut().enable();
            {
                let mut guard = self.engine.state();
                let state = &mut *guard;
                Self::is_open(state)?;
                let Some(subscriber) = state.subscribers.all.get_mut(&self.id) else {
                    return Err(SubscriptionError::Closing);
                };
                if let Some(fenced) = subscriber.next_lost() {
                    return Err(fenced.into());
                }
                let dirty = std::mem::take(&mut subscriber.dirty);
                let queues = dirty.into_iter().filter_map(|number| {
                    let ingestor = state.index.ingestor(number)?;
                    let named =
                        !ingestor.queue.is_empty() && subscriber.epoch(ingestor.bucket).is_some();
                    named.then(|| ingestor.uid.clone())
                });
                let queues: Vec<IngestorUid> = queues.collect();
                if !queues.is_empty() {
                    return Ok(queues);
                }
            }
            notified.await;
        }
    }

    fn choose(
        &self,
        ingestor: &IngestorUid,
        after: Option<u64>,
        limit: FetchLimit,
    ) -> Result<Option<Chosen>, SubscriptionError> {
        let state = self.engine.state();
        let Some(number) = self.held(&state, ingestor)?.number else {
            return Ok(None);
        };
        let Some(queue) = state.index.ingestor(number).map(|ingestor| &ingestor.queue) else {
            return Ok(None);
        };
        let mut chosen = Chosen {
            number,
            positions: Vec::new(),
            sources: Vec::new(),
        };
        let mut bytes = 0;
        let records = usize::try_from(limit.records.get()).unwrap_or(usize::MAX);
        for slot in queue.after(after).take(records) {
            chosen.positions.push(slot.position);
            chosen.sources.push(state.source(slot.place()));
            // An entry is a little more than its body; those that are still missing come with the next round.
            bytes += u64::from(slot.place().len);
            if bytes > count(limit.bytes) {
                break;
            }
        }
        Ok((!chosen.positions.is_empty()).then_some(chosen))
    }

    async fn fetch_records(
        &self,
        ingestor: IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> Result<Fetched, SubscriptionError> {
        // There may be more behind them.
        let up_to = |records| Fetched {
            records,
            end: false,
        };
        // What can't be read now is asked for again; alone, it is the disk's failure.
        let later = |records: Vec<Record>, why: &str| {
            if records.is_empty() {
                return Err(SubscriptionError::Disk(why.to_owned()));
            }
            Ok(up_to(records))
        };
        let mut records = Vec::new();
        let mut after = after.map(|after| after.0);
        let mut bytes = 0;
        loop {
            let left = limit
                .records
                .get()
                .saturating_sub(u32::try_from(records.len()).unwrap_or(u32::MAX));
            let Some(left) = std::num::NonZeroU32::new(left) else {
                return Ok(up_to(records));
            };
            let round = FetchLimit {
                records: left,
                bytes: limit.bytes.saturating_sub(bytes),
            };
            let Some(chosen) = self.choose(&ingestor, after, round)? else {
                return Ok(Fetched { records, end: true });
            };
            let entries = read_off_thread(chosen.sources, self.engine.seed).await;
            for (position, entry) in chosen.positions.into_iter().zip(entries) {
                after = Some(position);
                match entry {
                    Entry::Payload(_, payload) => {
                        let Some(event) = entry::read_event(&payload) else {
                            if self.engine.lose(chosen.number, position) {
                                continue;
                            }
                            return later(records, FICKLE);
                        };
                        bytes += event.body.len();
                        records.push(Record {
                            id: self.engine.state().index.record_id(position),
                            event,
                        });
                    }
                    Entry::Damaged if self.engine.lose(chosen.number, position) => {}
                    Entry::Damaged => return later(records, FICKLE),
                    Entry::Failed(error) => return later(records, &error.to_string()),
                }
                if bytes > limit.bytes {
                    return Ok(up_to(records));
                }
            }
        }
    }

    fn spec_text(&self, digest: SpecDigest) -> Result<Option<Arc<str>>, SubscriptionError> {
        let state = self.engine.state();
        Self::is_open(&state)?;
        let spec = state.index.spec(&digest);
        let kept = spec.filter(|spec| spec.place.len > 0);
        Ok(kept.map(|spec| Arc::clone(&spec.text)))
    }

    fn oldest_in(&self, ingestor: &IngestorUid) -> Result<Option<Millis>, SubscriptionError> {
        let mut state = self.engine.state();
        let number = self.held(&state, ingestor)?.number;
        let queue = number.and_then(|number| state.index.ingestor_mut(number));
        Ok(queue.and_then(|ingestor| ingestor.queue.oldest()))
    }

    async fn commit_ends(
        &self,
        ingestor: IngestorUid,
        ends: Vec<Ended>,
    ) -> Result<(), SubscriptionError> {
        let (plain, lettered): (Vec<Ended>, Vec<Ended>) =
            ends.into_iter().partition(|ended| ended.letters.is_empty());
        for ended in lettered {
            self.commit_letter(&ingestor, ended).await?;
        }
        loop {
            match self.stage_ends(&ingestor, &plain)? {
                Staging::Nothing => return Ok(()),
                Staging::Staged(answer) => {
                    let result = answer.await.map_err(lost)?;
                    if !self.rose(&ingestor, &result) {
                        return result;
                    }
                }
                // Failed or not, what is known afterwards decides.
                Staging::After(flight) => drop(flight.landed().await),
            }
        }
    }

    /// Stages the ends of records that have none yet.
    fn stage_ends(
        &self,
        ingestor: &IngestorUid,
        ends: &[Ended],
    ) -> Result<Staging, SubscriptionError> {
        let mut state = self.engine.state();
        let held = self.held(&state, ingestor)?;
        let Some(number) = held.number else {
            return Ok(Staging::Nothing);
        };
        if let Some(flight) = state.pending_end(ends.iter().map(|ended| ended.position.0)) {
            return Ok(Staging::After(flight));
        }
        let queue = state.index.ingestor(number).map(|ingestor| &ingestor.queue);
        let mut taken = HashSet::new();
        let ends: Vec<Ended> = ends
            .iter()
            .filter(|ended| {
                let position = ended.position.0;
                queue.is_some_and(|queue| queue.get(position).is_some()) && taken.insert(position)
            })
            .cloned()
            .collect();
        if ends.is_empty() {
            return Ok(Staging::Nothing);
        }
        state.reserve_ends(ends.iter().map(|ended| ended.position.0));
        let mut payload = Vec::with_capacity(64 + 32 * ends.len());
        entry::put_commit(&mut payload, ingestor, held.epoch, ends.iter());
        let (reply, answer) = oneshot::channel();
        let what = What::Commit {
            ingestor: number,
            epoch: held.epoch,
            ends,
            reply: Some(reply),
        };
        self.engine
            .stage(&mut state, Kind::Commit, 0, &payload, what);
        Ok(Staging::Staged(answer))
    }

    /// One record with dead letters: its end, its letters and its event in one entry.
    async fn commit_letter(
        &self,
        ingestor: &IngestorUid,
        ended: Ended,
    ) -> Result<(), SubscriptionError> {
        let position = ended.position.0;
        let source = {
            let state = self.engine.state();
            let Some(number) = self.held(&state, ingestor)?.number else {
                return Ok(());
            };
            let Some(slot) = state
                .index
                .ingestor(number)
                .and_then(|ingestor| ingestor.queue.get(position).copied())
            else {
                return Ok(());
            };
            (number, state.source(slot.place()))
        };
        let (number, source) = source;
        let event = match read_off_thread(vec![source], self.engine.seed).await.pop() {
            Some(Entry::Payload(_, payload)) => payload,
            Some(Entry::Failed(error)) => return Err(SubscriptionError::Disk(error.to_string())),
            Some(Entry::Damaged) | None => {
                if self.engine.lose(number, position) {
                    return Ok(());
                }
                return Err(SubscriptionError::Disk(FICKLE.to_owned()));
            }
        };
        loop {
            match self.stage_letter(ingestor, number, &ended, &event)? {
                Staging::Nothing => return Ok(()),
                Staging::Staged(answer) => {
                    let result = answer.await.map_err(lost)?;
                    if !self.rose(ingestor, &result) {
                        return result;
                    }
                }
                Staging::After(flight) => drop(flight.landed().await),
            }
        }
    }

    fn stage_letter(
        &self,
        ingestor: &IngestorUid,
        number: u32,
        ended: &Ended,
        event: &[u8],
    ) -> Result<Staging, SubscriptionError> {
        let position = ended.position.0;
        let mut state = self.engine.state();
        let held = self.held(&state, ingestor)?;
        if let Some(flight) = state.pending_end([position].into_iter()) {
            return Ok(Staging::After(flight));
        }
        let queue = state.index.ingestor(number).map(|ingestor| &ingestor.queue);
        if queue.is_none_or(|queue| queue.get(position).is_none()) {
            return Ok(Staging::Nothing);
        }
        state.reserve_ends([position].into_iter());
        let at = self.engine.clock.now();
        let letters = ended
            .letters
            .iter()
            .map(|letter| (letter.clone(), false))
            .collect();
        let entry = LetterEntry {
            epoch: Some(held.epoch),
            end: ended.end,
            items: ended.items,
            at,
            letters,
            event,
        };
        let mut payload = Vec::with_capacity(event.len() + 1024);
        entry::put_letter(&mut payload, &entry);
        let (reply, answer) = oneshot::channel();
        let what = What::Letter {
            ingestor: number,
            epoch: held.epoch,
            ended: Box::new(ended.clone()),
            at,
            reply: Some(reply),
        };
        self.engine
            .stage(&mut state, Kind::Letter, position, &payload, what);
        Ok(Staging::Staged(answer))
    }
}

impl Subscription for WalSubscription {
    fn log(&self) -> LogId {
        self.engine.log
    }

    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<Vec<Fenced>, SubscriptionError>> {
        claims::claim(&self.engine, self.id, claims).boxed()
    }

    fn release(&self, buckets: &[Bucket]) {
        let mut state = self.engine.state();
        for bucket in buckets {
            state.subscribers.release(self.id, *bucket);
        }
    }

    fn epoch(&self, bucket: Bucket) -> Option<Epoch> {
        self.epoch_in(&self.engine.state(), bucket)
    }

    fn ready(&self) -> BoxFuture<'_, Result<Vec<IngestorUid>, SubscriptionError>> {
        self.ready_queues().boxed()
    }

    fn fetch(
        &self,
        ingestor: &IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> BoxFuture<'_, Result<Fetched, SubscriptionError>> {
        self.fetch_records(ingestor.clone(), after, limit).boxed()
    }

    fn spec(
        &self,
        digest: SpecDigest,
    ) -> BoxFuture<'_, Result<Option<Arc<str>>, SubscriptionError>> {
        let text = self.spec_text(digest);
        async move { text }.boxed()
    }

    fn oldest(
        &self,
        ingestor: &IngestorUid,
    ) -> BoxFuture<'_, Result<Option<Millis>, SubscriptionError>> {
        let oldest = self.oldest_in(ingestor);
        async move { oldest }.boxed()
    }

    fn commit(
        &self,
        ingestor: &IngestorUid,
        ends: Vec<Ended>,
    ) -> BoxFuture<'_, Result<(), SubscriptionError>> {
        self.commit_ends(ingestor.clone(), ends).boxed()
    }
}
