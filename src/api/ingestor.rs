//! `Ingestor` v1: a source, and how its events become Observations.

mod auth;
mod decide;
mod webhook;

pub use auth::{
    ApiKeyAuth, Auth, HmacAlgorithm, HmacAuth, HmacEncoding, NoAuth, SecretAuth, SecretRef,
};
pub use decide::{
    Dedup, Field, Filter, Normalize, ObservationOutput, Output, ResourceFields, Strategy,
};
pub use webhook::{Idempotency, Method, RateLimit, ResponseSpec, Webhook};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Owner,
    limits::{EXPRESSION, FILTERS, SAFE_INTEGER},
    owner::{FENCE, FENCED},
    schema::{self, rule},
};

/// Longest URL of an endpoint: a public base URL, two DNS labels and `/hooks/`.
const URL: usize = 2_048;

/// What an Ingestor declares.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "zen.watcher.io",
    version = "v1",
    kind = "Ingestor",
    plural = "ingestors",
    namespaced,
    status = "IngestorStatus",
    shortname = "igr",
    category = "zen",
    derive = "PartialEq",
    doc = "A source of events, and how each of them becomes an Observation in the same namespace.",
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name must be a DNS label: at most 63 characters, no dots; it names the endpoint and the source"),
    validation = Rule::new(FENCE).message(FENCED).field_path(".status.owner"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether the endpoint serves.",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        description = "The URL to give to the sender.",
        json_path = ".status.endpoint"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "integer",
        description = "Accepted events.",
        json_path = ".status.counters.accepted"
    ),
    printcolumn(
        name = "Backlog",
        type_ = "integer",
        description = "Accepted events that have no end yet.",
        json_path = ".status.backlog"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        description = "When it was created.",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        description = "Why the endpoint serves or doesn't.",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Degraded",
        type_ = "string",
        priority = 1,
        description = "Whether something holds processing back.",
        json_path = ".status.conditions[?(@.type==\"Degraded\")].status"
    ),
    printcolumn(
        name = "DeadLettered",
        type_ = "integer",
        priority = 1,
        description = "Events that could not be processed; kept for inspection and replay.",
        json_path = ".status.counters.deadLettered"
    ),
    printcolumn(
        name = "LastEvent",
        type_ = "date",
        priority = 1,
        description = "When the last event was accepted.",
        json_path = ".status.lastEventTime"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct IngestorSpec {
    /// Whether the endpoint serves. A disabled Ingestor answers 404; what was accepted before is still processed.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Where events come from: exactly one source.
    pub source: Source,
    /// CEL expression over `body`, `headers`, `query` that gives a list: one Observation per item, at most 1,000. Each item is `item` in the other expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = EXPRESSION))]
    pub explode: Option<String>,
    /// How the fields of the Observation are made.
    pub normalize: Normalize,
    /// All of these must keep an event; evaluated after normalize, with `event` also in scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = FILTERS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub filters: Vec<Filter>,
    /// Which events are the same.
    #[serde(default)]
    pub dedup: Dedup,
    /// What is written.
    #[serde(default)]
    pub output: Output,
}

const fn yes() -> bool {
    true
}

/// Where events come from. Exactly one field is set.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rule(
    "[has(self.webhook)].filter(x, x).size() == 1",
    "exactly one source must be set: webhook",
)]))]
pub struct Source {
    /// An HTTP endpoint, `/hooks/<namespace>/<path>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// What the fabric reports.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IngestorStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The URL to give to the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = URL))]
    pub endpoint: Option<String>,
    /// The replica that processes its events and writes its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// How many events came to which end; exact, up to seconds old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// Accepted events that have no end yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = SAFE_INTEGER))]
    pub backlog: Option<i64>,
    /// When the last event was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::timestamp")]
    pub last_event_time: Option<String>,
    /// Accepted, Ready, Degraded, and Unauthenticated where `auth` has `none`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many events came to which end.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Accepted events.
    #[schemars(range(min = 0, max = SAFE_INTEGER))]
    pub accepted: i64,
    /// Became, or were counted in, an Observation that they created.
    #[schemars(range(min = 0, max = SAFE_INTEGER))]
    pub observed: i64,
    /// Dropped by a filter.
    #[schemars(range(min = 0, max = SAFE_INTEGER))]
    pub filtered: i64,
    /// The same as another.
    #[schemars(range(min = 0, max = SAFE_INTEGER))]
    pub deduplicated: i64,
    /// Could not be processed; kept for inspection and replay.
    #[schemars(range(min = 0, max = SAFE_INTEGER))]
    pub dead_lettered: i64,
    /// Lost by the disk, not by the fabric; normally 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = SAFE_INTEGER))]
    pub damaged: i64,
}
