//! The part of an Ingestor that decides what an event becomes: normalize, filters, dedup, output.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    duration,
    limits::{
        CONSTANT, DETAIL_NAME, DETAILS, EXPRESSION, FINGERPRINT_FIELDS, LABEL, LABELS, MAP_ENTRIES,
        QUALIFIED_NAME, TTL_MAX_SECONDS, TTL_MIN_SECONDS,
    },
    schema::{DNS_LABEL, LABEL_VALUE, rule},
};

/// A constant or a CEL expression. Exactly one of `value` and `expression` is set.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "has(self.value) != has(self.expression)",
        "exactly one of value and expression must be set",
    ),
    rule(
        "has(self.expression) || (!has(self.map) && !has(self.default))",
        "map and default go with expression: a value is taken as it is",
    ),
]))]
pub struct Field {
    /// A constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = CONSTANT))]
    pub value: Option<String>,
    /// A CEL expression over headers, headerValues, query, body, item, source, now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = EXPRESSION))]
    pub expression: Option<String>,
    /// Replaces the result: its key by its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "replacements")]
    pub map: BTreeMap<String, String>,
    /// What counts where the expression gives nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = CONSTANT))]
    pub default: Option<String>,
}

fn replacements(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": MAP_ENTRIES,
        "additionalProperties": { "type": "string", "maxLength": CONSTANT },
    })
}

/// How the fields of the Observation are made.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Normalize {
    /// The Observation's source; default: the Ingestor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Field>,
    /// security, compliance, infrastructure, performance, operations or cost; usual synonyms are understood.
    pub category: Field,
    /// critical, high, medium, low or info; usual synonyms are understood.
    pub severity: Field,
    /// What happened, in lower-case letters, digits and `_`.
    pub event_type: Field,
    /// When it was detected, RFC 3339 or Unix seconds; default: when it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_at: Option<Field>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceFields>,
    /// Further facts, free in form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = DETAILS,
        "x-kubernetes-validations" = [rule(
            &format!("self.all(name, name.size() >= 1 && name.size() <= {DETAIL_NAME})"),
            &format!("a name must have 1 to {DETAIL_NAME} characters"),
        )]
    ))]
    pub details: BTreeMap<String, Field>,
}

/// What an event is about.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceFields {
    /// The API version of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<Field>,
    /// The kind of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Field>,
    /// The namespace of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Field>,
    /// The name of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Field>,
}

/// Keeps or drops events.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// A name for metrics and messages, unique among the filters.
    #[schemars(length(min = 1, max = LABEL), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// A CEL expression that gives true for events to keep.
    #[schemars(length(min = 1, max = EXPRESSION))]
    pub keep_if: String,
}

/// Which events are the same.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rule(
    "(self.strategy == 'event') == (!has(self.fields) || self.fields.size() == 0)",
    "fields makes the fingerprint: strategies fingerprint and aggregate need it, strategy event has none",
)]))]
pub struct Dedup {
    /// One Observation per event id (`event`), per fingerprint and window (`fingerprint`), or one counting Observation per fingerprint and window (`aggregate`).
    #[serde(default)]
    pub strategy: Strategy,
    /// The fields of the fingerprint: fields of the Observation, or CEL expressions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = FINGERPRINT_FIELDS),
        inner(length(min = 1, max = EXPRESSION)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub fields: Vec<String>,
    /// The tumbling window, in acceptance time, 10s to 24h.
    #[serde(default = "ten_minutes")]
    #[schemars(
        length(min = 2, max = duration::MAX_LENGTH),
        regex(pattern = duration::PATTERN),
        extend("x-kubernetes-validations" = [rule(
            "duration(self) >= duration('10s') && duration(self) <= duration('24h')",
            "must be at least 10s and at most 24h",
        )])
    )]
    pub window: String,
}

fn ten_minutes() -> String {
    "10m".to_owned()
}

impl Default for Dedup {
    fn default() -> Self {
        Self {
            strategy: Strategy::Event,
            fields: Vec::new(),
            window: ten_minutes(),
        }
    }
}

/// How events are told apart.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// One Observation per event id.
    #[default]
    Event,
    /// The first of each fingerprint and window.
    Fingerprint,
    /// One Observation per fingerprint and window, which counts.
    Aggregate,
}

/// What is written.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// How Observations are written.
    #[serde(default)]
    pub observation: ObservationOutput,
}

/// How Observations are written.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObservationOutput {
    /// Seconds after its creation when an Observation is removed, at least 60; absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = TTL_MIN_SECONDS, max = TTL_MAX_SECONDS))]
    pub ttl_seconds_after_creation: Option<u32>,
    /// Labels of every Observation. `zen.io/` is the fabric's own prefix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// Creates and updates per minute; what is over waits in the journal. Absent: no limit; 0: paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 6_000_000))]
    pub max_per_minute: Option<u32>,
}

fn labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": LABELS,
        "additionalProperties": { "type": "string", "maxLength": LABEL, "pattern": LABEL_VALUE },
        "x-kubernetes-validations": [
            rule(
                &format!("self.all(key, key.size() <= {QUALIFIED_NAME} && !format.qualifiedName().validate(key).hasValue())"),
                "a key must be a qualified name: an optional DNS subdomain and a slash, then 1 to 63 letters, digits, dashes, underscores and dots",
            ),
            rule(
                "self.all(key, !key.startsWith('zen.io/'))",
                "keys with the prefix zen.io/ are the fabric's own",
            ),
        ],
    })
}
