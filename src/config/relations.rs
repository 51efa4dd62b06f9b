//! Relations between values: each alone may be right, and both together wrong.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{Bytes, Config, Problem, Roles, bounds, largest_body};
use crate::{
    api::{
        limits::{LABEL, SUBDOMAIN, WEIGHT},
        names::is_subdomain,
    },
    coordination::{timing::Timing, wire::MEMBER},
};

/// Every relation that does not hold. `given` says whether somebody set a value.
pub(super) fn broken(config: &Config, given: &dyn Fn(&str) -> bool) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    timeouts(config, &mut found);
    positive(config, &mut found);
    requests(config, &mut found);
    exposure(config, &mut found);
    api(config, given, &mut found);
    journal(config, &mut found);
    urls(config, &mut found);
    fleet(config, &mut found);
    threads(config, &mut found);
    found.0
}

/// What a process of `role` can't be without.
pub(super) fn missing(role: Roles, config: &Config, given: &dyn Fn(&str) -> bool) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    if role == Roles::DEV {
        return found.0;
    }
    found.unless(given("data-dir"), "data-dir", || {
        "is needed: what this process alone keeps lies there".to_owned()
    });
    let fleet = &config.fleet;
    let files = [
        ("peer-ca", &fleet.peer_ca),
        ("peer-cert", &fleet.peer_cert),
        ("peer-key", &fleet.peer_key),
    ];
    for (name, file) in files {
        found.unless(file.is_some(), name, || {
            "is needed: cores and gateways talk by TLS with certificates on both sides".to_owned()
        });
    }
    if role == Roles::CORE {
        found.unless(fleet.pod_name.is_some(), "pod-name", || {
            "is needed: the name of this replica's Pod (metadata.name, by the downward API)"
                .to_owned()
        });
        found.unless(fleet.pod_uid.is_some(), "pod-uid", || {
            "is needed: the UID of this replica's Pod (metadata.uid, by the downward API)"
                .to_owned()
        });
        found.unless(
            !fleet.peer_bind.is_unspecified() || fleet.peer_address.is_some(),
            "peer-address",
            || {
                "is needed where peer-bind is every address: other replicas can't connect to that; \
                 give the Pod's IP (status.podIP, by the downward API) and the port"
                    .to_owned()
            },
        );
        // Half of what is left goes to what the engine still has, and to goodbyes.
        let drain = Timing::default();
        found.below(
            ("what a drain takes", drain.drain + drain.late),
            ("3/4 of grace-period", config.gateway.grace_period * 3 / 4),
            "a replica gives its buckets away before the supervisor kills it",
        );
        found.unless(fleet.gateways.is_some(), "gateways", || {
            "is needed: where events come from, such as zen-fabric-gateway:8084".to_owned()
        });
    }
    found.0
}

/// Names become parts of names of objects and of certificates.
fn fleet(config: &Config, found: &mut Found) {
    let fleet = &config.fleet;
    let names = [
        ("fleet", Some(&fleet.name)),
        ("namespace", Some(&fleet.namespace)),
        ("region", Some(&fleet.region)),
        ("zone", Some(&fleet.zone)),
    ];
    for (name, text) in names {
        found.unless(text.is_none_or(|text| is_name(text)), name, || {
            "must be a DNS name: lower-case letters, digits, `-` and `.`, 63 characters at most"
                .to_owned()
        });
    }
    let pod = fleet.pod_name.as_ref();
    found.unless(pod.is_none_or(|pod| is_subdomain(pod)), "pod-name", || {
        "must be a Pod's name: lower-case letters, digits, `-` and `.`, 253 characters at most"
            .to_owned()
    });
    let lease = pod.map_or(0, |pod| fleet.name.len() + MEMBER.len() + pod.len());
    found.unless(lease <= SUBDOMAIN, "pod-name", || {
        format!(
            "must leave room for the name of its Lease, {}{MEMBER}POD, which has \
             {SUBDOMAIN} characters at most",
            fleet.name
        )
    });
    found.unless(WEIGHT.contains(&fleet.weight), "weight", || {
        let (least, most) = (WEIGHT.start(), WEIGHT.end());
        format!("must be from {least} to {most}; 100 is usual")
    });
    // As many as the ShardMap is bounded for; more are a test of the fabric, not of one machine.
    found.unless((1..=25).contains(&fleet.replicas), "replicas", || {
        "must be from 1 to 25".to_owned()
    });
    for (name, addresses) in [
        ("gateways", &fleet.gateways),
        ("peer-address", &fleet.peer_address),
    ] {
        let wrong = addresses
            .iter()
            .flat_map(|text| text.split(','))
            .find(|address| {
                let port = address.trim().rsplit_once(':').map(|(_, port)| port);
                port.is_none_or(|port| port.parse::<u16>().is_err())
            });
        found.unless(wrong.is_none(), name, || {
            format!("`{}` is no HOST:PORT", wrong.unwrap_or_default())
        });
    }
}

