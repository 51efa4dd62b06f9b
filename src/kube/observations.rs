//! Calls on Observations and what they stand in: strict field validation, quorum reads.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use k8s_openapi::{
    api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Time as MetaTime, jiff::Timestamp,
};
use kube::{Client, Resource as _};
use serde::Deserialize;
use serde_json::json;

use crate::api::{Ingestor, Observation};

use super::{
    FIELD_MANAGER,
    call::{self, Call, JSON},
    failure::{Failure, Verb},
};

/// Reads and writes Observations.
#[derive(Clone)]
pub struct Observations {
    client: Client,
}

impl std::fmt::Debug for Observations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observations").finish_non_exhaustive()
    }
}

/// Whose an Observation is. The rest of an answer, its managed fields above all, isn't decoded: nobody
/// looks at it.
#[derive(Clone, Debug, Deserialize)]
pub struct Stored {
    /// What the writer looks at.
    pub metadata: StoredMeta,
}

/// See [`Stored`].
#[derive(Clone, Debug, Deserialize)]
pub struct StoredMeta {
    /// What is stored has one; an answer without is no Observation.
    pub uid: String,
    /// By name.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What retention looks at; the rest of an Observation, which may be 64 KiB, is not kept.
#[derive(Clone, Debug, Deserialize)]
pub struct Aging {
    /// Name, UID, creation, annotations.
    pub metadata: kube::core::ObjectMeta,
    /// The part of the spec that says when.
    pub spec: AgingSpec,
}

/// See [`Aging`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgingSpec {
    /// Seconds after its creation when the object is removed.
    pub ttl_seconds_after_creation: Option<u32>,
}

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    /// The objects.
    pub items: Vec<Aging>,
    #[serde(default)]
    metadata: PageMeta,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PageMeta {
    #[serde(rename = "continue", default)]
    next: Option<String>,
}

impl Page {
    /// Where the next page begins; `None`: this was the last.
    #[must_use]
    pub fn next(&self) -> Option<&str> {
        let next = self.metadata.next.as_deref()?;
        (!next.is_empty()).then_some(next)
    }
}

