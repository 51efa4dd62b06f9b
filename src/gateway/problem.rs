//! Problem documents (RFC 9457) and the other answers of an endpoint. Pure.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

/// The version of the contract that the answers keep.
pub(crate) const CONTRACT_VERSION: &str = "v1alpha1";

/// Where the types of problems are explained.
const TYPE_PREFIX: &str = "https://zen.watcher.io/problems/";

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(super) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// An answer, whole.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What a sender did wrong, or what stands in the way here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Problem {
    /// 400: the request is not of its form; the text says what to change.
    BadRequest(&'static str),
    /// 400: the body does not parse.
    UnreadableBody,
    /// 401. Never says which step failed.
    Unauthorized,
    /// 403: the address is not allowed.
    AddressNotAllowed,
    /// 404. One form, whatever its cause.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 408: the body did not come in time.
    BodyTimeout,
    /// 409: the key was used with another payload.
    Conflict,
    /// 413.
    TooLarge,
    /// 415: the media type.
    UnsupportedMediaType,
    /// 415: the content encoding.
    UnsupportedEncoding,
    /// 429: the client address had too many requests refused.
    AddressLimit,
    /// 429: the endpoint's limit.
    EndpointLimit,
    /// 429: the Ingestor's share of the journal.
    ShareFull,
    /// 503: going away.
    Draining,
    /// 503: caches are not filled yet.
    NotInSync,
    /// 503: a Secret is missing or may not be read, or no decision spec compiles yet.
    EndpointClosed,
    /// 503: the journal is full or its disk fails.
    JournalUnavailable,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'static str,
    request_id: &'a str,
    contract_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

/// The state of a limit, as the `RateLimit` fields tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Requests that would pass now.
    pub remaining: u32,
    /// How many may come at once.
    pub burst: u32,
    /// In which time they come back.
    pub window: Duration,
    /// When the next one passes.
    pub retry_after: Duration,
}

