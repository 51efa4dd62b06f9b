//! A journal that tells which records are fetched.

use std::{fmt, sync::Arc};

use futures::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use zen_fabric::{
    api::SpecDigest,
    journal::{
        AppendError, Appended, Bucket, Claim, DeadLetter, Ended, Epoch, Event, Fenced, FetchLimit,
        Fetched, Holder, IngestorUid, Journal, LetterId, LetterSummary, LogId, Millis, Position,
        RecordId, Share, SpecText, Stats, Subscription, SubscriptionError, Tally,
    },
};

/// Hears of each fetch: of which queue, from behind which position.
type OnFetch = Arc<dyn Fn(&IngestorUid, Option<Position>) + Send + Sync>;

/// What each fetch waits for before the engine hears what it gave.
type Behind = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

struct Tapped {
    journal: Arc<dyn Journal>,
    on_fetch: OnFetch,
    behind: Behind,
}

struct TappedSubscription {
    subscription: Arc<dyn Subscription>,
    on_fetch: OnFetch,
    behind: Behind,
}

/// `journal`, whose subscriptions tell `on_fetch` of each fetch before they make it.
pub(super) fn tapped(
    journal: Arc<dyn Journal>,
    on_fetch: impl Fn(&IngestorUid, Option<Position>) + Send + Sync + 'static,
) -> Arc<dyn Journal> {
    Arc::new(Tapped {
        journal,
        on_fetch: Arc::new(on_fetch),
        behind: Arc::new(|| ready(()).boxed()),
    })
}

/// `journal`, whose subscriptions keep what a fetch gave until `behind` is over.
pub(super) fn delayed(
    journal: Arc<dyn Journal>,
    behind: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
) -> Arc<dyn Journal> {
    Arc::new(Tapped {
        journal,
        on_fetch: Arc::new(|_, _| {}),
        behind: Arc::new(behind),
    })
}

impl fmt::Debug for Tapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tapped").finish_non_exhaustive()
    }
}

impl fmt::Debug for TappedSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TappedSubscription").finish_non_exhaustive()
    }
}

impl Journal for Tapped {
    fn log(&self) -> LogId {
        self.journal.log()
    }
    fn put_spec(
        &self,
        ingestor: &IngestorUid,
        text: Arc<str>,
    ) -> BoxFuture<'_, Result<SpecDigest, AppendError>> {
        self.journal.put_spec(ingestor, text)
    }
    fn spec_in_force(&self, ingestor: &IngestorUid) -> Option<SpecText> {
        self.journal.spec_in_force(ingestor)
    }
    fn forget(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Result<(), AppendError>> {
        self.journal.forget(ingestor)
    }
    fn append(&self, event: Event) -> BoxFuture<'_, Result<Appended, AppendError>> {
        self.journal.append(event)
    }
    fn ended(&self, record: RecordId) -> BoxFuture<'_, Option<Ended>> {
        self.journal.ended(record)
    }
    fn tally(&self, ingestor: &IngestorUid) -> Tally {
        self.journal.tally(ingestor)
    }
    fn tallies(&self) -> Vec<(IngestorUid, Tally)> {
        self.journal.tallies()
    }
    fn share(&self, ingestor: &IngestorUid) -> Share {
        self.journal.share(ingestor)
    }
    fn subscribe(&self, holder: Holder) -> Result<Arc<dyn Subscription>, SubscriptionError> {
        let subscription = self.journal.subscribe(holder)?;
        let tapped = TappedSubscription {
            subscription,
            on_fetch: Arc::clone(&self.on_fetch),
            behind: Arc::clone(&self.behind),
        };
        Ok(Arc::new(tapped))
    }
    fn highest_epoch(&self) -> Epoch {
        self.journal.highest_epoch()
    }
    fn letters(&self, after: Option<LetterId>, limit: usize) -> BoxFuture<'_, Vec<LetterSummary>> {
        self.journal.letters(after, limit)
    }
    fn letter(&self, id: LetterId) -> BoxFuture<'_, Option<DeadLetter>> {
        self.journal.letter(id)
    }
    fn replay(&self, event: Event, force: bool) -> BoxFuture<'_, Result<RecordId, AppendError>> {
        self.journal.replay(event, force)
    }
    fn stats(&self) -> Stats {
        self.journal.stats()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.journal.close()
    }
}

impl Subscription for TappedSubscription {
    fn log(&self) -> LogId {
        self.subscription.log()
    }
    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<Vec<Fenced>, SubscriptionError>> {
        self.subscription.claim(claims)
    }
    fn release(&self, buckets: &[Bucket]) {
        self.subscription.release(buckets);
    }
    fn epoch(&self, bucket: Bucket) -> Option<Epoch> {
        self.subscription.epoch(bucket)
    }
    fn ready(&self) -> BoxFuture<'_, Result<Vec<IngestorUid>, SubscriptionError>> {
        self.subscription.ready()
    }
    fn fetch(
        &self,
        ingestor: &IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> BoxFuture<'_, Result<Fetched, SubscriptionError>> {
        (self.on_fetch)(ingestor, after);
        let (fetching, behind) = (
            self.subscription.fetch(ingestor, after, limit),
            &self.behind,
        );
        async move {
            let fetched = fetching.await;
            behind().await;
            fetched
        }
        .boxed()
    }
    fn spec(
        &self,
        digest: SpecDigest,
    ) -> BoxFuture<'_, Result<Option<Arc<str>>, SubscriptionError>> {
        self.subscription.spec(digest)
    }
    fn oldest(
        &self,
        ingestor: &IngestorUid,
    ) -> BoxFuture<'_, Result<Option<Millis>, SubscriptionError>> {
        self.subscription.oldest(ingestor)
    }
    fn commit(
        &self,
        ingestor: &IngestorUid,
        ends: Vec<Ended>,
    ) -> BoxFuture<'_, Result<(), SubscriptionError>> {
        self.subscription.commit(ingestor, ends)
    }
}
