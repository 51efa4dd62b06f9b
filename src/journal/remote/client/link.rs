//! A subscription at a gateway, over as many connections as it takes: after each break what was
//! claimed is claimed again, under the same epochs.

mod calls;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};
use tracing::debug;

use self::state::State;
use super::{
    Backoff, PATIENCE, Shared, malformed,
    queue::{Ending, Queue},
    unreachable,
};
use crate::{
    api::SpecDigest,
    journal::{
        Bucket, Claim, Ended, Epoch, Fenced, FetchLimit, Fetched, Holder, IngestorUid, LogId,
        Millis, Position, Subscription, SubscriptionError,
        remote::{
            CALLS, FETCHES,
            codec::{self, Malformed},
            pb::{self, ask::What as Asked, tell::What as Told},
        },
    },
};

/// Names of queues that are not taken up: more than any gateway has.
const DIRTY: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    inner: Arc<Inner>,
    _ended: DropGuard,
    /// Its source goes on as long as it does.
    _source: Arc<DropGuard>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    holder: Holder,
    state: Mutex<State>,
    news: Notify,
    fetches: Semaphore,
    calls: Semaphore,
    /// A call was given up: the connection is made anew.
    given_up: Notify,
    stop: CancellationToken,
}

/// How the first attempt goes.
type Opening = Option<Result<(), SubscriptionError>>;

impl Link {
    /// Opens a subscription; waits for the first connection.
    pub(super) async fn open(
        shared: Arc<Shared>,
        source: Arc<DropGuard>,
        holder: Holder,
    ) -> Result<Arc<Self>, SubscriptionError> {
        let stop = shared.stop.child_token();
        let inner = Arc::new(Inner {
            holder,
            state: Mutex::default(),
            news: Notify::new(),
            fetches: Semaphore::new(FETCHES),
            calls: Semaphore::new(CALLS - FETCHES),
            given_up: Notify::new(),
            stop: stop.clone(),
            shared,
        });
        let link = Arc::new(Self {
            inner: Arc::clone(&inner),
            _ended: stop.drop_guard(),
            _source: source,
        });
        let (opening, mut opened) = watch::channel(None);
        let tasks = inner.shared.tasks.clone();
        tasks.spawn("journal link", async move {
            let stop = inner.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = inner.keep(&opening) => {}
            }
            inner.disconnect(&over());
        });
        let first = opened.wait_for(Option::is_some).await;
        let first = first.map_or_else(|_gone| Err(over()), |first| first.clone().unwrap_or(Ok(())));
        first.map(|()| link)
    }
}

