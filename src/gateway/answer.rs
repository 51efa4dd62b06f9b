//! Responses: their headers are made once.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;

use super::problem::{self, Problem};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What an accepted request is answered with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) id: Arc<str>,
    pub(super) location: Option<String>,
    pub(super) replayed: bool,
    /// Seconds that were waited for, where waiting was asked and done.
    pub(super) waited: Option<u64>,
}

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Keep,
    Close,
}

/// The headers of every response.
#[derive(Debug)]
pub(super) struct Base {
    headers: HeaderMap,
}

impl Base {
    /// With TLS, browsers are told to stay there.
    pub(super) fn new(over_tls: bool) -> Self {
        let mut headers = HeaderMap::with_capacity(12);
        let fixed = [
            ("cache-control", "no-store"),
            (
                "content-security-policy",
                "default-src 'none'; frame-ancestors 'none'",
            ),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if over_tls {
            let value = HeaderValue::from_static("max-age=63072000");
            headers.insert("strict-transport-security", value);
        }
        Self { headers }
    }

    /// The response to an accepted request.
    pub(super) fn accepted(
        &self,
        answer: &Answer,
        request_id: HeaderValue,
        connection: Connection,
    ) -> Response<Full<Bytes>> {
        let empty = answer.status == StatusCode::NO_CONTENT;
        let body = if empty {
            Bytes::new()
        } else {
            document(&answer.id)
        };
        let mut response = self.response(answer.status, body, request_id, connection);
        let headers = response.headers_mut();
        if !empty {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(location) = &answer.location
            && let Ok(value) = HeaderValue::from_str(location)
        {
            headers.insert(LOCATION, value);
        }
        if answer.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(seconds) = answer.waited
            && let Ok(value) = HeaderValue::from_str(&format!("wait={seconds}"))
        {
            headers.insert(APPLIED, value);
        }
        response
    }

    /// The response to a refused request.
    pub(super) fn problem(
        &self,
        problem: &Problem,
        request_id: HeaderValue,
        allow: Option<&HeaderValue>,
        connection: Connection,
    ) -> Response<Full<Bytes>> {
        let status = problem.kind.status();
        let body = problem.to_json(request_id.to_str().unwrap_or_default());
        let mut response = self.response(status, body.into(), request_id, connection);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
        if let Some(seconds) = problem.retry_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 asks for a challenge; webhook signatures have no registered scheme.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Webhook"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED
            && let Some(allow) = allow
        {
            headers.insert(ALLOW, allow.clone());
        }
        if let Some(limit) = problem.limit {
            // draft-ietf-httpapi-ratelimit-headers-10
            let policy = format!("\"endpoint\";q={};w={}", limit.burst, limit.window);
            let after = problem.retry_seconds().unwrap_or(1);
            let state = format!("\"endpoint\";r=0;t={after}");
            for (name, text) in [(POLICY, policy), (LIMIT, state)] {
                if let Ok(value) = HeaderValue::from_str(&text) {
                    headers.insert(name, value);
                }
            }
        }
        response
    }

    fn response(
        &self,
        status: StatusCode,
        body: Bytes,
        request_id: HeaderValue,
        connection: Connection,
    ) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(REQUEST_ID, request_id);
        if connection == Connection::Close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// `{"id":"…","status":"accepted"}`; an id is visible ASCII, so only two characters are escaped.
fn document(id: &str) -> Bytes {
    let mut text = String::with_capacity(id.len() + 32);
    text.push_str("{\"id\":\"");
    for character in id.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push_str("\",\"status\":\"accepted\"}");
    text.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_id_is_read_back(id in "[!-~]{1,60}") {
            let read: serde_json::Value = serde_json::from_slice(&document(&id)).unwrap();
            prop_assert_eq!(read["id"].as_str(), Some(id.as_str()));
            prop_assert_eq!(read["status"].as_str(), Some("accepted"));
        }
    }
}
