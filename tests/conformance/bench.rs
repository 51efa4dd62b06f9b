//! What a case works with: raw requests, so that it sees every status, reason, cause and header.

use std::{fmt::Write as _, time::Duration};

use futures::{AsyncBufReadExt as _, Stream, StreamExt as _, stream::BoxStream};
use http::{HeaderMap, Method, Request, header};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// Longer than any answer takes, on a machine on which builds run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const WIDGET: &str = include_str!("data/widget.yaml");
pub(crate) const GADGET: &str = include_str!("data/gadget.yaml");

/// A client, and a fresh namespace of the case's own.
pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) finisher: Finisher,
    /// What must live as long as the case.
    pub(crate) kept: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// Who finishes the deletion of a namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finisher {
    /// The server, as a cluster with its controllers.
    Server,
    /// The test: no controller runs beside the server.
    #[cfg(feature = "real-cluster")]
    Test,
}

/// The kinds of patch, by their content type.
#[derive(Clone, Copy)]
pub(crate) enum Patch {
    Merge,
    Json,
    Strategic,
}

// === impl Bench ===

impl Bench {
    /// Installs the suite's kinds where they are missing, and makes a namespace.
    pub(crate) async fn new(client: Client, finisher: Finisher) -> Self {
        let bench = Self {
            client,
            namespace: unique("case"),
            finisher,
            kept: None,
        };
        bench.install(&from_yaml(WIDGET)).await;
        bench.install(&from_yaml(GADGET)).await;
        bench.new_namespace(&bench.namespace).await;
        bench
    }

    /// Keeps something until the case is over.
    pub(crate) fn keeping(mut self, kept: impl std::any::Any + Send + Sync) -> Self {
        self.kept = Some(Box::new(kept));
        self
    }

    pub(crate) async fn new_namespace(&self, name: &str) {
        let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.post("/api/v1/namespaces", &body).await.created();
    }

    /// Creates a definition if it is missing and waits until its kind is served.
    pub(crate) async fn install(&self, definition: &Value) {
        let answer = self.post(DEFINITIONS, definition).await;
        assert!(
            answer.code == 201 || answer.reason() == "AlreadyExists",
            "{answer}"
        );
        let name = definition["metadata"]["name"].as_str().unwrap();
        self.wait_established(name).await;
    }

    /// Waits until the kind of a definition is served, in every version.
    pub(crate) async fn wait_established(&self, definition: &str) {
        let path = format!("{DEFINITIONS}/{definition}");
        self.eventually("the definition is established", async || {
            let found = self.get(&path).await.ok();
            condition(&found, "Established")?.eq("True").then_some(())
        })
        .await;
        let found = self.get(&path).await.ok();
        for version in found["spec"]["versions"].as_array().unwrap() {
            if version["served"] == true {
                let list = format!(
                    "/apis/{}/{}/{}",
                    text(&found["spec"]["group"]),
                    text(&version["name"]),
                    text(&found["spec"]["names"]["plural"]),
                );
                // Established a moment before the handler is in place.
                self.eventually("the kind is served", async || {
                    (self.get(&list).await.code == 200).then_some(())
                })
                .await;
            }
        }
    }

    /// Waits until discovery and OpenAPI speak of the kinds, which a real server lets follow after
    /// it serves them: kubectl asks both.
    #[cfg(feature = "real-cluster")]
    pub(crate) async fn wait_published(&self, group_version: &str, plurals: &[&str]) {
        let discovery = format!("/apis/{group_version}");
        let openapi = format!("/openapi/v3/apis/{group_version}");
        self.eventually("the kinds are published", async || {
            let (listed, described) = (self.get(&discovery).await, self.get(&openapi).await);
            if listed.code != 200 || described.code != 200 {
                return None;
            }
            let (listed, described) = (listed.json(), described.json());
            let published = |plural: &&str| {
                let of_all = format!("/apis/{group_version}/{plural}");
                let resources = listed["resources"].as_array().unwrap();
                resources
                    .iter()
                    .any(|resource| resource["name"] == **plural)
                    && !described["paths"][&of_all].is_null()
            };
            plurals.iter().all(published).then_some(())
        })
        .await;
    }

    /// The collection of widgets in the case's namespace.
    pub(crate) fn widgets(&self) -> String {
        format!(
            "/apis/conformance.test/v1/namespaces/{}/widgets",
            self.namespace
        )
    }

    pub(crate) fn widget(&self, name: &str) -> String {
        format!("{}/{name}", self.widgets())
    }

