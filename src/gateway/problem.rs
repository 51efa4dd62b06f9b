//! Problem documents (RFC 9457): what every refused request is answered with.
//!
//! A 404 has one form, whatever its cause; a 401 never says which step failed.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use serde::Serialize;

/// Version of the contract that the documents name.
pub const CONTRACT_VERSION: &str = "v1alpha1";

/// Media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request is refused; also the label of a metric, so the list is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The message is malformed: framing, a missing Host, a bad key.
    Malformed,
    /// The body is not what its media type says.
    InvalidBody,
    /// No entry of `auth` accepts it.
    Unauthorized,
    /// The client's address is not allowed.
    AddressRefused,
    /// No such endpoint: unknown, disabled, or another's path.
    NotFound,
    /// The endpoint doesn't serve this method.
    MethodNotAllowed,
    /// The body came too slowly.
    Timeout,
    /// The key is known with another payload.
    KeyConflict,
    /// The body is too large.
    TooLarge,
    /// The request target is too long.
    UriTooLong,
    /// The endpoint doesn't take this media type.
    UnsupportedMediaType,
    /// The body is encoded.
    UnsupportedEncoding,
    /// The header has too many fields or bytes.
    HeadersTooLarge,
    /// The client's address fails too often.
    AddressLimited,
    /// The endpoint's limit is reached.
    EndpointLimited,
    /// The Ingestor's share of the journal is full.
    BacklogFull,
    /// Too many bodies are in flight.
    Overloaded,
    /// The gateway is draining.
    Draining,
    /// The journal takes nothing now.
    JournalUnavailable,
    /// The gateway has not read all Ingestors yet.
    NotInSync,
    /// The endpoint has no usable secret, or no decision spec.
    Closed,
    /// The sender went away before its request was complete.
    Aborted,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Why.
    pub kind: Kind,
    /// What the sender can do about it; never anything secret.
    pub detail: Cow<'static, str>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// The endpoint's limit, for the `RateLimit` fields.
    pub limit: Option<Limit>,
}

