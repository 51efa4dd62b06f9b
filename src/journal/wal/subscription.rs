//! What a subscriber has: the queues of its buckets, under its epoch.

use std::{collections::HashSet, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::oneshot;
use tracing::warn;

use super::{
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
        Bucket, Ended, Epoch, Fenced, FetchLimit, Holder, IngestorUid, Millis, Position, Record,
        Subscribe, Subscription, SubscriptionError,
    },
};

/// See the module.
#[derive(Debug)]
pub(super) struct WalSubscription {
    engine: Arc<Engine>,
    id: u64,
    epoch: Epoch,
    buckets: Vec<u16>,
}

fn lost<E>(_: E) -> SubscriptionError {
    SubscriptionError::Disk("the commit was lost".to_owned())
}

pub(super) async fn subscribe(
    engine: Arc<Engine>,
    request: Subscribe,
) -> Result<Arc<dyn Subscription>, SubscriptionError> {
    let mut buckets: Vec<u16> = request.buckets.iter().map(|bucket| bucket.0).collect();
    buckets.sort_unstable();
    buckets.dedup();
    let (reply, answer) = oneshot::channel();
    let (id, epoch) = {
        let mut state = engine.state();
        if state.closing {
            return Err(SubscriptionError::Closing);
        }
        let epoch = request.epoch.unwrap_or_else(|| state.next_epoch(&buckets));
        state.index.may_take(&request.holder, epoch, &buckets)?;
        let id = state.subscribers.next;
        state.subscribers.next += 1;
        let mut payload = Vec::new();
        entry::put_epochs(&mut payload, &request.holder, epoch, &buckets);
        let what = What::Take {
            subscriber: id,
            holder: request.holder,
            epoch,
            buckets: buckets.clone(),
            reply: Some(reply),
        };
        engine.stage(&mut state, Kind::Epochs, 0, &payload, what);
        (id, epoch)
    };
    // Made before the answer, so that it is taken out again when nobody waits for it any more.
    let subscription = Arc::new(WalSubscription {
        engine,
        id,
        epoch,
        buckets,
    });
    answer.await.map_err(lost)??;
    Ok(subscription)
}

