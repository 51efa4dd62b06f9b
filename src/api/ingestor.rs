//! `Ingestor` v1: a source, and how its events become Observations.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares a source of events, and how each event becomes an Observation in the same namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "zen.watcher.io",
    version = "v1",
    kind = "Ingestor",
    namespaced,
    status = "IngestorStatus",
    shortname = "ing",
    category = "zen",
    derive = "PartialEq"
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
    pub explode: Option<String>,
    /// How the fields of the Observation are made.
    pub normalize: Normalize,
    /// All of these must keep an event; evaluated after normalize, with `event` also in scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// An HTTP endpoint, `/hooks/<namespace>/<path>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// An HTTP endpoint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The last part of the URL, a DNS label; default: the Ingestor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// HTTP methods that are served; others get 405.
    #[serde(default = "post")]
    pub methods: Vec<Method>,
    /// Media types that are accepted; others get 415.
    #[serde(default = "json_only")]
    pub content_types: Vec<String>,
    /// The largest body in bytes; larger ones get 413.
    #[serde(default = "one_mebibyte")]
    pub max_body_bytes: u32,
    /// Client networks that may send; empty: any.
    #[serde(
        default,
        rename = "allowedCIDRs",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub allowed_cidrs: Vec<String>,
    /// How requests are verified: a request passes if one entry accepts it.
    pub auth: Vec<Auth>,
    /// How many verified requests a second the endpoint takes; more get 429.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// How repeated deliveries are recognised.
    #[serde(default)]
    pub idempotency: Idempotency,
    /// What a sender is answered.
    #[serde(default)]
    pub response: ResponseSpec,
}

fn post() -> Vec<Method> {
    vec![Method::Post]
}

fn json_only() -> Vec<String> {
    vec!["application/json".to_owned()]
}

const fn one_mebibyte() -> u32 {
    1_048_576
}

/// An HTTP method that an endpoint can serve.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
}

/// One way to verify a request. Exactly one field is set.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// GitHub: HMAC-SHA256 of the body in `X-Hub-Signature-256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<SecretAuth>,
    /// Standard Webhooks, also with Svix headers: `v1` and `v1a` signatures over id, timestamp and body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_webhooks: Option<SecretAuth>,
    /// A configurable HMAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<HmacAuth>,
    /// A shared key in a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyAuth>,
    /// No verification at all; the Ingestor carries the condition `Unauthenticated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<NoAuth>,
}

/// Nothing to configure.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct NoAuth {}

/// A reference to a Secret of the Ingestor's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name.
    pub name: String,
    /// One key of the Secret; absent: the value of every key is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A scheme that needs nothing but a Secret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretAuth {
    /// Where the secrets are; several may be valid at once.
    pub secret_ref: SecretRef,
}

/// A configurable HMAC over the body, or over a template of timestamp and body.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HmacAuth {
    /// Where the secrets are; several may be valid at once.
    pub secret_ref: SecretRef,
    /// The header that carries the signature.
    pub header: String,
    /// The hash; `sha1` only with `allowSha1: true`.
    #[serde(default)]
    pub algorithm: HmacAlgorithm,
    /// Must be true for `algorithm: sha1`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_sha1: bool,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: HmacEncoding,
    /// What stands before the signature, such as `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// What is signed; `{body}` and `{timestamp}` stand for the raw body and the timestamp header. Default: `{body}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The header with the Unix time in seconds; needed when the template names `{timestamp}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<String>,
    /// How far the timestamp may be from now, in seconds. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance_seconds: Option<u32>,
}

/// Hash of an HMAC.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum HmacAlgorithm {
    /// SHA-1; weak, by explicit opt-in only.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How a signature is written.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum HmacEncoding {
    /// Hexadecimal.
    #[default]
    Hex,
    /// Standard base64 with padding.
    Base64,
}

/// A shared key in a header.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyAuth {
    /// Where the keys are; a value `sha256:<hex>` is the hash of a key.
    pub secret_ref: SecretRef,
    /// The header that carries the key.
    pub header: String,
}

/// A token bucket.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Sustained requests per second.
    #[serde(default = "thousand")]
    pub requests_per_second: u32,
    /// How many may come at once.
    #[serde(default = "two_thousand")]
    pub burst: u32,
}

const fn thousand() -> u32 {
    1_000
}

const fn two_thousand() -> u32 {
    2_000
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            requests_per_second: thousand(),
            burst: two_thousand(),
        }
    }
}

/// How repeated deliveries are recognised.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Idempotency {
    /// The header that names a delivery; it counts where the scheme signs no id of its own.
    #[serde(default = "idempotency_key")]
    pub header: String,
    /// How long a delivery is remembered, such as `24h`.
    #[serde(default = "one_day")]
    pub window: String,
    /// Whether equal bodies are the same delivery where nothing else names one.
    #[serde(default)]
    pub by_content: bool,
}

fn idempotency_key() -> String {
    "Idempotency-Key".to_owned()
}

fn one_day() -> String {
    "24h".to_owned()
}

impl Default for Idempotency {
    fn default() -> Self {
        Self {
            header: idempotency_key(),
            window: one_day(),
            by_content: false,
        }
    }
}

/// What a sender is answered.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResponseSpec {
    /// The status of an accepted event: 200, 202 or 204.
    #[serde(default = "accepted")]
    pub status: u16,
}

const fn accepted() -> u16 {
    202
}

impl Default for ResponseSpec {
    fn default() -> Self {
        Self { status: accepted() }
    }
}

/// A constant or a CEL expression. Exactly one of `value` and `expression` is set.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// A constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A CEL expression over headers, headerValues, query, body, item, source, now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Replaces the result: its key by its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<String, String>,
    /// What counts where the expression gives nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
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
    /// A name for metrics and messages.
    pub name: String,
    /// A CEL expression that gives true for events to keep.
    pub keep_if: String,
}

/// Which events are the same.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Dedup {
    /// One Observation per event id, per fingerprint and window, or one counting Observation per fingerprint and window.
    #[serde(default)]
    pub strategy: Strategy,
    /// The fields of the fingerprint: fields of the Observation, or CEL expressions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// The tumbling window, in acceptance time, 10s to 24h.
    #[serde(default = "ten_minutes")]
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
    pub ttl_seconds_after_creation: Option<u32>,
    /// Labels of every Observation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Creates and updates per minute; what is over waits in the journal. Absent: no limit; 0: paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_minute: Option<u32>,
}

/// What the fabric reports.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IngestorStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The URL to give to the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// How many events came to which end; exact, up to seconds old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// Accepted events that have no end yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// When the last event was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_time: Option<String>,
    /// Accepted, Ready, Degraded, and Unauthenticated where `auth` has `none`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How many events came to which end.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Accepted events.
    pub accepted: i64,
    /// Became, or were counted in, an Observation that they created.
    pub observed: i64,
    /// Dropped by a filter.
    pub filtered: i64,
    /// The same as another.
    pub deduplicated: i64,
    /// Could not be processed; kept for inspection and replay.
    pub dead_lettered: i64,
    /// Lost by the disk, not by the fabric; normally 0.
    #[serde(default)]
    pub damaged: i64,
}
