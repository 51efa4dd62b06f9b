//! A panic in the work on one Ingestor stays its own, is told, and heals.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use zen_fabric::{
    api::{Ingestor, SpecDigest},
    journal::{
        AppendError, Appended, DeadLetter, Ended, Epoch, Event, FetchLimit, IngestorUid, Journal,
        LetterId, LetterSummary, LogId, Millis, Position, Record, RecordId, Share, SpecText, Stats,
        Subscribe, Subscription, SubscriptionError, Tally,
    },
};

use super::rig::{Rig, uid};

/// A journal whose subscriptions panic when one Ingestor's records are fetched, so many times.
#[derive(Debug)]
struct Mined {
    journal: Arc<dyn Journal>,
    mine: Arc<Mine>,
}

#[derive(Debug)]
struct Mine {
    under: IngestorUid,
    left: AtomicU32,
}

#[derive(Debug)]
struct MinedSubscription {
    subscription: Arc<dyn Subscription>,
    mine: Arc<Mine>,
}

impl Journal for Mined {
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
    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BoxFuture<'_, Result<Arc<dyn Subscription>, SubscriptionError>> {
        async move {
            let subscription = self.journal.subscribe(subscribe).await?;
            let mine = Arc::clone(&self.mine);
            let mined = MinedSubscription { subscription, mine };
            Ok(Arc::new(mined) as Arc<dyn Subscription>)
        }
        .boxed()
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

impl Subscription for MinedSubscription {
    fn epoch(&self) -> Epoch {
        self.subscription.epoch()
    }
    fn ready(&self) -> BoxFuture<'_, Result<Vec<IngestorUid>, SubscriptionError>> {
        self.subscription.ready()
    }
    fn fetch(
        &self,
        ingestor: &IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> BoxFuture<'_, Result<Vec<Record>, SubscriptionError>> {
        if *ingestor == self.mine.under {
            let one_less = |left: u32| left.checked_sub(1);
            let left = self
                .mine
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
            assert!(left.is_err(), "planted");
        }
        self.subscription.fetch(ingestor, after, limit)
    }
    fn spec(&self, digest: SpecDigest) -> Option<Arc<str>> {
        self.subscription.spec(digest)
    }
    fn oldest(&self, ingestor: &IngestorUid) -> Option<Millis> {
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

fn mined(rig: &Rig, under: &IngestorUid, times: u32) -> (Arc<dyn Journal>, Arc<Mine>) {
    let mine = Arc::new(Mine {
        under: under.clone(),
        left: AtomicU32::new(times),
    });
    let journal = Mined {
        journal: Arc::clone(&rig.journal) as _,
        mine: Arc::clone(&mine),
    };
    (Arc::new(journal), mine)
}

/// What the status says of the Ingestor's writes.
async fn degraded(rig: &Rig, ingestor: &Ingestor) -> Option<(String, String)> {
    let api: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
    let now = api.get(&ingestor.name_any()).await.unwrap();
    let conditions = now.status?.conditions;
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == "Degraded")?;
    Some((found.status.clone(), found.message.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_panic_delays_its_ingestor_alone_is_told_and_heals() {
    let mut rig = Rig::new().await;
    let bad = rig.ingestor("bad", json!({})).await;
    let good = rig.ingestor("good", json!({})).await;
    for ingestor in [&bad, &good] {
        let spec = rig.accept_under(ingestor, &uid(ingestor)).await;
        let event = json!({ "kind": "push" });
        rig.append(&uid(ingestor), spec, "e1", &event).await;
    }
    let (journal, mine) = mined(&rig, &uid(&bad), 8);
    let engine = rig.engine_on(journal).await;
    assert_eq!(rig.finished(&uid(&good)).await.observed, 1);
    rig.until("the status tells it", async || {
        let told = degraded(&rig, &bad).await;
        told.is_some_and(|(status, message)| status == "True" && message.contains("engine failed"))
    })
    .await;
    assert!(mine.left.load(Ordering::SeqCst) > 0, "told while it lasts");
    // No further event comes, and still the work goes on.
    assert_eq!(rig.finished(&uid(&bad)).await.observed, 1);
    rig.until("the status is well again", async || {
        degraded(&rig, &bad)
            .await
            .is_some_and(|(status, _)| status == "False")
    })
    .await;
    assert!(engine.drain(Duration::from_secs(5)).await);
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_work_that_panics() {
    let mut rig = Rig::new().await;
    let bad = rig.ingestor("bad", json!({})).await;
    let spec = rig.accept_under(&bad, &uid(&bad)).await;
    rig.append(&uid(&bad), spec, "e1", &json!({ "kind": "push" }))
        .await;
    let (journal, mine) = mined(&rig, &uid(&bad), u32::MAX);
    let engine = rig.engine_on(journal).await;
    rig.until("it has panicked", async || {
        mine.left.load(Ordering::SeqCst) < u32::MAX
    })
    .await;
    assert!(engine.drain(Duration::from_secs(5)).await);
    assert_eq!(
        rig.journal.tally(&uid(&bad)).backlog,
        1,
        "the journal has it"
    );
    rig.close().await;
}
