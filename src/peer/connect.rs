//! Makes connections to peers, and makes sure that it is they.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{DnsName, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing::{debug, warn};

use super::{identity::Expected, refusal::Reason, tls::Credentials};

/// TCP and TLS together take this long at most.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Between attempts, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// A peer that is gone without a word is noticed within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The library wants the host's name; ours are not looked at, and not sent.
const NAME: &str = "peer.zen-fabric.invalid";

/// There is no connection; nothing was sent over it.
#[derive(Debug, thiserror::Error)]
#[error("connect to {peer} at {address}: {}", reason.label())]
pub struct ConnectError {
    /// Whom.
    pub peer: Expected,
    /// Where.
    pub address: Arc<str>,
    /// Why not.
    pub reason: Reason,
    /// What was said.
    #[source]
    pub source: io::Error,
}

/// One connection to a peer that is the one expected, as bytes.
///
/// # Errors
/// When there is none.
pub async fn open(
    address: &str,
    credentials: &Credentials,
    expected: &Expected,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let attempt = tokio::time::timeout(TIMEOUT, handshake(address, credentials, expected));
    let (reason, source) = match attempt.await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => (Reason::of_io(&error), error),
        Err(late) => (Reason::Slow, late.into()),
    };
    credentials.metrics.fail(reason);
    let error = ConnectError {
        peer: expected.clone(),
        address: Arc::from(address),
        reason,
        source,
    };
    // That somebody isn't there is nothing odd.
    let odd = !matches!(reason, Reason::Unreachable | Reason::Slow);
    if odd && credentials.first(address, reason) {
        let error = &error as &dyn std::error::Error;
        warn!(error, "peer not connected to; not logged again");
    }
    Err(error)
}

async fn handshake(
    address: &str,
    credentials: &Credentials,
    expected: &Expected,
) -> io::Result<TlsStream<TcpStream>> {
    let config = credentials.client(expected).map_err(io::Error::other)?;
    let name = DnsName::try_from(NAME).map_err(io::Error::other)?;
    let socket = TcpStream::connect(address).await?;
    // Messages are small and complete: waiting for more to send would only delay them.
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY not set");
    }
    TlsConnector::from(config)
        .connect(ServerName::DnsName(name), socket)
        .await
}

fn endpoint() -> Endpoint {
    // TLS is ours, so the scheme is the one without it.
    Endpoint::from_static("http://peer.zen-fabric.invalid")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
}

/// One connection to a peer that is the one expected; once it is gone, the channel is of no use.
///
/// # Errors
/// When there is none.
pub async fn dial(
    address: &str,
    credentials: &Credentials,
    expected: &Expected,
) -> Result<Channel, ConnectError> {
    let stream = open(address, credentials, expected).await?;
    let stream = Mutex::new(Some(TokioIo::new(stream)));
    let once = service_fn(move |_: Uri| {
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let connected = endpoint().connect_with_connector(once).await;
    connected.map_err(|error| ConnectError {
        peer: expected.clone(),
        address: Arc::from(address),
        reason: Reason::Unreachable,
        source: io::Error::other(error),
    })
}

/// A channel to a peer: connected when it is first used, and again whenever the connection is gone.
#[must_use]
pub fn connect(address: &str, credentials: &Arc<Credentials>, expected: &Expected) -> Channel {
    let to = Arc::new((
        Arc::<str>::from(address),
        Arc::clone(credentials),
        expected.clone(),
        AtomicU32::new(0),
    ));
    let connector = service_fn(move |_: Uri| {
        let to = Arc::clone(&to);
        async move {
            let (address, credentials, expected, failures) = &*to;
            let before = failures.load(Ordering::Relaxed);
            if before > 0 {
                tokio::time::sleep(backoff(before)).await;
            }
            let opened = open(address, credentials, expected).await;
            let after = if opened.is_ok() {
                0
            } else {
                before.saturating_add(1)
            };
            failures.store(after, Ordering::Relaxed);
            opened.map(TokioIo::new)
        }
    });
    endpoint().connect_with_connector_lazy(connector)
}

/// Doubles up to its bound; a quarter of jitter, so that many don't come back at one moment.
fn backoff(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    let wait = BACKOFF.0.saturating_mul(doubled).min(BACKOFF.1);
    wait.mul_f64(0.75 + 0.25 * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_a_second() {
        assert!(backoff(1) <= BACKOFF.0);
        assert!(backoff(4) > BACKOFF.0 * 4);
        for failures in [10, u32::MAX] {
            assert!((Duration::from_millis(750)..=BACKOFF.1).contains(&backoff(failures)));
        }
    }
}