impl Observations {
    /// Calls go through `client`.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Creates the object whose JSON is `body`.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn create(
        &self,
        namespace: &str,
        name: &str,
        body: Bytes,
    ) -> Result<Stored, Failure> {
        let uri = format!("{}&{}", collection(namespace), "fieldValidation=Strict");
        let call = write(Verb::Create, namespace, name, uri, body);
        call::send_for(&self.client, call).await
    }

    /// Asks whether the server would create the object whose JSON is `body`.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn dry_run(&self, namespace: &str, name: &str, body: Bytes) -> Result<(), Failure> {
        let uri = format!(
            "{}&{}",
            collection(namespace),
            "fieldValidation=Strict&dryRun=All"
        );
        let call = write(Verb::DryRun, namespace, name, uri, body);
        call::send(&self.client, call).await.map(drop)
    }

    /// Reads one object from a quorum, never from a cache that may lag.
    ///
    /// # Errors
    /// What the server answers, 404 included.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Observation, Failure> {
        call::send_for(&self.client, read(namespace, name)).await
    }

    /// The same, where it matters only whose the object is.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn look(&self, namespace: &str, name: &str) -> Result<Stored, Failure> {
        call::send_for(&self.client, read(namespace, name)).await
    }

    /// Replaces the object if it still has the version that `body` names.
    ///
    /// # Errors
    /// What the server answers, 409 included.
    pub async fn update(&self, namespace: &str, name: &str, body: Bytes) -> Result<(), Failure> {
        let query = format!("?fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        let uri = one(namespace, name) + &query;
        let call = write(Verb::Update, namespace, name, uri, body);
        let stored: Result<Stored, Failure> = call::send_for(&self.client, call).await;
        stored.map(drop)
    }

    /// Deletes the object if it is still the one with this UID.
    ///
    /// # Errors
    /// What the server answers: 404 when it is gone, 409 when it is another.
    pub async fn delete(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Failure> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid },
        });
        let body = Bytes::from(options.to_string());
        let call = write(Verb::Delete, namespace, name, one(namespace, name), body);
        call::send(&self.client, call).await.map(drop)
    }

    /// One page of all Observations of all namespaces.
    ///
    /// # Errors
    /// What the server answers: 410 when `after` is too old.
    pub async fn page(&self, limit: u32, after: Option<&str>) -> Result<Page, Failure> {
        let path = Observation::url_path(&(), None);
        let mut uri = format!("{path}?limit={limit}");
        if let Some(after) = after {
            uri.push_str("&continue=");
            uri.extend(after.bytes().map(percent));
        }
        let call = Call {
            verb: Verb::List,
            object: "observations".to_owned(),
            uri,
            content_type: JSON,
            body: Bytes::new(),
        };
        call::send_for(&self.client, call).await
    }

    /// Asks `count` times at once for what costs the server nothing: so many connections are open
    /// then, and wait to be used.
    pub async fn connect(&self, count: usize) {
        let asking = (0..count).map(|_| {
            let call = Call {
                verb: Verb::Get,
                object: "version".to_owned(),
                uri: "/version".to_owned(),
                content_type: JSON,
                body: Bytes::new(),
            };
            call::send(&self.client, call)
        });
        // Whatever is answered, it came over a connection; one that can't be had now is made later.
        drop(join_all(asking).await);
    }

    /// The UID of the namespace of this name, from a quorum.
    ///
    /// # Errors
    /// What the server answers, 404 included.
    pub async fn namespace_uid(&self, name: &str) -> Result<String, Failure> {
        let call = Call {
            verb: Verb::Get,
            object: format!("namespace {name}"),
            uri: format!("{}/{name}", Namespace::url_path(&(), None)),
            content_type: JSON,
            body: Bytes::new(),
        };
        let namespace: Namespace = call::send_for(&self.client, call).await?;
        Ok(namespace.metadata.uid.unwrap_or_default())
    }

    /// The Ingestor of this name, from a quorum.
    ///
    /// # Errors
    /// What the server answers, 404 included.
    pub async fn ingestor(&self, namespace: &str, name: &str) -> Result<Ingestor, Failure> {
        let call = Call {
            verb: Verb::Get,
            object: format!("ingestor {namespace}/{name}"),
            uri: format!("{}/{name}", Ingestor::url_path(&(), Some(namespace))),
            content_type: JSON,
            body: Bytes::new(),
        };
        call::send_for(&self.client, call).await
    }
}

/// A time as the API writes it.
#[must_use]
pub fn time(at: crate::journal::Millis) -> MetaTime {
    // Beyond the year 9999 or before −9999 only a broken clock is; the epoch is then as good as any.
    MetaTime(Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn collection(namespace: &str) -> String {
    let path = Observation::url_path(&(), Some(namespace));
    format!("{path}?fieldManager={FIELD_MANAGER}")
}

fn one(namespace: &str, name: &str) -> String {
    let path = Observation::url_path(&(), Some(namespace));
    format!("{path}/{name}")
}

fn object(namespace: &str, name: &str) -> String {
    format!("observation {namespace}/{name}")
}

fn read(namespace: &str, name: &str) -> Call {
    Call {
        verb: Verb::Get,
        object: object(namespace, name),
        uri: one(namespace, name),
        content_type: JSON,
        body: Bytes::new(),
    }
}

fn write(verb: Verb, namespace: &str, name: &str, uri: String, body: Bytes) -> Call {
    Call {
        verb,
        object: object(namespace, name),
        uri,
        content_type: JSON,
        body,
    }
}

/// A byte of a continue token, which is opaque, as a query may carry it.
fn percent(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http::{Request, Response};
    use kube::client::Body;
    use tokio::sync::Barrier;

    use super::*;

    #[tokio::test]
    async fn as_many_connections_are_asked_for_at_once_as_are_to_be_open() {
        let (asked, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(4)));
        let counting = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (asked, together) = (Arc::clone(&counting), Arc::clone(&together));
            async move {
                assert_eq!(request.uri().path(), "/version");
                asked.fetch_add(1, Ordering::SeqCst);
                // One after the other they would wait for ever.
                together.wait().await;
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            }
        });
        let observations = Observations::new(Client::new(service, "default"));
        let connecting = observations.connect(4);
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), connecting);
        waited.await.expect("they are not asked for at once");
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }
}
