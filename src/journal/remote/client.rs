//! A gateway's log as a source, which comes back by itself.

mod answers;
mod backoff;
mod link;
mod queue;
mod table;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, transport::Channel};
use tracing::{info, warn};

use self::{backoff::Backoff, link::Link, table::Table};
use super::{ANSWER, MESSAGE, codec, pb};
use crate::{
    api::SpecDigest,
    journal::{
        Epoch, Holder, IngestorUid, LogId, Source, SpecText, Subscription, SubscriptionError,
        Tally, facts::Facts,
    },
    ops::tasks::Tasks,
};

type Client = pb::journal_client::JournalClient<Channel>;

/// How long a gateway may take to say the first word, and to answer a call: far beyond a disk that is
/// slow, short enough that a dead one is noticed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a gateway's log can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It can't be reached, or refuses.
    #[error("ask the gateway for its log: {0}")]
    Refused(#[source] Status),
    /// It says nothing.
    #[error("ask the gateway for its log: no answer within {} s", PATIENCE.as_secs())]
    Silent,
}

/// A gateway's log. When it and its subscriptions are dropped, it ends.
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    ended: Arc<DropGuard>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    log: LogId,
    table: Mutex<Table>,
    changes: watch::Sender<u64>,
    reached: watch::Sender<bool>,
    /// Cancelled when the source is dropped or its log is gone.
    stop: CancellationToken,
    /// The log that is there instead.
    successor: OnceLock<LogId>,
    tasks: Tasks,
}

/// Asks the gateway at the other end of `channel` for its log, and follows it; returns when it has
/// told how its Ingestors stand. The channel connects again by itself.
///
/// # Errors
/// The gateway can't be reached now, or refuses.
pub async fn connect(channel: Channel, tasks: &Tasks) -> Result<Arc<Remote>, ConnectError> {
    let client = Client::new(channel)
        .max_decoding_message_size(ANSWER)
        .max_encoding_message_size(MESSAGE);
    let mut watching = client.clone();
    let first = async {
        let mut standings = watching.watch(pb::WatchRequest {}).await?.into_inner();
        let mut table = Table::default();
        let log = loop {
            let standing = standings.message().await?;
            let standing = standing.ok_or_else(|| Status::unavailable("nothing was told"))?;
            let log = LogId(standing.log);
            if table.take(standing).map_err(malformed)? {
                break log;
            }
        };
        Ok((log, table, standings))
    };
    let first = tokio::time::timeout(PATIENCE, first).await;
    let (log, table, standings) = first
        .map_err(|_elapsed| ConnectError::Silent)?
        .map_err(ConnectError::Refused)?;
    let stop = tasks.token().child_token();
    let shared = Arc::new(Shared {
        client,
        log,
        table: Mutex::new(table),
        changes: watch::Sender::new(0),
        reached: watch::Sender::new(true),
        stop: stop.clone(),
        successor: OnceLock::new(),
        tasks: tasks.clone(),
    });
    let watching = Arc::clone(&shared);
    tasks.spawn("journal source", async move {
        let stop = watching.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = watching.follow(standings) => {}
        }
    });
    Ok(Arc::new(Remote {
        shared,
        ended: Arc::new(stop.drop_guard()),
    }))
}

fn malformed(error: codec::Malformed) -> Status {
    Status::data_loss(error.to_string())
}

