//! `Observation` v1: the canonical event.

#![expect(
    clippy::duplicated_attributes,
    reason = "every printer column has a type and a description"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    limits::{
        API_VERSION, APPLIED, EVENT_TYPE, LABEL, RESOURCE_NAME, SAFE_INTEGER, SUBDOMAIN,
        TTL_MAX_SECONDS, TTL_MIN_SECONDS,
    },
    schema::{self, immutable, immutable_optional, rule, rule_at},
};

/// Most members of `details` beside what their size bounds.
const DETAILS_MEMBERS: usize = 1_024;

/// What happened. The spec never changes once it is written, but for the counting of an aggregate.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "zen.watcher.io",
    version = "v1",
    kind = "Observation",
    plural = "observations",
    namespaced,
    status = "ObservationStatus",
    shortname = "obs",
    category = "zen",
    derive = "PartialEq",
    doc = "A canonical event: what happened, how bad it is, and what it is about.",
    selectable = ".spec.severity",
    selectable = ".spec.category",
    selectable = ".spec.eventType",
    printcolumn(
        name = "Severity",
        type_ = "string",
        description = "How bad it is.",
        json_path = ".spec.severity"
    ),
    printcolumn(
        name = "Category",
        type_ = "string",
        description = "The area that it concerns.",
        json_path = ".spec.category"
    ),
    printcolumn(
        name = "Event",
        type_ = "string",
        description = "What happened.",
        json_path = ".spec.eventType"
    ),
    printcolumn(
        name = "Kind",
        type_ = "string",
        description = "The kind of what it is about.",
        json_path = ".spec.resource.kind"
    ),
    printcolumn(
        name = "Resource",
        type_ = "string",
        description = "The name of what it is about.",
        json_path = ".spec.resource.name"
    ),
    printcolumn(
        name = "Count",
        type_ = "integer",
        description = "How many events it stands for.",
        json_path = ".spec.count"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        description = "When it was written.",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Source",
        type_ = "string",
        priority = 1,
        description = "Where it came from.",
        json_path = ".spec.source"
    ),
    printcolumn(
        name = "Detected",
        type_ = "date",
        priority = 1,
        description = "When it was detected.",
        json_path = ".spec.detectedAt"
    ),
    printcolumn(
        name = "Processed",
        type_ = "boolean",
        priority = 1,
        description = "Whether a consumer has dealt with it.",
        json_path = ".status.processed"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    immutable_optional("resource"),
    immutable_optional("details"),
    immutable_optional("ttlSecondsAfterCreation"),
    rule_at(
        ".firstSeen",
        "!has(oldSelf.firstSeen) || (has(self.firstSeen) && self.firstSeen <= oldSelf.firstSeen)",
        "never rises and never goes",
    ),
    rule_at(
        ".lastSeen",
        "!has(oldSelf.lastSeen) || (has(self.lastSeen) && self.lastSeen >= oldSelf.lastSeen)",
        "never falls and never goes",
    ),
    rule_at(
        ".applied",
        "!has(oldSelf.applied) || has(self.applied)",
        "never goes",
    ),
]))]
pub struct ObservationSpec {
    /// Where it came from; usually the Ingestor's name.
    #[schemars(
        length(min = 1, max = LABEL),
        regex(pattern = schema::DNS_LABEL),
        extend("x-kubernetes-validations" = [immutable()])
    )]
    pub source: String,
    /// security, compliance, infrastructure, performance, operations or cost.
    #[schemars(extend("x-kubernetes-validations" = [immutable()]))]
    pub category: Category,
    /// critical, high, medium, low or info.
    #[schemars(extend("x-kubernetes-validations" = [immutable()]))]
    pub severity: Severity,
    /// What happened, in lower-case letters, digits and `_`.
    #[schemars(
        length(min = 1, max = EVENT_TYPE),
        regex(pattern = "^[a-z0-9_]+$"),
        extend("x-kubernetes-validations" = [immutable()])
    )]
    pub event_type: String,
    /// When it was detected.
    #[schemars(
        schema_with = "schema::timestamp",
        extend("x-kubernetes-validations" = [immutable()])
    )]
    pub detected_at: Time,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// Further facts, free in form, at most 64 KiB.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schemars(schema_with = "details")]
    pub details: serde_json::Map<String, serde_json::Value>,
    /// How many events this Observation stands for; more than 1 when aggregated. It never falls.
    #[serde(default = "one")]
    #[schemars(
        range(min = 1, max = SAFE_INTEGER),
        extend("x-kubernetes-validations" = [rule("self >= oldSelf", "never falls")])
    )]
    pub count: i64,
    /// When the first event of an aggregate was accepted. It never rises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::timestamp")]
    pub first_seen: Option<Time>,
    /// When the last event of an aggregate was accepted. It never falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::timestamp")]
    pub last_seen: Option<Time>,
    /// Up to which item of which log an aggregate has counted. No log leaves, and none falls back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = APPLIED),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["log"],
            "x-kubernetes-validations" = [rule(
                "oldSelf.all(old, self.exists(new, new.log == old.log && (new.position > old.position || (new.position == old.position && new.index >= old.index))))",
                "no log leaves, and (position, index) never falls",
            )]
        )
    )]
    pub applied: Vec<Applied>,
    /// Seconds after its creation when this object is removed; absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = TTL_MIN_SECONDS, max = TTL_MAX_SECONDS))]
    pub ttl_seconds_after_creation: Option<u32>,
}

/// Free in form. Whoever writes cuts it to [`super::limits::DETAILS_BYTES`]; a schema has no word for that.
///
/// A real API server compares what has no schema loosely: keys at the top that take the place of as
/// many others pass for the same. The conformance suite pins it; no rule can see those keys.
fn details(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": DETAILS_MEMBERS,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

const fn one() -> i64 {
    1
}

/// What an Observation is about, in the words of its source.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// The API version of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = API_VERSION))]
    pub api_version: Option<String>,
    /// The kind of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = LABEL))]
    pub kind: Option<String>,
    /// The namespace of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SUBDOMAIN))]
    pub namespace: Option<String>,
    /// The name of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = RESOURCE_NAME))]
    pub name: Option<String>,
}

/// The last item of one log that an aggregate has counted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The log.
    #[schemars(length(min = 1, max = LABEL), regex(pattern = schema::DNS_LABEL))]
    pub log: String,
    /// The record's position in the log.
    #[schemars(range(min = 0, max = SAFE_INTEGER))]
    pub position: i64,
    /// The item's index in the record's explosion.
    #[schemars(range(min = 0, max = SAFE_INTEGER))]
    pub index: i64,
}

/// The area that an event concerns.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Attacks, vulnerabilities, secrets, access.
    Security,
    /// Policies and audits.
    Compliance,
    /// Nodes, networks, storage.
    Infrastructure,
    /// Latency, saturation.
    Performance,
    /// Deployments, changes, incidents.
    Operations,
    /// Money.
    Cost,
}

/// How bad it is.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Act now.
    Critical,
    /// Act today.
    High,
    /// Act soon.
    Medium,
    /// Worth knowing.
    Low,
    /// For the record.
    Info,
}

/// What consumers report.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObservationStatus {
    /// Whether a consumer has dealt with it.
    #[serde(default)]
    pub processed: bool,
    /// When a consumer last dealt with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::timestamp")]
    pub last_processed_at: Option<Time>,
    /// Whether it was copied to where it is to be copied.
    #[serde(default)]
    pub synced: bool,
}
