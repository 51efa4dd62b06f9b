//! The journal: what makes an accepted event durable, between the gateway and the engine.
//!
//! ```text
//!  gateway ──append──▶ [ record, record, … ] ──fetch──▶ engine
//!                        one queue per Ingestor ◀──commit(ends, dead letters)──
//! ```
//!
//! An append returns only when the record would survive a power cut. Each Ingestor has a queue of
//! its own; its uncommitted records come in order, also on redelivery. A commit records an *end*
//! for each position under the subscriber's epoch, so that every event is counted exactly once.
//!
//! This file is the port: data and the traits. `cases` is the conformance suite that every
//! engine passes; `wal` is the segment log.

#[cfg(feature = "testing")]
pub mod cases;
pub mod facts;
mod ids;
mod key;
mod letter;
pub mod remote;
pub mod source;
pub mod wal;

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use ids::{
    BUCKETS, Bucket, Epoch, Holder, IngestorUid, LetterId, LogId, Millis, PayloadDigest, Position,
    RecordId,
};
pub use key::{Key, KeyHash, Seen};
pub use letter::{DeadLetter, LetterSummary};
pub use source::{Claim, Local, Source, Subscription};

use crate::api::SpecDigest;

/// Where an event came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A request to the endpoint.
    Request,
    /// `events replay`: only this item of a dead letter is processed again.
    Replay {
        /// Which dead letter.
        letter: LetterId,
    },
}

/// An event to be made durable: everything that processing needs, so that doing it again gives the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose event it is.
    pub ingestor: IngestorUid,
    /// The decision spec under which it is accepted; [`Journal::put_spec`] has been told its text.
    pub spec: SpecDigest,
    /// The contract's key, else an id made at acceptance.
    pub event_id: Arc<str>,
    /// What a repeated delivery is recognised by; `None` where the id was made here.
    pub key: Option<Key>,
    /// SHA-256 of `body`.
    pub payload: PayloadDigest,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// A request, or a dead letter that is tried again.
    pub origin: Origin,
    /// W3C `traceparent` of the request.
    pub traceparent: Option<Box<str>>,
    /// Lower-case names and values, in order, repeated ones kept; none that carries a credential.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The raw query, without `?`.
    pub query: Box<str>,
    /// The raw body.
    pub body: Bytes,
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its identity.
    pub id: RecordId,
    /// What was accepted.
    pub event: Event,
}

/// What [`Journal::append`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The record is durable.
    Accepted(RecordId),
    /// The same key with the same payload is already durable; nothing was written.
    Replayed(Seen),
}

/// Why an append was refused. Nothing was written, unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The key is known with another payload.
    #[error("this idempotency key was used with another payload")]
    Conflict(Seen),
    /// The Ingestor's share of the journal is full.
    #[error("the Ingestor's share of the journal is full")]
    ShareFull,
    /// The journal's total size is reached.
    #[error("the journal is full")]
    Full,
    /// The disk has no room; appends work again when it has.
    #[error("the journal's disk has no room")]
    NoSpace,
    /// Writing or syncing failed: the record may or may not be on disk, and will not be served.
    #[error("the journal's disk failed: {0}")]
    Disk(String),
    /// The spec's text is not in the journal.
    #[error("the decision spec {0:?} is not in the journal")]
    UnknownSpec(SpecDigest),
    /// The record is larger than a record may be.
    #[error("the record has {size} bytes, more than {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The dead letter was replayed before.
    #[error("the dead letter was replayed before")]
    AlreadyReplayed,
    /// The journal is shutting down.
    #[error("the journal is closing")]
    Closing,
}

/// The one end of an accepted event, weakest first: an exploded event has its strongest item's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum End {
    /// A filter dropped it, or its list was empty.
    Filtered,
    /// It was the same as another.
    Deduplicated,
    /// It made an Observation.
    Observed,
    /// It could not be processed and lies in the dead letters.
    DeadLettered,
}

/// Items by end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    /// See [`End::Observed`].
    pub observed: u32,
    /// See [`End::Filtered`].
    pub filtered: u32,
    /// See [`End::Deduplicated`].
    pub deduplicated: u32,
    /// See [`End::DeadLettered`].
    pub dead_lettered: u32,
}

/// An item that retrying cannot mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The item's index in the explosion.
    pub index: u32,
    /// A stable word, such as `KeyReused`.
    pub reason: Arc<str>,
    /// What happened, on which object, and what to do.
    pub message: String,
}

/// The end of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which record.
    pub position: Position,
    /// Its end.
    pub end: End,
    /// Its items by end.
    pub items: Items,
    /// Items that went to the dead letters; the journal keeps the record's body with them.
    pub letters: Vec<Letter>,
    /// The name of the Observation, where there is exactly one; for those who wait, not kept.
    pub observation: Option<Box<str>>,
}

/// What has become of all events of one Ingestor, in one snapshot:
/// `accepted = ends + damaged + backlog`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Accepted by request.
    pub requests: u64,
    /// Accepted by replay of a dead letter.
    pub replays: u64,
    /// Events observed.
    pub observed: u64,
    /// Events filtered.
    pub filtered: u64,
    /// Events deduplicated.
    pub deduplicated: u64,
    /// Events dead-lettered.
    pub dead_lettered: u64,
    /// Records that the disk lost.
    pub damaged: u64,
    /// Items by end, over all events.
    pub items: ItemTally,
    /// Records without an end.
    pub backlog: u64,
    /// Their size in bytes.
    pub backlog_bytes: u64,
    /// When the last event was accepted.
    pub last_accepted_at: Option<Millis>,
}