fn threads(config: &Config, found: &mut Found) {
    let right = bounds::THREADS.contains(&config.engine.threads);
    found.unless(right, "worker-threads", || {
        let (least, most) = (bounds::THREADS.start(), bounds::THREADS.end());
        format!("must be from {least} to {most}; 1 is usual")
    });
}

fn is_name(text: &str) -> bool {
    text.len() <= LABEL && is_subdomain(text)
}

struct Found(Vec<Problem>);

impl Found {
    fn unless(&mut self, holds: bool, place: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Problem {
                place: place.to_owned(),
                message: message(),
            });
        }
    }

    fn below(&mut self, lower: (&str, Duration), upper: (&str, Duration), why: &str) {
        self.unless(
            lower.1 < upper.1,
            &format!("{}, {}", lower.0, upper.0),
            || {
                format!(
                    "{} ({:?}) must be below {} ({:?}): {why}",
                    lower.0, lower.1, upper.0, upper.1
                )
            },
        );
    }
}

fn timeouts(config: &Config, found: &mut Found) {
    let gateway = &config.gateway;
    found.below(
        ("body-timeout + max-wait", gateway.longest_request()),
        ("drain-timeout", gateway.drain_timeout),
        "a drain must outlast the requests that are open when it begins",
    );
    found.below(
        ("drain-timeout", gateway.drain_timeout),
        ("grace-period", gateway.grace_period),
        "the drain must end before the supervisor kills the process",
    );
}

fn positive(config: &Config, found: &mut Found) {
    let gateway = &config.gateway;
    let engine = &config.engine;
    let times = [
        ("header-timeout", gateway.header_timeout),
        ("body-timeout", gateway.body_timeout),
        ("idle-timeout", gateway.idle_timeout),
        ("sweep-interval", engine.sweep_interval),
        ("journal-letter-age", config.journal.letter_age),
    ];
    for (name, time) in times {
        found.unless(!time.is_zero(), name, || "must be above zero".to_owned());
    }
    let counts = [
        ("max-connections", gateway.max_connections == 0),
        ("max-streams", gateway.max_streams == 0),
        ("max-body-bytes", gateway.max_body_bytes.0 == 0),
        (
            "address-failures-per-second",
            gateway.address_failures_per_second == 0,
        ),
        (
            "address-failures-burst",
            gateway.address_failures_burst == 0,
        ),
        (
            "status-writes-per-second",
            engine.status_writes_per_second == 0,
        ),
        ("journal-keys", config.journal.keys == 0),
    ];
    for (name, zero) in counts {
        found.unless(!zero, name, || "must be above zero".to_owned());
    }
}

