//! One subscription over the network: what the core asks is carried out on the log's own
//! subscription, which ends with this.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use prometheus::IntGauge;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tonic::{Status, Streaming};

use super::{Out, Shared, status};
use crate::{
    journal::{
        Bucket, Claim, Epoch, Fenced, Holder, Subscription, SubscriptionError,
        remote::{
            CALLS, FETCHES, SPEC,
            codec::{self, Malformed},
            metrics::Refused,
            pb::{self, ask::What as Asked, tell::What as Told},
            pieces, view,
        },
    },
    peer::PeerIdentity,
};

/// A core that opens a stream says at once who it is.
const OPENING: Duration = Duration::from_secs(10);

/// How long a log whose disk failed is left alone before it is asked again what is ready.
const TROUBLED: Duration = Duration::from_secs(1);

/// How often what was lost while it was claimed is claimed again, to hear by whom.
const ASKED_AGAIN: usize = 3;

/// What changes a subscription's buckets, in order.
enum Change {
    Claim { call: u64, claims: Vec<Claim> },
    Release(Vec<Bucket>),
}

/// Counts a subscription as long as it stands, however it ends.
struct Counted<'a>(&'a IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Session<'a> {
    shared: &'a Shared,
    peer: &'a PeerIdentity,
    out: &'a Out<pb::Tell>,
    holder: Holder,
    subscription: Arc<dyn Subscription>,
    /// What the core was told that it holds; locked while it is told of a change.
    held: Mutex<BTreeMap<Bucket, Epoch>>,
    fetches: Semaphore,
}

/// Serves a subscription until the core ends it, breaks a rule, or the log closes.
pub(super) async fn run(
    shared: &Shared,
    peer: &PeerIdentity,
    mut asks: Streaming<pb::Ask>,
    out: &Out<pb::Tell>,
) -> Result<(), Status> {
    let opening = tokio::time::timeout(OPENING, asks.message()).await;
    let first = opening.map_err(|_elapsed| Status::deadline_exceeded("nothing was asked"))??;
    let Some(Asked::Open(open)) = first.and_then(|ask| ask.what) else {
        return Err(shared.malformed(peer, Malformed("a subscription begins with `open`")));
    };
    let holder = codec::holder(&open.holder).map_err(|error| shared.malformed(peer, error))?;
    let pod = holder.0.split('#').next().unwrap_or_default().to_owned();
    if let Some(of_certificate) = &peer.pod
        && **of_certificate != *pod
    {
        let why = format!("the certificate is of pod {of_certificate}, not of {pod}");
        shared
            .metrics
            .refuse(&peer.to_string(), Refused::Holder, &why);
        return Err(Status::permission_denied(why));
    }
    let Some((place, replaced)) = shared.sessions.enter(&pod) else {
        let why = "too many subscriptions stand";
        shared
            .metrics
            .refuse(&peer.to_string(), Refused::Sessions, why);
        return Err(Status::resource_exhausted(why));
    };
    if replaced {
        let why = "its oldest subscription ended for a new one";
        shared
            .metrics
            .refuse(&peer.to_string(), Refused::Sessions, why);
    }
    let subscription = shared.source.open(holder.clone()).await;
    let session = Session {
        shared,
        peer,
        out,
        holder,
        subscription: subscription.map_err(|error| status(&error))?,
        held: Mutex::default(),
        fetches: Semaphore::new(FETCHES),
    };
    let log = session.subscription.log().0;
    session.tell(Told::Opened(pb::Opened { log })).await?;
    let _counted = Counted::new(&shared.metrics.sessions);
    let ended = tokio::select! {
        () = place.ended.cancelled() => Err(Status::aborted("a newer subscription took the place")),
        ended = session.serve(asks) => ended,
    };
    if let Err(status) = &ended
        && status.code() == tonic::Code::DeadlineExceeded
    {
        shared
            .metrics
            .refuse(&peer.to_string(), Refused::Stalled, status.message());
    }
    ended
}

