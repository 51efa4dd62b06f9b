//! What a durable batch does: to the index, and to those who wait.

use super::{
    cache::Chunk,
    engine::Engine,
    entry::PlainEnd,
    format::Place,
    index::{Letters, NewRecord},
    stage::{Moved, Op, Part, Staged, State, What, answer},
};
use crate::journal::{Ended, Epoch, LetterId, Millis, SubscriptionError};

impl State {
    pub(super) fn apply_events(&mut self, ops: &[(Place, Op)]) {
        for (place, op) in ops {
            let What::Event(record) = &op.what else {
                continue;
            };
            self.release(record, place.len);
            self.index.record(&NewRecord {
                place: *place,
                ..*record
            });
            if record.key.is_some() {
                self.index.bound_keys(record.ingestor);
            }
            self.recent.push(record.position, record.ingestor);
            self.appended += 1;
            self.touch(record.ingestor);
        }
    }

    /// A queue has a new record: its subscribers hear of it.
    fn touch(&mut self, number: u32) {
        let Some(bucket) = self
            .index
            .ingestor(number)
            .map(|ingestor| ingestor.bucket.0)
        else {
            return;
        };
        let Some(ids) = self.subscribers.by_bucket.get(&bucket) else {
            return;
        };
        for id in ids {
            let Some(subscriber) = self.subscribers.all.get_mut(id) else {
                continue;
            };
            subscriber.dirty.insert(number);
            if !std::mem::replace(&mut subscriber.woken, true) {
                self.subscribers.to_wake.push(*id);
            }
        }
    }

    pub(super) fn wake_subscribers(&mut self) {
        for id in std::mem::take(&mut self.subscribers.to_wake) {
            if let Some(subscriber) = self.subscribers.all.get_mut(&id) {
                subscriber.woken = false;
                subscriber.notify.notify_waiters();
            }
        }
    }

    /// Keeps a batch for the engine, which will soon ask.
    pub(super) fn remember(&mut self, chunk: Option<Chunk>) {
        if let Some(chunk) = chunk {
            self.cache.push(chunk);
        }
    }

    pub(super) fn apply_control(&mut self, engine: &Engine, mut part: Part, now: Millis) {
        for (place, op) in part.take_ops() {
            match op.what {
                What::Spec {
                    ingestor,
                    digest,
                    text,
                } => {
                    self.index.put_spec(ingestor, digest, text, place, now);
                    self.index.put_in_force(ingestor, Some(digest), now);
                }
                What::Commit {
                    ingestor,
                    epoch,
                    ends,
                    reply,
                } => {
                    let result = self.may_commit(ingestor, epoch);
                    self.settle_ends(ends.iter());
                    if result.is_ok() {
                        for ended in ends {
                            self.end(ingestor, ended);
                        }
                    }
                    answer(reply, result);
                }
                What::Letter {
                    ingestor,
                    epoch,
                    ended,
                    at,
                    reply,
                } => {
                    let result = self.may_commit(ingestor, epoch);
                    self.settle_ends([ended.as_ref()].into_iter());
                    if result.is_ok() {
                        self.apply_letter(ingestor, *ended, at, place);
                    }
                    answer(reply, result);
                }
                What::Take {
                    subscriber,
                    holder,
                    epoch,
                    buckets,
                    reply,
                } => {
                    self.apply_take(subscriber, &holder, epoch, &buckets, reply);
                }
                What::Forget { ingestor } => self.index.forget(ingestor, now),
                What::Moved { from, kind } => self.moved(kind, from, place),
                What::Event(_) => {}
            }
        }
        self.index.bound_letters(now);
        if self.index.backlog == 0 && engine.options.cache_bytes > 0 {
            self.cache.clear();
        }
    }

    fn may_commit(&mut self, ingestor: u32, epoch: Epoch) -> Result<(), SubscriptionError> {
        let result = self.index.may_commit(ingestor, epoch);
        if result.is_err() {
            self.claims.commits_refused += 1;
        }
        Ok(result?)
    }

    fn end(&mut self, ingestor: u32, ended: Ended) -> bool {
        let plain = PlainEnd {
            position: ended.position.0,
            end: ended.end,
            items: ended.items,
        };
        let first = self.index.end(ingestor, &plain);
        if first && !self.waiters.is_empty() {
            for (_, waiter) in self.waiters.remove(&plain.position).unwrap_or_default() {
                // Whoever waited may have gone.
                drop(waiter.send(ended.clone()));
            }
        }
        first
    }

    fn apply_letter(&mut self, ingestor: u32, ended: Ended, at: Millis, place: Place) {
        let position = ended.position.0;
        let items = ended
            .letters
            .iter()
            .map(|letter| (letter.index, false))
            .collect();
        if self.end(ingestor, ended) {
            self.index.letter(
                position,
                Letters {
                    place,
                    at,
                    ingestor,
                    items,
                },
            );
        }
    }

    /// Whether a dead letter was replayed.
    pub(super) fn is_replayed(&self, id: LetterId) -> bool {
        self.index
            .letters
            .get(&id.record.position.0)
            .is_some_and(|letters| {
                letters
                    .items
                    .iter()
                    .any(|(index, replayed)| *index == id.index && *replayed)
            })
    }

    pub(super) fn apply_carried(&mut self, mut carried: Staged) {
        for (to, op) in carried.control.take_ops() {
            let What::Moved { from, kind } = op.what else {
                continue;
            };
            self.moved(kind, from, to);
        }
    }

    fn moved(&mut self, kind: Moved, from: Place, to: Place) {
        match kind {
            Moved::Record { ingestor, position } => {
                self.index.move_record(ingestor, position, from, to);
            }
            Moved::Key { position } => self.index.move_key(position, from, to),
            Moved::Letter { position } => self.index.move_letter(position, from, to),
            Moved::Spec { digest } => self.index.move_spec(&digest, from, to),
        }
    }
}