impl Problem {
    /// The status line.
    #[must_use]
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::UnreadableBody => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::AddressNotAllowed => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::AddressLimit | Self::EndpointLimit | Self::ShareFull => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Draining | Self::NotInSync | Self::EndpointClosed | Self::JournalUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// A stable word: the end of the problem's type, and a metric's label.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::UnreadableBody => "unreadable-body",
            Self::Unauthorized => "unauthorized",
            Self::AddressNotAllowed => "address-not-allowed",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::BodyTimeout => "body-timeout",
            Self::Conflict => "idempotency-conflict",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::AddressLimit => "address-limit",
            Self::EndpointLimit => "endpoint-limit",
            Self::ShareFull => "backlog-full",
            Self::Draining => "draining",
            Self::NotInSync => "not-in-sync",
            Self::EndpointClosed => "endpoint-closed",
            Self::JournalUnavailable => "journal-unavailable",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "The request is malformed",
            Self::UnreadableBody => "The body cannot be read",
            Self::Unauthorized => "The request is not authenticated",
            Self::AddressNotAllowed => "The client address is not allowed",
            Self::NotFound => "There is no such endpoint",
            Self::MethodNotAllowed => "The method is not allowed",
            Self::BodyTimeout => "The body did not come in time",
            Self::Conflict => "The idempotency key was used before",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The media type is not accepted",
            Self::UnsupportedEncoding => "The content encoding is not accepted",
            Self::AddressLimit => "Too many refused requests",
            Self::EndpointLimit => "The endpoint is over its limit",
            Self::ShareFull => "The endpoint's backlog is full",
            Self::Draining => "The gateway is shutting down",
            Self::NotInSync => "The gateway is starting",
            Self::EndpointClosed => "The endpoint is closed",
            Self::JournalUnavailable => "Events cannot be stored now",
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Self::BadRequest(what) => what,
            Self::UnreadableBody => {
                "The body is not of the form that its Content-Type names: JSON is UTF-8 and at most 64 levels deep. Mend the body."
            }
            Self::Unauthorized => {
                "The request could not be verified. Check the secret, the signature headers and the clock of the sender."
            }
            Self::AddressNotAllowed => "The endpoint takes requests from listed networks only.",
            Self::NotFound => "Check the URL: it is shown in the Ingestor's status.",
            Self::MethodNotAllowed => "Use a method that the Allow header names.",
            Self::BodyTimeout => "Send the whole body at once.",
            Self::Conflict => {
                "This key came before with another payload. Use a new key for a new event; do not retry this request."
            }
            Self::TooLarge => "The body is larger than the endpoint takes. Send less.",
            Self::UnsupportedMediaType => "Send a Content-Type that the endpoint accepts.",
            Self::UnsupportedEncoding => "Send the body without Content-Encoding.",
            Self::AddressLimit => {
                "Too many requests from this address were refused. Mend them, and try again after Retry-After."
            }
            Self::EndpointLimit => "Try again after Retry-After.",
            Self::ShareFull => {
                "Events of this endpoint come faster than they are processed. Try again after Retry-After."
            }
            Self::Draining | Self::NotInSync => "Try again after Retry-After.",
            Self::EndpointClosed => {
                "The endpoint is not set up completely; its owner sees the reason in the Ingestor's conditions. Try again after Retry-After."
            }
            Self::JournalUnavailable => "Nothing was stored. Try again after Retry-After.",
        }
    }

    /// Whether the sender's address is charged: providers whose requests all pass are never.
    #[must_use]
    pub(crate) const fn charges_address(self) -> bool {
        self.status().as_u16() < 500
            && !matches!(self, Self::EndpointLimit | Self::ShareFull | Self::Conflict)
    }

    /// When to come back, where the answer says so and the limit doesn't know better.
    const fn retry_after(self) -> Option<u64> {
        match self {
            Self::AddressLimit | Self::EndpointLimit | Self::NotInSync => Some(1),
            Self::Draining => Some(2),
            Self::ShareFull | Self::JournalUnavailable => Some(5),
            Self::EndpointClosed => Some(10),
            Self::BadRequest(_)
            | Self::UnreadableBody
            | Self::Unauthorized
            | Self::AddressNotAllowed
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::BodyTimeout
            | Self::Conflict
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::UnsupportedEncoding => None,
        }
    }

    /// The answer. `quota` is the limit that was hit, where one was.
    #[must_use]
    pub(crate) fn answer(self, request_id: &HeaderValue, quota: Option<Quota>) -> Answer {
        // A whole second at least: a sender that comes back at once would be refused again.
        let by_quota = quota.map(|quota| quota.retry_after.as_secs_f64().ceil().max(1.0));
        let retry_after = by_quota.map_or_else(|| self.retry_after(), seconds);
        let document = Document {
            r#type: format!("{TYPE_PREFIX}{}", self.word()),
            title: self.title(),
            status: self.status().as_u16(),
            detail: self.detail(),
            request_id: request_id.to_str().unwrap_or_default(),
            contract_version: CONTRACT_VERSION,
            retry_after,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = self.status();
        let headers = answer.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        common(headers, request_id);
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(quota) = quota {
            rate_limit(headers, quota);
        }
        if self == Self::Unauthorized {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Signature"),
            );
        }
        if matches!(self, Self::Draining | Self::BodyTimeout | Self::TooLarge) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

fn seconds(value: f64) -> Option<u64> {
    Duration::try_from_secs_f64(value)
        .ok()
        .map(|duration| duration.as_secs())
}

/// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
fn rate_limit(headers: &mut http::HeaderMap, quota: Quota) {
    let Quota {
        remaining,
        burst,
        window,
        retry_after,
    } = quota;
    let reset = retry_after.as_secs().max(1);
    let window = window.as_secs().max(1);
    let limit = HeaderValue::from_str(&format!("\"endpoint\";r={remaining};t={reset}"));
    let policy = HeaderValue::from_str(&format!("\"endpoint\";q={burst};w={window}"));
    if let (Ok(limit), Ok(policy)) = (limit, policy) {
        headers.insert(RATE_LIMIT, limit);
        headers.insert(RATE_LIMIT_POLICY, policy);
    }
}

/// Headers that every answer has: who asks finds it in the logs, and no browser makes anything of it.
pub(super) fn common(headers: &mut http::HeaderMap, request_id: &HeaderValue) {
    headers.insert(REQUEST_ID, request_id.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_when_to_come_back() {
        let quota = Quota {
            remaining: 0,
            burst: 10,
            window: Duration::from_secs(2),
            retry_after: Duration::from_millis(1_200),
        };
        let id = HeaderValue::from_static("r-1");
        let answer = Problem::EndpointLimit.answer(&id, Some(quota));
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["retry-after"], "2");
        assert_eq!(answer.headers()["ratelimit"], "\"endpoint\";r=0;t=1");
        assert_eq!(
            answer.headers()["ratelimit-policy"],
            "\"endpoint\";q=10;w=2"
        );
    }

    #[test]
    fn only_what_the_sender_did_wrong_is_charged() {
        assert!(Problem::Unauthorized.charges_address());
        assert!(Problem::NotFound.charges_address());
        for own in [
            Problem::EndpointLimit,
            Problem::Draining,
            Problem::JournalUnavailable,
        ] {
            assert!(!own.charges_address(), "{own:?}");
        }
    }
}