/// A limit that was reached, for `RateLimit` and `RateLimit-Policy`
/// (draft-ietf-httpapi-ratelimit-headers-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Requests that may come at once.
    pub burst: u32,
    /// Seconds in which the whole burst is available again.
    pub window: u32,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    contract_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Kind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 22] = [
        Self::Malformed,
        Self::InvalidBody,
        Self::Unauthorized,
        Self::AddressRefused,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::KeyConflict,
        Self::TooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::UnsupportedEncoding,
        Self::HeadersTooLarge,
        Self::AddressLimited,
        Self::EndpointLimited,
        Self::BacklogFull,
        Self::Overloaded,
        Self::Draining,
        Self::JournalUnavailable,
        Self::NotInSync,
        Self::Closed,
        Self::Aborted,
    ];

    /// Status, label, type and title of the document.
    #[expect(clippy::too_many_lines, reason = "a table, a row per kind")]
    const fn row(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Self::Malformed => (
                400,
                "malformed",
                "urn:zen-fabric:problem:malformed",
                "Bad request",
            ),
            Self::InvalidBody => (
                400,
                "invalid_body",
                "urn:zen-fabric:problem:invalid-body",
                "The body can't be read",
            ),
            Self::Unauthorized => (
                401,
                "unauthorized",
                "urn:zen-fabric:problem:unauthorized",
                "Not verified",
            ),
            Self::AddressRefused => (
                403,
                "address_refused",
                "urn:zen-fabric:problem:forbidden",
                "Not allowed",
            ),
            Self::NotFound => (
                404,
                "not_found",
                "urn:zen-fabric:problem:not-found",
                "No such endpoint",
            ),
            Self::MethodNotAllowed => (
                405,
                "method_not_allowed",
                "urn:zen-fabric:problem:method-not-allowed",
                "Method not allowed",
            ),
            Self::Timeout => (
                408,
                "timeout",
                "urn:zen-fabric:problem:timeout",
                "The body came too slowly",
            ),
            Self::KeyConflict => (
                409,
                "key_conflict",
                "urn:zen-fabric:problem:key-conflict",
                "Key used with another payload",
            ),
            Self::TooLarge => (
                413,
                "too_large",
                "urn:zen-fabric:problem:too-large",
                "The body is too large",
            ),
            Self::UriTooLong => (
                414,
                "uri_too_long",
                "urn:zen-fabric:problem:uri-too-long",
                "The request target is too long",
            ),
            Self::UnsupportedMediaType => (
                415,
                "media_type",
                "urn:zen-fabric:problem:media-type",
                "Media type not accepted",
            ),
            Self::UnsupportedEncoding => (
                415,
                "encoding",
                "urn:zen-fabric:problem:encoding",
                "Content encoding not accepted",
            ),
            Self::HeadersTooLarge => (
                431,
                "headers_too_large",
                "urn:zen-fabric:problem:headers-too-large",
                "The header is too large",
            ),
            Self::AddressLimited => (
                429,
                "address_limited",
                "urn:zen-fabric:problem:rate-limited",
                "Too many failing requests",
            ),
            Self::EndpointLimited => (
                429,
                "endpoint_limited",
                "urn:zen-fabric:problem:rate-limited",
                "Too many requests",
            ),
            Self::BacklogFull => (
                429,
                "backlog_full",
                "urn:zen-fabric:problem:backlog-full",
                "The endpoint's backlog is full",
            ),
            Self::Overloaded => (
                503,
                "overloaded",
                "urn:zen-fabric:problem:unavailable",
                "Overloaded",
            ),
            Self::Draining => (
                503,
                "draining",
                "urn:zen-fabric:problem:unavailable",
                "Shutting down",
            ),
            Self::JournalUnavailable => (
                503,
                "journal_unavailable",
                "urn:zen-fabric:problem:unavailable",
                "Not able to store events",
            ),
            Self::NotInSync => (
                503,
                "not_in_sync",
                "urn:zen-fabric:problem:unavailable",
                "Starting",
            ),
            Self::Closed => (
                503,
                "closed",
                "urn:zen-fabric:problem:unavailable",
                "The endpoint is closed",
            ),
            Self::Aborted => (
                400,
                "aborted",
                "urn:zen-fabric:problem:malformed",
                "The request is incomplete",
            ),
        }
    }

    /// The status code.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().0).unwrap_or(StatusCode::BAD_REQUEST)
    }

    /// The label of metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.row().1
    }

    /// Whether such a failure spends the budget of the client's address: the request failed a check
    /// that a correct sender passes. Limits and our own troubles don't.
    #[must_use]
    pub const fn charges_address(self) -> bool {
        !matches!(self.row().0, 409 | 429 | 503)
    }

    /// The problem without particulars.
    #[must_use]
    pub fn because(self, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem {
            kind: self,
            detail: detail.into(),
            retry_after: self.default_retry(),
            limit: None,
        }
    }

    /// How long a sender should wait: a second for what passes by itself at once (start, drain, a
    /// burst), five for what waits for a disk or a person.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a new kind is not worth a retry unless it says so"
    )]
    const fn default_retry(self) -> Option<Duration> {
        match self {
            Self::Draining | Self::NotInSync | Self::Overloaded | Self::AddressLimited => {
                Some(Duration::from_secs(1))
            }
            Self::JournalUnavailable | Self::Closed | Self::BacklogFull => {
                Some(Duration::from_secs(5))
            }
            _ => None,
        }
    }
}

impl Problem {
    /// Seconds for `Retry-After`, rounded up.
    #[must_use]
    pub fn retry_seconds(&self) -> Option<u64> {
        self.retry_after
            .map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0))
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self, request_id: &str) -> Vec<u8> {
        let (status, _, r#type, title) = self.kind.row();
        let document = Document {
            r#type,
            title,
            status,
            detail: &self.detail,
            request_id,
            contract_version: CONTRACT_VERSION,
            retry_after: self.retry_seconds(),
        };
        // Strings and numbers always serialize.
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_label_and_a_document_of_its_own() {
        let labels: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.label()).collect();
        assert_eq!(labels.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let text = kind.because("why").to_json("the-id");
            let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(read["status"], kind.status().as_u16());
            assert_eq!(read["request_id"], "the-id");
            assert_eq!(read["contract_version"], CONTRACT_VERSION);
            assert_eq!(
                read.get("retry_after").is_some(),
                kind.default_retry().is_some()
            );
        }
    }

    #[test]
    fn what_passes_by_itself_says_when_to_come_back() {
        for kind in Kind::ALL {
            let code = kind.status().as_u16();
            let told = kind == Kind::EndpointLimited || kind.default_retry().is_some();
            assert_eq!(matches!(code, 429 | 503), told, "{kind:?}");
        }
    }

    #[test]
    fn waiting_times_are_rounded_up() {
        let mut problem = Kind::EndpointLimited.because("");
        problem.retry_after = Some(Duration::from_millis(1_001));
        assert_eq!(problem.retry_seconds(), Some(2));
    }
}
