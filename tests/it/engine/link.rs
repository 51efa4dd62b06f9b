//! A log behind a link that can break, hang, and tell what has passed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;
use zen_fabric::{
    api::SpecDigest,
    journal::{
        Bucket, Claim, Ended, Epoch, Fenced, FetchLimit, Fetched, Holder, IngestorUid, LogId,
        Millis, Position, Source, SpecText, Subscription, SubscriptionError, Tally, facts::Facts,
    },
};

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Calls pass after this long.
    Up(Duration),
    /// Calls are answered at once: it can't be reached.
    Broken,
    /// Calls are not answered.
    Hung,
}

/// Calls that have passed.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) opens: AtomicUsize,
    pub(super) claims: AtomicUsize,
    pub(super) commits: AtomicUsize,
    pub(super) specs: AtomicUsize,
}

#[derive(Clone)]
pub(super) struct Link {
    source: Arc<dyn Source>,
    state: watch::Sender<State>,
    passed: Arc<Passed>,
}

struct Linked {
    subscription: Arc<dyn Subscription>,
    link: Link,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl fmt::Debug for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linked").finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn to(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            state: watch::Sender::new(State::Up(Duration::ZERO)),
            passed: Arc::default(),
        }
    }

    pub(super) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    pub(super) fn passed(&self) -> &Passed {
        &self.passed
    }

    async fn pass(&self) -> Result<(), SubscriptionError> {
        let mut state = self.state.subscribe();
        loop {
            let now = *state.borrow_and_update();
            match now {
                State::Up(Duration::ZERO) => return Ok(()),
                State::Up(delay) => {
                    tokio::time::sleep(delay).await;
                    return Ok(());
                }
                State::Broken => {
                    return Err(SubscriptionError::Unreachable("the link is broken".into()));
                }
                State::Hung => state.changed().await.unwrap(),
            }
        }
    }

    /// A call that waits long notices that the link breaks.
    async fn breaks(&self) -> SubscriptionError {
        let mut state = self.state.subscribe();
        let broken = state.wait_for(|now| *now == State::Broken).await;
        drop(broken.unwrap());
        SubscriptionError::Unreachable("the link has broken".into())
    }
}

impl Source for Link {
    fn log(&self) -> LogId {
        self.source.log()
    }
    fn open(
        &self,
        holder: Holder,
    ) -> BoxFuture<'_, Result<Arc<dyn Subscription>, SubscriptionError>> {
        async move {
            self.pass().await?;
            self.passed.opens.fetch_add(1, Ordering::SeqCst);
            let subscription = self.source.open(holder).await?;
            let link = self.clone();
            Ok(Arc::new(Linked { subscription, link }) as Arc<dyn Subscription>)
        }
        .boxed()
    }
    fn tallies(&self) -> Vec<(IngestorUid, Tally)> {
        self.source.tallies()
    }
    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts> {
        self.source.facts(ingestor)
    }
    fn all_facts(&self) -> Vec<(IngestorUid, Facts)> {
        self.source.all_facts()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.source.changes()
    }
    fn spec_in_force(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Option<SpecText>> {
        self.source.spec_in_force(ingestor)
    }
    fn highest_epoch(&self) -> BoxFuture<'_, Result<Epoch, SubscriptionError>> {
        self.source.highest_epoch()
    }
}

impl Subscription for Linked {
    fn log(&self) -> LogId {
        self.subscription.log()
    }
    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<Vec<Fenced>, SubscriptionError>> {
        async move {
            self.link.pass().await?;
            self.link.passed.claims.fetch_add(1, Ordering::SeqCst);
            self.subscription.claim(claims).await
        }
        .boxed()
    }
    fn release(&self, buckets: &[Bucket]) {
        self.subscription.release(buckets);
    }
    fn epoch(&self, bucket: Bucket) -> Option<Epoch> {
        self.subscription.epoch(bucket)
    }
    fn ready(&self) -> BoxFuture<'_, Result<Vec<IngestorUid>, SubscriptionError>> {
        async move {
            self.link.pass().await?;
            tokio::select! {
                ready = self.subscription.ready() => ready,
                error = self.link.breaks() => Err(error),
            }
        }
        .boxed()
    }
    fn fetch(
        &self,
        ingestor: &IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> BoxFuture<'_, Result<Fetched, SubscriptionError>> {
        let ingestor = ingestor.clone();
        async move {
            self.link.pass().await?;
            self.subscription.fetch(&ingestor, after, limit).await
        }
        .boxed()
    }
    fn spec(
        &self,
        digest: SpecDigest,
    ) -> BoxFuture<'_, Result<Option<Arc<str>>, SubscriptionError>> {
        async move {
            self.link.pass().await?;
            self.link.passed.specs.fetch_add(1, Ordering::SeqCst);
            self.subscription.spec(digest).await
        }
        .boxed()
    }
    fn oldest(
        &self,
        ingestor: &IngestorUid,
    ) -> BoxFuture<'_, Result<Option<Millis>, SubscriptionError>> {
        let ingestor = ingestor.clone();
        async move {
            self.link.pass().await?;
            self.subscription.oldest(&ingestor).await
        }
        .boxed()
    }
    fn commit(
        &self,
        ingestor: &IngestorUid,
        ends: Vec<Ended>,
    ) -> BoxFuture<'_, Result<(), SubscriptionError>> {
        let ingestor = ingestor.clone();
        async move {
            self.link.pass().await?;
            self.link.passed.commits.fetch_add(1, Ordering::SeqCst);
            self.subscription.commit(&ingestor, ends).await
        }
        .boxed()
    }
}