    /// The collection of a core kind in the case's namespace.
    pub(crate) fn core(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// The collection of one of this project's kinds in the case's namespace.
    pub(crate) fn zen(&self, plural: &str) -> String {
        format!(
            "/apis/zen.watcher.io/v1/namespaces/{}/{plural}",
            self.namespace
        )
    }

    /// Creates a widget of this name and size.
    pub(crate) async fn make(&self, name: &str, size: u32) -> Value {
        self.post(&self.widgets(), &widget(name, json!({ "size": size })))
            .await
            .created()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    /// Gets it in the representation that `accept` asks for.
    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(Method::GET, path, &[("accept", accept)], None)
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send_json(Method::POST, path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send_json(Method::PUT, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, patch: Patch, body: &Value) -> Answer {
        let content_type = match patch {
            Patch::Merge => "application/merge-patch+json",
            Patch::Json => "application/json-patch+json",
            Patch::Strategic => "application/strategic-merge-patch+json",
        };
        let headers = [("content-type", content_type)];
        self.send(Method::PATCH, path, &headers, Some(body.to_string()))
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await
    }

    pub(crate) async fn delete_with(&self, path: &str, options: &Value) -> Answer {
        self.send_json(Method::DELETE, path, options).await
    }

    async fn send_json(&self, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, Some(body.to_string()))
            .await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        let asked = format!("{method} {path} {}", body.as_deref().unwrap_or_default());
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Body::from(body.unwrap_or_default().into_bytes()))
            .unwrap();
        let exchange = async {
            let response = self.client.send(request).await.unwrap();
            let (head, body) = response.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            Answer {
                code: head.status.as_u16(),
                headers: head.headers,
                text: String::from_utf8_lossy(&bytes).into_owned(),
                asked: asked.chars().take(600).collect(),
            }
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .unwrap_or_else(|_| panic!("no answer within {PATIENCE:?} to {asked}"))
    }

    /// Watches a collection; `query` begins after `watch=true`.
    pub(crate) async fn watch(&self, path: &str, query: &str) -> Watch {
        self.watch_as(path, query, "application/json").await
    }

    pub(crate) async fn watch_as(&self, path: &str, query: &str, accept: &str) -> Watch {
        let request = Request::get(format!("{path}?watch=true{query}"))
            .header(header::ACCEPT, accept)
            .body(Vec::new())
            .unwrap();
        let reader = tokio::time::timeout(PATIENCE, self.client.request_stream(request))
            .await
            .expect("the watch is answered")
            .unwrap();
        Watch {
            events: events(reader.lines()).boxed(),
        }
    }

    /// Waits until `check` gives something.
    pub(crate) async fn eventually<T>(&self, what: &str, check: impl AsyncFn() -> Option<T>) -> T {
        let poll = async {
            loop {
                if let Some(found) = check().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll)
            .await
            .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
    }

    /// Deletes a namespace with what lies in it and waits until it is gone.
    pub(crate) async fn delete_namespace(&self, name: &str) {
        self.delete(&format!("/api/v1/namespaces/{name}"))
            .await
            .accepted();
        match self.finisher {
            Finisher::Server => {}
            #[cfg(feature = "real-cluster")]
            Finisher::Test => {
                self.delete(&format!(
                    "/apis/conformance.test/v1/namespaces/{name}/widgets"
                ))
                .await
                .accepted();
                zen_fabric::testing::cluster::finalize_namespace(&self.client, name)
                    .await
                    .unwrap();
            }
        }
        self.eventually("the namespace is gone", async || {
            (self.get(&format!("/api/v1/namespaces/{name}")).await.code == 404).then_some(())
        })
        .await;
    }
}

/// What is said beside other faults by a kind that has rules: those weren't looked at.
pub(crate) const UNCHECKED: &str = "FieldValueInvalid <nil>: Invalid value: null: some validation \
    rules were not checked because the object was invalid; correct the existing errors to complete \
    validation";

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// An answer, with what was asked for the message of a failure.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    asked: String,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text.chars().take(4000).collect();
        write!(f, "{}\n→ {} {text}", self.asked, self.code)
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    pub(crate) fn reason(&self) -> String {
        text(&self.json()["reason"])
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.code, 200, "{self}");
        self.json()
    }

    #[track_caller]
    pub(crate) fn created(self) -> Value {
        assert_eq!(self.code, 201, "{self}");
        self.json()
    }

    /// A deletion may be done (200) or under way (202).
    #[track_caller]
    pub(crate) fn accepted(self) -> Value {
        assert!(matches!(self.code, 200 | 202), "{self}");
        self.json()
    }

    /// A Status that says `code` and `reason`.
    #[track_caller]
    pub(crate) fn refused(self, code: u16, reason: &str) -> Refusal {
        let asked = self.to_string();
        assert_eq!(self.code, code, "{asked}");
        Refusal::new(self.json(), code, reason, asked)
    }

    /// The texts of the `Warning` headers.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.headers
            .get_all(header::WARNING)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }
}

