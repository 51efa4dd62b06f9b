//! `Observation` v1: the canonical event.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A canonical event: what happened, how bad it is, and what it is about.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "zen.watcher.io",
    version = "v1",
    kind = "Observation",
    namespaced,
    status = "ObservationStatus",
    shortname = "obs",
    category = "zen",
    derive = "PartialEq",
    selectable = ".spec.severity",
    selectable = ".spec.category",
    selectable = ".spec.eventType"
)]
#[serde(rename_all = "camelCase")]
pub struct ObservationSpec {
    /// Where it came from; usually the Ingestor's name.
    pub source: String,
    /// security, compliance, infrastructure, performance, operations or cost.
    pub category: Category,
    /// critical, high, medium, low or info.
    pub severity: Severity,
    /// What happened, in lower-case letters, digits and `_`.
    pub event_type: String,
    /// When it was detected.
    pub detected_at: Time,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// Further facts, free in form, at most 64 KiB.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub details: serde_json::Map<String, serde_json::Value>,
    /// How many events this Observation stands for; more than 1 when aggregated.
    #[serde(default = "one")]
    pub count: i64,
    /// When the first event of an aggregate was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Time>,
    /// When the last event of an aggregate was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// Up to which item of which log an aggregate has counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["log"]))]
    pub applied: Vec<Applied>,
    /// Seconds after its creation when this object is removed; absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_creation: Option<u32>,
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
    pub api_version: Option<String>,
    /// The kind of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The namespace of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The last item of one log that an aggregate has counted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The log.
    pub log: String,
    /// The record's position in the log.
    pub position: i64,
    /// The item's index in the record's explosion.
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
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObservationStatus {
    /// Whether a consumer has dealt with it.
    #[serde(default)]
    pub processed: bool,
    /// When a consumer last dealt with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_processed_at: Option<Time>,
    /// Whether it was copied to where it is to be copied.
    #[serde(default)]
    pub synced: bool,
}
