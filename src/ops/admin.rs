//! The admin server: probes, metrics and the dead letters, on a port of their own.
//!
//! ```text
//!  /livez /readyz /metrics      anyone who reaches the port
//!  /tallies /events …           loopback only, with the token from the data directory; 503 until
//!                               the journal is open
//! ```
//!
//! The token travels in plain HTTP, so the guarded part answers loopback alone; in a cluster that
//! is what `kubectl port-forward` gives.

pub mod events;
pub mod fleet;
pub mod token;
pub mod wire;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, State},
    http::{Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::{metrics, ready::Readiness, tasks::Tasks};

/// Probes, a scraper and a few people; more wait in the accept queue, so that nobody grows memory here.
const MAX_CONNECTIONS: usize = 64;

/// From the first byte of a header to its last.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// One request; the slowest is a page of dead letters.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after a failed accept, which is out of file descriptors more often than not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the open part of the server shows.
#[derive(Clone, Debug)]
pub struct Probes {
    /// What `/readyz` tells.
    pub readiness: Readiness,
    /// What `/metrics` tells.
    pub registry: Registry,
}

/// The admin port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address} for probes and metrics; another --admin-port may be free")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// An open admin port, not served yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Opens the port; 0 picks a free one.
    ///
    /// # Errors
    /// When it can't be opened.
    pub async fn bind(address: IpAddr, port: u16) -> Result<Self, BindError> {
        let wanted = SocketAddr::new(address, port);
        let failed = |source| BindError {
            address: wanted,
            source,
        };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `tasks` is asked to stop; open requests are then answered first.
    pub fn serve(self, router: Router, tasks: &Tasks) {
        let connections = tasks.clone();
        tasks.spawn("admin", async move {
            accept(self.listener, router, connections).await;
        });
    }
}

/// Routes whose subject comes into being while the server answers already: 503 until then.
#[derive(Clone, Debug, Default)]
pub struct Late(Arc<OnceLock<Router>>);

impl Late {
    /// A router that answers everything with what [`Late::attach`] will give.
    pub fn routes(&self) -> Router {
        Router::new().fallback(late).with_state(self.clone())
    }

    /// From now on `router` answers. Only the first one does.
    pub fn attach(&self, router: Router) {
        self.0.get_or_init(|| router);
    }
}

async fn late(State(late): State<Late>, request: Request<Body>) -> Response {
    let Some(router) = late.0.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The open routes.
pub fn probes(probes: Probes) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(probes)
}

async fn readyz(State(probes): State<Probes>) -> Response {
    let waiting = probes.readiness.waiting();
    if waiting.is_empty() {
        return "ok\n".into_response();
    }
    let lines: Vec<String> = waiting
        .into_iter()
        .map(|(gate, why)| format!("waiting for {gate}: {why}\n"))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines.concat()).into_response()
}

async fn metrics_text(State(probes): State<Probes>) -> Response {
    match metrics::text(&probes.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("gather metrics: {error}\n"),
        )
            .into_response(),
    }
}

async fn accept(listener: TcpListener, router: Router, tasks: Tasks) {
    let stop = tasks.token();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
        };
        let (Ok(slot), socket) = accepted else { return };
        match socket {
            Ok((stream, peer)) => {
                let connection = serve_connection(stream, peer, router.clone(), stop.clone());
                tasks.spawn_contained("admin-connection", async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "accept on the admin port");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    let service = hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.clone().oneshot(request.map(Body::new));
        async move {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, answer).await;
            Ok::<_, Infallible>(match answer {
                Ok(Ok(response)) => response,
                Err(_elapsed) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        debug!(%error, %peer, "admin connection");
    }
}