fn over() -> SubscriptionError {
    SubscriptionError::Unreachable("the source is over".to_owned())
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, and connects again.
    async fn keep(&self, opening: &watch::Sender<Opening>) {
        let mut backoff = Backoff::default();
        while !self.stop.is_cancelled() {
            let pause = tokio::time::sleep(backoff.next(rand::random()));
            let queue = Ending(Arc::default());
            let ended = match self.connect(&queue.0).await {
                Ok(tells) => {
                    backoff = Backoff::default();
                    opening.send_if_modified(|first| first.replace(Ok(())).is_none());
                    self.listen(tells).await
                }
                Err(status) => status,
            };
            drop(queue);
            let error = unreachable(&ended);
            debug!(log = %self.shared.log, %error, "a subscription's connection ended");
            self.disconnect(&error);
            opening.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(Err(error));
                is_first
            });
            pause.await;
        }
    }

    fn disconnect(&self, error: &SubscriptionError) {
        let mut state = self.state();
        state.out = None;
        state.again = None;
        state.answers.fail(error);
    }

    /// A new stream on which all that this subscription holds is claimed again.
    async fn connect(&self, queue: &Arc<Queue>) -> Result<Streaming<pb::Tell>, Status> {
        let holder = self.holder.0.as_ref().to_owned();
        queue.put(Asked::Open(pb::Open { holder }));
        let connecting = async {
            let mut client = self.shared.client.clone();
            let mut tells = client
                .follow(Arc::clone(queue).stream())
                .await?
                .into_inner();
            let Some(Told::Opened(opened)) = next(&mut tells).await? else {
                return Err(malformed(Malformed("a subscription begins with `opened`")));
            };
            if LogId(opened.log) != self.shared.log {
                self.shared.succeeded_by(LogId(opened.log));
                return Err(Status::unavailable("the gateway has another log"));
            }
            self.claim_again(queue, &mut tells).await?;
            Ok(tells)
        };
        tokio::time::timeout(PATIENCE, connecting)
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("no answer"))?
    }

    async fn claim_again(
        &self,
        queue: &Arc<Queue>,
        tells: &mut Streaming<pb::Tell>,
    ) -> Result<(), Status> {
        let (reply, mut answer) = oneshot::channel();
        let message = {
            let mut state = self.state();
            let call = state.answers.expect(reply, None);
            state.again = Some((call, Arc::clone(queue)));
            let held = state.buckets.iter().map(|(bucket, epoch)| pb::Claim {
                bucket: u32::from(bucket.0),
                epoch: Some(epoch.0),
            });
            pb::ClaimBuckets {
                call,
                claims: held.collect(),
            }
        };
        queue.put(Asked::Claim(message));
        loop {
            let told = next(tells).await?.ok_or_else(ended)?;
            self.take(told).map_err(malformed)?;
            match answer.try_recv() {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(Status::unavailable(error.to_string())),
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => return Err(ended()),
            }
        }
    }

    async fn listen(&self, mut tells: Streaming<pb::Tell>) -> Status {
        loop {
            let next = tokio::select! {
                next = next(&mut tells) => next,
                () = self.given_up.notified() => {
                    let why = format!("no answer to a call within {} s", PATIENCE.as_secs());
                    return Status::deadline_exceeded(why);
                }
            };
            let taken = match next {
                Ok(Some(told)) => self.take(told),
                Ok(None) => return ended(),
                Err(status) => return status,
            };
            if let Err(error) = taken {
                return malformed(error);
            }
        }
    }

    fn take(&self, told: Told) -> Result<(), Malformed> {
        let mut state = self.state();
        match told {
            Told::Ready(ready) => {
                for uid in ready.ingestors {
                    state.dirty.insert(codec::ingestor(uid)?);
                }
                if state.dirty.len() > DIRTY {
                    return Err(Malformed("more queues than any gateway has"));
                }
            }
            Told::Lost(fenced) => state.lose(codec::fenced(fenced)?, &self.holder),
            Told::Claimed(claimed) => state.claimed(claimed, &self.holder)?,
            answer @ (Told::Opened(_)
            | Told::Records(_)
            | Told::Part(_)
            | Told::Committed(_)
            | Told::Spec(_)
            | Told::Oldest(_)
            | Told::Failed(_)) => return state.answers.take(answer),
        }
        drop(state);
        self.news.notify_waiters();
        Ok(())
    }
}

async fn next(tells: &mut Streaming<pb::Tell>) -> Result<Option<Told>, Status> {
    match tells.message().await? {
        None => Ok(None),
        Some(tell) => tell
            .what
            .map(Some)
            .ok_or_else(|| malformed(Malformed("nothing is told"))),
    }
}

fn ended() -> Status {
    Status::unavailable("the gateway ended the stream")
}

impl Subscription for Link {
    fn log(&self) -> LogId {
        self.inner.shared.log
    }

    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<Vec<Fenced>, SubscriptionError>> {
        self.inner.claim(claims).boxed()
    }

    fn release(&self, buckets: &[Bucket]) {
        let mut state = self.inner.state();
        for bucket in buckets {
            if let Some(epoch) = state.buckets.remove(bucket) {
                let own = Fenced {
                    bucket: *bucket,
                    epoch,
                    holder: self.inner.holder.clone(),
                };
                state.others.insert(*bucket, own);
            }
        }
        state
            .dirty
            .retain(|uid| !buckets.contains(&Bucket::of(uid)));
        if let Some(out) = &state.out {
            out.release(buckets);
        }
    }

    fn epoch(&self, bucket: Bucket) -> Option<Epoch> {
        self.inner.state().buckets.get(&bucket).copied()
    }

    fn ready(&self) -> BoxFuture<'_, Result<Vec<IngestorUid>, SubscriptionError>> {
        self.inner.ready().boxed()
    }

    fn fetch(
        &self,
        ingestor: &IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> BoxFuture<'_, Result<Fetched, SubscriptionError>> {
        self.inner.fetch(ingestor.clone(), after, limit).boxed()
    }

    fn spec(
        &self,
        digest: SpecDigest,
    ) -> BoxFuture<'_, Result<Option<Arc<str>>, SubscriptionError>> {
        self.inner.spec(digest).boxed()
    }

    fn oldest(
        &self,
        ingestor: &IngestorUid,
    ) -> BoxFuture<'_, Result<Option<Millis>, SubscriptionError>> {
        self.inner.oldest(ingestor.clone()).boxed()
    }

    fn commit(
        &self,
        ingestor: &IngestorUid,
        ends: Vec<Ended>,
    ) -> BoxFuture<'_, Result<(), SubscriptionError>> {
        self.inner.commit(ingestor.clone(), ends).boxed()
    }
}
