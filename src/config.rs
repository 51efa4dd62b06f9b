//! Configuration: defaults, then `ZEN_FABRIC_*` from the environment, then flags.
//!
//! ```text
//!  Config::default() ◀── environment ◀── flags      one table (settings.rs) names every value:
//!         └── relations checked ──▶ Config           its flag, its variable, its help, its place
//! ```
//!
//! Plain data: the composition in `roles` maps it to the rooms' own options. Every wrong value and
//! every wrong relation is reported, by name, in one go; nothing starts before all are right.

pub mod bounds;
pub mod flags;
mod fleet;
mod layers;
mod relations;
mod settings;
#[cfg(test)]
mod tests;
mod value;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use secrecy::SecretString;

use crate::api::limits::BODY_BYTES;

pub use self::{
    fleet::{CORES_DIR, Fleet},
    layers::{ENV_PREFIX, Effective, Invalid, Loaded, Origin, Problem, environment},
    settings::{CORE_ROLE, DEV_ROLE, GATEWAY_ROLE, Roles, SETTINGS, Setting},
    value::{Bytes, SyncMode, Value},
};

/// Everything that a process is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the journal, the embedded API's store, the kubeconfig and the admin token lie.
    pub data_dir: PathBuf,
    /// Written, as JSON with the addresses, when events are accepted.
    pub ready_file: Option<PathBuf>,
    /// The sockets to the outside.
    pub gateway: Gateway,
    /// Probes, metrics and the dead letters.
    pub admin: Admin,
    /// Which Kubernetes API.
    pub api: ApiServer,
    /// What makes events durable.
    pub journal: Journal,
    /// Which fleet this process belongs to, and its place in it.
    pub fleet: Fleet,
    /// From the journal to Observations.
    pub engine: Engine,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Whether the kernel may write core dumps, and debuggers may attach: both see secrets.
    pub core_dumps: bool,
}

/// The gateway's sockets, limits and timeouts.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The address to listen on.
    pub bind: IpAddr,
    /// The port to listen on; 0 picks a free one.
    pub port: u16,
    /// PEM file with the certificate chain; read again when it changes.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key; read again when it changes.
    pub tls_key: Option<PathBuf>,
    /// Whether plain HTTP may be served on an address that others can reach.
    pub allow_plain_http: bool,
    /// What senders see: scheme, host and port before `/hooks`.
    pub public_url: Option<String>,
    /// Proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections at once; more wait in the kernel's accept queue.
    pub max_connections: usize,
    /// HTTP/2 streams at once on one connection.
    pub max_streams: u32,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Size of a request's header.
    pub max_header_bytes: Bytes,
    /// The largest body of any endpoint, whatever its Ingestor asks for.
    pub max_body_bytes: Bytes,
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
    /// Failing requests per second that one client address may make.
    pub address_failures_per_second: u32,
    /// Failing requests that one client address may make at once.
    pub address_failures_burst: u32,
    /// How long open requests may go on after the first signal.
    pub drain_timeout: Duration,
    /// When the supervisor kills the process after its signal. What `drain_timeout` leaves of it is
    /// for the engine, the journal and the last spans.
    pub grace_period: Duration,
}

/// The admin server.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The address to listen on.
    pub bind: IpAddr,
    /// The port to listen on; 0 picks a free one.
    pub port: u16,
}

/// The Kubernetes API: the embedded one, or a cluster's.
#[derive(Clone, Debug)]
pub struct ApiServer {
    /// The embedded API's port; 0 picks a free one.
    pub port: u16,
    /// A cluster's kubeconfig; absent: the embedded API.
    pub kubeconfig: Option<PathBuf>,
    /// Whether to install the CRDs into that cluster.
    pub install_crds: bool,
}

/// The journal.
#[derive(Clone, Debug)]
pub struct Journal {
    /// Its directory; absent: `journal` in the data directory.
    pub dir: Option<PathBuf>,
    /// All of it; full: 503.
    pub total_bytes: Bytes,
    /// One Ingestor's uncommitted records; absent: a quarter of the total. Full: 429.
    pub share_bytes: Option<Bytes>,
    /// One file.
    pub segment_bytes: Bytes,
    /// Idempotency keys remembered; one Ingestor holds at most a quarter.
    pub keys: u64,
    /// Dead letters.
    pub letter_bytes: Bytes,
    /// How long a dead letter is kept.
    pub letter_age: Duration,
    /// Whether an answer waits for the disk: anything but [`SyncMode::Durable`] loses events.
    pub sync: SyncMode,
}

