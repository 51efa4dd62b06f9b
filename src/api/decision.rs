//! The decision spec: the part of an Ingestor that decides what an event becomes.
//!
//! An event is decided by the spec under which it was accepted, so the journal keeps this text and
//! every record names its digest. Auth, limits, pace and pauses are not part of it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ingestor::{Dedup, Filter, Ingestor, Normalize};

/// SHA-256 of a decision spec's text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpecDigest(pub [u8; 32]);

impl fmt::Debug for SpecDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Where an Ingestor lives, and what makes it this one and no other.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.namespace`: where its Observations are written.
    pub namespace: String,
    /// The UID of that namespace; another namespace of the same name is another tenant.
    pub namespace_uid: String,
    /// `metadata.name`.
    pub name: String,
}

/// What decides: everything that an event's outcome depends on, beside its record.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DecisionSpec {
    /// Whose events these are.
    pub ingestor: Identity,
    /// See [`super::IngestorSpec::explode`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explode: Option<String>,
    /// See [`super::IngestorSpec::normalize`].
    pub normalize: Normalize,
    /// See [`super::IngestorSpec::filters`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// See [`super::IngestorSpec::dedup`].
    pub dedup: Dedup,
    /// Labels of every Observation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// See `spec.output.observation.ttlSecondsAfterCreation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_creation: Option<u32>,
}

impl DecisionSpec {
    /// The part of `ingestor` that decides; `namespace_uid` is the UID of its namespace.
    #[must_use]
    pub fn of(ingestor: &Ingestor, namespace_uid: &str) -> Self {
        let meta = &ingestor.metadata;
        let spec = &ingestor.spec;
        Self {
            ingestor: Identity {
                uid: meta.uid.clone().unwrap_or_default(),
                namespace: meta.namespace.clone().unwrap_or_default(),
                namespace_uid: namespace_uid.to_owned(),
                name: meta.name.clone().unwrap_or_default(),
            },
            explode: spec.explode.clone(),
            normalize: spec.normalize.clone(),
            filters: spec.filters.clone(),
            dedup: spec.dedup.clone(),
            labels: spec.output.observation.labels.clone(),
            ttl_seconds_after_creation: spec.output.observation.ttl_seconds_after_creation,
        }
    }

    /// The text that the journal keeps: JSON with the fields in declaration order, maps sorted, so
    /// that equal specs give equal bytes.
    ///
    /// # Errors
    /// Never for a value that was deserialised from JSON or YAML; the serializer's error otherwise.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl SpecDigest {
    /// The digest of a decision spec's text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}