/// What a failed call means to who made it.
fn unreachable(status: &Status) -> SubscriptionError {
    SubscriptionError::Unreachable(format!("{}: {}", status.code(), status.message()))
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows how Ingestors stand until the log is another one.
    async fn follow(&self, first: tonic::Streaming<pb::Standing>) {
        let mut standings = Some(first);
        let mut backoff = Backoff::default();
        loop {
            let pause = tokio::time::sleep(backoff.next(rand::random()));
            let ended = match standings.take() {
                Some(standings) => self.listen(standings, None).await,
                None => match self.watch_again().await {
                    Ok(standings) => {
                        backoff = Backoff::default();
                        self.listen(standings, Some(Table::default())).await
                    }
                    Err(status) => status,
                },
            };
            if self.stop.is_cancelled() {
                return;
            }
            if self.reached.send_replace(false) {
                warn!(log = %self.log, status = %ended, "a gateway can't be reached; it is tried again");
            }
            pause.await;
        }
    }

    async fn watch_again(&self) -> Result<tonic::Streaming<pb::Standing>, Status> {
        let mut client = self.client.clone();
        let watching = tokio::time::timeout(PATIENCE, client.watch(pb::WatchRequest {})).await;
        let watching = watching.map_err(|_elapsed| Status::deadline_exceeded("no answer"))??;
        Ok(watching.into_inner())
    }

    /// Takes what is told; a `snapshot` replaces the table when it is complete.
    async fn listen(
        &self,
        mut standings: tonic::Streaming<pb::Standing>,
        mut snapshot: Option<Table>,
    ) -> Status {
        loop {
            let standing = match standings.message().await {
                Ok(Some(standing)) => standing,
                Ok(None) => return Status::unavailable("the gateway ended the stream"),
                Err(status) => return status,
            };
            if LogId(standing.log) != self.log {
                self.succeeded_by(LogId(standing.log));
                return Status::unavailable("the gateway has another log");
            }
            let changes_facts = snapshot.is_some() || Table::tells_facts(&standing);
            let taken = match &mut snapshot {
                Some(table) => table.take(standing),
                None => self.table().take(standing),
            };
            match taken {
                Err(error) => return malformed(error),
                Ok(false) => {}
                Ok(true) => {
                    if let Some(table) = snapshot.take() {
                        *self.table() = table;
                        self.reached.send_replace(true);
                        info!(log = %self.log, "a gateway can be reached again");
                    }
                    if changes_facts {
                        self.changes.send_modify(|count| *count += 1);
                    }
                }
            }
        }
    }

    /// The gateway came back with another log: this source is over.
    fn succeeded_by(&self, log: LogId) {
        if log != self.log && self.successor.set(log).is_ok() {
            warn!(log = %self.log, now = %log, "a gateway came back with another log");
            self.stop.cancel();
        }
    }

    fn is_over(&self) -> Result<(), SubscriptionError> {
        if self.stop.is_cancelled() {
            let why = "the source is over".to_owned();
            return Err(SubscriptionError::Unreachable(why));
        }
        Ok(())
    }
}

impl Remote {
    /// Whether the gateway answers now.
    #[must_use]
    pub fn reached(&self) -> watch::Receiver<bool> {
        self.shared.reached.subscribe()
    }

    /// Waits until the gateway is known to have another log, which is another source; the calls of
    /// this one fail from then on.
    pub async fn succeeded(&self) -> LogId {
        self.shared.stop.cancelled().await;
        match self.shared.successor.get() {
            Some(log) => *log,
            // It was stopped.
            None => std::future::pending().await,
        }
    }
}

impl Source for Remote {
    fn log(&self) -> LogId {
        self.shared.log
    }

    fn open(
        &self,
        holder: Holder,
    ) -> BoxFuture<'_, Result<Arc<dyn Subscription>, SubscriptionError>> {
        async move {
            self.shared.is_over()?;
            let link =
                Link::open(Arc::clone(&self.shared), Arc::clone(&self.ended), holder).await?;
            Ok(link as Arc<dyn Subscription>)
        }
        .boxed()
    }

    fn tallies(&self) -> Vec<(IngestorUid, Tally)> {
        let table = self.shared.table();
        let all = table.tallies.iter();
        all.map(|(uid, tally)| (uid.clone(), *tally)).collect()
    }

    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts> {
        self.shared.table().facts.get(ingestor).cloned()
    }

    fn all_facts(&self) -> Vec<(IngestorUid, Facts)> {
        let facts: HashMap<IngestorUid, Facts> = self.shared.table().facts.clone();
        facts.into_iter().collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn spec_in_force(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Option<SpecText>> {
        let ingestor = ingestor.0.as_ref().to_owned();
        let mut client = self.shared.client.clone();
        async move {
            let asking = client.in_force(pb::InForceRequest { ingestor });
            let answer = tokio::time::timeout(PATIENCE, asking).await.ok()?.ok()?;
            let text = codec::shared(answer.into_inner().text?);
            Some(SpecText {
                digest: SpecDigest::of(&text),
                text,
            })
        }
        .boxed()
    }

    fn highest_epoch(&self) -> BoxFuture<'_, Result<Epoch, SubscriptionError>> {
        let mut client = self.shared.client.clone();
        async move {
            self.shared.is_over()?;
            let asking = client.highest_epoch(pb::HighestEpochRequest {});
            let answer = tokio::time::timeout(PATIENCE, asking).await;
            let answer = answer.map_err(|_elapsed| {
                SubscriptionError::Unreachable("no answer in time".to_owned())
            })?;
            let answer = answer.map_err(|status| unreachable(&status))?;
            codec::epoch(answer.into_inner().epoch)
                .map_err(|error| SubscriptionError::Unreachable(error.to_string()))
        }
        .boxed()
    }
}
