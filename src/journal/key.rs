//! Idempotency keys: what recognises a repeated delivery, and what is then known of the first.

use std::{fmt, sync::Arc, time::Duration};

use super::RecordId;
use crate::api::SpecDigest;

/// What recognises a repeated delivery: a hash that already covers scope and origin of the id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 16]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// An idempotency key and how long it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub hash: KeyHash,
    /// How long, from the time of acceptance.
    pub window: Duration,
    /// Whether the event becomes one Observation whose name follows from its id: a replay is told
    /// where that is, under whatever spec the Ingestor has by then.
    pub named: bool,
}

/// What the journal remembers of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The record of the first delivery.
    pub record: RecordId,
    /// Its event id.
    pub event_id: Arc<str>,
    /// The decision spec under which the first delivery was accepted.
    pub spec: SpecDigest,
    /// See [`Key::named`].
    pub named: bool,
}
