//! What every journal does, as cases: each engine passes all of them, on each storage it runs on.
//!
//! A case opens a journal on the storage that it is given, cuts the power where it says so, opens it
//! again, and panics where the journal is not what this room's first file says.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a suite of tests; it is only compiled for them"
)]

mod claims;
mod ends;
mod keys;
mod letters;
mod limits;
mod order;

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, watch};

use super::{
    Appended, End, Ended, Event, FetchLimit, Holder, IngestorUid, Items, Journal, Key, KeyHash,
    Local, Millis, Origin, PayloadDigest, Position, Record, RecordId, Source, Subscription, Tally,
    facts::{FactSource, Facts},
};
use crate::{
    api::SpecDigest,
    testing::{clock::ManualClock, subscriber},
};

/// Bounds that a case needs to be small.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub total_bytes: u64,
    /// Uncommitted, of one Ingestor.
    pub share_bytes: u64,
    /// Of one record.
    pub record_bytes: usize,
    /// Remembered keys.
    pub keys: usize,
    /// Of one Ingestor.
    pub keys_per_ingestor: usize,
    /// Dead letters.
    pub letter_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total_bytes: 64 << 20,
            share_bytes: 16 << 20,
            record_bytes: 1 << 20,
            keys: 1000,
            keys_per_ingestor: 250,
            letter_bytes: 1 << 20,
        }
    }
}

/// Where a journal lies, and how to open it there.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens it, a fresh one or what was left there; the one before was dropped.
    fn open(&self, limits: Limits) -> Arc<dyn Journal>;
    /// From now on nothing reaches the storage; what was not durable is lost when it is opened again.
    fn cut_power(&self);
    /// The clock of the journals that it opens.
    fn clock(&self) -> &ManualClock;

    /// The open journal as a core sees it.
    fn source(&self, journal: Arc<dyn Journal>) -> BoxFuture<'_, Arc<dyn Source>> {
        let source = Local::new(journal, Arc::new(Nothing::default()));
        Box::pin(async move { Arc::new(source) as Arc<dyn Source> })
    }

    /// Whether a network lies between the journal and its cores: then a log that closes can't be
    /// reached, and comes back.
    fn is_remote(&self) -> bool {
        false
    }
}

/// A gateway that knows no Ingestor.
#[derive(Debug, Default)]
pub struct Nothing {
    changes: watch::Sender<u64>,
}

impl FactSource for Nothing {
    fn facts(&self, _: &IngestorUid) -> Option<Facts> {
        None
    }

    fn all(&self) -> Vec<(IngestorUid, Facts)> {
        Vec::new()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A case.
pub type Case = for<'a> fn(&'a dyn Storage) -> BoxFuture<'a, ()>;

/// All cases, by name.
pub const CASES: &[(&str, Case)] = &[
    ("an append survives a power cut", |s| {
        Box::pin(order::an_append_survives_a_power_cut(s))
    }),
    ("records come in order, also again", |s| {
        Box::pin(order::records_come_in_order_also_again(s))
    }),
    ("a stalled queue delays no other", |s| {
        Box::pin(order::a_stalled_queue_delays_no_other(s))
    }),
    ("a fetch is bounded", |s| {
        Box::pin(order::a_fetch_is_bounded(s))
    }),
    ("ready names each queue with news once", |s| {
        Box::pin(order::ready_names_each_queue_with_news_once(s))
    }),
    ("specs are kept as long as a record needs them", |s| {
        Box::pin(order::specs_are_kept_as_long_as_a_record_needs_them(s))
    }),
    ("a second subscriber fences the first", |s| {
        Box::pin(ends::a_second_subscriber_fences_the_first(s))
    }),
    ("epochs never fall", |s| {
        Box::pin(ends::epochs_never_fall(s))
    }),
    ("a claim may be refused in part", |s| {
        Box::pin(claims::a_claim_may_be_refused_in_part(s))
    }),
    ("a bucket is released and claimed again", |s| {
        Box::pin(claims::a_bucket_is_released_and_claimed_again(s))
    }),
    ("an epoch rises while commits are in flight", |s| {
        Box::pin(claims::an_epoch_rises_while_commits_are_in_flight(s))
    }),
    ("one bucket is fenced and the others flow", |s| {
        Box::pin(claims::one_bucket_is_fenced_and_the_others_flow(s))
    }),
    ("claims survive a restart", |s| {
        Box::pin(claims::claims_survive_a_restart(s))
    }),
    ("another claims after a crash", |s| {
        Box::pin(claims::another_claims_after_a_crash(s))
    }),
    ("an end is counted once", |s| {
        Box::pin(ends::an_end_is_counted_once(s))
    }),
    ("who waits hears of the end", |s| {
        Box::pin(ends::who_waits_hears_of_the_end(s))
    }),
    ("a deleted Ingestor's backlog is finished", |s| {
        Box::pin(ends::a_deleted_ingestors_backlog_is_finished(s))
    }),
    ("a repeated delivery is a replay", |s| {
        Box::pin(keys::a_repeated_delivery_is_a_replay(s))
    }),
    ("of two at the same moment one is written", |s| {
        Box::pin(keys::of_two_at_the_same_moment_one_is_written(s))
    }),
    ("a key is forgotten after its window", |s| {
        Box::pin(keys::a_key_is_forgotten_after_its_window(s))
    }),
    ("the oldest keys of the largest holder leave", |s| {
        Box::pin(keys::the_oldest_keys_of_the_largest_holder_leave(s))
    }),
    ("a dead letter holds the event whole", |s| {
        Box::pin(letters::a_dead_letter_holds_the_event_whole(s))
    }),
    ("a dead letter is replayed once", |s| {
        Box::pin(letters::a_dead_letter_is_replayed_once(s))
    }),
    ("the oldest dead letters leave", |s| {
        Box::pin(letters::the_oldest_dead_letters_leave(s))
    }),
    ("a full share closes one Ingestor", |s| {
        Box::pin(limits::a_full_share_closes_one_ingestor(s))
    }),
    ("a full journal refuses and recovers", |s| {
        Box::pin(limits::a_full_journal_refuses_and_recovers(s))
    }),
    ("a record too large is refused", |s| {
        Box::pin(limits::a_record_too_large_is_refused(s))
    }),
    ("a closed journal refuses", |s| {
        Box::pin(limits::a_closed_journal_refuses(s))
    }),
];

/// One day.
const DAY: Duration = Duration::from_hours(24);

/// A journal under test, with what the cases do all the time.
#[derive(Debug)]
struct Bench<'a> {
    storage: &'a dyn Storage,
    limits: Limits,
    journal: Option<Arc<dyn Journal>>,
    source: OnceCell<Arc<dyn Source>>,
}

