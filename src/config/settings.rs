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
    /// Where it lies.
    pub place: fn(&mut Config) -> &mut dyn Value,
}

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
    ($($name:literal $form:expr, $($part:ident).+, $help:literal;)+) => {
        &[$(Setting {
            name: $name,
            form: $form,
            help: $help,
            flag: true,
            place: |config| &mut config.$($part).+,
        },)+
        Setting {
            name: "otlp-headers",
            form: "NAME=VALUE,…",
            help: "Headers that the collector wants; a variable only, for flags are seen by every process",
            flag: false,
            place: |config| &mut config.telemetry.otlp_headers,
        },
        Setting {
            name: "journal-sync",
            form: "durable",
            help: "`durable`: an answer means that the event survives a power cut. \
                The other value exists to measure what that costs, and only as a variable",
            flag: false,
            place: |config| &mut config.journal.sync,
        }]
    };
}

/// Every setting, in the order in which they are shown.
pub const SETTINGS: &[Setting] = settings! {
    "data-dir" "DIR", data_dir,
        "Where the journal, the embedded API's store, the kubeconfig and the admin token lie";
    "ready-file" "FILE", ready_file,
        "Written when events are accepted: JSON with the addresses";
    "gateway-bind" "ADDRESS", gateway.bind, "Address of the gateway";
    "gateway-port" "PORT", gateway.port, "Port of the gateway; 0 picks a free one";
    "tls-cert" "FILE", gateway.tls_cert, "PEM file with the certificate chain, read again when it changes";
    "tls-key" "FILE", gateway.tls_key, "PEM file with the private key, read again when it changes";
    "allow-plain-http" SWITCH, gateway.allow_plain_http,
        "Serve plain HTTP on an address that other machines can reach";
    "public-url" "URL", gateway.public_url,
        "What senders see before /hooks; default: the gateway's own address";
    "trusted-proxies" "CIDRS", gateway.trusted_proxies,
        "Proxies whose X-Forwarded-For names the client, separated by commas";
    "max-connections" "COUNT", gateway.max_connections, "Connections at once";
    "max-streams" "COUNT", gateway.max_streams, "HTTP/2 streams at once on one connection";
    "max-headers" "COUNT", gateway.max_headers, "Header fields of a request";
    "max-header-bytes" "SIZE", gateway.max_header_bytes, "Size of a request's header";
    "max-body-bytes" "SIZE", gateway.max_body_bytes, "The largest body of any endpoint, whatever its Ingestor asks for";
    "header-timeout" "TIME", gateway.header_timeout, "From a header's first byte to its last";
    "body-timeout" "TIME", gateway.body_timeout, "From the header to the body's last byte";
    "idle-timeout" "TIME", gateway.idle_timeout, "How long a connection may be without a request";
    "max-wait" "TIME", gateway.max_wait, "The longest that `Prefer: wait` is honored";
    "max-waiters" "COUNT", gateway.max_waiters, "Requests with `Prefer: wait` at once";
    "address-failures-per-second" "COUNT", gateway.address_failures_per_second,
        "Failing requests per second of one client address";
    "address-failures-burst" "COUNT", gateway.address_failures_burst,
        "Failing requests at once of one client address";
    "drain-timeout" "TIME", gateway.drain_timeout, "How long open requests go on after the first signal";
    "grace-period" "TIME", gateway.grace_period, "When the supervisor kills the process after its signal: the rest after drain-timeout is for engine and journal";
    "admin-bind" "ADDRESS", admin.bind, "Address of probes, metrics and dead letters";
    "admin-port" "PORT", admin.port, "Port of probes, metrics and dead letters; 0 picks a free one";
    "api-port" "PORT", api.port, "Port of the embedded Kubernetes API; 0 picks a free one";
    "kubeconfig" "FILE", api.kubeconfig, "Use this cluster's API instead of the embedded one";
    "install-crds" SWITCH, api.install_crds, "Install the CRDs into the cluster of --kubeconfig";
    "journal-dir" "DIR", journal.dir, "Default: `journal` in the data directory";
    "journal-total-bytes" "SIZE", journal.total_bytes, "All of the journal; full: 503";
    "journal-share-bytes" "SIZE", journal.share_bytes,
        "Uncommitted records of one Ingestor; default: a quarter of the total; full: 429";
    "journal-segment-bytes" "SIZE", journal.segment_bytes, "One file of the journal";
    "journal-keys" "COUNT", journal.keys, "Idempotency keys remembered";
    "journal-letter-bytes" "SIZE", journal.letter_bytes, "Dead letters kept";
    "journal-letter-age" "TIME", journal.letter_age, "How long a dead letter is kept";
    "status-writes-per-second" "COUNT", engine.status_writes_per_second,
        "Status writes per second, over all Ingestors";
    "sweep-interval" "TIME", engine.sweep_interval, "How often expired Observations are looked for";
    "log-format" "json|human", telemetry.log_format, "How log lines look";
    "log-filter" "FILTER", telemetry.log_filter, "Which log lines, such as info,zen_fabric::gateway=debug";
    "otlp-endpoint" "URL", telemetry.otlp_endpoint,
        "Where traces go, by OTLP over gRPC, such as http://collector:4317; https is checked by the platform's roots";
    "otlp-sample-ratio" "0…1", telemetry.otlp_sample_ratio,
        "Share of traces that begin here and are kept; a sender's own choice is followed";
    "core-dumps" SWITCH, core_dumps,
        "Let the kernel write core dumps and debuggers attach, to find a fault: both see secrets";
};