/// What the gateway takes of requests; its own options have the same bounds.
fn requests(config: &Config, found: &mut Found) {
    let gateway = &config.gateway;
    let (least, most) = (bounds::HEADERS.start(), bounds::HEADERS.end());
    found.unless(
        bounds::HEADERS.contains(&gateway.max_headers),
        "max-headers",
        || format!("must be from {least} to {most}, the most that the HTTP/1 parser reads"),
    );
    let bytes = gateway.max_header_bytes.as_usize();
    found.unless(
        bounds::HEADER_BYTES.contains(&bytes),
        "max-header-bytes",
        || "must be from 1KiB to 64KiB".to_owned(),
    );
    found.unless(
        gateway.max_waiters <= bounds::WAITERS,
        "max-waiters",
        || format!("must not be above {}", bounds::WAITERS),
    );
    // One that is zero is told as such.
    found.unless(
        gateway.idle_timeout.is_zero() || gateway.header_timeout <= gateway.idle_timeout,
        "header-timeout, idle-timeout",
        || {
            format!(
                "a connection without a request ({:?}) must have the time that a header has ({:?})",
                gateway.idle_timeout, gateway.header_timeout
            )
        },
    );
}

fn exposure(config: &Config, found: &mut Found) {
    let gateway = &config.gateway;
    found.unless(
        gateway.tls_cert.is_some() == gateway.tls_key.is_some(),
        "tls-cert, tls-key",
        || "TLS needs both files; only one is given".to_owned(),
    );
    let plain = gateway.tls_cert.is_none() && gateway.tls_key.is_none();
    found.unless(
        !plain || gateway.allow_plain_http || is_loopback(gateway.bind),
        "gateway-bind",
        || {
            format!(
                "{} can be reached by others and there is no TLS: give tls-cert and tls-key, or \
                 allow-plain-http where a proxy in front ends TLS",
                gateway.bind
            )
        },
    );
    ports(config, found);
}

