//! What the gateway counts. Labels are enums: their number is bounded.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::{
    problem::Problem,
    verify::{Refusal, Scheme},
};
use crate::ops::metrics::STEP_BUCKETS;

/// Handles, resolved once.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Events accepted.
    pub accepted: IntCounter,
    /// Requests answered as a replay.
    pub replayed: IntCounter,
    /// Requests of any outcome: `requests = accepted + replayed + rejected`.
    pub requests: IntCounter,
    rejected: IntCounterVec,
    refused: IntCounterVec,
    verified: IntCounterVec,
    /// Seconds of verification.
    pub verify: Histogram,
    /// Seconds until the journal made an event durable.
    pub append: Histogram,
    /// Open connections.
    pub connections: IntGauge,
    /// Endpoints that are served.
    pub routes: IntGauge,
    /// Times that the certificate files were read anew.
    pub tls_reloads: IntCounterVec,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// A name that is registered already.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters = |name: &str, help: &str, label: &str| -> prometheus::Result<IntCounterVec> {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let seconds = |name: &str, help: &str| -> prometheus::Result<Histogram> {
            let opts = HistogramOpts::new(name, help).buckets(STEP_BUCKETS.to_vec());
            let histogram = Histogram::with_opts(opts)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        Ok(Self {
            accepted: counter(
                "gateway_accepted_total",
                "Events made durable for a request",
            )?,
            replayed: counter("gateway_replayed_total", "Requests answered as a replay")?,
            requests: counter("gateway_requests_total", "Requests of any outcome")?,
            rejected: counters(
                "gateway_rejected_total",
                "Requests refused, by problem",
                "problem",
            )?,
            refused: counters(
                "gateway_verification_refused_total",
                "Requests that no entry of auth accepted, by the first entry's reason",
                "reason",
            )?,
            verified: counters(
                "gateway_verified_total",
                "Requests verified, by scheme",
                "scheme",
            )?,
            verify: seconds("gateway_verify_seconds", "Verification of one request")?,
            append: seconds(
                "gateway_append_seconds",
                "Until the journal made an event durable",
            )?,
            connections: gauge("gateway_connections", "Open connections")?,
            routes: gauge("gateway_routes", "Endpoints that are served")?,
            tls_reloads: counters(
                "gateway_tls_reloads_total",
                "Certificate files read anew, by outcome",
                "outcome",
            )?,
        })
    }

    /// Counts a refusal.
    pub(crate) fn rejected(&self, problem: Problem) {
        self.rejected.with_label_values(&[problem.word()]).inc();
    }

    /// Counts why verification failed.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused.with_label_values(&[refusal.as_str()]).inc();
    }

    /// Counts a verified request.
    pub(crate) fn verified(&self, scheme: Scheme) {
        self.verified.with_label_values(&[scheme.as_str()]).inc();
    }
}
