//! How requests are verified: one entry per scheme.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    limits::SUBDOMAIN,
    schema::{DNS_SUBDOMAIN, TOKEN, rule},
};

/// Longest header name: the longest of any provider has 34 characters.
const HEADER_NAME: usize = 128;

/// One way to verify a request. Exactly one field is set.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rule(
    "[has(self.github), has(self.standardWebhooks), has(self.hmac), has(self.apiKey), has(self.none)].filter(x, x).size() == 1",
    "exactly one scheme must be set: github, standardWebhooks, hmac, apiKey or none",
)]))]
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
    #[schemars(length(min = 1, max = SUBDOMAIN), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
    /// One key of the Secret; absent: the value of every key is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = SUBDOMAIN), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
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
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.algorithm != 'sha1' || (has(self.allowSha1) && self.allowSha1)",
        "sha1 is weak and is used only with allowSha1: true",
    ),
    rule(
        "!has(self.template) || self.template.contains('{body}')",
        "template must name {body}: else the signature does not cover what is accepted",
    ),
    rule(
        "has(self.timestampHeader) == (has(self.template) && self.template.contains('{timestamp}'))",
        "timestampHeader is needed where template names {timestamp}, and only there: a timestamp that is not signed proves nothing",
    ),
    rule(
        "!has(self.toleranceSeconds) || has(self.timestampHeader)",
        "toleranceSeconds needs timestampHeader",
    ),
]))]
pub struct HmacAuth {
    /// Where the secrets are; several may be valid at once.
    pub secret_ref: SecretRef,
    /// The header that carries the signature.
    #[schemars(length(min = 1, max = HEADER_NAME), regex(pattern = TOKEN))]
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
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[!-~]+$"))]
    pub prefix: Option<String>,
    /// What is signed; `{body}` and `{timestamp}` stand for the raw body and the timestamp header. Default: `{body}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub template: Option<String>,
    /// The header with the Unix time in seconds; needed when the template names `{timestamp}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = HEADER_NAME), regex(pattern = TOKEN))]
    pub timestamp_header: Option<String>,
    /// How far the timestamp may be from now, in seconds. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
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
    #[schemars(length(min = 1, max = HEADER_NAME), regex(pattern = TOKEN))]
    pub header: String,
}
