//! What the catalog learns, and what it asks for. Pure data.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Name;
use crate::{
    api::{Ingestor, SpecDigest},
    gateway::{
        routes::Table,
        secrets::{SecretRead, WatchKey},
    },
    journal::{IngestorUid, SpecText, facts::Facts},
};

/// Something that was learned.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for a moment, on its way through a short queue"
)]
#[derive(Debug)]
pub enum Input {
    /// All Ingestors there are, each with the decision spec that the journal has in force.
    IngestorsListed(Listing),
    /// All Ingestors of one namespace, where only some are watched.
    IngestorsListedIn(String, Listing),
    /// An Ingestor was made or changed.
    IngestorApplied(Found),
    /// An Ingestor was made or changed, and can't be read.
    IngestorUnreadable(Unreadable),
    /// An Ingestor is gone.
    IngestorDeleted(Name),
    /// All namespaces there are: name and UID.
    NamespacesListed(Vec<(String, String)>),
    /// A namespace was made.
    NamespaceApplied(String, String),
    /// A namespace is gone.
    NamespaceDeleted(String),
    /// A Secret was read.
    Secret(Name, SecretRead),
    /// All Secrets of a namespace were read; those that are absent don't exist.
    SecretsListed(String, BTreeMap<String, SecretRead>),
    /// A watch is refused.
    SecretsForbidden(WatchKey),
    /// The journal has the spec, or failed to take it.
    SpecPut {
        /// Whose.
        ingestor: IngestorUid,
        /// Which, when the journal has it.
        put: Option<SpecDigest>,
    },
    /// The journal could not take [`Action::Forget`], and that is to be tried again now.
    NotForgotten {
        /// Whose.
        ingestor: IngestorUid,
        /// How often it failed before.
        attempt: u32,
    },
}

/// A list of Ingestors.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that can be read.
    pub found: Vec<Found>,
    /// The others.
    pub unreadable: Vec<Unreadable>,
}

/// An Ingestor that can't be read, for another release wrote it. It lives: what is served of it goes
/// on as it is, and the journal keeps what it has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its namespace and name.
    pub name: Name,
    /// Its UID.
    pub uid: IngestorUid,
}

/// An Ingestor and the spec that the journal has in force for it.
#[derive(Debug)]
pub struct Found {
    /// The Ingestor.
    pub ingestor: Ingestor,
    /// From the journal.
    pub in_force: Option<SpecText>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put a spec into the journal and report [`Input::SpecPut`].
    PutSpec {
        /// Whose.
        ingestor: IngestorUid,
        /// Its text.
        text: Arc<str>,
    },
    /// Tell the journal that the Ingestor is gone, and report [`Input::NotForgotten`] when it fails.
    Forget {
        /// Which.
        ingestor: IngestorUid,
        /// How often that failed before.
        attempt: u32,
    },
}

/// What follows from the inputs since the last time.
#[derive(Debug, Default)]
pub struct Settled {
    /// To do.
    pub actions: Vec<Action>,
    /// Facts that changed; absent: gone.
    pub facts: Vec<(IngestorUid, Option<Facts>)>,
    /// The new table, where routes changed.
    pub table: Option<Table>,
    /// Secrets that became referenced and that nobody has read: a watch that ran before has passed
    /// them over, and must list anew.
    pub unread: BTreeSet<Name>,
}
