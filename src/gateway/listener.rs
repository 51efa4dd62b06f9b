//! The accept loop: sockets in, requests to the endpoints, connections bounded in number and time.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    endpoint::Endpoints,
    metrics::Metrics,
    pulse::{Pulse, Timeouts, Watched},
    tls::Reloading,
};
use crate::ops::{tasks::Tasks, time::Clock};

/// How long to wait after a failed accept, which is out of file descriptors more often than not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Streams that an HTTP/2 client may open and reset before it is cut off (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 50;

/// What bounds connections.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Connections at once; more wait in the kernel's accept queue.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_connections_per_address: usize,
    /// HTTP/2 streams at once on one connection.
    pub max_streams: u32,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Size of a request's header.
    pub max_header_bytes: usize,
    /// Header and idle time.
    pub timeouts: Timeouts,
}

/// An accept loop, ready to run.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) limits: Limits,
    pub(super) tls: Option<Arc<Reloading>>,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    /// Cancelled when the gateway drains.
    pub(super) draining: CancellationToken,
}

/// Connections by address.
#[derive(Debug, Default)]
struct Census(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place; given back when dropped.
struct Place {
    census: Arc<Census>,
    address: IpAddr,
    metrics: Metrics,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    /// Accepts until the gateway drains; each connection is a task of its own.
    pub(crate) async fn run(self, tasks: Tasks) {
        let places = Arc::new(Semaphore::new(self.limits.max_connections));
        let census = Arc::new(Census::default());
        let server = Arc::new(server(&self.limits));
        loop {
            let Some(permit) = self
                .draining
                .run_until_cancelled(Arc::clone(&places).acquire_owned())
                .await
            else {
                return;
            };
            let Ok(permit) = permit else { return };
            let Some(accepted) = self
                .draining
                .run_until_cancelled(self.socket.accept())
                .await
            else {
                return;
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "accept failed; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let address = peer.ip().to_canonical();
            if !census.enter(address, self.limits.max_connections_per_address) {
                debug!(%peer, "too many connections of this address");
                continue;
            }
            self.metrics.connections.inc();
            let place = Place {
                census: Arc::clone(&census),
                address,
                metrics: self.metrics.clone(),
                _permit: permit,
            };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "no TCP_NODELAY");
            }
            let connection = Connection {
                server: Arc::clone(&server),
                endpoints: Arc::clone(&self.endpoints),
                peer,
                pulse: Pulse::new(Arc::clone(&self.clock), self.limits.timeouts),
                draining: self.draining.clone(),
            };
            let tls = self
                .tls
                .as_ref()
                .map(|tls| TlsAcceptor::from(tls.current()));
            tasks.spawn("connection", async move {
                connection.accept(stream, tls).await;
                drop(place);
            });
        }
    }
}

fn server(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.max_headers)
        // hyper takes no less than 8 KiB.
        .max_buf_size(limits.max_header_bytes.max(8 * 1024))
        .half_close(false);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .keep_alive_interval(Some(limits.timeouts.idle / 2))
        .keep_alive_timeout(limits.timeouts.header);
    server
}

struct Connection {
    server: Arc<auto::Builder<TokioExecutor>>,
    endpoints: Arc<Endpoints>,
    peer: SocketAddr,
    pulse: Arc<Pulse>,
    draining: CancellationToken,
}

impl Connection {
    async fn accept(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else {
            return self.serve(stream).await;
        };
        let pulse = Arc::clone(&self.pulse);
        tokio::select! {
            shaken = tls.accept(stream) => match shaken {
                Ok(stream) => self.serve(stream).await,
                Err(error) => debug!(%error, peer = %self.peer, "TLS handshake failed"),
            },
            () = pulse.overdue() => debug!(peer = %self.peer, "TLS handshake took too long"),
        }
    }

    async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            server,
            endpoints,
            peer,
            pulse,
            draining,
        } = self;
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let endpoints = Arc::clone(&endpoints);
            let pulse = Arc::clone(&pulse);
            async move {
                pulse.request();
                let answer = endpoints.serve(request, peer).await;
                pulse.answered();
                Ok::<_, Infallible>(answer)
            }
        });
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&pulse)));
        let mut connection = std::pin::pin!(server.serve_connection(io, service));
        let mut drain = std::pin::pin!(draining.cancelled());
        let mut overdue = std::pin::pin!(pulse.overdue());
        let mut asked_to_end = false;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = drain.as_mut(), if !asked_to_end => {
                    asked_to_end = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = overdue.as_mut() => {
                    debug!(%peer, "the connection was idle, or its header came too slowly");
                    return;
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, %peer, "connection ended");
        }
    }
}

// === the census ===

impl Census {
    fn enter(&self, address: IpAddr, most: usize) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        true
    }

    fn leave(&self, address: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.census.leave(self.address);
        self.metrics.connections.dec();
    }
}