/// No two sockets on one port, where their addresses overlap.
fn ports(config: &Config, found: &mut Found) {
    let gateway = ("gateway-port", config.gateway.bind, config.gateway.port);
    let admin = ("admin-port", config.admin.bind, config.admin.port);
    // The embedded API listens on the loopback alone; a cluster's is elsewhere.
    let embedded = config.api.kubeconfig.is_none();
    let embedded = embedded.then_some(("api-port", LOOPBACK, config.api.port));
    let fleet = &config.fleet;
    let peer = ("peer-port", fleet.peer_bind, fleet.peer_port);
    let journal = ("journal-port", fleet.journal_bind, fleet.journal_port);
    // Each role has some of them, and `dev` picks free ones for its cores.
    let pairs = [
        (gateway, Some(admin)),
        (gateway, embedded),
        (admin, embedded),
        (admin, Some(peer)),
        (admin, Some(journal)),
        (gateway, Some(journal)),
    ];
    for ((one, bind, port), other) in pairs {
        let Some((other, other_bind, other_port)) = other else {
            continue;
        };
        let meet = port == other_port && overlap(bind, other_bind);
        found.unless(port == 0 || !meet, &format!("{one}, {other}"), || {
            format!("both are {port}")
        });
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Whether two sockets on these addresses can't have the same port: one that listens on every
/// address meets all others.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    one == other || one.is_unspecified() || other.is_unspecified()
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn api(config: &Config, given: &dyn Fn(&str) -> bool, found: &mut Found) {
    let cluster = config.api.kubeconfig.is_some();
    found.unless(cluster || !config.api.install_crds, "install-crds", || {
        "only with kubeconfig: the embedded API always has the CRDs".to_owned()
    });
    found.unless(
        !(cluster && given("api-port")),
        "api-port, kubeconfig",
        || "give one: with a kubeconfig there is no embedded API".to_owned(),
    );
}

/// Fewer leave trimming no room to work in.
const SEGMENTS_IN_TOTAL: u64 = 8;

/// Offsets within a segment have 32 bits; below the least a segment holds no more than its header.
const SEGMENT: (Bytes, Bytes) = (Bytes::kib(4), Bytes::gib(1));

/// About 7 GiB of memory, at 110 bytes a key.
const KEYS: u64 = 1 << 26;

fn journal(config: &Config, found: &mut Found) {
    let journal = &config.journal;
    let share = config.journal_share();
    found.unless(
        share <= journal.total_bytes,
        "journal-share-bytes, journal-total-bytes",
        || {
            format!(
                "a share ({share}) must not be above the total ({})",
                journal.total_bytes
            )
        },
    );
    found.unless(
        journal.segment_bytes.0.saturating_mul(SEGMENTS_IN_TOTAL) <= journal.total_bytes.0,
        "journal-segment-bytes, journal-total-bytes",
        || {
            format!(
                "the total ({}) must hold at least {SEGMENTS_IN_TOTAL} segments ({})",
                journal.total_bytes, journal.segment_bytes
            )
        },
    );
    found.unless(
        (SEGMENT.0..=SEGMENT.1).contains(&journal.segment_bytes),
        "journal-segment-bytes",
        || format!("must be from {} to {}", SEGMENT.0, SEGMENT.1),
    );
    found.unless(journal.keys <= KEYS, "journal-keys", || {
        format!("must not be above {KEYS}")
    });
    found.unless(
        journal.letter_bytes.0 <= journal.total_bytes.0 / 2,
        "journal-letter-bytes, journal-total-bytes",
        || {
            format!(
                "dead letters ({}) may take at most half of the total ({})",
                journal.letter_bytes, journal.total_bytes
            )
        },
    );
    let largest = config.gateway.max_body_bytes;
    let most = largest_body();
    found.unless(largest <= most, "max-body-bytes", || {
        format!("is {largest}, and no Ingestor may ask for more than {most}")
    });
    let record = config.largest_record();
    found.unless(
        record.0 <= journal.segment_bytes.0 / 16 * 15,
        "max-body-bytes, journal-segment-bytes",
        || {
            format!(
                "the record of the largest request ({record}) must fit 15/16 of a segment ({})",
                journal.segment_bytes
            )
        },
    );
    found.unless(
        record <= share,
        "max-body-bytes, journal-share-bytes",
        || format!("the record of the largest request ({record}) must fit a share ({share})"),
    );
}

fn urls(config: &Config, found: &mut Found) {
    if let Some(url) = &config.gateway.public_url {
        let problem = url_problem(url);
        found.unless(problem.is_none(), "public-url", || {
            problem.unwrap_or_default().to_owned()
        });
    }
    if let Some(url) = &config.telemetry.otlp_endpoint {
        let problem = url_problem(url);
        found.unless(problem.is_none(), "otlp-endpoint", || {
            problem.unwrap_or_default().to_owned()
        });
    }
    found.unless(
        config.telemetry.otlp_headers.is_none() || config.telemetry.otlp_endpoint.is_some(),
        "otlp-headers",
        || "only with otlp-endpoint".to_owned(),
    );
    found.unless(
        (0.0..=1.0).contains(&config.telemetry.otlp_sample_ratio),
        "otlp-sample-ratio",
        || "must be from 0 to 1".to_owned(),
    );
    let filter = tracing_subscriber::EnvFilter::builder().parse(&config.telemetry.log_filter);
    found.unless(filter.is_ok(), "log-filter", || {
        format!("`{}` is no filter", config.telemetry.log_filter)
    });
}

/// What is wrong with a base URL; never repeats it, for it may hold a password.
fn url_problem(url: &str) -> Option<&'static str> {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return Some("is no URL");
    };
    let Some(authority) = uri.authority() else {
        return Some("must have a scheme and a host, such as http://host:port");
    };
    if authority.as_str().contains('@') {
        return Some("may not hold a user or a password");
    }
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Some("must begin with http:// or https://");
    }
    if uri.query().is_some() {
        return Some("may not have a query");
    }
    None
}
