//! Peers that break the rules: each is refused, counted, and changes nothing for others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use tokio::sync::{oneshot, watch};
use tonic::{Code, Status, Streaming};
use zen_fabric::{
    api::SpecDigest,
    journal::{
        Bucket, Claim, Ended, Epoch, Fenced, FetchLimit, Fetched, Holder, IngestorUid, LogId,
        Millis, Position, Source, SpecText, Subscription, SubscriptionError, Tally,
        facts::Facts,
        remote::{
            MESSAGE,
            pb::{self, ask::What as Asked, tell::What as Told},
        },
    },
};

use super::world::{
    Core, Fleet, Gateway, append, claim, journal, limit, local, observed, soon, uid, until,
};

fn open(holder: &str) -> Asked {
    Asked::Open(pb::Open {
        holder: holder.to_owned(),
    })
}

fn take(n: usize, epoch: u64) -> Asked {
    Asked::Claim(pb::ClaimBuckets {
        call: 0,
        claims: vec![pb::Claim {
            bucket: u32::from(Bucket::of(&uid(n)).0),
            epoch: Some(epoch),
        }],
    })
}

fn fetch(call: u64, n: usize) -> Asked {
    Asked::Fetch(pb::Fetch {
        call,
        ingestor: uid(n).0.to_string(),
        after: None,
        records: 1_000,
        bytes: 4 << 20,
    })
}

/// Asks all this on one stream, which stays open until the sender is dropped.
async fn ask(
    core: &Core,
    gateway: &Gateway,
    asks: Vec<Option<Asked>>,
) -> Result<(oneshot::Sender<()>, Streaming<pb::Tell>), Status> {
    let asks = stream::iter(asks.into_iter().map(|what| pb::Ask { what }));
    let (open, ended) = oneshot::channel::<()>();
    let rest = stream::once(ended).filter_map(|_| std::future::ready(None));
    let answer = core
        .bare(gateway.address())
        .follow(asks.chain(rest))
        .await?;
    Ok((open, answer.into_inner()))
}

