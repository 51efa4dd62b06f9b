//! Watches of the fleet's Leases and of its `ShardMap`: what they show, in order, as the cores take
//! it in.
//!
//! A watch goes on where it broke off. Where that version is forgotten it lists anew, and says of
//! what is missing there that it is gone. Whatever an object holds is data; a line without an end is
//! cut off.

mod lines;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use kube::{Client, client::Body};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::lines::Lines;
use super::metrics::Metrics;
use crate::coordination::{
    port::{Input, Object},
    wire::{self, Place},
};

/// Objects in one page of a list: that many of the largest that etcd keeps fit into [`MOST_PAGE`].
const PAGE: u32 = 16;

/// A page has at most so many bytes.
const MOST_PAGE: usize = 32 * 1024 * 1024;

/// The server ends a watch after this; the next one goes on.
const LASTS: u32 = 290;

/// From connecting to the first byte of an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Between attempts, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What one watch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The leader's and the members'.
    Leases,
    /// The map.
    Map,
}

/// A watch.
pub(super) struct Watch {
    pub(super) kind: Kind,
    pub(super) client: Client,
    pub(super) place: Place,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) metrics: Metrics,
}

/// Why a watch broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the API server can't be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the API server answers {0}")]
    Status(u16),
    #[error("the API server says nothing for {0:?}")]
    Still(Duration),
    #[error("an answer can't be understood: {0}")]
    Garbled(&'static str),
    #[error("a watch ended and had shown nothing")]
    Empty,
    #[error("nobody listens any more")]
    Unheard,
}

// === impl Kind ===

impl Kind {
    /// A watch that says nothing for so long is taken for dead. Leases change with every renewal,
    /// the leader's each 2 s, one's own each 5 s; of the map there are bookmarks, one a minute, and
    /// the cores read it when they miss them.
    const fn still(self) -> Duration {
        match self {
            Self::Leases => Duration::from_secs(12),
            Self::Map => Duration::from_secs(90),
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Leases => "leases",
            Self::Map => "shardmap",
        }
    }
}

// === impl Watch ===

