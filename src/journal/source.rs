//! A log as a core sees it: in its own process, or a gateway's over the network.
//!
//! ```text
//!  Source ──open(holder)──▶ Subscription ──claim(bucket, epoch)──▶ ready, fetch, commit
//!                                        ◀──Fenced(bucket)──────── another claimed it
//! ```
//!
//! A core has one subscription per log. Its buckets come and go, each under an epoch of its own; what
//! another takes ends that bucket alone.

use std::{fmt, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

use super::{
    Bucket, Ended, Epoch, Fenced, FetchLimit, Fetched, Holder, IngestorUid, Journal, LogId, Millis,
    Position, SpecText, SubscriptionError, Tally,
    facts::{FactSource, Facts},
};
use crate::api::SpecDigest;

/// One bucket that is to be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which.
    pub bucket: Bucket,
    /// Under which epoch; `None`: the journal hands out the next one, the same for all of a call.
    pub epoch: Option<Epoch>,
}

/// What a core needs of a log.
pub trait Source: Send + Sync + fmt::Debug + 'static {
    /// The log's id.
    fn log(&self) -> LogId;

    /// Opens a subscription of `holder`, which has no buckets yet.
    fn open(
        &self,
        holder: Holder,
    ) -> BoxFuture<'_, Result<Arc<dyn Subscription>, SubscriptionError>>;

    /// Tallies of every Ingestor of this log; remote: the newest snapshot that was received.
    fn tallies(&self) -> Vec<(IngestorUid, Tally)>;

    /// Facts of this log's gateway; remote: as received.
    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts>;

    /// All facts of this log's gateway, in no order.
    fn all_facts(&self) -> Vec<(IngestorUid, Facts)>;

    /// Rises with every change of a fact.
    fn changes(&self) -> watch::Receiver<u64>;

    /// The spec that is in force for an Ingestor at this log's gateway; `None` also where that can't
    /// be asked now.
    fn spec_in_force(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Option<SpecText>>;

    /// The highest epoch persisted for any bucket: what heals a lost `ShardMap`.
    fn highest_epoch(&self) -> BoxFuture<'_, Result<Epoch, SubscriptionError>>;

    /// Whether the log is this process's own: when it closes, so does the process. A gateway's may
    /// come back.
    fn is_local(&self) -> bool {
        false
    }
}

/// What a subscriber has: the queues of the Ingestors in its buckets. Dropped, it is over; what was
/// persisted stays, so that nobody below gets a bucket.
///
/// The futures are cancel-safe; a cancelled claim or commit may still be carried out.
pub trait Subscription: Send + Sync + fmt::Debug + 'static {
    /// The log's id.
    fn log(&self) -> LogId;

    /// Claims buckets: persists (epoch, holder) of each before anything of it is served; from then on
    /// what is below, or equal under another holder, is refused. A bucket that is claimed already
    /// rises to its new epoch without a pause: a commit in flight is sent again under the new one.
    ///
    /// Returns those refused, for which nothing was changed; all others are claimed.
    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<Vec<Fenced>, SubscriptionError>>;

    /// Lets go of buckets: nothing of them is served to this subscription any more, and nothing is
    /// committed that is not in flight. What is stored stays.
    fn release(&self, buckets: &[Bucket]);

    /// The epoch under which this subscription holds the bucket.
    fn epoch(&self, bucket: Bucket) -> Option<Epoch>;

    /// Waits until some queue has records that were appended after the last call named it, and names
    /// those queues; after a claim every queue of the bucket that is not empty is named.
    ///
    /// A bucket that another has claimed is told once, as [`SubscriptionError::Fenced`], and has left
    /// this subscription by then; the others go on, and this is called again.
    fn ready(&self) -> BoxFuture<'_, Result<Vec<IngestorUid>, SubscriptionError>>;

    /// Uncommitted records of one queue, in order, from behind `after` (from the oldest when `None`).
    fn fetch(
        &self,
        ingestor: &IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> BoxFuture<'_, Result<Fetched, SubscriptionError>>;

    /// The text of a spec that an uncommitted record names.
    fn spec(
        &self,
        digest: SpecDigest,
    ) -> BoxFuture<'_, Result<Option<Arc<str>>, SubscriptionError>>;

    /// Time of acceptance of the oldest uncommitted record of a queue, for retention.
    fn oldest(
        &self,
        ingestor: &IngestorUid,
    ) -> BoxFuture<'_, Result<Option<Millis>, SubscriptionError>>;

    /// Records ends, each for its own position, durably, together with their dead letters and the
    /// tally. A position that has an end already is left as it is: doing it again changes nothing.
    fn commit(
        &self,
        ingestor: &IngestorUid,
        ends: Vec<Ended>,
    ) -> BoxFuture<'_, Result<(), SubscriptionError>>;
}

/// A log in this process.
#[derive(Clone, Debug)]
pub struct Local {
    journal: Arc<dyn Journal>,
    facts: Arc<dyn FactSource>,
}

impl Local {
    /// The log of `journal`, whose gateway knows `facts`.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, facts: Arc<dyn FactSource>) -> Self {
        Self { journal, facts }
    }
}

impl Source for Local {
    fn log(&self) -> LogId {
        self.journal.log()
    }

    fn open(
        &self,
        holder: Holder,
    ) -> BoxFuture<'_, Result<Arc<dyn Subscription>, SubscriptionError>> {
        let opened = self.journal.subscribe(holder);
        async move { opened }.boxed()
    }

    fn tallies(&self) -> Vec<(IngestorUid, Tally)> {
        self.journal.tallies()
    }

    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts> {
        self.facts.facts(ingestor)
    }

    fn all_facts(&self) -> Vec<(IngestorUid, Facts)> {
        self.facts.all()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.facts.changes()
    }

    fn spec_in_force(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Option<SpecText>> {
        let spec = self.journal.spec_in_force(ingestor);
        async move { spec }.boxed()
    }

    fn highest_epoch(&self) -> BoxFuture<'_, Result<Epoch, SubscriptionError>> {
        let epoch = self.journal.highest_epoch();
        async move { Ok(epoch) }.boxed()
    }

    fn is_local(&self) -> bool {
        true
    }
}
