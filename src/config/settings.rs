//! The table of settings: one line gives a value its flag, its variable, its help and its place.

use super::{Config, ENV_PREFIX, Value};

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name, which is also its flag without the dashes.
    pub name: &'static str,
    /// What its value looks like, for the help.
    pub form: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Whether there is a flag; secrets and what only measurement needs have none.
    pub flag: bool,
    /// Whose it is.
    pub roles: Roles,
    /// Where it lies.
    pub place: fn(&mut Config) -> &mut dyn Value,
}

/// `dev`, as a bit of [`Roles`] and a parameter of [`super::flags::Of`].
pub const DEV_ROLE: u8 = 1;
/// `gateway`.
pub const GATEWAY_ROLE: u8 = 2;
/// `core`.
pub const CORE_ROLE: u8 = 4;

/// The commands that have a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// `dev`, which plays all of them.
    pub const DEV: Self = Self(DEV_ROLE);
    /// `gateway`.
    pub const GATEWAY: Self = Self(GATEWAY_ROLE);
    /// `core`.
    pub const CORE: Self = Self(CORE_ROLE);

    pub(super) const fn new(bits: u8) -> Self {
        Self(bits)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of `other` is among them.
    #[must_use]
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

const DEV: Roles = Roles::DEV;
const GATEWAY: Roles = Roles::GATEWAY.and(DEV);
const CORE: Roles = Roles::CORE.and(DEV);
const EVERY: Roles = GATEWAY.and(CORE);
/// What `dev` gives its children itself.
const REPLICA: Roles = Roles::CORE;
/// What only a gateway of its own has: `dev` picks a free port and tells its children.
const SERVED: Roles = Roles::GATEWAY;
const PEER: Roles = Roles::CORE.and(Roles::GATEWAY);

impl Setting {
    /// Its variable: `ZEN_FABRIC_GATEWAY_PORT` of `gateway-port`.
    #[must_use]
    pub fn variable(&self) -> String {
        let name = self.name.replace('-', "_").to_ascii_uppercase();
        format!("{ENV_PREFIX}{name}")
    }

    /// Whether it is a switch, whose flag needs no value.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.form == SWITCH
    }
}

const SWITCH: &str = "true|false";

macro_rules! settings {
    ($($name:literal $roles:ident $form:expr, $($part:ident).+, $help:literal;)+) => {
        &[$(Setting {
            name: $name,
            form: $form,
            help: $help,
            flag: true,
            roles: $roles,
            place: |config| &mut config.$($part).+,
        },)+
        Setting {
            name: "otlp-headers",
            form: "NAME=VALUE,…",
            help: "Headers that the collector wants; a variable only, for flags are seen by every process",
            flag: false,
            roles: EVERY,
            place: |config| &mut config.telemetry.otlp_headers,
        },
        Setting {
            name: "journal-sync",
            form: "durable",
            help: "`durable`: an answer means that the event survives a power cut. \
                The other value exists to measure what that costs, and only as a variable",
            flag: false,
            roles: GATEWAY,
            place: |config| &mut config.journal.sync,
        }]
    };
}

