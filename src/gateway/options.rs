//! How a gateway is set up.

use core::net::SocketAddr;
use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;

use super::limits::Quota;
use crate::config::{self, bounds};

/// How a gateway is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Certificate and key; absent: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether plain HTTP may be served on an address that others can reach.
    pub allow_plain_http: bool,
    /// What senders see before `/hooks`; absent: the gateway's own address.
    pub public_url: Option<String>,
    /// Proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<IpNet>,
    /// The namespaces whose Ingestors are served; empty: all.
    pub namespaces: Vec<String>,
    /// Bounds of connections and requests.
    pub limits: Limits,
}

/// Files that are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// Bounds of connections and requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's accept queue.
    pub connections: usize,
    /// Connections of one address at once, trusted proxies excepted; more are closed. An eighth of the total, so that eight
    /// hosts are needed to fill a gateway.
    pub connections_per_address: usize,
    /// HTTP/2 streams at once on one connection.
    pub streams: u32,
    /// Header fields of a request.
    pub headers: usize,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Bytes of a request target; longest in practice are signed query strings of some 2 KiB.
    pub target_bytes: usize,
    /// The largest body of any endpoint; an Ingestor's own limit is at most this.
    pub body_bytes: usize,
    /// Bytes of bodies in memory at once, over all requests; more are answered 503.
    pub bodies_bytes: usize,
    /// The same for one client address, trusted proxies excepted. An eighth of the total, as of
    /// connections, and at least one body.
    pub bodies_bytes_per_address: usize,
    /// From a header's first byte to its last.
    pub header_timeout: Duration,
    /// From the header to the body's last byte.
    pub body_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// The longest that `Prefer: wait` is honored.
    pub wait: Duration,
    /// Requests that wait at once.
    pub waiters: usize,
    /// Failing requests of one client address.
    pub address: Quota,
}

/// An option that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {problem}")]
pub struct Invalid {
    /// Its name.
    pub option: &'static str,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// What HTTP/2 counts for a field beside its name and value (RFC 9113, 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Fields that HTTP/2 makes of the request line and of `Host`, one for an extension among them.
const PSEUDO_FIELDS: usize = 5;

/// Their names, the method, the scheme and the longest authority: a DNS name has 253 bytes.
const PSEUDO_BYTES: usize = 512;

/// Bytes of a request target.
const TARGET_BYTES: usize = 8 * 1_024;

/// Bytes of bodies in memory at once: ten of the largest that an Ingestor may ask for, or 262,144 of
/// a kilobyte. An eighth of it holds one of the largest, too.
const BODIES_BYTES: usize = 256 * 1_024 * 1_024;

impl Default for Limits {
    /// Those of a process that is told nothing.
    fn default() -> Self {
        Self::of(&config::Gateway::default())
    }
}

impl Limits {
    /// What HTTP/2 may take for a header list. The protocol refuses more by itself, with a bare 431;
    /// so it is twice what the largest header that is served counts there, and up to that a problem
    /// document says what is wrong.
    pub(super) fn header_list_bytes(&self) -> u32 {
        let overhead = (self.headers + PSEUDO_FIELDS) * FIELD_OVERHEAD + PSEUDO_BYTES;
        let served = self.header_bytes + self.target_bytes + overhead;
        u32::try_from(served * 2).unwrap_or(u32::MAX)
    }

    fn of(gateway: &config::Gateway) -> Self {
        Self {
            connections: gateway.max_connections,
            connections_per_address: (gateway.max_connections / 8).max(1),
            streams: gateway.max_streams,
            headers: gateway.max_headers,
            header_bytes: gateway.max_header_bytes.as_usize(),
            target_bytes: TARGET_BYTES,
            body_bytes: gateway.max_body_bytes.as_usize(),
            bodies_bytes: BODIES_BYTES,
            bodies_bytes_per_address: (BODIES_BYTES / 8).max(gateway.max_body_bytes.as_usize()),
            header_timeout: gateway.header_timeout,
            body_timeout: gateway.body_timeout,
            idle_timeout: gateway.idle_timeout,
            wait: gateway.max_wait,
            waiters: gateway.max_waiters,
            address: Quota::new(
                gateway.address_failures_per_second,
                gateway.address_failures_burst,
            ),
        }
    }
}

impl Options {
    /// Plain HTTP on a free port of the loopback, everything else by default.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            allow_plain_http: false,
            public_url: None,
            trusted_proxies: Vec::new(),
            namespaces: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The options that a process's configuration asks for.
    #[must_use]
    pub fn from_config(gateway: &config::Gateway) -> Self {
        let files = gateway.tls_cert.clone().zip(gateway.tls_key.clone());
        Self {
            listen: SocketAddr::new(gateway.bind, gateway.port),
            tls: files.map(|(certificate, key)| TlsFiles { certificate, key }),
            allow_plain_http: gateway.allow_plain_http,
            public_url: gateway.public_url.clone(),
            trusted_proxies: gateway.trusted_proxies.clone(),
            namespaces: Vec::new(),
            limits: Limits::of(gateway),
        }
    }

