//! Routes: what the gateway knows of each endpoint when a request comes.
//!
//! A table is built whole and swapped whole; a lookup is one hash of the path.

mod endpoint;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
};

use http::HeaderName;

pub use endpoint::{Endpoint, Refused, secret_ref};

use super::{
    limits::Bucket,
    problem::{Kind, Limit},
    replay::Policy,
    verify::Verifier,
};
use crate::{
    api::{SpecDigest, decision::Identity},
    engine::names,
    journal::IngestorUid,
};

/// All routes, by path.
#[derive(Debug, Default)]
pub struct Table {
    routes: HashMap<Arc<str>, Arc<Route>>,
    synced: bool,
}

/// An endpoint.
#[derive(Debug)]
pub struct Route {
    /// Whose it is.
    pub ingestor: IngestorUid,
    /// What the user configured.
    pub endpoint: Arc<Endpoint>,
    /// Whether it accepts.
    pub state: State,
    /// The endpoint's limit.
    pub bucket: Arc<Bucket>,
    /// Whether the last append found the share full; for the facts.
    pub share_full: Arc<AtomicBool>,
}

/// Whether an endpoint accepts.
#[derive(Debug)]
pub enum State {
    /// It does.
    Open {
        /// How requests are verified.
        verifiers: Vec<Verifier>,
        /// Headers that must not come twice.
        security: Vec<HeaderName>,
        /// Under which decision spec.
        spec: Spec,
    },
    /// It does not, and why.
    Closed(Kind),
}

/// What the gateway needs to know of a decision spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its digest.
    pub digest: SpecDigest,
    /// Whose it is.
    pub identity: Option<Arc<Identity>>,
    /// Whether an event becomes one Observation whose name is known beforehand: strategy `event`
    /// without an explosion.
    pub named: bool,
}

impl Table {
    /// A table of `routes`. Until `synced`, a path that is not in it is not known to be unknown.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = (Arc<str>, Arc<Route>)>, synced: bool) -> Self {
        Self {
            routes: routes.into_iter().collect(),
            synced,
        }
    }

    /// The route of a path.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or [`Kind::NotInSync`] while the Ingestors have not all been read.
    pub fn find(&self, path: &str) -> Result<&Arc<Route>, Kind> {
        self.routes.get(path).ok_or(if self.synced {
            Kind::NotFound
        } else {
            Kind::NotInSync
        })
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

impl Route {
    /// The limit, as `RateLimit` fields tell it.
    #[must_use]
    pub fn limit(&self) -> Limit {
        let window = self.bucket.quota().window();
        Limit {
            burst: self.endpoint.rate.burst,
            window: u32::try_from(window.as_secs()).unwrap_or(u32::MAX).max(1),
        }
    }
}

/// The API path of an Observation.
#[must_use]
pub fn location(namespace: &str, name: &str) -> String {
    let group = crate::api::GROUP;
    format!("/apis/{group}/v1/namespaces/{namespace}/observations/{name}")
}

impl Spec {
    /// The API path of the Observation that an event will become, where that is known.
    #[must_use]
    pub fn location(&self, event_id: &str) -> Option<String> {
        self.named.then(|| self.observation(event_id)).flatten()
    }

    /// The API path of the Observation that bears an event's name. It is the same under every spec of
    /// an Ingestor.
    #[must_use]
    pub fn observation(&self, event_id: &str) -> Option<String> {
        let identity = self.identity.as_ref()?;
        Some(location(
            &identity.namespace,
            &names::event(identity, event_id, 0),
        ))
    }
}

/// The path of an endpoint.
#[must_use]
pub fn path(namespace: &str, path: &str) -> Arc<str> {
    format!("/hooks/{namespace}/{path}").into()
}