/// Every setting, in the order in which they are shown.
pub const SETTINGS: &[Setting] = settings! {
    "data-dir" EVERY "DIR", data_dir,
        "Where this process keeps its files: journal, admin token; of `dev` also the API's store and kubeconfig";
    "ready-file" EVERY "FILE", ready_file,
        "Written when the process does its work: JSON with the addresses";
    "gateway-bind" GATEWAY "ADDRESS", gateway.bind, "Address of the gateway";
    "gateway-port" GATEWAY "PORT", gateway.port, "Port of the gateway; 0 picks a free one";
    "tls-cert" GATEWAY "FILE", gateway.tls_cert, "PEM file with the certificate chain, read again when it changes";
    "tls-key" GATEWAY "FILE", gateway.tls_key, "PEM file with the private key, read again when it changes";
    "allow-plain-http" GATEWAY SWITCH, gateway.allow_plain_http,
        "Serve plain HTTP on an address that other machines can reach";
    "public-url" GATEWAY "URL", gateway.public_url,
        "What senders see before /hooks; default: the gateway's own address";
    "trusted-proxies" GATEWAY "CIDRS", gateway.trusted_proxies,
        "Proxies whose X-Forwarded-For names the client, separated by commas";
    "max-connections" GATEWAY "COUNT", gateway.max_connections, "Connections at once";
    "max-streams" GATEWAY "COUNT", gateway.max_streams, "HTTP/2 streams at once on one connection";
    "max-headers" GATEWAY "COUNT", gateway.max_headers, "Header fields of a request";
    "max-header-bytes" GATEWAY "SIZE", gateway.max_header_bytes, "Size of a request's header";
    "max-body-bytes" GATEWAY "SIZE", gateway.max_body_bytes, "The largest body of any endpoint, whatever its Ingestor asks for";
    "header-timeout" GATEWAY "TIME", gateway.header_timeout, "From a header's first byte to its last";
    "body-timeout" GATEWAY "TIME", gateway.body_timeout, "From the header to the body's last byte";
    "idle-timeout" GATEWAY "TIME", gateway.idle_timeout, "How long a connection may be without a request";
    "max-wait" GATEWAY "TIME", gateway.max_wait, "The longest that `Prefer: wait` is honored";
    "max-waiters" GATEWAY "COUNT", gateway.max_waiters, "Requests with `Prefer: wait` at once";
    "address-failures-per-second" GATEWAY "COUNT", gateway.address_failures_per_second,
        "Failing requests per second of one client address";
    "address-failures-burst" GATEWAY "COUNT", gateway.address_failures_burst,
        "Failing requests at once of one client address";
    "drain-timeout" GATEWAY "TIME", gateway.drain_timeout, "How long open requests go on after the first signal";
    "grace-period" EVERY "TIME", gateway.grace_period, "When the supervisor kills the process after its signal: everything ends within it";
    "admin-bind" EVERY "ADDRESS", admin.bind, "Address of probes, metrics and dead letters";
    "admin-port" EVERY "PORT", admin.port, "Port of probes, metrics and dead letters; 0 picks a free one";
    "api-port" DEV "PORT", api.port, "Port of the embedded Kubernetes API; 0 picks a free one";
    "kubeconfig" EVERY "FILE", api.kubeconfig, "Use this cluster's API; default: the embedded one (`dev`), or the cluster of this Pod";
    "install-crds" DEV SWITCH, api.install_crds, "Install the CRDs into the cluster of --kubeconfig";
    "journal-dir" GATEWAY "DIR", journal.dir, "Default: `journal` in the data directory";
    "journal-total-bytes" GATEWAY "SIZE", journal.total_bytes, "All of the journal; full: 503";
    "journal-share-bytes" GATEWAY "SIZE", journal.share_bytes,
        "Uncommitted records of one Ingestor; default: a quarter of the total; full: 429";
    "journal-segment-bytes" GATEWAY "SIZE", journal.segment_bytes, "One file of the journal";
    "journal-keys" GATEWAY "COUNT", journal.keys, "Idempotency keys remembered";
    "journal-letter-bytes" GATEWAY "SIZE", journal.letter_bytes, "Dead letters kept";
    "journal-letter-age" GATEWAY "TIME", journal.letter_age, "How long a dead letter is kept";
    "fleet" EVERY "NAME", fleet.name,
        "The fleet: its ShardMap has this name, its Leases begin with it, its certificates name it";
    "namespace" EVERY "NAMESPACE", fleet.namespace, "Where the fleet's ShardMap and Leases are";
    "region" EVERY "REGION", fleet.region, "The region in which this process runs";
    "zone" CORE "ZONE", fleet.zone, "The zone in which this replica runs: work is spread over zones";
    "weight" CORE "COUNT", fleet.weight,
        "This replica's share of the work relative to others; 100 is usual";
    "pod-name" REPLICA "NAME", fleet.pod_name, "This replica's name: its Pod's";
    "pod-uid" REPLICA "UID", fleet.pod_uid, "UID of this replica's Pod";
    "peer-bind" REPLICA "ADDRESS", fleet.peer_bind, "Address on which other replicas reach this one";
    "peer-port" REPLICA "PORT", fleet.peer_port, "Port on which other replicas reach this one; 0 picks a free one";
    "peer-address" REPLICA "HOST:PORT", fleet.peer_address,
        "What other replicas are told; default: --peer-bind and the port";
    "gateways" REPLICA "HOST:PORT,…", fleet.gateways,
        "The gateways' journals: addresses, or a name of which every answer counts, looked up again every 2 s";
    "journal-bind" SERVED "ADDRESS", fleet.journal_bind, "Address on which cores read this gateway's journal";
    "journal-port" SERVED "PORT", fleet.journal_port,
        "Port on which cores read this gateway's journal; 0 picks a free one";
    "peer-ca" PEER "FILE", fleet.peer_ca,
        "PEM file with the CA of the fleet's certificates, read again when it changes";
    "peer-cert" PEER "FILE", fleet.peer_cert,
        "PEM file with this process's certificate chain: its URI is spiffe://zen-fabric/FLEET/ROLE or …/ROLE/POD";
    "peer-key" PEER "FILE", fleet.peer_key, "PEM file with this process's private key";
    "replicas" DEV "COUNT", fleet.replicas,
        "Cores that share the work, each a process of its own; 1: within this process";
    "worker-threads" REPLICA "COUNT", engine.threads,
        "Threads that work on events; more than one pays where one CPU is not enough for this replica's share";
    "status-writes-per-second" CORE "COUNT", engine.status_writes_per_second,
        "Status writes per second, over all Ingestors";
    "sweep-interval" CORE "TIME", engine.sweep_interval, "How often expired Observations are looked for; up to ten times more rarely where looking takes long";
    "log-format" EVERY "json|human", telemetry.log_format, "How log lines look";
    "log-filter" EVERY "FILTER", telemetry.log_filter, "Which log lines, such as info,zen_fabric::gateway=debug";
    "otlp-endpoint" EVERY "URL", telemetry.otlp_endpoint,
        "Where traces go, by OTLP over gRPC, such as http://collector:4317; https is checked by the platform's roots";
    "otlp-sample-ratio" EVERY "0…1", telemetry.otlp_sample_ratio,
        "Share of traces that begin here and are kept; a sender's own choice is followed";
    "core-dumps" EVERY SWITCH, core_dumps,
        "Let the kernel write core dumps and debuggers attach, to find a fault: both see secrets";
};
