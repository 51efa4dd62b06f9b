//! A subscription at a gateway, over as many connections as it takes: after each break what was
//! claimed is claimed again, under the same epochs.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};
use tracing::debug;

use super::{
    Backoff, PATIENCE, Shared,
    answers::{Answer, Answers, Fetching},
    malformed,
    queue::Queue,
    unreachable,
};
use crate::{
    api::SpecDigest,
    journal::{
        Bucket, Claim, Ended, Epoch, Fenced, FetchLimit, Holder, IngestorUid, LogId, Millis,
        Position, Record, Subscription, SubscriptionError,
        remote::{
            CALLS, FETCH_BYTES, FETCH_RECORDS, FETCHES,
            codec::{self, Malformed},
            pb::{self, ask::What as Asked, tell::What as Told},
            pieces,
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
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    holder: Holder,
    state: Mutex<State>,
    news: Notify,
    fetches: Semaphore,
    calls: Semaphore,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<Bucket, Epoch>,
    /// Who has what this subscription has not, as far as it is known.
    others: BTreeMap<Bucket, Fenced>,
    lost: VecDeque<Fenced>,
    /// Queues with news; also of buckets whose claim is not answered yet.
    dirty: BTreeSet<IngestorUid>,
    answers: Answers,
    /// The way out, while there is a connection on which all is claimed.
    out: Option<Arc<Queue>>,
    /// The claim that is made again, and the way out that it opens.
    again: Option<(u64, Arc<Queue>)>,
}

/// How the first attempt goes.
type Opening = Option<Result<(), SubscriptionError>>;

impl State {
    /// Takes over what a claim came to, in the order in which the gateway tells. What was let go of
    /// or given up meanwhile is let go of there too.
    fn claimed(&mut self, claimed: pb::Claimed) -> Result<(), Malformed> {
        let held = codec::claims(claimed.held)?;
        let refused = claimed.refused.into_iter().map(codec::fenced);
        let refused: Vec<Fenced> = refused.collect::<Result<_, _>>()?;
        let again = self.again.take_if(|(call, _)| *call == claimed.call);
        let new = again.is_none() && self.answers.expects(claimed.call);
        let mut unwanted = Vec::new();
        for claim in &held {
            if !new && !self.buckets.contains_key(&claim.bucket) {
                unwanted.push(claim.bucket);
                continue;
            }
            let epoch = claim.epoch.unwrap_or_default();
            let known = self.buckets.entry(claim.bucket).or_insert(epoch);
            *known = (*known).max(epoch);
            // Old news, if it was lost before.
            self.lost.retain(|fenced| fenced.bucket != claim.bucket);
            self.others.remove(&claim.bucket);
        }
        let others = refused
            .iter()
            .filter(|fenced| !self.buckets.contains_key(&fenced.bucket));
        let others = others.map(|fenced| (fenced.bucket, fenced.clone()));
        self.others.extend(others.collect::<Vec<_>>());
        if let Some((_, out)) = again {
            // It is how one hears of what was lost while there was no connection.
            for fenced in &refused {
                self.lose(fenced.clone());
            }
            self.out = Some(out);
        }
        if let Some(out) = self.out.as_ref().filter(|_| !unwanted.is_empty()) {
            out.release(&unwanted);
        }
        self.answers
            .answer(claimed.call, Ok(Answer::Claimed { held, refused }));
        Ok(())
    }

    fn lose(&mut self, fenced: Fenced) {
        if self.buckets.remove(&fenced.bucket).is_some() {
            self.others.insert(fenced.bucket, fenced.clone());
            self.lost.push_back(fenced);
        }
    }

    /// Refuses what is asked of a bucket that is known not to be held: a release may still be on its
    /// way. Of any other the gateway knows.
    fn holds(&self, ingestor: &IngestorUid) -> Result<(), SubscriptionError> {
        let bucket = Bucket::of(ingestor);
        match self.others.get(&bucket) {
            Some(other) if !self.buckets.contains_key(&bucket) => Err(other.clone().into()),
            Some(_) | None => Ok(()),
        }
    }

    /// The next bucket that was lost, or queues with news; `None`: neither.
    fn news(&mut self) -> Option<Result<Vec<IngestorUid>, SubscriptionError>> {
        if let Some(fenced) = self.lost.pop_front() {
            return Some(Err(fenced.into()));
        }
        let buckets = &self.buckets;
        let named: Vec<IngestorUid> = self
            .dirty
            .extract_if(.., |uid| buckets.contains_key(&Bucket::of(uid)))
            .collect();
        (!named.is_empty()).then_some(Ok(named))
    }
}

impl Link {
    /// Opens a subscription; waits for the first connection.
    pub(super) async fn open(
        shared: Arc<Shared>,
        holder: Holder,
    ) -> Result<Arc<Self>, SubscriptionError> {
        let stop = shared.stop.child_token();
        let inner = Arc::new(Inner {
            holder,
            state: Mutex::default(),
            news: Notify::new(),
            fetches: Semaphore::new(FETCHES),
            calls: Semaphore::new(CALLS - FETCHES),
            stop: stop.clone(),
            shared,
        });
        let link = Arc::new(Self {
            inner: Arc::clone(&inner),
            _ended: stop.drop_guard(),
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
            let queue = Arc::new(Queue::default());
            let ended = match self.connect(&queue).await {
                Ok(tells) => {
                    backoff = Backoff::default();
                    opening.send_if_modified(|first| first.replace(Ok(())).is_none());
                    self.listen(tells).await
                }
                Err(status) => status,
            };
            queue.end();
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
            let taken = match next(&mut tells).await {
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
            Told::Lost(fenced) => state.lose(codec::fenced(fenced)?),
            Told::Claimed(claimed) => state.claimed(claimed)?,
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

    // === calls ===

    async fn call(
        &self,
        fetching: Option<Fetching>,
        ask: impl FnOnce(u64) -> Asked,
    ) -> Result<Answer, SubscriptionError> {
        let (reply, answer) = oneshot::channel();
        let waiting = {
            let mut state = self.state();
            let Some(out) = state.out.clone() else {
                let why = "there is no connection to the gateway".to_owned();
                return Err(SubscriptionError::Unreachable(why));
            };
            let call = state.answers.expect(reply, fetching);
            if !out.put(ask(call)) {
                state.answers.forget(call);
                let why = "the gateway takes nothing".to_owned();
                return Err(SubscriptionError::Unreachable(why));
            }
            Waiting { inner: self, call }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        drop(waiting);
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_gone)) => Err(over()),
            Err(_elapsed) => {
                let why = format!("no answer within {} s", PATIENCE.as_secs());
                Err(SubscriptionError::Unreachable(why))
            }
        }
    }

    async fn claim(&self, claims: Vec<Claim>) -> Result<Vec<Fenced>, SubscriptionError> {
        let _permit = self.calls.acquire().await.ok();
        let message: Vec<_> = claims.iter().map(codec::from_claim).collect();
        let answer = self.call(None, |call| {
            Asked::Claim(pb::ClaimBuckets {
                call,
                claims: message,
            })
        });
        let Answer::Claimed { held, refused } = answer.await? else {
            return Err(garbled());
        };
        let asked: BTreeSet<Bucket> = claims.iter().map(|claim| claim.bucket).collect();
        let answered = |bucket: &Bucket| {
            held.iter().any(|claim| claim.bucket == *bucket)
                || refused.iter().any(|fenced| fenced.bucket == *bucket)
        };
        if asked.iter().all(answered) {
            return Ok(refused);
        }
        let why = "a bucket changed hands while it was claimed".to_owned();
        Err(SubscriptionError::Unreachable(why))
    }

    async fn fetch(
        &self,
        ingestor: IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> Result<Vec<Record>, SubscriptionError> {
        self.state().holds(&ingestor)?;
        let most = NonZeroU32::new(FETCH_RECORDS).unwrap_or(NonZeroU32::MIN);
        let limit = FetchLimit {
            records: limit.records.min(most),
            bytes: limit.bytes.min(FETCH_BYTES),
        };
        let _permit = self.fetches.acquire().await.ok();
        let fetching = Fetching::new(self.shared.log, ingestor.clone(), limit);
        let answer = self.call(Some(fetching), |call| {
            Asked::Fetch(pb::Fetch {
                call,
                ingestor: ingestor.0.as_ref().to_owned(),
                after: after.map(|after| after.0),
                records: limit.records.get(),
                bytes: u64::try_from(limit.bytes).unwrap_or(u64::MAX),
            })
        });
        let Answer::Records(records) = answer.await? else {
            return Err(garbled());
        };
        Ok(records)
    }

    async fn commit(
        &self,
        ingestor: IngestorUid,
        ends: Vec<Ended>,
    ) -> Result<(), SubscriptionError> {
        self.state().holds(&ingestor)?;
        let mut lists = pieces::ends(ends);
        if lists.is_empty() {
            // Whether the bucket is held is asked all the same.
            lists.push(Vec::new());
        }
        for ends in lists {
            let _permit = self.calls.acquire().await.ok();
            let ingestor = ingestor.0.as_ref().to_owned();
            let answer = self.call(None, |call| {
                Asked::Commit(pb::Commit {
                    call,
                    ingestor,
                    ends,
                })
            });
            if !matches!(answer.await?, Answer::Committed) {
                return Err(garbled());
            }
        }
        Ok(())
    }

    async fn spec(&self, digest: SpecDigest) -> Result<Option<Arc<str>>, SubscriptionError> {
        let _permit = self.calls.acquire().await.ok();
        let bytes = Bytes::copy_from_slice(&digest.0);
        let answer = self.call(None, |call| {
            Asked::GetSpec(pb::GetSpec {
                call,
                digest: bytes,
            })
        });
        let Answer::Spec(text) = answer.await? else {
            return Err(garbled());
        };
        if text
            .as_ref()
            .is_some_and(|text| SpecDigest::of(text) != digest)
        {
            return Err(garbled());
        }
        Ok(text.map(codec::shared))
    }

    async fn oldest(&self, ingestor: IngestorUid) -> Result<Option<Millis>, SubscriptionError> {
        self.state().holds(&ingestor)?;
        let _permit = self.calls.acquire().await.ok();
        let ingestor = ingestor.0.as_ref().to_owned();
        let answer = self.call(None, |call| {
            Asked::GetOldest(pb::GetOldest { call, ingestor })
        });
        let Answer::Oldest(at) = answer.await? else {
            return Err(garbled());
        };
        Ok(at)
    }

    async fn ready(&self) -> Result<Vec<IngestorUid>, SubscriptionError> {
        loop {
            let notified = self.news.notified();
            tokio::pin!(notified);
            // Before the look below, so that nothing comes unnoticed in between.
            notified.as_mut().enable();
            if let Some(news) = self.state().news() {
                return news;
            }
            notified.await;
        }
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

fn garbled() -> SubscriptionError {
    SubscriptionError::Unreachable("the gateway's answer answers something else".to_owned())
}

/// Takes a call out when nobody waits for it any more.
struct Waiting<'a> {
    inner: &'a Inner,
    call: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.inner.state().answers.forget(self.call);
    }
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
    ) -> BoxFuture<'_, Result<Vec<Record>, SubscriptionError>> {
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
