//! How the records of coordination lie in the API: real Leases and the `ShardMap`, as JSON; and in
//! [`message`] and [`swim`] what replicas tell each other, as bytes.
//!
//! Pure. What a Lease has fields for is there, so that `kubectl get leases` tells who leads and who
//! lives; the rest are annotations. What can't be read is [`Record::Malformed`] and says why.

mod lease;
mod map;
pub mod message;
pub mod proto;
pub mod swim;

use std::sync::Arc;

use serde_json::{Value, json};

use super::port::{Object, Record, Stored};

/// What stands between the fleet's name and the Pod's in the name of a member Lease.
pub const MEMBER: &str = "-member-";

/// Where a fleet's objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The namespace.
    pub namespace: Arc<str>,
    /// What their names begin with.
    pub release: Arc<str>,
    /// Whether member Leases are owned by their Pods, so that they go with them. Not where pods are
    /// only played (`dev`): the garbage collector would take the Lease of an owner that isn't there.
    pub owned: bool,
}

/// What a Lease says about its own duration: that it is stale after this many seconds, for readers
/// that are not replicas. [`super::timing::Timing::lease`] in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u32);

/// Why an object is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Something that must be there isn't.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Something is not what it should be.
    #[error("{field} is `{found}`: {expected}")]
    Wrong {
        /// What.
        field: &'static str,
        /// As it is, shortened.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The map says what can't be.
    #[error(transparent)]
    Map(#[from] super::text::Malformed),
}

// === impl Malformed ===

impl Malformed {
    fn wrong(field: &'static str, found: &str, expected: &'static str) -> Self {
        Self::Wrong {
            field,
            // Enough to recognise it by; an edited object may hold a megabyte.
            found: found.chars().take(100).collect(),
            expected,
        }
    }
}

// === impl Place ===

impl Place {
    /// An object's name.
    #[must_use]
    pub fn name(&self, object: &Object) -> String {
        match object {
            Object::Leader => format!("{}-leader", self.release),
            Object::Member(pod) => format!("{}{MEMBER}{pod}", self.release),
            Object::Map => self.release.to_string(),
        }
    }

    /// Which object of ours a Lease is; `None`: a foreign one.
    #[must_use]
    pub fn lease(&self, name: &str) -> Option<Object> {
        let rest = name.strip_prefix(&*self.release)?;
        if rest == "-leader" {
            return Some(Object::Leader);
        }
        let pod = rest.strip_prefix(MEMBER).filter(|pod| !pod.is_empty())?;
        Some(Object::Member(super::names::PodName(pod.into())))
    }

    /// An object as it is created, and replaced where `metadata.resourceVersion` is added.
    /// [`Record::Malformed`] has no such form and gives nothing.
    #[must_use]
    pub fn encode(&self, object: &Object, record: &Record, lease: Seconds) -> Option<Value> {
        let mut value = match record {
            Record::Leader(record) => lease::leader(record, lease),
            Record::Member(record) => lease::member(record, lease, self.owned),
            Record::Map(map) => map::encode(map)?,
            Record::Malformed(_) => return None,
        };
        let metadata = value.get_mut("metadata")?.as_object_mut()?;
        metadata.insert("name".to_owned(), json!(self.name(object)));
        metadata.insert("namespace".to_owned(), json!(self.namespace));
        Some(value)
    }
}

/// The API group, version and plural name of an object's kind.
#[must_use]
pub const fn resource(object: &Object) -> (&'static str, &'static str, &'static str) {
    match object {
        Object::Leader | Object::Member(_) => ("coordination.k8s.io", "v1", "leases"),
        Object::Map => ("zen.watcher.io", "v1", "shardmaps"),
    }
}

/// An object as the API server gives it.
#[must_use]
pub fn decode(object: &Object, value: &Value) -> Stored {
    let record = match object {
        Object::Leader => lease::read_leader(value).map(Record::Leader),
        Object::Member(pod) => lease::read_member(value, pod).map(Record::Member),
        Object::Map => map::decode(value).map(|map| Record::Map(Arc::new(map))),
    };
    let text = |field: &str| -> Arc<str> {
        let found = value.get("metadata").and_then(|meta| meta.get(field));
        found.and_then(Value::as_str).unwrap_or_default().into()
    };
    Stored {
        record: record.unwrap_or_else(|why| Record::Malformed(why.to_string().into())),
        resource_version: text("resourceVersion"),
        uid: text("uid"),
    }
}

#[cfg(test)]
mod tests;