/// What a server said as it refused.
pub(crate) struct Refusal {
    status: Value,
    asked: String,
}

// === impl Refusal ===

impl Refusal {
    #[track_caller]
    pub(crate) fn new(status: Value, code: u16, reason: &str, asked: String) -> Self {
        assert_eq!(status["kind"], "Status", "{asked}");
        assert_eq!(status["apiVersion"], "v1", "{asked}");
        assert_eq!(status["status"], "Failure", "{asked}");
        assert_eq!(status["code"], code, "{asked}");
        assert_eq!(text(&status["reason"]), reason, "{asked}");
        Self { status, asked }
    }

    pub(crate) fn message(&self) -> String {
        text(&self.status["message"])
    }

    #[track_caller]
    pub(crate) fn saying(self, message: &str) -> Self {
        assert_eq!(self.message(), message, "{}", self.asked);
        self
    }

    #[track_caller]
    pub(crate) fn mentioning(self, part: &str) -> Self {
        assert!(
            self.message().contains(part),
            "{part:?} is not in the message: {}",
            self.asked
        );
        self
    }

    /// The details name this object: resource, group and name.
    #[track_caller]
    pub(crate) fn about(self, kind: &str, group: &str, name: &str) -> Self {
        let details = &self.status["details"];
        let found = (
            text(&details["kind"]),
            text(&details["group"]),
            text(&details["name"]),
        );
        assert_eq!(
            found,
            (kind.to_owned(), group.to_owned(), name.to_owned()),
            "{}",
            self.asked
        );
        self
    }

    /// The causes are exactly these, as "reason field: message", in any order. A server may say the
    /// same thing twice.
    #[track_caller]
    pub(crate) fn caused_by(self, expected: &[&str]) -> Self {
        let mut found: Vec<String> = self.status["details"]["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|cause| {
                let mut line = text(&cause["reason"]);
                let _ = write!(
                    line,
                    " {}: {}",
                    text(&cause["field"]),
                    text(&cause["message"])
                );
                line
            })
            .collect();
        let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        found.sort();
        found.dedup();
        expected.sort();
        assert_eq!(found, expected, "{}", self.asked);
        self
    }
}

/// The events of one watch, in the order in which they came.
pub(crate) struct Watch {
    events: BoxStream<'static, Value>,
}

// === impl Watch ===

impl Watch {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Value {
        self.next_or_end().await.expect("the watch goes on")
    }

    /// The next event, or nothing when the server ended the watch.
    pub(crate) async fn next_or_end(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.events.next())
            .await
            .unwrap_or_else(|_| panic!("no event within {PATIENCE:?}"))
    }

    /// The next `n` events, as "TYPE name".
    pub(crate) async fn names(&mut self, n: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..n {
            let event = self.next().await;
            names.push(format!(
                "{} {}",
                text(&event["type"]),
                text(&event["object"]["metadata"]["name"])
            ));
        }
        names
    }
}

fn events(
    lines: impl Stream<Item = std::io::Result<String>> + Send + 'static,
) -> impl Stream<Item = Value> + Send + 'static {
    // A connection that breaks ends the watch; only a whole line is an event.
    lines
        .take_while(|line| std::future::ready(line.is_ok()))
        .filter_map(|line| std::future::ready(line.ok().filter(|line| !line.trim().is_empty())))
        .map(|line| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}")))
}

/// A widget; the least that the schema takes is `{ "size": 1 }`.
pub(crate) fn widget(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "conformance.test/v1", "kind": "Widget",
        "metadata": { "name": name }, "spec": spec,
    })
}

/// A ConfigMap with one entry.
pub(crate) fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name }, "data": { "a": "1" },
    })
}

pub(crate) fn from_yaml(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

/// A name that no other case uses.
pub(crate) fn unique(prefix: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}-{}", &id[..10])
}

/// A string, or nothing for anything else.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The resource version of an object or list, as the number that it is.
pub(crate) fn version(object: &Value) -> u64 {
    text(&object["metadata"]["resourceVersion"])
        .parse()
        .unwrap()
}

/// The names of a list's items, in its order.
pub(crate) fn names(list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .unwrap_or_else(|| panic!("a list: {list}"))
        .iter()
        .map(|item| text(&item["metadata"]["name"]))
        .collect()
}

/// The status of a condition.
pub(crate) fn condition(object: &Value, kind: &str) -> Option<String> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
        .map(|condition| text(&condition["status"]))
}
