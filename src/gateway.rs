//! The gateway: from the socket to the journal.
//!
//! ```text
//!  listener ─▶ connection ─▶ handler: checks ─▶ body ─▶ verify ─▶ limits ─▶ replay ─▶ journal ─▶ answer
//!   bounds      TLS, tap,            ▲ one lookup
//!               time limits        table ◀── control ◀── catalog ◀── watches: Ingestors,
//!                                                                    namespaces, Secrets
//! ```
//!
//! What a sender can rely on is written in `docs/contract.md`. The gateway writes no Kubernetes
//! object: what it knows it serves as facts, and the owning core projects them into status.

pub mod address;
mod answer;
mod body;
pub mod catalog;
mod connection;
mod control;
mod facts;
mod frames;
mod framing;
mod handler;
mod levels;
pub mod limits;
mod listener;
mod metrics;
pub mod options;
pub mod prefer;
pub mod problem;
pub mod replay;
pub mod routes;
pub mod secrets;
pub mod sign;
mod tap;
pub mod tls;
pub mod verify;
mod watch;

use core::net::SocketAddr;
use std::{fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch as channel},
};
use tokio_util::sync::CancellationToken;

pub use options::{Limits, Options, TlsFiles};

use self::{
    answer::Base, body::Budget, control::Control, facts::FactTable, handler::Shared,
    levels::Levels, limits::Addresses, listener::Listener, metrics::Metrics, routes::Table,
    tls::Certificates,
};
use crate::{
    journal::{Journal, facts::FactSource},
    ops::{
        ready::{Gate, Readiness},
        tasks::Tasks,
        time::Clock,
    },
};

/// Why a gateway can't start. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Options that can't be, all of them.
    #[error("the gateway's options: {}", named(.0))]
    Options(Vec<options::Invalid>),
    /// Certificate or key can't be used.
    #[error("load the gateway's certificate")]
    Tls(#[from] tls::Error),
    /// It can't listen.
    #[error("listen on {address} for the gateway: name another port, or 0 for a free one")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its metrics can't be registered.
    #[error("register the gateway's metrics")]
    Metrics(#[from] prometheus::Error),
}

fn named(invalid: &[options::Invalid]) -> String {
    let all: Vec<_> = invalid.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// The gate that is shut until every endpoint is as its Ingestor says.
pub const GATE: &str = "gateway";

/// Starts gateways.
#[derive(Clone, Copy, Debug)]
pub struct Gateway;

/// What a gateway works with.
#[derive(Clone)]
pub struct Surroundings<'a> {
    /// The Kubernetes API, from which Ingestors, namespaces and Secrets are read.
    pub client: kube::Client,
    /// Where accepted events go.
    pub journal: Arc<dyn Journal>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Where metrics are registered.
    pub registry: &'a prometheus::Registry,
    /// Where it says what it waits for.
    pub readiness: &'a Readiness,
    /// The tasks that it is part of.
    pub tasks: &'a Tasks,
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

/// A running gateway.
#[derive(Clone, Debug)]
pub struct Handle {
    address: SocketAddr,
    url: String,
    shared: Arc<Shared>,
    gate: Gate,
    ended: channel::Receiver<bool>,
    abort: CancellationToken,
}

/// Options that hold, and the certificate that they name.
#[derive(Debug)]
pub struct Prepared {
    options: Options,
    certificates: Option<Arc<Certificates>>,
}

impl Prepared {
    /// Checks the options and reads the certificate, so that a process learns of what is wrong with
    /// them before it has started anything.
    ///
    /// # Errors
    /// Options that can't be, or files that can't be used.
    pub async fn of(options: Options) -> Result<Self, Error> {
        options.validate().map_err(Error::Options)?;
        let certificates = match options.tls.clone() {
            Some(files) => Some(Arc::new(Certificates::load(files).await?)),
            None => None,
        };
        Ok(Self {
            options,
            certificates,
        })
    }
}

impl Gateway {
    /// [`Prepared::of`], then [`Gateway::serve`].
    ///
    /// # Errors
    /// Options that can't be, or what can't be opened.
    pub async fn start(options: Options, with: Surroundings<'_>) -> Result<Handle, Error> {
        Self::serve(Prepared::of(options).await?, with).await
    }

    /// Binds the socket, starts the watches, and serves. [`GATE`] opens when every endpoint is as
    /// its Ingestor says.
    ///
    /// # Errors
    /// What can't be opened.
    pub async fn serve(prepared: Prepared, with: Surroundings<'_>) -> Result<Handle, Error> {
        let Prepared {
            options,
            certificates,
        } = prepared;
        let metrics = Metrics::register(with.registry)?;
        let listening = |source| Error::Listen {
            address: options.listen,
            source,
        };
        let socket = TcpListener::bind(options.listen).await.map_err(listening)?;
        let address = socket.local_addr().map_err(listening)?;
        let scheme = if certificates.is_some() {
            "https"
        } else {
            "http"
        };
        let own = format!("{scheme}://{address}");
        let url = options.public_url.clone().unwrap_or(own);
        let gate = with.readiness.gate(GATE);
        let limits = &options.limits;
        let bodies = Arc::new(Budget::new(
            limits.bodies_bytes,
            limits.bodies_bytes_per_address,
        ));
        let addresses = Arc::new(Addresses::new(limits.address));
        let waiters = Arc::new(Semaphore::new(limits.waiters));
        let levels = Levels::new(
            Arc::clone(&bodies),
            Arc::clone(&addresses),
            Arc::clone(&waiters),
        )?;
        with.registry.register(Box::new(levels))?;
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(Table::default()),
            facts: Arc::new(FactTable::new(Arc::clone(&with.journal))),
            started: with.clock.instant(),
            addresses,
            bodies,
            waiters,
            draining: CancellationToken::new(),
            base: Base::new(certificates.is_some()),
            journal: with.journal,
            clock: with.clock,
            metrics,
            tasks: with.tasks.clone(),
            options,
        });
        let control = Control::new(Arc::clone(&shared), with.client, gate.clone(), &url);
        with.tasks.spawn("gateway-control", control.run());
        if let Some(certificates) = &certificates {
            let following = Arc::clone(certificates);
            let following = following.follow(shared.metrics.clone(), with.tasks.token());
            with.tasks.spawn("gateway-certificates", following);
        }
        let ended = channel::Sender::new(false);
        let handle = Handle {
            address,
            url,
            shared: Arc::clone(&shared),
            gate,
            ended: ended.subscribe(),
            abort: CancellationToken::new(),
        };
        let listener = Listener {
            socket,
            shared,
            certificates,
            ended,
            abort: handle.abort.clone(),
        };
        with.tasks.spawn("gateway-listener", listener.run());
        Ok(handle)
    }
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands before `/hooks` in the URLs that senders get.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it knows of each Ingestor.
    #[must_use]
    pub fn facts(&self) -> Arc<dyn FactSource> {
        Arc::<FactTable>::clone(&self.shared.facts)
    }

    /// Takes no new connections, answers new requests with 503, finishes those under way, and cuts
    /// off what is left after `deadline`. The gate shuts at once.
    pub async fn drain(&self, deadline: Duration) {
        self.gate.shut("draining");
        self.shared.draining.cancel();
        let mut ended = self.ended.clone();
        if tokio::time::timeout(deadline, ended.wait_for(|ended| *ended))
            .await
            .is_ok()
        {
            return;
        }
        self.abort.cancel();
        // The listener only has to drop what it owns; it can't hang, and may be gone already.
        drop(ended.wait_for(|ended| *ended).await);
    }
}
