//! What a gateway tells of its cores.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tracing::warn;

/// Why a peer was refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// A message broke a rule of the protocol.
    Malformed,
    /// The holder is of another pod than the certificate.
    Holder,
    /// It had more subscriptions than a pod may have; the oldest ended.
    Sessions,
    /// The map names another for a bucket.
    Map,
    /// It takes nothing of what it asked for.
    Stalled,
}

impl Refused {
    const ALL: [Self; 5] = [
        Self::Malformed,
        Self::Holder,
        Self::Sessions,
        Self::Map,
        Self::Stalled,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Holder => "holder",
            Self::Sessions => "sessions",
            Self::Map => "map",
            Self::Stalled => "stalled",
        }
    }
}

/// So many pairs of peer and reason are logged; what is beyond is counted alone.
const TOLD: usize = 1_024;

/// See the module.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) sessions: IntGauge,
    pub(super) records: IntCounter,
    refused: IntCounterVec,
    told: Arc<Mutex<BTreeSet<(String, Refused)>>>,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// They are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let sessions = IntGauge::new(
            "journal_subscriptions",
            "Subscriptions of cores over the network.",
        )?;
        let records = IntCounter::new(
            "journal_records_sent_total",
            "Records sent to cores over the network.",
        )?;
        let refused = IntCounterVec::new(
            Opts::new(
                "journal_refused_total",
                "What cores were refused over the network, by reason.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(sessions.clone()))?;
        registry.register(Box::new(records.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        for reason in Refused::ALL {
            refused.with_label_values(&[reason.as_str()]);
        }
        Ok(Self {
            sessions,
            records,
            refused,
            told: Arc::default(),
        })
    }

    /// Counts a refusal, and logs the first one of a peer for a reason.
    pub(super) fn refuse(&self, peer: &str, reason: Refused, why: &str) {
        self.refused.with_label_values(&[reason.as_str()]).inc();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD && told.insert((peer.to_owned(), reason)) {
            drop(told);
            warn!(
                peer,
                reason = reason.as_str(),
                "a core was refused: {why}; further ones of this kind are only counted"
            );
        }
    }
}
