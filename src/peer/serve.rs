//! Takes connections of peers: each proves who it is before gRPC sees a byte of it.

use core::net::{IpAddr, SocketAddr};
use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use prometheus::IntGauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{AbortHandle, Id, JoinError, JoinSet},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{
    service::Routes,
    transport::{Server, server::Connected},
};
use tracing::{debug, error, warn};

use super::{
    identity::{Expected, PeerIdentity},
    pending::Pending,
    refusal::Reason,
    tls::Credentials,
    verify,
};
use crate::ops::tasks::Tasks;

/// How long to wait after the kernel has no file descriptors or memory for another connection.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// What streams have, once the group stops, to end by themselves.
const GRACE: Duration = Duration::from_secs(1);

/// A peer that is gone without a word is noticed within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How much of this process peers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A handshake takes this long at most: some round trips and signatures.
    pub handshake: Duration,
    /// So many handshakes are under way at once: whoever has no certificate costs no more. One more
    /// takes the place of the oldest of the address that has the most.
    pub pending: usize,
    /// So many peers are connected at once: a fleet's cores and gateways, with room for those that
    /// come back before their old connections are noticed to be gone.
    pub connections: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            pending: 64,
            connections: 1_024,
        }
    }
}

/// Serves `routes` to peers of this process's fleet that `allowed` names, until the group stops; the
/// peer's [`PeerIdentity`] is among the extensions of each request.
pub fn serve(
    listener: TcpListener,
    credentials: Arc<Credentials>,
    allowed: Expected,
    routes: Routes,
    tasks: &Tasks,
    bounds: Bounds,
) {
    let stop = tasks.token();
    let cut = CancellationToken::new();
    let (accepted, connections) = mpsc::channel(1);
    let acceptor = Acceptor {
        credentials,
        allowed,
        bounds,
        open: Arc::new(Semaphore::new(bounds.connections)),
        cut: cut.clone(),
    };
    tasks.spawn(
        "peer acceptor",
        acceptor.run(listener, accepted, stop.clone()),
    );
    let graceful = stop.clone();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_routes(routes);
    let incoming = stream::unfold(connections, |mut connections| async {
        let next: Accepted = connections.recv().await?;
        Some((Ok::<_, Infallible>(next), connections))
    });
    tasks.spawn("peer server", async move {
        let serving =
            server.serve_with_incoming_shutdown(incoming.boxed(), graceful.cancelled_owned());
        let mut serving = pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = async {
                stop.cancelled().await;
                tokio::time::sleep(GRACE).await;
            } => {
                cut.cancel();
                serving.await
            }
        };
        if let Err(error) = ended {
            error!(
                error = &error as &dyn std::error::Error,
                "serving peers ended"
            );
        }
    });
}

/// Where connections come in.
#[derive(Clone, Debug)]
struct Acceptor {
    credentials: Arc<Credentials>,
    allowed: Expected,
    bounds: Bounds,
    open: Arc<Semaphore>,
    cut: CancellationToken,
}

/// Handshakes under way, each in a task of its own.
#[derive(Debug)]
struct Handshakes {
    tasks: JoinSet<()>,
    pending: Pending<AbortHandle>,
}

impl Handshakes {
    fn new() -> Self {
        Self {
            tasks: JoinSet::new(),
            pending: Pending::new(),
        }
    }

    fn ended(&mut self, outcome: Result<(Id, ()), JoinError>) {
        let id = match outcome {
            Ok((id, ())) => id,
            Err(error) => {
                // One that gave way was refused when it did.
                if !error.is_cancelled() {
                    warn!(%error, "a handshake's task failed");
                }
                error.id()
            }
        };
        self.pending.ends(|task| task.id() == id);
    }
}

impl Acceptor {
    async fn run(
        self,
        listener: TcpListener,
        accepted: mpsc::Sender<Accepted>,
        stop: CancellationToken,
    ) {
        let mut handshakes = Handshakes::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = handshakes.tasks.join_next_with_id() => handshakes.ended(ended),
                taken = listener.accept() => match taken {
                    Ok((socket, peer)) => {
                        self.begin(socket, peer, &accepted, &mut handshakes);
                    }
                    Err(error) => failed(&error).await,
                },
            }
        }
    }

    fn begin(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        accepted: &mpsc::Sender<Accepted>,
        handshakes: &mut Handshakes,
    ) {
        let Ok(place) = Arc::clone(&self.open).try_acquire_owned() else {
            self.refuse(peer.ip().to_canonical(), Reason::Crowded, None);
            return;
        };
        let address = peer.ip().to_canonical();
        if handshakes.pending.len() >= self.bounds.pending {
            let Some((gone, task)) = handshakes.pending.gives_way(address) else {
                self.refuse(address, Reason::Crowded, None);
                return;
            };
            task.abort();
            self.refuse(gone, Reason::Crowded, None);
        }
        let acceptor = self.clone();
        let accepted = accepted.clone();
        let task = handshakes.tasks.spawn(async move {
            if let Some(connection) = acceptor.shake_hands(socket, address, place).await {
                // Nobody serves any more where this fails: the process stops.
                drop(accepted.send(connection).await);
            }
        });
        handshakes.pending.begins(address, task);
    }

    async fn shake_hands(
        self,
        socket: TcpStream,
        peer: IpAddr,
        place: OwnedSemaphorePermit,
    ) -> Option<Accepted> {
        // Messages are small and complete: waiting for more to send would only delay them.
        if let Err(error) = socket.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY not set");
        }
        let config = match self.credentials.server(&self.allowed) {
            Ok(config) => config,
            Err(error) => {
                self.refuse(peer, Reason::BadCertificate, Some(&error));
                return None;
            }
        };
        let handshake = TlsAcceptor::from(config).accept(socket);
        let stream = match tokio::time::timeout(self.bounds.handshake, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.refuse(peer, Reason::of_io(&error), Some(&error));
                return None;
            }
            Err(late) => {
                self.refuse(peer, Reason::Slow, Some(&late));
                return None;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let Some(Ok(identity)) = shown.first().map(verify::identity) else {
            self.refuse(peer, Reason::NotAnIdentity, None);
            return None;
        };
        let metrics = &self.credentials.metrics;
        metrics.accepted.inc();
        metrics.open.inc();
        Some(Accepted {
            stream,
            identity,
            cut: Box::pin(self.cut.clone().cancelled_owned()),
            _place: Place {
                open: metrics.open.clone(),
                _permit: place,
            },
        })
    }

    fn refuse(&self, peer: IpAddr, why: Reason, error: Option<&(dyn std::error::Error + 'static)>) {
        self.credentials.metrics.refuse(why);
        let address = peer.to_string();
        // Probes of orchestrators, and of peers that look whether anybody listens, say nothing.
        if why != Reason::Unreachable && self.credentials.first(&address, why) {
            warn!(
                peer = address,
                reason = why.label(),
                error,
                "peer refused; not logged again"
            );
        }
    }
}

async fn failed(error: &io::Error) {
    let gone = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    );
    if !gone {
        warn!(%error, "peer's connection not accepted");
        tokio::time::sleep(EXHAUSTED).await;
    }
}

/// A place among the open connections.
#[derive(Debug)]
struct Place {
    open: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// A connection of a peer that has proved who it is.
struct Accepted {
    stream: TlsStream<TcpStream>,
    identity: PeerIdentity,
    /// The process stops, and streams didn't end by themselves.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Place,
}

impl Connected for Accepted {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.identity.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
