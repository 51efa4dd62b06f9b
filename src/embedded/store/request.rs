//! What can be asked of the store, and what it answers.

use bytes::Bytes;
use serde_json::Value;

use crate::{embedded::patch::Patch, journal::Millis};

/// The moment of a request: all that the store knows of the world outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The wall clock.
    pub now: Millis,
    /// Random bits, fresh for each request: uids and generated names come from them.
    pub entropy: u128,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which resource, and which object of it.
    pub target: Target,
    /// What is to be done.
    pub action: Action,
}

/// A resource, or an object of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The resource's plural name.
    pub plural: String,
    /// The namespace; absent for cluster-wide resources and for all namespaces.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: Option<String>,
    /// The part of the object.
    pub part: Part,
}

/// The whole of an object, or a subresource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// The object itself.
    #[default]
    Whole,
    /// Its status.
    Status,
    /// Its finalizers, which only namespaces have.
    Finalize,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read an object that is at least as new as the version.
    Get(Option<u64>),
    /// Read several.
    List(List),
    /// Make one.
    Create(Value, Write),
    /// Replace one.
    Update(Value, Write),
    /// Change one.
    Patch(Patch, Write),
    /// Remove one.
    Delete(Delete),
    /// Remove several.
    DeleteCollection(List, Delete),
}

/// How to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Whether it is only tried.
    pub dry_run: bool,
    /// What happens with unknown and repeated fields.
    pub fields: Fields,
    /// The fields that the object has more than once, where its text was read so closely.
    pub repeated: Vec<String>,
}

/// What happens with unknown and repeated fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fields {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the answer warns of them.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// How to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delete {
    /// Whether it is only tried.
    pub dry_run: bool,
    /// The uid that the object must have.
    pub uid: Option<String>,
    /// The resourceVersion that the object must have.
    pub version: Option<String>,
}

/// Which objects, and as of when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// A label selector.
    pub labels: String,
    /// A field selector.
    pub fields: String,
    /// The most items of one answer; 0: all.
    pub limit: usize,
    /// The token of the answer before.
    pub token: Option<String>,
    /// As of which version.
    pub as_of: AsOf,
}

/// As of which version to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsOf {
    /// The newest.
    #[default]
    Newest,
    /// At least as new as this one.
    NotOlderThan(u64),
    /// Exactly this one.
    Exactly(u64),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// What is answered.
    pub body: Body,
    /// What the client should know beside.
    pub warnings: Vec<String>,
}

/// The content of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// One object as JSON.
    Object(Bytes),
    /// Several.
    List(Page),
    /// Neither: a `Status`.
    Status(Value),
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects as JSON.
    pub items: Vec<Bytes>,
    /// The version as of which they are.
    pub version: u64,
    /// The token of the next page.
    pub next: Option<String>,
    /// How many objects are behind this page, where that is known.
    pub remaining: Option<usize>,
}

/// One change, as a watch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What happened.
    pub what: What,
    /// The object as JSON; of one that is gone, its last state.
    pub object: Bytes,
}

/// What happened to an object, as far as one watch is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is there now.
    Added,
    /// It is another now.
    Modified,
    /// It is gone.
    Deleted,
}

// === impl What ===

impl What {
    /// The event's type on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

// === impl Answer ===

impl Answer {
    pub(super) fn object(code: u16, object: Bytes) -> Self {
        Self {
            code,
            body: Body::Object(object),
            warnings: Vec::new(),
        }
    }
}