impl Watch {
    /// Runs until it is stopped, or nobody listens.
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(self) {
        let mut known = BTreeSet::new();
        let mut from: Option<String> = None;
        let mut wait = BACKOFF.0;
        loop {
            let before = from.clone();
            let broken = match self.go_on(&mut known, &mut from, &mut wait).await {
                // It has shown something: the next one goes on behind that.
                Ok(()) if from != before => continue,
                Ok(()) => Broken::Empty,
                Err(Broken::Unheard) => return,
                Err(broken) => broken,
            };
            // What fails again from the same version would fail there for ever.
            let again = wait > BACKOFF.0 && !matches!(broken, Broken::Empty);
            if again
                || matches!(
                    broken,
                    Broken::Status(410) | Broken::Garbled(_) | Broken::Still(_)
                )
            {
                from = None;
            }
            self.interrupted(&broken, wait);
            tokio::time::sleep(wait.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    fn interrupted(&self, broken: &Broken, wait: Duration) {
        self.metrics.watches_broken.inc();
        let (error, watch) = (broken as &dyn std::error::Error, self.kind.what());
        if wait == BACKOFF.0 {
            debug!(error, watch, "watch interrupted");
        } else {
            warn!(error, watch, "watch interrupted again");
        }
    }

    /// Lists where that is needed, then watches until the server ends it.
    async fn go_on(
        &self,
        known: &mut BTreeSet<Object>,
        from: &mut Option<String>,
        wait: &mut Duration,
    ) -> Result<(), Broken> {
        let start = match from.take() {
            Some(version) => version,
            None => self.list(known).await?,
        };
        *from = Some(start.clone());
        let query = format!(
            "watch=true&allowWatchBookmarks=true&resourceVersion={start}&timeoutSeconds={LASTS}"
        );
        let response = self.get(&query).await?;
        let mut lines = Lines::new(response.into_body());
        let still = self.kind.still();
        loop {
            let line = tokio::time::timeout(still, lines.next()).await;
            let line = line.map_err(|_late| Broken::Still(still))?;
            let Some(line) = line.map_err(Broken::Unreachable)? else {
                return Ok(());
            };
            if let Some(version) = self.event(known, &line).await? {
                *from = Some(version);
                *wait = BACKOFF.0;
            }
        }
    }

    /// Takes one event in; the version from which to go on.
    async fn event(
        &self,
        known: &mut BTreeSet<Object>,
        line: &[u8],
    ) -> Result<Option<String>, Broken> {
        let event: Value = serde_json::from_slice(line)
            .map_err(|_json| Broken::Garbled("an event is not JSON"))?;
        let object = event.get("object").unwrap_or(&Value::Null);
        let version = text(object, "resourceVersion").map(str::to_owned);
        match event.get("type").and_then(Value::as_str) {
            Some("ADDED" | "MODIFIED") => self.show(known, object).await?,
            Some("DELETED") => {
                if let Some(object) = self.ours(object) {
                    known.remove(&object);
                    self.send(gone(object)).await?;
                }
            }
            Some("BOOKMARK") => self.current().await?,
            Some("ERROR") => {
                let code = object.get("code").and_then(Value::as_u64);
                let code = code.and_then(|code| u16::try_from(code).ok());
                return Err(Broken::Status(code.unwrap_or(500)));
            }
            Some(_) | None => return Err(Broken::Garbled("an event of an unknown type")),
        }
        Ok(version)
    }

    /// Lists everything from a quorum; what was known and isn't there is gone.
    async fn list(&self, known: &mut BTreeSet<Object>) -> Result<String, Broken> {
        let mut found = BTreeSet::new();
        let mut next: Option<String> = None;
        let version = loop {
            let mut query = format!("limit={PAGE}");
            if let Some(next) = &next {
                query.push_str("&continue=");
                query.extend(next.bytes().map(percent));
            }
            let body = Limited::new(self.get(&query).await?.into_body(), MOST_PAGE);
            let body = tokio::time::timeout(ANSWER, body.collect()).await;
            let body = body.map_err(|_late| Broken::Still(ANSWER))?;
            let body = body.map_err(Broken::Unreachable)?.to_bytes();
            let page: Value = serde_json::from_slice(&body)
                .map_err(|_json| Broken::Garbled("a list is not JSON"))?;
            let items = page.get("items").and_then(Value::as_array);
            for item in items.into_iter().flatten() {
                self.show(&mut found, item).await?;
            }
            next = text(&page, "continue").map(str::to_owned);
            if next.is_none() {
                let version = text(&page, "resourceVersion").map(str::to_owned);
                break version.ok_or(Broken::Garbled("a list has no version"))?;
            }
        };
        for object in known.iter().filter(|object| !found.contains(object)) {
            self.send(gone(object.clone())).await?;
        }
        if self.kind == Kind::Map && !found.contains(&Object::Map) && !known.contains(&Object::Map)
        {
            self.send(gone(Object::Map)).await?;
        }
        *known = found;
        self.current().await?;
        Ok(version)
    }

    async fn show(&self, known: &mut BTreeSet<Object>, value: &Value) -> Result<(), Broken> {
        let Some(object) = self.ours(value) else {
            return Ok(());
        };
        let stored = Some(wire::decode(&object, value));
        known.insert(object.clone());
        self.send(Input::Seen { object, stored }).await
    }

    /// Which object of this fleet it is.
    fn ours(&self, value: &Value) -> Option<Object> {
        let name = text(value, "name")?;
        match self.kind {
            Kind::Leases => self.place.lease(name),
            Kind::Map => (name == self.place.name(&Object::Map)).then_some(Object::Map),
        }
    }

    /// The view of the map is confirmed as of now; that of the Leases is by each of them.
    async fn current(&self) -> Result<(), Broken> {
        match self.kind {
            Kind::Map => self.send(Input::Current).await,
            Kind::Leases => Ok(()),
        }
    }

    async fn send(&self, input: Input) -> Result<(), Broken> {
        self.inputs
            .send(input)
            .await
            .map_err(|_gone| Broken::Unheard)
    }

    async fn get(&self, query: &str) -> Result<Response<Body>, Broken> {
        let object = match self.kind {
            Kind::Leases => Object::Leader,
            Kind::Map => Object::Map,
        };
        let (group, version, plural) = wire::resource(&object);
        let namespace = &self.place.namespace;
        let mut uri = format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}?{query}");
        if self.kind == Kind::Map {
            uri.push_str("&fieldSelector=metadata.name%3D");
            uri.push_str(&self.place.name(&object));
        }
        let request = Request::get(uri)
            .header(header::ACCEPT, "application/json")
            // Compressed, an event may be held back until there are more.
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Body::from(Bytes::new()))
            .map_err(|error| Broken::Unreachable(error.into()))?;
        let response = tokio::time::timeout(ANSWER, self.client.send(request)).await;
        let response = response.map_err(|_late| Broken::Still(ANSWER))?;
        let response = response.map_err(|error| Broken::Unreachable(error.into()))?;
        let code = response.status();
        if code.is_success() {
            Ok(response)
        } else {
            Err(Broken::Status(code.as_u16()))
        }
    }
}

const fn gone(object: Object) -> Input {
    Input::Seen {
        object,
        stored: None,
    }
}

/// A field of the metadata, of an object or of a list.
fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    let found = value.get("metadata")?.get(field)?.as_str()?;
    (!found.is_empty()).then_some(found)
}

/// A byte of a continue token, which is opaque, as a query may carry it.
fn percent(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// One watch of each kind.
pub(super) fn both(
    client: &Client,
    place: &Place,
    inputs: &mpsc::Sender<Input>,
    metrics: &Metrics,
) -> [(&'static str, Watch); 2] {
    [
        ("watch leases", Kind::Leases),
        ("watch shardmap", Kind::Map),
    ]
    .map(|(name, kind)| {
        let watch = Watch {
            kind,
            client: client.clone(),
            place: Place {
                namespace: Arc::clone(&place.namespace),
                ..place.clone()
            },
            inputs: inputs.clone(),
            metrics: metrics.clone(),
        };
        (name, watch)
    })
}

#[cfg(test)]
mod tests;
