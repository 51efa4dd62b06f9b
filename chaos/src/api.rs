//! Objects of the API server as JSON, by one identity: what scenarios make, read and break.

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

use crate::error::{Attempt as _, Error, Result};

/// One identity's view of one namespace.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    namespace: String,
}

/// A kind as its path names it: `("zen.watcher.io/v1", "ingestors")`.
pub type Kind = (&'static str, &'static str);

/// Leases.
pub const LEASES: Kind = ("coordination.k8s.io/v1", "leases");
/// Ingestors.
pub const INGESTORS: Kind = ("zen.watcher.io/v1", "ingestors");
/// Observations.
pub const OBSERVATIONS: Kind = ("zen.watcher.io/v1", "observations");
/// The map.
pub const SHARDMAPS: Kind = ("zen.watcher.io/v1", "shardmaps");

/// What the API server answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It did it; the object, or nothing where it was deleted.
    Done(Value),
    /// It would not: the HTTP status and why.
    Refused(u16, String),
    /// No answer.
    Lost(String),
}

// === impl Answer ===

impl Answer {
    /// What was done, or the error.
    pub fn done(self, attempt: impl Into<String>) -> Result<Value> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Refused(code, why) => {
                Err(format!("the API server answered {code}: {why}")).attempt(attempt)
            }
            Self::Lost(why) => Err(why).attempt(attempt),
        }
    }

    /// What was done; `None` where it was refused with this status, which is as good.
    fn unless(self, status: u16, attempt: String) -> Result<Option<Value>> {
        match self {
            Self::Refused(code, _) if code == status => Ok(None),
            Self::Done(_) | Self::Refused(..) | Self::Lost(_) => self.done(attempt).map(Some),
        }
    }
}

// === impl Objects ===

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Objects {
    /// By a client.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
        }
    }

    /// The same identity in another namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self::new(self.client.clone(), namespace)
    }

    /// Which namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its client.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The path of a kind's objects here.
    pub fn path(&self, (version, plural): Kind) -> String {
        let root = if version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{version}/namespaces/{}/{plural}", self.namespace)
    }

    /// Sends a request.
    pub async fn send(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        let mut bytes = Vec::new();
        if let Some((content, body)) = body {
            request = request.header(http::header::CONTENT_TYPE, content);
            bytes = body.to_string().into_bytes();
        }
        let request = match request.body(bytes) {
            Ok(request) => request,
            Err(error) => return Answer::Lost(error.to_string()),
        };
        match self.client.request::<Value>(request).await {
            Ok(value) => Answer::Done(value),
            Err(kube::Error::Api(status)) => Answer::Refused(status.code, status.message.clone()),
            Err(error) => Answer::Lost(error.to_string()),
        }
    }

    /// Reads one; `None` where it isn't there.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Option<Value>> {
        let path = format!("{}/{name}", self.path(kind));
        let answer = self.send(Method::GET, &path, None).await;
        answer.unless(404, format!("read {path}"))
    }

    /// Reads all of a kind.
    pub async fn list(&self, kind: Kind) -> Result<Vec<Value>> {
        let path = self.path(kind);
        let listed = self
            .send(Method::GET, &path, None)
            .await
            .done(format!("list {path}"))?;
        let items = listed.get("items").and_then(Value::as_array);
        Ok(items.cloned().unwrap_or_default())
    }

    /// Makes one.
    pub async fn create(&self, kind: Kind, object: &Value) -> Result<Value> {
        let path = self.path(kind);
        self.send(Method::POST, &path, Some(("application/json", object)))
            .await
            .done(format!("create {} in {path}", name_of(object)))
    }

    /// Makes one, or leaves the one that is there.
    pub async fn ensure(&self, path: &str, object: &Value) -> Result<()> {
        let body = Some(("application/json", object));
        let answer = self.send(Method::POST, path, body).await;
        answer
            .unless(409, format!("create {} in {path}", name_of(object)))
            .map(drop)
    }

    /// Replaces one, at the version that the object names.
    pub async fn replace(&self, kind: Kind, object: &Value) -> Result<Value> {
        let path = format!("{}/{}", self.path(kind), name_of(object));
        self.send(Method::PUT, &path, Some(("application/json", object)))
            .await
            .done(format!("replace {path}"))
    }

    /// Merges into one, whatever its version.
    pub async fn merge(&self, kind: Kind, name: &str, patch: &Value) -> Result<Value> {
        let path = format!("{}/{name}", self.path(kind));
        self.send(
            Method::PATCH,
            &path,
            Some(("application/merge-patch+json", patch)),
        )
        .await
        .done(format!("patch {path}"))
    }

    /// Deletes one; nothing happens where it isn't there.
    pub async fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        let path = format!("{}/{name}", self.path(kind));
        let answer = self.send(Method::DELETE, &path, None).await;
        answer.unless(404, format!("delete {path}")).map(drop)
    }

    /// Creates every document of a manifest, as `kubectl create` does; what is there stays. What names no
    /// namespace goes into this one.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(manifest).attempt("read a manifest of deploy/")?;
        for document in documents {
            let text = |path: &str| {
                document
                    .pointer(path)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let version = text("/apiVersion");
            let root = if version.contains('/') { "apis" } else { "api" };
            let kind = text("/kind");
            let scope = match text("/metadata/namespace") {
                "" if WIDE.iter().any(|prefix| kind.starts_with(prefix)) => String::new(),
                "" => format!("/namespaces/{}", self.namespace),
                namespace => format!("/namespaces/{namespace}"),
            };
            let plural = plural(kind);
            self.ensure(&format!("/{root}/{version}{scope}/{plural}"), &document)
                .await?;
        }
        Ok(())
    }

    /// Makes this namespace.
    pub async fn make_namespace(&self) -> Result<()> {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.namespace },
        });
        self.ensure("/api/v1/namespaces", &object).await
    }
}

/// What the kinds begin with, of those in `deploy/`, whose objects are in no namespace.
const WIDE: [&str; 2] = ["Cluster", "ValidatingAdmission"];

/// An object's name.
pub fn name_of(object: &Value) -> &str {
    object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// As Kubernetes forms them: `policy` has `policies`.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    }
}

/// Waits until something holds, looking every `every`.
pub async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    within: std::time::Duration,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let begun = crate::clock::At::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if begun.passed() > within {
            return Err(Error::new(format!(
                "wait until {what}: not within {within:?}"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How often a condition is looked at: the precision of what is waited for, not of what is measured.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);
