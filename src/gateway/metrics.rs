//! What the gateway counts: label values are enums, and every handle is resolved once.

use std::collections::BTreeMap;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::{problem::Kind, verify::Rejected};
use crate::ops::metrics::STEP_BUCKETS;

/// The gateway's metrics. `requests = rejected + replayed + accepted`.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) accepted: IntCounter,
    pub(super) replayed: IntCounter,
    rejected: BTreeMap<Kind, IntCounter>,
    unverified: BTreeMap<Rejected, IntCounter>,
    pub(super) verify: Histogram,
    pub(super) append: Histogram,
    pub(super) body_bytes: IntCounter,
    pub(super) hung_up: IntCounter,
    pub(super) connections: IntGauge,
    pub(super) connections_total: IntCounter,
    pub(super) connections_refused: IntCounter,
    pub(super) connections_timed_out: IntCounter,
    pub(super) handshakes_failed: IntCounter,
    pub(super) routes: IntGauge,
    pub(super) tls_reloads: IntCounter,
    pub(super) tls_reload_failures: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = counters(
            registry,
            "gateway_requests_total",
            "Requests by outcome",
            "outcome",
        )?;
        let rejected = counters(
            registry,
            "gateway_rejected_total",
            "Rejected requests by reason",
            "reason",
        )?;
        let unverified = counters(
            registry,
            "gateway_unverified_total",
            "Requests that no entry of auth accepted, by the first entry's reason",
            "reason",
        )?;
        let tls = counters(
            registry,
            "gateway_tls_reloads_total",
            "Certificate files read again, by outcome",
            "outcome",
        )?;
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let histogram = |name, help| {
            let options = HistogramOpts::new(name, help).buckets(STEP_BUCKETS.to_vec());
            let histogram = Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone()))?;
            prometheus::Result::Ok(histogram)
        };
        Ok(Self {
            accepted: requests.with_label_values(&["accepted"]),
            replayed: requests.with_label_values(&["replayed"]),
            rejected: Kind::ALL
                .into_iter()
                .map(|kind| (kind, rejected.with_label_values(&[kind.label()])))
                .collect(),
            unverified: Rejected::ALL
                .into_iter()
                .map(|why| (why, unverified.with_label_values(&[why.label()])))
                .collect(),
            verify: histogram("gateway_verify_seconds", "Verification of a request")?,
            append: histogram("gateway_append_seconds", "Waiting for the journal")?,
            body_bytes: counter("gateway_body_bytes_total", "Bytes of bodies read")?,
            hung_up: counter(
                "gateway_hung_up_total",
                "Requests whose sender was gone before their append was done; it was finished all the same",
            )?,
            connections: gauge("gateway_connections", "Open connections")?,
            connections_total: counter("gateway_connections_total", "Connections taken")?,
            connections_refused: counter(
                "gateway_connections_refused_total",
                "Connections closed at once: too many of one address",
            )?,
            connections_timed_out: counter(
                "gateway_connections_timed_out_total",
                "Connections closed for a slow header or for idling",
            )?,
            handshakes_failed: counter(
                "gateway_tls_handshakes_failed_total",
                "TLS handshakes that failed or took too long",
            )?,
            routes: gauge("gateway_routes", "Routes served")?,
            tls_reloads: tls.with_label_values(&["loaded"]),
            tls_reload_failures: tls.with_label_values(&["refused"]),
        })
    }

    pub(super) fn reject(&self, kind: Kind) {
        if let Some(counter) = self.rejected.get(&kind) {
            counter.inc();
        }
    }

    pub(super) fn unverified(&self, why: Rejected) {
        if let Some(counter) = self.unverified.get(&why) {
            counter.inc();
        }
    }
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}