/// The engine and the writer.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Threads of a `core` that work on events.
    pub threads: usize,
    /// Status writes per second, over all Ingestors.
    pub status_writes_per_second: u32,
    /// How often expired Observations are looked for.
    pub sweep_interval: Duration,
}

/// Logs and traces.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// One JSON object per line, or lines for people.
    pub log_format: LogFormat,
    /// Which spans and events, as `tracing_subscriber`'s `EnvFilter` reads it.
    pub log_filter: String,
    /// Where traces go, by OTLP over gRPC; absent: nowhere, and nothing is spent on them.
    pub otlp_endpoint: Option<String>,
    /// Share of traces that begin here and are kept; a sender's own choice is followed.
    pub otlp_sample_ratio: f64,
    /// Headers that the collector wants, such as a token: `name=value,name=value`.
    pub otlp_headers: Option<SecretString>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Human,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(".zen-fabric/dev"),
            ready_file: None,
            gateway: Gateway::default(),
            admin: Admin::default(),
            api: ApiServer::default(),
            journal: Journal::default(),
            fleet: Fleet::default(),
            engine: Engine::default(),
            telemetry: Telemetry::default(),
            core_dumps: false,
        }
    }
}

/// What an Ingestor may ask for at most.
fn largest_body() -> Bytes {
    Bytes(u64::from(BODY_BYTES))
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            tls_cert: None,
            tls_key: None,
            allow_plain_http: false,
            public_url: None,
            trusted_proxies: Vec::new(),
            // About 50 KiB each with TLS and its buffers: 200 MiB when every one is open.
            max_connections: 4096,
            max_streams: 100,
            max_headers: 64,
            max_header_bytes: Bytes::kib(32),
            // Each Ingestor has its own limit, 1 MiB unless it asks for more; all that it may ask for
            // is served.
            max_body_bytes: largest_body(),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            max_wait: Duration::from_secs(10),
            max_waiters: 1000,
            address_failures_per_second: 200,
            address_failures_burst: 400,
            drain_timeout: Duration::from_secs(25),
            grace_period: Duration::from_secs(40),
        }
    }
}

impl Gateway {
    /// The longest that a request may take from its header to its answer.
    #[must_use]
    pub fn longest_request(&self) -> Duration {
        self.body_timeout.saturating_add(self.max_wait)
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8081,
        }
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self {
            port: 8082,
            kubeconfig: None,
            install_crds: false,
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            dir: None,
            total_bytes: Bytes::gib(8),
            share_bytes: None,
            // Large enough that a new file (two directory syncs) is rare, small enough that
            // trimming, which works on whole files, stays within its bound of two of them.
            segment_bytes: Bytes::mib(64),
            keys: 1_000_000,
            letter_bytes: Bytes::mib(256),
            letter_age: Duration::from_hours(7 * 24),
            sync: SyncMode::Durable,
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            // A replica waits for the API server most of the time; a second thread would be woken for
            // each event, too (ADR 0013).
            threads: 1,
            // A thousand busy Ingestors are each written once in 50 s; an API server that takes 1,100
            // small writes a second spends two percent on them. A sweep a minute: the shortest time
            // that an Observation may ask for.
            status_writes_per_second: 20,
            sweep_interval: Duration::from_mins(1),
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Human,
            log_filter: "info".to_owned(),
            otlp_endpoint: None,
            otlp_sample_ratio: 1.0,
            otlp_headers: None,
        }
    }
}

impl Config {
    /// The journal's directory.
    #[must_use]
    pub fn journal_dir(&self) -> PathBuf {
        self.journal
            .dir
            .clone()
            .unwrap_or_else(|| self.data_dir.join("journal"))
    }

    /// What the record of the largest request may take.
    #[must_use]
    pub fn largest_record(&self) -> Bytes {
        let gateway = &self.gateway;
        // A header's value that is no UTF-8 has three bytes for one, and one of them may be the
        // event's id, too.
        let headers = gateway.max_header_bytes.0.saturating_mul(4);
        // The request target of 8 KiB at most, and digests, times and lengths.
        let others = Bytes::kib(16).0;
        let body = gateway.max_body_bytes.0;
        Bytes(body.saturating_add(headers).saturating_add(others))
    }

    /// What one Ingestor's uncommitted records may take.
    #[must_use]
    pub fn journal_share(&self) -> Bytes {
        self.journal
            .share_bytes
            .unwrap_or(Bytes(self.journal.total_bytes.0 / 4))
    }

    /// The kubeconfig of the API that this process uses.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.api
            .kubeconfig
            .clone()
            .unwrap_or_else(|| self.data_dir.join("kubeconfig"))
    }
}
