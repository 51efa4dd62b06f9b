//! Serves a log to the cores of the fleet.
//!
//! Whatever a peer sends, this holds no more for it than: a message that is decoded, `CALLS`
//! calls, the records of `FETCHES` fetches, and the few messages that wait to be sent. Who
//! takes nothing for half a minute is let go.

mod board;
mod out;
mod session;
mod sessions;

use std::sync::Arc;

use futures::{StreamExt as _, stream, stream::BoxStream};
use prometheus::Registry;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use self::{board::Board, out::Out, sessions::Sessions};
use super::{
    ANSWER, MESSAGE, codec,
    metrics::{Metrics, Refused},
    pb,
    view::MapView,
};
use crate::{
    journal::{Source, SubscriptionError},
    ops::tasks::Tasks,
    peer::PeerIdentity,
};

/// Messages of a stream that wait to be sent: four MiB where each is as large as a piece.
const WAITING: usize = 16;

/// Watchers at once: a fleet's cores, twice.
const WATCHERS: usize = 256;

/// The service, to be routed.
pub type Service = pb::journal_server::JournalServer<Served>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Served {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: Arc<dyn Source>,
    map: Arc<dyn MapView>,
    board: Board,
    sessions: Sessions,
    watchers: Arc<tokio::sync::Semaphore>,
    metrics: Metrics,
    tasks: Tasks,
}

/// The service of a log: `map` is this gateway's view of the `ShardMap`; the work for peers runs in
/// `tasks`.
///
/// # Errors
/// The metrics are registered already.
pub fn service(
    source: Arc<dyn Source>,
    map: Arc<dyn MapView>,
    registry: &Registry,
    tasks: &Tasks,
) -> Result<Service, prometheus::Error> {
    let metrics = Metrics::register(registry)?;
    let served = Served {
        shared: Arc::new(Shared {
            board: Board::new(Arc::clone(&source)),
            source,
            map,
            sessions: Sessions::default(),
            watchers: Arc::new(tokio::sync::Semaphore::new(WATCHERS)),
            metrics,
            tasks: tasks.clone(),
        }),
    };
    Ok(pb::journal_server::JournalServer::new(served)
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(ANSWER))
}

/// Who is at the other end.
fn peer<T>(request: &Request<T>) -> Result<PeerIdentity, Status> {
    let peer = request.extensions().get::<PeerIdentity>().cloned();
    peer.ok_or_else(|| Status::unauthenticated("the journal is served over mutual TLS alone"))
}

/// What a failure of the log means for the whole stream.
fn status(error: &SubscriptionError) -> Status {
    Status::unavailable(error.to_string())
}

fn outgoing<T: Send + 'static>(
    messages: mpsc::Receiver<Result<T, Status>>,
) -> BoxStream<'static, Result<T, Status>> {
    stream::unfold(messages, |mut messages| async {
        let message = messages.recv().await?;
        Some((message, messages))
    })
    .boxed()
}

#[tonic::async_trait]
impl pb::journal_server::Journal for Served {
    type FollowStream = BoxStream<'static, Result<pb::Tell, Status>>;
    type WatchStream = BoxStream<'static, Result<pb::Standing, Status>>;

    async fn follow(
        &self,
        request: Request<Streaming<pb::Ask>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let peer = peer(&request)?;
        let asks = request.into_inner();
        let (tells, messages) = mpsc::channel(WAITING);
        let shared = Arc::clone(&self.shared);
        let stop = self.shared.tasks.token();
        self.shared
            .tasks
            .spawn_contained("journal subscription", async move {
                let out = Out::new(tells);
                let ended = tokio::select! {
                    () = stop.cancelled() => Err(Status::unavailable("the gateway stops")),
                    () = out.closed() => Ok(()),
                    ended = session::run(&shared, &peer, asks, &out) => ended,
                };
                if let Err(status) = ended {
                    debug!(%peer, %status, "a subscription ends");
                    out.end(status);
                }
            });
        Ok(Response::new(outgoing(messages)))
    }

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        peer(&request)?;
        let permit = Arc::clone(&self.shared.watchers).try_acquire_owned();
        let permit = permit.map_err(|_full| Status::resource_exhausted("too many watch"))?;
        let (standings, messages) = mpsc::channel(1);
        let shared = Arc::clone(&self.shared);
        let stop = self.shared.tasks.token();
        self.shared
            .tasks
            .spawn_contained("journal watch", async move {
                let _permit = permit;
                let out = Out::new(standings);
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = out.closed() => {}
                    ended = shared.board.tell(&out) => {
                        if let Err(status) = ended {
                            out.end(status);
                        }
                    }
                }
            });
        Ok(Response::new(outgoing(messages)))
    }

    async fn in_force(
        &self,
        request: Request<pb::InForceRequest>,
    ) -> Result<Response<pb::InForceResponse>, Status> {
        let peer = peer(&request)?;
        let ingestor = codec::ingestor(request.into_inner().ingestor);
        let ingestor = ingestor.map_err(|error| self.shared.malformed(&peer, error))?;
        let spec = self.shared.source.spec_in_force(&ingestor).await;
        let text = spec.map(|spec| spec.text.as_ref().to_owned());
        Ok(Response::new(pb::InForceResponse { text }))
    }

    async fn highest_epoch(
        &self,
        request: Request<pb::HighestEpochRequest>,
    ) -> Result<Response<pb::HighestEpochResponse>, Status> {
        peer(&request)?;
        let epoch = self.shared.source.highest_epoch().await;
        let epoch = epoch.map_err(|error| status(&error))?.0;
        Ok(Response::new(pb::HighestEpochResponse { epoch }))
    }
}

impl Shared {
    /// Counts a message that breaks a rule, and says so.
    fn malformed(&self, peer: &PeerIdentity, error: codec::Malformed) -> Status {
        let why = error.to_string();
        self.metrics
            .refuse(&peer.to_string(), Refused::Malformed, &why);
        Status::invalid_argument(why)
    }
}