impl Session<'_> {
    async fn serve(&self, asks: Streaming<pb::Ask>) -> Result<(), Status> {
        let (changes, changing) = mpsc::channel(CALLS);
        tokio::select! {
            ended = self.listen(asks, changes) => ended,
            ended = self.change(changing) => ended,
            ended = self.tell_ready() => ended,
            ended = self.follow_map() => ended,
        }
    }

    async fn tell(&self, what: Told) -> Result<(), Status> {
        self.out.send(pb::Tell { what: Some(what) }).await
    }

    fn malformed(&self, error: Malformed) -> Status {
        self.shared.malformed(self.peer, error)
    }

    /// Takes what is asked, as long as there is room for another call.
    async fn listen(
        &self,
        mut asks: Streaming<pb::Ask>,
        changes: mpsc::Sender<Change>,
    ) -> Result<(), Status> {
        let mut calls: FuturesUnordered<BoxFuture<'_, Result<(), Status>>> =
            FuturesUnordered::new();
        loop {
            let asked = tokio::select! {
                Some(done) = calls.next(), if !calls.is_empty() => {
                    done?;
                    continue;
                }
                asked = asks.message(), if calls.len() < CALLS => asked?,
            };
            let Some(asked) = asked else { return Ok(()) };
            let asked = asked.what.ok_or(Malformed("nothing is asked"));
            match asked.map_err(|error| self.malformed(error))? {
                Asked::Claim(claim) => {
                    let claims = codec::claims(claim.claims);
                    let claims = claims.map_err(|error| self.malformed(error))?;
                    let call = claim.call;
                    // Full only when a claim takes as long as so many others: then all wait.
                    drop(changes.send(Change::Claim { call, claims }).await);
                }
                Asked::Release(release) => {
                    let buckets = codec::buckets(&release.buckets);
                    let buckets = buckets.map_err(|error| self.malformed(error))?;
                    drop(changes.send(Change::Release(buckets)).await);
                }
                Asked::Open(_) => {
                    return Err(self.malformed(Malformed("a subscription is opened once")));
                }
                Asked::Fetch(fetch) => calls.push(self.fetch(fetch).boxed()),
                Asked::Commit(commit) => calls.push(self.commit(commit).boxed()),
                Asked::GetSpec(get) => calls.push(self.spec(get).boxed()),
                Asked::GetOldest(get) => calls.push(self.oldest(get).boxed()),
            }
        }
    }

    // === buckets ===

    async fn change(&self, mut changes: mpsc::Receiver<Change>) -> Result<(), Status> {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Claim { call, claims } => self.claim(call, claims).await?,
                Change::Release(buckets) => {
                    let mut held = self.held.lock().await;
                    self.subscription.release(&buckets);
                    for bucket in buckets {
                        held.remove(&bucket);
                    }
                }
            }
        }
        // Whoever asks is gone; that ends all.
        std::future::pending().await
    }

    async fn claim(&self, call: u64, claims: Vec<Claim>) -> Result<(), Status> {
        let (mut open, mut refused) = (Vec::new(), Vec::new());
        for claim in claims {
            match claim
                .epoch
                .and_then(|epoch| self.map_refuses(claim.bucket, epoch))
            {
                Some(fenced) => refused.push(fenced),
                None => open.push(claim),
            }
        }
        let mut asking = open.clone();
        for _ in 0..ASKED_AGAIN {
            match self.subscription.claim(asking).await {
                Ok(more) => refused.extend(more),
                Err(error) => return self.failed(call, error).await,
            }
            let lost = |claim: &Claim| {
                self.subscription.epoch(claim.bucket).is_none()
                    && refused.iter().all(|fenced| fenced.bucket != claim.bucket)
            };
            asking = open.iter().copied().filter(lost).collect();
            if asking.is_empty() {
                break;
            }
        }
        let mut held = self.held.lock().await;
        let mut taken = Vec::new();
        for claim in open {
            let Some(epoch) = self.subscription.epoch(claim.bucket) else {
                continue;
            };
            // A map that came meanwhile: from here on `follow_map` sees the claim.
            if let Some(fenced) = self.map_refuses(claim.bucket, epoch) {
                self.subscription.release(&[claim.bucket]);
                held.remove(&claim.bucket);
                refused.push(fenced);
            } else {
                held.insert(claim.bucket, epoch);
                taken.push(pb::Claim {
                    bucket: u32::from(claim.bucket.0),
                    epoch: Some(epoch.0),
                });
            }
        }
        let claimed = pb::Claimed {
            call,
            held: taken,
            refused: refused.iter().map(codec::from_fenced).collect(),
        };
        self.tell(Told::Claimed(claimed)).await
    }

    /// Tells of a bucket that was lost, unless it was claimed again since.
    async fn lost(&self, fenced: &Fenced, under: Option<Epoch>) -> Result<(), Status> {
        let mut held = self.held.lock().await;
        let stale = match (held.get(&fenced.bucket), under) {
            (None, _) => false,
            (Some(held), Some(under)) => *held == under,
            (Some(held), None) => *held < fenced.epoch,
        };
        if !stale {
            return Ok(());
        }
        if under.is_some() {
            self.subscription.release(&[fenced.bucket]);
        }
        held.remove(&fenced.bucket);
        self.tell(Told::Lost(codec::from_fenced(fenced))).await
    }

    fn map_refuses(&self, bucket: Bucket, epoch: Epoch) -> Option<Fenced> {
        let named = self.shared.map.bucket(bucket);
        let fenced = view::refusal(named, &self.holder, bucket, epoch)?;
        self.shared.metrics.refuse(
            &self.peer.to_string(),
            Refused::Map,
            "the ShardMap names another for a bucket",
        );
        Some(fenced)
    }

    /// Ends claims that a newer map contradicts.
    async fn follow_map(&self) -> Result<(), Status> {
        let mut changes = self.shared.map.changes();
        loop {
            if changes.changed().await.is_err() {
                // The view is gone; what is stored still fences.
                std::future::pending::<()>().await;
            }
            let held = self.held.lock().await.clone();
            for (bucket, epoch) in held {
                if let Some(fenced) = self.map_refuses(bucket, epoch) {
                    self.lost(&fenced, Some(epoch)).await?;
                }
            }
        }
    }

    async fn tell_ready(&self) -> Result<(), Status> {
        loop {
            match self.subscription.ready().await {
                Ok(uids) => {
                    for ingestors in pieces::names(uids) {
                        self.tell(Told::Ready(pb::Ready { ingestors })).await?;
                    }
                }
                Err(SubscriptionError::Fenced(fenced)) => self.lost(&fenced, None).await?,
                Err(SubscriptionError::Disk(_) | SubscriptionError::Unreachable(_)) => {
                    tokio::time::sleep(TROUBLED).await;
                }
                Err(error @ SubscriptionError::Closing) => return Err(status(&error)),
            }
        }
    }

    // === calls ===

    async fn failed(&self, call: u64, error: SubscriptionError) -> Result<(), Status> {
        let closing = status(&error);
        let Some(why) = codec::from_error(error) else {
            return Err(closing);
        };
        let why = Some(why);
        self.tell(Told::Failed(pb::Failed { call, why })).await
    }

    async fn fetch(&self, fetch: pb::Fetch) -> Result<(), Status> {
        let call = fetch.call;
        let read = || {
            Ok((
                codec::ingestor(fetch.ingestor)?,
                codec::after(fetch.after)?,
                codec::limit(fetch.records, fetch.bytes)?,
            ))
        };
        let (ingestor, after, limit) = read().map_err(|error| self.malformed(error))?;
        // Closed never; kept until all is handed over.
        let _permit = self.fetches.acquire().await.ok();
        match self.subscription.fetch(&ingestor, after, limit).await {
            Ok(fetched) => {
                let count = u64::try_from(fetched.records.len()).unwrap_or_default();
                for piece in pieces::records(call, fetched) {
                    self.tell(piece).await?;
                }
                self.shared.metrics.records.inc_by(count);
                Ok(())
            }
            Err(error) => self.failed(call, error).await,
        }
    }

    async fn commit(&self, commit: pb::Commit) -> Result<(), Status> {
        let call = commit.call;
        let ends = commit.ends.into_iter().map(codec::ended);
        let ends: Result<Vec<_>, Malformed> = ends.collect();
        let ends = ends.map_err(|error| self.malformed(error))?;
        let ingestor = codec::ingestor(commit.ingestor);
        let ingestor = ingestor.map_err(|error| self.malformed(error))?;
        match self.subscription.commit(&ingestor, ends).await {
            Ok(()) => self.tell(Told::Committed(pb::Committed { call })).await,
            Err(error) => self.failed(call, error).await,
        }
    }

    async fn spec(&self, get: pb::GetSpec) -> Result<(), Status> {
        let call = get.call;
        let digest = codec::digest(&get.digest).map_err(|error| self.malformed(error))?;
        match self.subscription.spec(digest).await {
            Ok(Some(text)) if text.len() > SPEC => {
                let error = format!("the text of the spec {digest:?} is too large to be sent");
                self.failed(call, SubscriptionError::Disk(error)).await
            }
            Ok(text) => {
                let text = text.map(|text| text.as_ref().to_owned());
                self.tell(Told::Spec(pb::Spec { call, text })).await
            }
            Err(error) => self.failed(call, error).await,
        }
    }

    async fn oldest(&self, get: pb::GetOldest) -> Result<(), Status> {
        let call = get.call;
        let ingestor = codec::ingestor(get.ingestor);
        let ingestor = ingestor.map_err(|error| self.malformed(error))?;
        match self.subscription.oldest(&ingestor).await {
            Ok(oldest) => {
                let accepted_at = oldest.map(|at| at.0);
                self.tell(Told::Oldest(pb::Oldest { call, accepted_at }))
                    .await
            }
            Err(error) => self.failed(call, error).await,
        }
    }
}
