//! What is counted about connections between peers.

use std::collections::BTreeMap;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::refusal::Reason;

/// Counters and gauges of this process's peers.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) accepted: IntCounter,
    pub(super) open: IntGauge,
    refused: BTreeMap<Reason, IntCounter>,
    failed: BTreeMap<Reason, IntCounter>,
    pub(super) reloads: IntCounter,
    pub(super) reload_failures: IntCounter,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name, help, label| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let refused = counters(
            "peer_refused_total",
            "Connections of peers that were refused, by reason",
            "reason",
        )?;
        let failed = counters(
            "peer_connects_failed_total",
            "Connections to peers that did not come about, by reason",
            "reason",
        )?;
        let reloads = counters(
            "peer_tls_reloads_total",
            "Certificate files of peers read again, by outcome",
            "outcome",
        )?;
        let accepted = IntCounter::new("peer_accepted_total", "Connections of peers taken")?;
        registry.register(Box::new(accepted.clone()))?;
        let open = IntGauge::new("peer_connections", "Open connections of peers")?;
        registry.register(Box::new(open.clone()))?;
        let by_reason = |of: &IntCounterVec| {
            let handle = |why: Reason| (why, of.with_label_values(&[why.label()]));
            Reason::ALL.into_iter().map(handle).collect()
        };
        Ok(Self {
            accepted,
            open,
            refused: by_reason(&refused),
            failed: by_reason(&failed),
            reloads: reloads.with_label_values(&["loaded"]),
            reload_failures: reloads.with_label_values(&["refused"]),
        })
    }

    pub(super) fn refuse(&self, why: Reason) {
        if let Some(counter) = self.refused.get(&why) {
            counter.inc();
        }
    }

    pub(super) fn fail(&self, why: Reason) {
        if let Some(counter) = self.failed.get(&why) {
            counter.inc();
        }
    }
}