/// Items by end, over all events of an Ingestor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemTally {
    /// See [`End::Observed`].
    pub observed: u64,
    /// See [`End::Filtered`].
    pub filtered: u64,
    /// See [`End::Deduplicated`].
    pub deduplicated: u64,
    /// See [`End::DeadLettered`].
    pub dead_lettered: u64,
}

/// A bucket belongs to someone else; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bucket {} is held by {} at epoch {}", bucket.0, holder.0, epoch.0)]
pub struct Fenced {
    /// Which bucket.
    pub bucket: Bucket,
    /// The stored epoch.
    pub epoch: Epoch,
    /// The stored holder.
    pub holder: Holder,
}

/// Why a call on a subscription failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// The bucket isn't this subscription's: another has claimed it since, or it never was. All
    /// other buckets go on.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The disk failed or is full; the call may be made again, and changed nothing that is served.
    #[error("the journal's disk failed: {0}")]
    Disk(String),
    /// The log can't be reached. The call may be made again: it may have been carried out or not.
    #[error("the journal can't be reached: {0}")]
    Unreachable(String),
    /// The journal is shutting down.
    #[error("the journal is closing")]
    Closing,
}

/// How much to fetch at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimit {
    /// At most this many records.
    pub records: NonZeroU32,
    /// Stop after the record that passes this many bytes of bodies; at least one record comes.
    pub bytes: usize,
}

/// What a fetch gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// In order.
    pub records: Vec<Record>,
    /// The queue had no more behind these: `ready` names it when it has.
    pub end: bool,
}

/// The text of the decision spec that is in force for an Ingestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecText {
    /// Its digest.
    pub digest: SpecDigest,
    /// Its text.
    pub text: Arc<str>,
}

/// Sizes and counts, for metrics and readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes that are live: uncommitted records, specs, keys, dead letters, tallies.
    pub live_bytes: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Records without an end.
    pub backlog: u64,
    /// Remembered keys.
    pub keys: u64,
    /// Keys that had to leave before their window was over.
    pub keys_evicted: u64,
    /// Age of the oldest remembered key: the window that really holds when keys are evicted.
    pub key_window: Option<Duration>,
    /// Dead letters kept.
    pub letters: u64,
    /// Dead letters that had to leave.
    pub letters_evicted: u64,
    /// Bytes of torn tails cut at start.
    pub torn_bytes: u64,
    /// Records lost to damage.
    pub damaged: u64,
    /// Syncs done, for the group-commit ratio.
    pub syncs: u64,
    /// Records appended since start.
    pub appended: u64,
    /// Buckets claimed since start, at an epoch that was not stored before.
    pub claims: u64,
    /// Claims refused since start: another holds the bucket.
    pub claims_refused: u64,
    /// Commits refused since start: their epoch was not the stored one any more.
    pub commits_refused: u64,
    /// Why appends fail now, if they do.
    pub unavailable: Option<String>,
}

/// How much of an Ingestor's share is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Bytes of uncommitted records.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// A durable log of accepted events. One engine is the segment log in `wal`.
///
/// Every method may be called from any task; the futures are cancel-safe, and a cancelled append
/// may still become durable.
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// This log's id.
    fn log(&self) -> LogId;

    /// Makes `text` durable and puts it in force for `ingestor`; kept while the Ingestor lives or a record names it.
    fn put_spec(
        &self,
        ingestor: &IngestorUid,
        text: Arc<str>,
    ) -> BoxFuture<'_, Result<SpecDigest, AppendError>>;

    /// The spec that is in force for `ingestor`, so that a restart goes on with it.
    fn spec_in_force(&self, ingestor: &IngestorUid) -> Option<SpecText>;

    /// The Ingestor is gone: its spec in force and its keys may leave. Its backlog, tally and dead letters stay
    /// until the backlog is finished and the letters have aged.
    fn forget(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Makes `event` durable. Two appends with one key at the same moment: one is written, the
    /// other waits for it and is a replay.
    fn append(&self, event: Event) -> BoxFuture<'_, Result<Appended, AppendError>>;

    /// Waits for the end of a record: `Some` when it comes or is still known, `None` when it ended so
    /// long ago that it isn't. `observation` is present only when the end came while somebody waited.
    fn ended(&self, record: RecordId) -> BoxFuture<'_, Option<Ended>>;

    /// The tally of one Ingestor; zero for one that was never seen.
    fn tally(&self, ingestor: &IngestorUid) -> Tally;

    /// All tallies, in one snapshot.
    fn tallies(&self) -> Vec<(IngestorUid, Tally)>;

    /// How full the Ingestor's share is.
    fn share(&self, ingestor: &IngestorUid) -> Share;

    /// Opens a subscription of `holder`, which has no buckets yet; nothing is written.
    fn subscribe(&self, holder: Holder) -> Result<Arc<dyn Subscription>, SubscriptionError>;

    /// The highest epoch under which any bucket was ever claimed; 0: none was.
    fn highest_epoch(&self) -> Epoch;

    /// Dead letters, oldest first, without their events; `after` pages on. Bodies are read one at a
    /// time, so a long page takes its time and no memory.
    fn letters(&self, after: Option<LetterId>, limit: usize) -> BoxFuture<'_, Vec<LetterSummary>>;

    /// One dead letter, its event whole.
    fn letter(&self, id: LetterId) -> BoxFuture<'_, Option<DeadLetter>>;

    /// Appends `event`, whose origin is [`Origin::Replay`], and marks the letter replayed, in one.
    /// Without `force` a letter that was replayed before is [`AppendError::AlreadyReplayed`].
    fn replay(&self, event: Event, force: bool) -> BoxFuture<'_, Result<RecordId, AppendError>>;

    /// Sizes and counts.
    fn stats(&self) -> Stats;

    /// Syncs what was accepted and closes; appends from now on are [`AppendError::Closing`].
    fn close(&self) -> BoxFuture<'_, ()>;
}