impl Drop for WalSubscription {
    fn drop(&mut self) {
        let mut state = self.engine.state();
        if state.subscribers.all.remove(&self.id).is_some() {
            for bucket in &self.buckets {
                if let Some(ids) = state.subscribers.by_bucket.get_mut(bucket) {
                    ids.retain(|id| *id != self.id);
                }
            }
        }
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

impl WalSubscription {
    /// Whether this subscription still stands.
    fn stands(&self, state: &State) -> Result<(), SubscriptionError> {
        if state.closing {
            return Err(SubscriptionError::Closing);
        }
        match state
            .subscribers
            .all
            .get(&self.id)
            .and_then(|subscriber| subscriber.fenced.clone())
        {
            Some(fenced) => Err(fenced.into()),
            None => Ok(()),
        }
    }

    /// The number of an Ingestor of these buckets; `None`: nothing is known of it.
    fn number(
        &self,
        state: &State,
        ingestor: &IngestorUid,
    ) -> Result<Option<u32>, SubscriptionError> {
        self.stands(state)?;
        let bucket = Bucket::of(ingestor);
        if self.buckets.binary_search(&bucket.0).is_err() {
            let (epoch, holder) = state
                .index
                .epoch(bucket.0)
                .cloned()
                .unwrap_or_else(|| (Epoch(0), Holder("".into())));
            return Err(Fenced {
                bucket,
                epoch,
                holder,
            }
            .into());
        }
        state.index.holds(bucket, self.epoch)?;
        Ok(state.index.number_of(ingestor))
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
                let mut state = self.engine.state();
                self.stands(&state)?;
                let dirty = state
                    .subscribers
                    .all
                    .get_mut(&self.id)
                    .map(|subscriber| std::mem::take(&mut subscriber.dirty));
                let queues = dirty.unwrap_or_default().into_iter().filter_map(|number| {
                    let ingestor = state.index.ingestor(number)?;
                    (!ingestor.queue.is_empty()).then(|| ingestor.uid.clone())
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
        let Some(number) = self.number(&state, ingestor)? else {
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
    ) -> Result<Vec<Record>, SubscriptionError> {
        let mut records = Vec::new();
        let mut after = after.map(|after| after.0);
        let mut bytes = 0;
        loop {
            let left = limit
                .records
                .get()
                .saturating_sub(u32::try_from(records.len()).unwrap_or(u32::MAX));
            let Some(left) = std::num::NonZeroU32::new(left) else {
                return Ok(records);
            };
            let round = FetchLimit {
                records: left,
                bytes: limit.bytes.saturating_sub(bytes),
            };
            let Some(chosen) = self.choose(&ingestor, after, round)? else {
                return Ok(records);
            };
            let entries = read_off_thread(chosen.sources, self.engine.seed).await;
            for (position, entry) in chosen.positions.into_iter().zip(entries) {
                after = Some(position);
                match entry {
                    Entry::Payload(_, payload) => {
                        let Some(event) = entry::read_event(&payload) else {
                            self.lose(chosen.number, position);
                            continue;
                        };
                        bytes += event.body.len();
                        records.push(Record {
                            id: self.engine.state().index.record_id(position),
                            event,
                        });
                    }
                    Entry::Damaged => self.lose(chosen.number, position),
                    Entry::Failed(error) if records.is_empty() => {
                        return Err(SubscriptionError::Disk(error.to_string()));
                    }
                    Entry::Failed(_) => return Ok(records),
                }
                if bytes > limit.bytes {
                    return Ok(records);
                }
            }
        }
    }

    /// A record that was whole when it was written can't be read any more.
    fn lose(&self, number: u32, position: u64) {
        let mut state = self.engine.state();
        let still = state
            .index
            .ingestor(number)
            .and_then(|ingestor| ingestor.queue.get(position).copied());
        let Some(slot) = still else { return };
        let again = super::read::read_all(&[state.source(slot.place())], self.engine.seed);
        // Trimming may have moved it since, or the disk may have recovered.
        if matches!(again.first(), Some(Entry::Damaged)) {
            warn!(position, "a record of the journal is damaged");
            state.index.damage(number, position);
        }
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
                Staging::Staged(answer) => return answer.await.map_err(lost)?,
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
        let Some(number) = self.number(&state, ingestor)? else {
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
        entry::put_commit(&mut payload, ingestor, self.epoch, ends.iter());
        let (reply, answer) = oneshot::channel();
        let what = What::Commit {
            ingestor: number,
            epoch: self.epoch,
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
            let Some(number) = self.number(&state, ingestor)? else {
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
                self.lose(number, position);
                return Ok(());
            }
        };
        loop {
            match self.stage_letter(ingestor, number, &ended, &event)? {
                Staging::Nothing => return Ok(()),
                Staging::Staged(answer) => return answer.await.map_err(lost)?,
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
        self.number(&state, ingestor)?;
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
            epoch: Some(self.epoch),
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
            epoch: self.epoch,
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
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn ready(&self) -> BoxFuture<'_, Result<Vec<IngestorUid>, SubscriptionError>> {
        self.ready_queues().boxed()
    }

    fn fetch(
        &self,
        ingestor: &IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> BoxFuture<'_, Result<Vec<Record>, SubscriptionError>> {
        self.fetch_records(ingestor.clone(), after, limit).boxed()
    }

    fn spec(&self, digest: SpecDigest) -> Option<Arc<str>> {
        let state = self.engine.state();
        state
            .index
            .spec(&digest)
            .filter(|spec| spec.place.len > 0)
            .map(|spec| Arc::clone(&spec.text))
    }

    fn oldest(&self, ingestor: &IngestorUid) -> Option<Millis> {
        let mut state = self.engine.state();
        let number = state.index.number_of(ingestor)?;
        state.index.ingestor_mut(number)?.queue.oldest()
    }

    fn commit(
        &self,
        ingestor: &IngestorUid,
        ends: Vec<Ended>,
    ) -> BoxFuture<'_, Result<(), SubscriptionError>> {
        self.commit_ends(ingestor.clone(), ends).boxed()
    }
}
