//! The HTTP endpoint of an Ingestor, but for how requests are verified.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Auth;
use crate::api::{
    duration,
    limits::{BODY_BYTES, LABEL},
    schema::{DNS_LABEL, TOKEN, response_status, rule},
};

/// Most networks of an allow-list: GitHub publishes some 40 for its hooks, cloud providers more.
const NETWORKS: usize = 256;
/// Longest network: eight groups of an IPv6 address and `/128`.
const NETWORK: usize = 43;
/// Most schemes side by side: a rotation from one to another needs two.
const AUTH_ENTRIES: usize = 16;
/// Most media types of one endpoint.
const CONTENT_TYPES: usize = 16;
/// Longest media type: two names of 127 characters (RFC 6838) and `/`.
const CONTENT_TYPE: usize = 255;
/// A media type without parameters, in lower case, so that comparing texts compares types.
const MEDIA_TYPE: &str = "^[a-z0-9][-a-z0-9!#$&^_.+]*/[a-z0-9][-a-z0-9!#$&^_.+]*$";

/// An HTTP endpoint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The last part of the URL, a DNS label; default: the Ingestor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = LABEL), regex(pattern = DNS_LABEL))]
    pub path: Option<String>,
    /// HTTP methods that are served; others get 405.
    #[serde(default = "post")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub methods: Vec<Method>,
    /// Media types that are accepted, in lower case and without parameters; others get 415.
    #[serde(default = "json_only")]
    #[schemars(
        length(min = 1, max = CONTENT_TYPES),
        inner(length(min = 3, max = CONTENT_TYPE), regex(pattern = MEDIA_TYPE)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub content_types: Vec<String>,
    /// The largest body in bytes; larger ones get 413.
    #[serde(default = "one_mebibyte")]
    #[schemars(range(min = 1, max = BODY_BYTES))]
    pub max_body_bytes: u32,
    /// Client networks that may send, such as `192.0.2.0/24` or `2001:db8::/32`; empty: any.
    #[serde(
        default,
        rename = "allowedCIDRs",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(
        length(max = NETWORKS),
        inner(length(min = 1, max = NETWORK)),
        extend(
            "x-kubernetes-list-type" = "set",
            "x-kubernetes-validations" = [rule(
                "self.all(network, isCIDR(network))",
                "every entry must be a network such as 192.0.2.0/24 or 2001:db8::/32",
            )]
        )
    )]
    pub allowed_cidrs: Vec<String>,
    /// How requests are verified: a request passes if one entry accepts it. `- none: {}` must be written out.
    #[schemars(length(min = 1, max = AUTH_ENTRIES), extend("x-kubernetes-list-type" = "atomic"))]
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

/// A token bucket.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Sustained requests per second.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second: u32,
    /// How many may come at once.
    #[serde(default = "two_thousand")]
    #[schemars(range(min = 1, max = 10_000_000))]
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
    #[schemars(length(min = 1, max = 128), regex(pattern = TOKEN))]
    pub header: String,
    /// How long a delivery is remembered, 10s to 168h, such as `24h`.
    #[serde(default = "one_day")]
    #[schemars(
        length(min = 2, max = duration::MAX_LENGTH),
        regex(pattern = duration::PATTERN),
        extend("x-kubernetes-validations" = [rule(
            "duration(self) >= duration('10s') && duration(self) <= duration('168h')",
            "must be at least 10s and at most 168h",
        )])
    )]
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
    #[schemars(schema_with = "response_status")]
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