/// How the stream ends.
async fn end(core: &Core, gateway: &Gateway, asks: Vec<Option<Asked>>) -> Status {
    let ending = async {
        let (_open, mut tells) = ask(core, gateway, asks).await?;
        while tells.message().await?.is_some() {}
        Ok(())
    };
    let ended: Result<(), Status> = soon("the stream ends", ending).await;
    ended.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_ends_its_stream_and_changes_nothing() {
    let fleet = Fleet::new();
    let journal = journal(41);
    append(&journal, 0, b"one".to_vec()).await;
    let gateway = fleet.gateway(local(&journal)).await;
    let core = fleet.core(None).await;
    let good = core.connect(gateway.address()).await;
    let standing = good.open(Holder("core-9#1".into())).await.unwrap();
    assert_eq!(standing.claim(vec![claim(0, 5)]).await, Ok(Vec::new()));
    let opened = |asks: Vec<Asked>| {
        let all = [open("core-0#1")].into_iter().chain(asks);
        all.map(Some).collect::<Vec<_>>()
    };
    let claims = |claims: Vec<pb::Claim>| Asked::Claim(pb::ClaimBuckets { call: 1, claims });
    let one = |bucket, epoch| claims(vec![pb::Claim { bucket, epoch }]);
    let mut strange_end = pb::Commit {
        call: 1,
        ingestor: uid(0).0.to_string(),
        ends: vec![pb::Ended::default()],
    };
    strange_end.ends[0].end = 77;
    let malformed: Vec<Vec<Option<Asked>>> = vec![
        vec![None],
        vec![Some(take(0, 9))],
        vec![Some(open("core-0"))],
        vec![Some(open(""))],
        vec![Some(open(&format!("{}#1", "x".repeat(300))))],
        opened(vec![open("core-0#1")]),
        opened(vec![one(1024, Some(9))]),
        opened(vec![one(0, Some(1 << 52))]),
        opened(vec![claims(vec![pb::Claim::default(); 1025])]),
        opened(vec![Asked::Release(pb::ReleaseBuckets {
            buckets: vec![u32::MAX],
        })]),
        opened(vec![Asked::Fetch(pb::Fetch::default())]),
        opened(vec![Asked::Commit(strange_end)]),
        opened(vec![Asked::GetSpec(pb::GetSpec {
            call: 1,
            digest: b"short".as_slice().into(),
        })]),
        opened(vec![Asked::GetOldest(pb::GetOldest::default())]),
    ];
    let count = u64::try_from(malformed.len()).unwrap();
    for asks in malformed {
        let shown = format!("{asks:?}");
        let status = end(&core, &gateway, asks).await;
        assert_eq!(
            status.code(),
            Code::InvalidArgument,
            "{shown:.200}: {status}"
        );
    }
    assert_eq!(gateway.metric("journal_refused_total", "malformed"), count);
    let mut bare = core.bare(gateway.address());
    let ingestor = "x".repeat(1_000);
    let refused = bare.in_force(pb::InForceRequest { ingestor }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    // Too large: refused before it is read.
    let letter = pb::Letter {
        message: "x".repeat(MESSAGE),
        ..Default::default()
    };
    let large = Asked::Commit(pb::Commit {
        call: 1,
        ingestor: uid(0).0.to_string(),
        ends: vec![pb::Ended {
            letters: vec![letter],
            ..Default::default()
        }],
    });
    let status = end(&core, &gateway, opened(vec![large])).await;
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    // Nothing of it did anything, and who behaves goes on.
    assert_eq!(journal.highest_epoch(), Epoch(5));
    assert_eq!(soon("ready", standing.ready()).await, Ok(vec![uid(0)]));
    let records = standing
        .fetch(&uid(0), None, limit(5))
        .await
        .unwrap()
        .records;
    standing
        .commit(&uid(0), vec![observed(records[0].id)])
        .await
        .unwrap();
    assert_eq!(journal.tally(&uid(0)).observed, 1);
    until("only one subscription is left", || async {
        gateway.metric("journal_subscriptions", "") == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_record_passes_in_pieces() {
    let fleet = Fleet::new();
    let journal = journal(42);
    let body: Vec<u8> = (0..25_u32 << 20)
        .map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    append(&journal, 0, body.clone()).await;
    append(&journal, 0, b"after it".to_vec()).await;
    let gateway = fleet.gateway(local(&journal)).await;
    let source = fleet.core(None).await.connect(gateway.address()).await;
    let core = source.open(Holder("core-0#1".into())).await.unwrap();
    assert_eq!(core.claim(vec![claim(0, 1)]).await, Ok(Vec::new()));
    let records = core.fetch(&uid(0), None, limit(10)).await.unwrap().records;
    assert_eq!(records.len(), 1, "it passes the bytes that were asked for");
    assert!(records[0].event.body == body);
    let rest = core
        .fetch(&uid(0), Some(records[0].id.position), limit(10))
        .await
        .unwrap()
        .records;
    assert_eq!(rest[0].event.body, "after it");
}

/// Counts the bytes that are read for those who are deaf.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Source>,
    bytes: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct CountedSubscription {
    inner: Arc<dyn Subscription>,
    bytes: Arc<AtomicUsize>,
}

impl Source for Counted {
    fn log(&self) -> LogId {
        self.inner.log()
    }
    fn open(
        &self,
        holder: Holder,
    ) -> BoxFuture<'_, Result<Arc<dyn Subscription>, SubscriptionError>> {
        async move {
            let counts = holder.0.starts_with("deaf");
            let inner = self.inner.open(holder).await?;
            if !counts {
                return Ok(inner);
            }
            let bytes = Arc::clone(&self.bytes);
            Ok(Arc::new(CountedSubscription { inner, bytes }) as Arc<dyn Subscription>)
        }
        .boxed()
    }
    fn tallies(&self) -> Vec<(IngestorUid, Tally)> {
        self.inner.tallies()
    }
    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts> {
        self.inner.facts(ingestor)
    }
    fn all_facts(&self) -> Vec<(IngestorUid, Facts)> {
        self.inner.all_facts()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes()
    }
    fn spec_in_force(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Option<SpecText>> {
        self.inner.spec_in_force(ingestor)
    }
    fn highest_epoch(&self) -> BoxFuture<'_, Result<Epoch, SubscriptionError>> {
        self.inner.highest_epoch()
    }
}

impl Subscription for CountedSubscription {
    fn log(&self) -> LogId {
        self.inner.log()
    }
    fn claim(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<Vec<Fenced>, SubscriptionError>> {
        self.inner.claim(claims)
    }
    fn release(&self, buckets: &[Bucket]) {
        self.inner.release(buckets);
    }
    fn epoch(&self, bucket: Bucket) -> Option<Epoch> {
        self.inner.epoch(bucket)
    }
    fn ready(&self) -> BoxFuture<'_, Result<Vec<IngestorUid>, SubscriptionError>> {
        self.inner.ready()
    }
    fn fetch(
        &self,
        ingestor: &IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> BoxFuture<'_, Result<Fetched, SubscriptionError>> {
        let fetching = self.inner.fetch(ingestor, after, limit);
        async move {
            let fetched = fetching.await?;
            let sizes = fetched.records.iter().map(|record| record.event.body.len());
            self.bytes.fetch_add(sizes.sum(), Ordering::SeqCst);
            Ok(fetched)
        }
        .boxed()
    }
    fn spec(
        &self,
        digest: SpecDigest,
    ) -> BoxFuture<'_, Result<Option<Arc<str>>, SubscriptionError>> {
        self.inner.spec(digest)
    }
    fn oldest(
        &self,
        ingestor: &IngestorUid,
    ) -> BoxFuture<'_, Result<Option<Millis>, SubscriptionError>> {
        self.inner.oldest(ingestor)
    }
    fn commit(
        &self,
        ingestor: &IngestorUid,
        ends: Vec<Ended>,
    ) -> BoxFuture<'_, Result<(), SubscriptionError>> {
        self.inner.commit(ingestor, ends)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_never_reads_gets_no_more_than_its_bound() {
    const ASKED: u64 = 5_000;
    let fleet = Fleet::new();
    let journal = journal(43);
    for n in 0..24 {
        append(&journal, n % 3, vec![7; 512 << 10]).await;
    }
    let bytes = Arc::new(AtomicUsize::new(0));
    let source = Arc::new(Counted {
        inner: local(&journal),
        bytes: Arc::clone(&bytes),
    });
    let gateway = fleet.gateway(source).await;
    let core = fleet.core(None).await;
    let mut deaf = Vec::new();
    for pod in 0..3 {
        let mut asks = vec![Some(open(&format!("deaf-{pod}#1"))), Some(take(pod, 9))];
        asks.extend((1..ASKED).map(|call| Some(fetch(call, pod))));
        let (open, mut tells) = ask(&core, &gateway, asks).await.unwrap();
        // It hears that it has the bucket, and listens no more.
        loop {
            let told = soon("an answer", tells.message()).await.unwrap().unwrap();
            if matches!(told.what, Some(Told::Claimed(_))) {
                break;
            }
        }
        deaf.push((open, tells));
    }
    // Those who behave aren't hindered.
    let good = core.connect(gateway.address()).await;
    let subscription = good.open(Holder("core-0#1".into())).await.unwrap();
    assert_eq!(subscription.claim(vec![claim(3, 1)]).await, Ok(Vec::new()));
    for n in 0..100 {
        let id = append(&journal, 3, format!("{n}").into_bytes()).await;
        let working = async {
            let records = subscription
                .fetch(&uid(3), None, limit(5))
                .await
                .unwrap()
                .records;
            assert_eq!(records[0].id, id);
            subscription
                .commit(&uid(3), vec![observed(id)])
                .await
                .unwrap();
        };
        soon("a record passes", working).await;
    }
    // Each is served until its windows and its few waiting messages are full: then none of its
    // fetches goes on.
    let mut before = bytes.load(Ordering::SeqCst);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = bytes.load(Ordering::SeqCst);
        if now == before {
            break;
        }
        before = now;
    }
    // Eight fetches of 4 MiB each; and what fills windows, sockets and buffers on the way.
    assert!(before < 3 * (64 << 20), "{before} bytes read");
    drop(deaf);
    until("they are gone", || async {
        gateway.metric("journal_subscriptions", "") == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_a_few_subscriptions_and_the_newest_ones() {
    let fleet = Fleet::new();
    let journal = journal(44);
    let gateway = fleet.gateway(local(&journal)).await;
    let core = fleet.core(None).await;
    let mut streams = Vec::new();
    for life in 1..=7 {
        let asks = vec![Some(open(&format!("core-0#{life}")))];
        let (open, mut tells) = ask(&core, &gateway, asks).await.unwrap();
        let first = soon("it is opened", tells.message())
            .await
            .unwrap()
            .unwrap();
        assert!(matches!(first.what, Some(Told::Opened(_))), "{first:?}");
        streams.push((open, tells));
    }
    until("the oldest have left", || async {
        gateway.metric("journal_subscriptions", "") == 4
    })
    .await;
    let oldest = soon("it ends", streams[0].1.message()).await;
    assert_eq!(oldest.unwrap_err().code(), Code::Aborted);
    assert_eq!(gateway.metric("journal_refused_total", "sessions"), 3);
}