impl<'a> Bench<'a> {
    fn new(storage: &'a dyn Storage) -> Self {
        Self::with(storage, Limits::default())
    }

    fn with(storage: &'a dyn Storage, limits: Limits) -> Self {
        Self {
            storage,
            limits,
            source: OnceCell::new(),
            journal: Some(storage.open(limits)),
        }
    }

    fn journal(&self) -> &dyn Journal {
        self.journal.as_deref().unwrap()
    }

    /// The power is cut; the journal is opened again.
    fn crash(&mut self) {
        self.storage.cut_power();
        self.source = OnceCell::new();
        self.journal = None;
        self.journal = Some(self.storage.open(self.limits));
    }

    async fn source(&self) -> &dyn Source {
        let journal = || Arc::clone(self.journal.as_ref().unwrap());
        let made = || self.storage.source(journal());
        self.source.get_or_init(made).await.as_ref()
    }

    async fn spec(&self, ingestor: &IngestorUid) -> SpecDigest {
        self.journal()
            .put_spec(ingestor, spec_text(ingestor).into())
            .await
            .unwrap()
    }

    fn event(&self, ingestor: &IngestorUid, body: &str) -> Event {
        event(ingestor, body, self.storage.clock())
    }

    /// Appends an event without a key.
    async fn append(&self, ingestor: &IngestorUid, body: &str) -> RecordId {
        accepted(
            self.journal()
                .append(self.event(ingestor, body))
                .await
                .unwrap(),
        )
    }

    /// A subscription without buckets.
    async fn open(&self, holder: &str) -> Arc<dyn Subscription> {
        let source = self.source().await;
        source.open(Holder(holder.into())).await.unwrap()
    }

    /// A subscription with all buckets.
    async fn subscribe(&self) -> Arc<dyn Subscription> {
        let subscription = self.open("core-0#1").await;
        let claims = subscriber::everything();
        assert_eq!(subscription.claim(claims).await, Ok(Vec::new()));
        subscription
    }

    fn tally(&self, ingestor: &IngestorUid) -> Tally {
        let tally = self.journal().tally(ingestor);
        let ends = tally.observed + tally.filtered + tally.deduplicated + tally.dead_lettered;
        assert_eq!(
            tally.requests + tally.replays,
            ends + tally.damaged + tally.backlog,
            "{tally:?}"
        );
        tally
    }
}

fn uid(name: &str) -> IngestorUid {
    IngestorUid(name.into())
}

fn spec_text(ingestor: &IngestorUid) -> String {
    format!("{{\"ingestor\":\"{ingestor}\"}}")
}

fn event(ingestor: &IngestorUid, body: &str, clock: &ManualClock) -> Event {
    use crate::ops::time::Clock as _;
    Event {
        ingestor: ingestor.clone(),
        spec: SpecDigest::of(&spec_text(ingestor)),
        event_id: format!("id-{body:.40}").into(),
        key: None,
        payload: PayloadDigest(Sha256::digest(body).into()),
        accepted_at: clock.now(),
        origin: Origin::Request,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        headers: vec![
            ("x-event".into(), "push".into()),
            ("x-event".into(), "again".into()),
        ],
        query: "a=b&c=".into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn keyed(event: Event, key: &str, window: Duration) -> Event {
    let hash = Sha256::digest(key);
    let hash = KeyHash(hash.first_chunk().copied().unwrap());
    Event {
        event_id: key.into(),
        key: Some(Key {
            hash,
            window,
            named: false,
        }),
        ..event
    }
}

fn accepted(appended: Appended) -> RecordId {
    let Appended::Accepted(id) = appended else {
        unreachable!("{appended:?}")
    };
    id
}

fn ended(record: RecordId, end: End) -> Ended {
    let mut items = Items::default();
    match end {
        End::Filtered => items.filtered = 1,
        End::Deduplicated => items.deduplicated = 1,
        End::Observed => items.observed = 1,
        End::DeadLettered => items.dead_lettered = 1,
    }
    Ended {
        position: record.position,
        end,
        items,
        letters: Vec::new(),
        observation: None,
    }
}

fn limit(records: u32) -> FetchLimit {
    FetchLimit {
        records: NonZeroU32::new(records).unwrap(),
        bytes: 1 << 20,
    }
}

async fn all(subscription: &dyn Subscription, ingestor: &IngestorUid) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let after: Option<Position> = records.last().map(|record| record.id.position);
        let more = subscription
            .fetch(ingestor, after, limit(7))
            .await
            .unwrap()
            .records;
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

fn bodies(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8(record.event.body.to_vec()).unwrap())
        .collect()
}

fn later(clock: &ManualClock, by: Duration) -> Millis {
    use crate::ops::time::Clock as _;
    clock.advance(by);
    clock.now()
}
