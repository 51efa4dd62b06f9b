//! What waits to be sent on a stream, in order. Calls find it full at [`MOST`]; releases, which can't
//! be refused, are put together, so that there is at most one for each call.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use futures::{Stream, stream};
use tokio::sync::Notify;

use crate::journal::{
    Bucket,
    remote::{
        CALLS,
        pb::{self, ask::What as Asked},
    },
};

/// Calls that were given up while they waited lie here too.
const MOST: usize = 4 * CALLS;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    asks: VecDeque<Asked>,
    ended: bool,
}

/// Ends a queue when it is dropped: with its stream the request ends, and the gateway lets go.
#[derive(Debug)]
pub(super) struct Ending(pub(super) Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what is asked at the end; false: it is full, as nothing is taken at the other end.
    pub(super) fn put(&self, ask: Asked) -> bool {
        let mut waiting = self.lock();
        if waiting.asks.len() >= MOST {
            return false;
        }
        waiting.asks.push_back(ask);
        drop(waiting);
        self.more.notify_one();
        true
    }

    /// Puts a release at the end, or adds to the one that is there.
    pub(super) fn release(&self, buckets: &[Bucket]) {
        let numbers = buckets.iter().map(|bucket| u32::from(bucket.0));
        let mut waiting = self.lock();
        if let Some(Asked::Release(release)) = waiting.asks.back_mut() {
            release.buckets.extend(numbers);
            release.buckets.sort_unstable();
            release.buckets.dedup();
        } else {
            let buckets = numbers.collect();
            waiting
                .asks
                .push_back(Asked::Release(pb::ReleaseBuckets { buckets }));
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Nothing is sent any more.
    fn end(&self) {
        let mut waiting = self.lock();
        waiting.ended = true;
        waiting.asks.clear();
        drop(waiting);
        self.more.notify_one();
    }

    /// What is next: an ask, nothing yet (`Pending`), or nothing any more.
    fn next(&self) -> Poll<Option<pb::Ask>> {
        let mut waiting = self.lock();
        match waiting.asks.pop_front() {
            Some(what) => Poll::Ready(Some(pb::Ask { what: Some(what) })),
            None if waiting.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// All that is put, until the end.
    pub(super) fn stream(self: Arc<Self>) -> impl Stream<Item = pb::Ask> + Send + 'static {
        stream::unfold(self, |queue| async move {
            loop {
                // One reader: what is put before it waits is kept as a permit.
                if let Poll::Ready(next) = queue.next() {
                    return next.map(|ask| (ask, queue));
                }
                queue.more.notified().await;
            }
        })
    }
}
