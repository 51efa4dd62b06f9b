//! What a gateway knows of each Ingestor and the owning core projects into status.
//!
//! The gateway writes no Kubernetes object; it serves this table beside the tallies.

use std::fmt;

use super::IngestorUid;

/// Whether a referenced Secret can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretState {
    /// Every referenced Secret was read, or none is needed.
    #[default]
    Usable,
    /// It does not exist, or lacks the named key, or holds nothing that the scheme can use.
    Missing {
        /// The Secret's name.
        name: String,
    },
    /// The gateway may not read it.
    Forbidden {
        /// The Secret's name.
        name: String,
    },
}

/// Values of a Secret that are not used, though the endpoint is open by others: too short, more than
/// are taken, or nothing that the scheme can read. Whoever signs with one of them is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// The Secret's name.
    pub secret: String,
    /// How many of its values.
    pub values: usize,
}

/// Why the newest spec is not in force, or nothing is served under it; its text says where and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The decision spec doesn't compile. The endpoint goes on under the last one that did, if any.
    #[error("{0}")]
    Expression(String),
    /// The source, a scheme or a limit can't be used as it is configured. The endpoint is closed.
    #[error("{0}")]
    Configuration(String),
}

/// What a gateway knows of one Ingestor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The generation that the route table serves, its decision spec in force or refused; absent: no
    /// route, as for one that is disabled.
    pub generation: Option<i64>,
    /// Whether `spec.enabled`, the path is ours, a decision spec is in force and secrets are usable: requests are verified and accepted.
    pub serving: bool,
    /// Whether referenced Secrets can be used.
    pub secret: SecretState,
    /// Values of Secrets that are not used, by entry of `auth`.
    pub unused: Vec<Unused>,
    /// Whether the Ingestor's share of the journal is full.
    pub share_full: bool,
    /// Why the newest spec is not in force.
    pub refused: Option<Refusal>,
    /// The public URL of the endpoint.
    pub endpoint: Option<String>,
}

/// Serves facts; implemented by the gateway, read by the engine's status projection and by `events replay`.
pub trait FactSource: Send + Sync + fmt::Debug + 'static {
    /// What is known of one Ingestor; `None`: nothing, it is not in the gateway's cache.
    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts>;

    /// All that is known, in no order.
    fn all(&self) -> Vec<(IngestorUid, Facts)>;

    /// Rises with every change of any entry, so that a reader can wait for the next.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
