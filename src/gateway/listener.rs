//! The accept loop: takes connections within their bounds and owns them until they end.

use core::net::IpAddr;
use std::{collections::HashMap, io, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{connection, handler::Shared, tls::Certificates};

/// How long to wait after the kernel has no file descriptors or memory for another connection:
/// some must close first.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// How often addresses that owe nothing are forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// The accept loop's state.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) shared: Arc<Shared>,
    pub(super) certificates: Option<Arc<Certificates>>,
    /// Set when all connections have ended.
    pub(super) ended: watch::Sender<bool>,
    /// Cuts off what is left after a drain's deadline.
    pub(super) abort: CancellationToken,
}

impl Listener {
    /// Takes connections until the gateway drains; then waits for those that are open.
    ///
    /// Connections live in a set of their own instead of the process's tasks: they are joined here,
    /// and a task's span would be entered at every poll.
    pub(super) async fn run(self) {
        let stop = self.shared.tasks.token();
        let mut connections: JoinSet<IpAddr> = JoinSet::new();
        let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
        let limits = self.shared.options.limits.clone();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.shared.draining.cancelled() => break,
                Some(ended) = connections.join_next() => self.ended(ended, &mut by_address),
                _ = sweep.tick() => self.shared.addresses.sweep(self.shared.uptime()),
                accepted = self.socket.accept(), if connections.len() < limits.connections => {
                    let Some((socket, peer)) = taken(accepted).await else {
                        continue;
                    };
                    let open = by_address.entry(peer).or_default();
                    if *open >= limits.connections_per_address {
                        self.shared.metrics.connections_refused.inc();
                        debug!(%peer, "too many connections of one address");
                        continue;
                    }
                    *open += 1;
                    self.shared.metrics.connections.inc();
                    self.shared.metrics.connections_total.inc();
                    let tls = self.certificates.as_ref().map(|certificates| TlsAcceptor::from(certificates.current()));
                    let shared = Arc::clone(&self.shared);
                    connections.spawn(async move {
                        let serving = connection::serve(shared, socket, peer, tls);
                        // A panic is this connection's own, and its address gets its place back.
                        if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
                            error!(%peer, "serving a connection panicked");
                        }
                        peer
                    });
                }
            }
        }
        // A process that stops without having drained answers what it has begun, too.
        self.shared.draining.cancel();
        drop(self.socket);
        let metrics = &self.shared.metrics;
        loop {
            tokio::select! {
                ended = connections.join_next() => match ended {
                    Some(_) => metrics.connections.dec(),
                    None => break,
                },
                () = self.abort.cancelled() => {
                    warn!(open = connections.len(), "connections cut off at the drain's deadline");
                    connections.shutdown().await;
                    metrics.connections.set(0);
                    break;
                }
            }
        }
        self.ended.send_replace(true);
    }

    fn ended(
        &self,
        ended: Result<IpAddr, tokio::task::JoinError>,
        by_address: &mut HashMap<IpAddr, usize>,
    ) {
        self.shared.metrics.connections.dec();
        match ended {
            Ok(peer) => {
                if let Some(open) = by_address.get_mut(&peer) {
                    *open -= 1;
                    if *open == 0 {
                        by_address.remove(&peer);
                    }
                }
            }
            Err(error) => warn!(%error, "a connection's task failed"),
        }
    }
}

/// The socket and whose it is.
async fn taken(
    accepted: io::Result<(TcpStream, core::net::SocketAddr)>,
) -> Option<(TcpStream, IpAddr)> {
    match accepted {
        Ok((socket, peer)) => {
            // Answers are small and complete: waiting for more to send would only delay them.
            if let Err(error) = socket.set_nodelay(true) {
                debug!(%error, "TCP_NODELAY not set");
            }
            Some((socket, peer.ip().to_canonical()))
        }
        Err(error) => {
            let gone = matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
            );
            if !gone {
                warn!(%error, "connection not accepted");
                tokio::time::sleep(EXHAUSTED).await;
            }
            None
        }
    }
}
