//! The samples that ship: Ingestors of `examples/`, one event of each tool, GitHub's payloads.

#![expect(clippy::panic, reason = "what tests share fails as tests do")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::api::Ingestor;

/// Samples that have an event and a golden Observation, by the name of their file.
pub const SAMPLES: [&str; 6] = [
    "alertmanager",
    "falco",
    "generic-scanner",
    "github",
    "policy-reporter",
    "trivy-operator",
];

/// An event as its sender sends it, but for the credential.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// Header names and values.
    pub headers: BTreeMap<String, String>,
    /// The body.
    body: Box<RawValue>,
}

/// One of GitHub's payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubPayload {
    /// What `X-GitHub-Event` says.
    pub event: String,
    /// `action`, or nothing where there is none.
    pub action: String,
    /// The body.
    pub body: Bytes,
}

/// A row of the golden table of GitHub's payloads: what the sample makes of each payload of an event
/// type and action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome {
    /// What `X-GitHub-Event` says.
    pub event: String,
    /// `action`, or nothing where there is none.
    pub action: String,
    /// The Observation's `eventType`.
    pub event_type: String,
    /// The kind of the Observation's `resource`.
    pub resource: String,
    /// The Observation's `severity`.
    pub severity: String,
    /// The Observation's `category`.
    pub category: String,
}

impl Event {
    /// The body, as it is sent.
    #[must_use]
    pub fn body(&self) -> Bytes {
        Bytes::copy_from_slice(self.body.get().as_bytes())
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
///
/// # Panics
/// When it can't be read: then the test can't run.
#[must_use]
pub fn text(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// A sample of `examples/` as JSON, as users would apply it.
///
/// # Panics
/// See [`text`].
#[must_use]
pub fn manifest(name: &str) -> Value {
    let text = text(&format!("examples/{name}.yaml"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("examples/{name}.yaml: {error}"))
}

/// A sample of `examples/`.
///
/// # Panics
/// See [`text`].
#[must_use]
pub fn ingestor(name: &str) -> Ingestor {
    serde_json::from_value(manifest(name))
        .unwrap_or_else(|error| panic!("examples/{name}.yaml: {error}"))
}

/// The event of a sample's tool.
///
/// # Panics
/// See [`text`].
#[must_use]
pub fn event(name: &str) -> Event {
    let path = format!("tests/data/events/{name}.json");
    serde_json::from_str(&text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All of GitHub's payloads, in the order of their file.
///
/// # Panics
/// See [`text`].
#[must_use]
pub fn github_payloads() -> Vec<GithubPayload> {
    #[derive(Deserialize)]
    struct Line {
        event: String,
        payload: Box<RawValue>,
    }
    #[derive(Deserialize)]
    struct Action {
        #[serde(default)]
        action: String,
    }
    let path = "tests/data/octokit/payloads.jsonl";
    text(path)
        .lines()
        .map(|line| {
            let line: Line =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{path}: {error}"));
            let payload = line.payload.get();
            let Action { action } =
                serde_json::from_str(payload).unwrap_or_else(|error| panic!("{path}: {error}"));
            GithubPayload {
                event: line.event,
                action,
                body: Bytes::copy_from_slice(payload.as_bytes()),
            }
        })
        .collect()
}

/// The golden table: how often each outcome is expected over all of GitHub's payloads.
///
/// # Panics
/// See [`text`].
#[must_use]
pub fn github_outcomes() -> BTreeMap<Outcome, usize> {
    let path = "tests/data/octokit/golden.tsv";
    text(path)
        .lines()
        .skip(1)
        .map(|line| {
            Outcome::parse(line).unwrap_or_else(|| panic!("{path}: not seven columns: {line}"))
        })
        .collect()
}

impl Outcome {
    /// The first line of the golden table.
    pub const HEADER: &str = "event\taction\teventType\tresource\tseverity\tcategory\tpayloads";

    /// A line of the golden table.
    #[must_use]
    pub fn line(&self, payloads: usize) -> String {
        [
            &self.event,
            &self.action,
            &self.event_type,
            &self.resource,
            &self.severity,
            &self.category,
            &payloads.to_string(),
        ]
        .map(String::as_str)
        .join("\t")
    }

    fn parse(line: &str) -> Option<(Self, usize)> {
        let columns: [&str; 7] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let [
            event,
            action,
            event_type,
            resource,
            severity,
            category,
            payloads,
        ] = columns;
        let outcome = Self {
            event: event.to_owned(),
            action: action.to_owned(),
            event_type: event_type.to_owned(),
            resource: resource.to_owned(),
            severity: severity.to_owned(),
            category: category.to_owned(),
        };
        Some((outcome, payloads.parse().ok()?))
    }
}