    /// Checks what must hold between the options.
    ///
    /// # Errors
    /// Every option that can't be.
    pub fn validate(&self) -> Result<(), Vec<Invalid>> {
        let limits = &self.limits;
        let plain = self.tls.is_none() && !self.allow_plain_http;
        let rules = [
            (
                "listen",
                plain && !self.listen.ip().to_canonical().is_loopback(),
                "plain HTTP only on a loopback address: give a certificate, or allow plain HTTP",
            ),
            (
                "limits.connections",
                limits.connections == 0,
                "must be at least 1",
            ),
            (
                "limits.connections_per_address",
                limits.connections_per_address == 0,
                "must be at least 1",
            ),
            ("limits.streams", limits.streams == 0, "must be at least 1"),
            (
                "limits.headers",
                !bounds::HEADERS.contains(&limits.headers),
                "must be 1 to 100, the most that the HTTP/1 parser reads",
            ),
            (
                "limits.header_bytes",
                !bounds::HEADER_BYTES.contains(&limits.header_bytes),
                "must be 1 KiB to 64 KiB",
            ),
            (
                "limits.body_bytes",
                limits.body_bytes == 0,
                "must be at least 1",
            ),
            (
                "limits.bodies_bytes",
                limits.bodies_bytes < limits.body_bytes,
                "must be at least limits.body_bytes",
            ),
            (
                "limits.bodies_bytes_per_address",
                limits.bodies_bytes_per_address < limits.body_bytes,
                "must be at least limits.body_bytes",
            ),
            (
                "limits.waiters",
                limits.waiters > bounds::WAITERS,
                "must be at most 1,000,000",
            ),
            (
                "limits.header_timeout",
                limits.header_timeout.is_zero(),
                "must be above 0",
            ),
            (
                "limits.body_timeout",
                limits.body_timeout.is_zero(),
                "must be above 0",
            ),
            (
                "limits.idle_timeout",
                limits.idle_timeout < limits.header_timeout,
                "must be at least limits.header_timeout",
            ),
        ];
        let broken: Vec<_> = rules
            .into_iter()
            .filter(|(_, broken, _)| *broken)
            .map(|(option, _, problem)| Invalid {
                option,
                problem: problem.to_owned(),
            })
            .collect();
        if broken.is_empty() {
            Ok(())
        } else {
            Err(broken)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_the_loopback_or_by_flag() {
        let mut options = Options::loopback();
        assert_eq!(options.validate(), Ok(()));
        options.listen = SocketAddr::from(([0, 0, 0, 0], 0));
        assert_eq!(options.validate().unwrap_err()[0].option, "listen");
        options.allow_plain_http = true;
        assert_eq!(options.validate(), Ok(()));
    }

    #[test]
    fn what_a_configuration_may_say_can_be_served() {
        let extremes = [
            &[
                ("max-headers", "1"),
                ("max-header-bytes", "1KiB"),
                ("max-waiters", "0"),
            ],
            &[
                ("max-headers", "100"),
                ("max-header-bytes", "64KiB"),
                ("max-waiters", "1000000"),
            ],
            &[
                ("idle-timeout", "5s"),
                ("max-body-bytes", "1"),
                ("max-connections", "1"),
            ],
        ];
        for flags in extremes {
            let none = config::flags::Flags::default();
            let flags = flags
                .iter()
                .fold(none, |all, (name, value)| all.with(name, *value));
            let loaded = config::Loaded::of([], &flags).unwrap();
            let options = Options::from_config(&loaded.config.gateway);
            assert_eq!(options.validate(), Ok(()), "{flags:?}");
        }
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let mut options = Options::loopback();
        options.limits.connections = 0;
        options.limits.headers = 101;
        options.limits.idle_timeout = Duration::ZERO;
        let named: Vec<_> = options
            .validate()
            .unwrap_err()
            .iter()
            .map(|e| e.option)
            .collect();
        assert_eq!(
            named,
            [
                "limits.connections",
                "limits.headers",
                "limits.idle_timeout"
            ]
        );
    }
}
