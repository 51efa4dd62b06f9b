//! The accept loop: takes connections within their bounds and owns them until they end.

use core::net::IpAddr;
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    address, connection, handler::Shared, limits::network_of, options::Options, tls::Certificates,
};

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
        let mut connections: JoinSet<()> = JoinSet::new();
        let places = Places::default();
        let limits = self.shared.options.limits.clone();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.shared.draining.cancelled() => break,
                Some(ended) = connections.join_next() => self.ended(ended),
                _ = sweep.tick() => self.shared.addresses.sweep(self.shared.uptime()),
                accepted = self.socket.accept(), if connections.len() < limits.connections => {
                    let Some((socket, peer)) = taken(accepted).await else {
                        continue;
                    };
                    let Some(place) = places.take(peer, most(&self.shared.options, peer)) else {
                        self.shared.metrics.connections_refused.inc();
                        debug!(%peer, "too many connections of one address");
                        continue;
                    };
                    self.shared.metrics.connections.inc();
                    self.shared.metrics.connections_total.inc();
                    let tls = self.certificates.as_ref().map(|certificates| TlsAcceptor::from(certificates.current()));
                    let shared = Arc::clone(&self.shared);
                    connections.spawn(async move {
                        let _place = place;
                        connection::serve(shared, socket, peer, tls).await;
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

    fn ended(&self, ended: Result<(), tokio::task::JoinError>) {
        self.shared.metrics.connections.dec();
        if let Err(error) = ended {
            warn!(%error, "a connection's task failed");
        }
    }
}

/// How many connections a peer may have. A trusted proxy speaks for many clients; the total bounds
/// it.
fn most(options: &Options, peer: IpAddr) -> usize {
    if address::within(&options.trusted_proxies, peer) {
        usize::MAX
    } else {
        options.limits.connections_per_address
    }
}

/// Open connections by client: an IPv6 host has 2^64 addresses, and is one client.
#[derive(Clone, Debug, Default)]
struct Places {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of them; given back when it is dropped, also by a task that panics.
#[derive(Debug)]
struct Place {
    places: Places,
    client: IpAddr,
}

impl Places {
    /// A place for another connection of `peer`, if it has fewer than `most`.
    fn take(&self, peer: IpAddr, most: usize) -> Option<Place> {
        let client = network_of(peer);
        let mut all = self.lock();
        let open = all.entry(client).or_default();
        if *open >= most {
            return None;
        }
        *open += 1;
        drop(all);
        let places = self.clone();
        Some(Place { places, client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.lock();
        if let Some(open) = all.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                all.remove(&self.client);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_does_not_gain_by_changing_its_ipv6_suffix() {
        let places = Places::default();
        let take = |peer: &str| places.take(peer.parse().unwrap(), 1);
        let held = take("2001:db8::1").unwrap();
        assert!(take("2001:db8::ffff").is_none());
        let other = take("2001:db8:0:1::1");
        assert!(other.is_some());
        drop(held);
        assert!(take("2001:db8::2").is_some());
    }

    #[test]
    fn a_trusted_proxy_has_more_connections_than_a_client() {
        let mut options = Options::loopback();
        options.limits.connections_per_address = 2;
        options.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(most(&options, "192.0.2.1".parse().unwrap()), 2);
        assert_eq!(most(&options, "10.1.2.3".parse().unwrap()), usize::MAX);
    }

    #[tokio::test]
    async fn a_connection_that_panics_gives_its_place_back() {
        let places = Places::default();
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        let place = places.take(peer, 1).unwrap();
        assert!(places.take(peer, 1).is_none());
        assert!(places.take("192.0.2.2".parse().unwrap(), 1).is_some());
        let mut connections: JoinSet<()> = JoinSet::new();
        connections.spawn(async move {
            let _place = place;
            panic!("as a connection might");
        });
        let ended = connections.join_next().await.unwrap();
        assert!(ended.unwrap_err().is_panic());
        assert!(places.lock().is_empty());
        assert!(places.take(peer, 1).is_some());
    }
}
