//! From a socket to the journal: the part that is exposed to the outside.
//!
//! ```text
//!  listener ──request──▶ endpoint ──▶ route ─▶ head ─▶ body ─▶ verify ─▶ limit ─▶ replay ─▶ append
//!  (tls, pulse)             │          ▲                                                     │
//!                        answer ◀──────┼───────────────── 2xx only when durable ─────────────┘
//!                                   registry ◀── Ingestors, Namespaces, Secrets
//! ```
//!
//! It holds every secret and has no power over the cluster: it reads, and writes no object.

mod address;
mod endpoint;
mod listener;
mod metrics;
mod prefer;
mod problem;
mod pulse;
mod registry;
mod replay;
mod routes;
mod secrets;
pub mod sign;
mod table;
mod tls;
mod verify;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use kube::Client;
use prometheus::Registry as Metering;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::tls::{Error as TlsError, Files as TlsFiles};
use self::{
    endpoint::Endpoints, listener::Listener, metrics::Metrics, pulse::Timeouts, registry::Registry,
    routes::LimitClock, table::Shared,
};
use crate::{
    journal::{Journal, facts::FactSource},
    ops::{ready::Readiness, tasks::Tasks, time::Clock},
};

/// How a gateway is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 picks a free one.
    pub bind: SocketAddr,
    /// Certificate and key; absent: plain HTTP, on loopback only unless `allow_plain_http`.
    pub tls: Option<TlsFiles>,
    /// Whether plain HTTP may be served on an address that others can reach.
    pub allow_plain_http: bool,
    /// What senders see before `/hooks`; absent: made from the address.
    pub public_url: Option<String>,
    /// Connections at once, and from one address.
    pub max_connections: usize,
    /// HTTP/2 streams at once on one connection.
    pub max_streams: u32,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Size of a request's header.
    pub max_header_bytes: usize,
    /// The largest body that an Ingestor may ask for.
    pub max_body_bytes: usize,
    /// From the first byte of a header to its last.
    pub header_timeout: Duration,
    /// From the header to the last byte of the body.
    pub body_timeout: Duration,
    /// A connection without a request.
    pub idle_timeout: Duration,
    /// The longest that `Prefer: wait` is honoured.
    pub max_wait: Duration,
    /// Requests that wait at once.
    pub max_waiters: usize,
    /// Proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<IpNet>,
    /// Refused requests per second, and at once, per client address.
    pub address_failures: (u32, u32),
}

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Plain HTTP where others could listen in.
    #[error(
        "refuse plain HTTP on {0}, which others can reach: give --tls-cert and --tls-key, or --allow-plain-http behind a proxy that ends TLS"
    )]
    PlainHttp(IpAddr),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("listen on {address} for events: name another --gateway-port, or 0 for a free one")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A metric's name is taken.
    #[error("register the gateway's metrics")]
    Metrics(#[from] prometheus::Error),
}

/// Starts gateways.
#[derive(Clone, Copy, Debug)]
pub struct Gateway;

/// A running gateway.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    url: String,
    shared: Arc<Shared>,
    endpoints: Arc<Endpoints>,
    draining: CancellationToken,
}

/// How often an ending gateway looks whether its last request is answered.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

impl Gateway {
    /// Listens, and serves as soon as the caches are filled; before that it answers 503.
    ///
    /// # Errors
    /// What is wrong with the options, the certificate or the address.
    pub async fn start(
        options: Options,
        client: Client,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        metering: &Metering,
        readiness: &Readiness,
        tasks: &Tasks,
    ) -> Result<Handle, Error> {
        if options.tls.is_none() && !options.allow_plain_http && !options.bind.ip().is_loopback() {
            return Err(Error::PlainHttp(options.bind.ip()));
        }
        let metrics = Metrics::register(metering)?;
        let tls = options.tls.clone().map(tls::Reloading::load).transpose()?;
        let (socket, address) = bind(options.bind).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        let public_url = options.public_url.clone().unwrap_or_else(|| url.clone());
        let shared = Shared::new(Arc::clone(&journal));
        let registry = Registry {
            options: registry::Options {
                public_url: public_url.trim_end_matches('/').to_owned(),
                max_body: options.max_body_bytes,
            },
            journal: Arc::clone(&journal),
            shared: Arc::clone(&shared),
            metrics: metrics.clone(),
            ready: readiness.gate("routes"),
            clock: LimitClock::new(Arc::clone(&clock)),
        };
        tasks.spawn("routes", registry.run(client, tasks.clone()));
        if let Some(tls) = &tls {
            tls.watch(&metrics, tasks);
        }
        let endpoints = Arc::new(Endpoints::new(
            Arc::clone(&shared),
            journal,
            Arc::clone(&clock),
            metrics.clone(),
            options.endpoint_limits(),
        ));
        let draining = tasks.token().child_token();
        let listener = Listener {
            socket,
            limits: options.connection_limits(),
            tls,
            endpoints: Arc::clone(&endpoints),
            metrics,
            clock,
            draining: draining.clone(),
        };
        tasks.spawn("listener", listener.run(tasks.clone()));
        Ok(Handle {
            address,
            url,
            shared,
            endpoints,
            draining,
        })
    }
}

async fn bind(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen {
        address: wanted,
        source,
    };
    let socket = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok((socket, address))
}

impl Options {
    fn endpoint_limits(&self) -> endpoint::Limits {
        endpoint::Limits {
            body_timeout: self.body_timeout,
            max_wait: self.max_wait,
            max_waiters: self.max_waiters,
            trusted_proxies: self.trusted_proxies.clone(),
            address_failures: self.address_failures,
        }
    }

    fn connection_limits(&self) -> listener::Limits {
        listener::Limits {
            max_connections: self.max_connections,
            // Half: one address alone can't shut everybody else out.
            max_connections_per_address: (self.max_connections / 2).max(1),
            max_streams: self.max_streams,
            max_headers: self.max_headers,
            max_header_bytes: self.max_header_bytes,
            timeouts: Timeouts {
                header: self.header_timeout,
                idle: self.idle_timeout,
            },
        }
    }
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Scheme, host and port of the listener.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is known of each Ingestor.
    #[must_use]
    pub fn facts(&self) -> Arc<dyn FactSource> {
        Arc::<Shared>::clone(&self.shared)
    }

    /// Stops accepting: connections are told to end, requests in service are finished, later ones
    /// get 503. Returns when none is in service.
    pub async fn drain(&self) {
        self.endpoints.drain();
        self.draining.cancel();
        while self.endpoints.open() > 0 {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}
