//! One way to make a call: with a time limit, and with every failure as data.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client adds errors with every version; all of them mean that no answer came"
)]

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde::de::DeserializeOwned;

use super::failure::{Cause, Failure, Verb};

/// Longer than the API server's slowest healthy answer (etcd's own limit is 5 s, a webhook's
/// default 10 s), shorter than its own limit of 60 s.
pub const TIME_LIMIT: Duration = Duration::from_secs(15);

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is attempted.
    pub verb: Verb,
    /// On which object, for messages.
    pub object: String,
    /// Path and query.
    pub uri: String,
    /// `Content-Type` of the body.
    pub content_type: &'static str,
    /// The body; empty for a read.
    pub body: Bytes,
}

/// JSON, the type of most bodies.
pub const JSON: &str = "application/json";

/// A JSON merge patch.
pub const MERGE_PATCH: &str = "application/merge-patch+json";

impl Call {
    const fn method(&self) -> Method {
        match self.verb {
            Verb::Create | Verb::DryRun => Method::POST,
            Verb::Get | Verb::List => Method::GET,
            Verb::Update => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
        }
    }

    fn failed(&self, cause: Cause) -> Failure {
        Failure {
            verb: self.verb,
            object: self.object.clone(),
            cause,
        }
    }
}

/// Makes a call and gives the body of a 2xx answer.
///
/// # Errors
/// Any other answer, and no answer within [`TIME_LIMIT`].
pub async fn send(client: &Client, call: Call) -> Result<Bytes, Failure> {
    let answer = tokio::time::timeout(TIME_LIMIT, exchange(client, &call)).await;
    let outcome = answer.unwrap_or(Err(Cause::TimedOut(TIME_LIMIT)));
    outcome.map_err(|cause| call.failed(cause))
}

/// Makes a call and reads the object in a 2xx answer.
///
/// # Errors
/// As [`send`], and [`Cause::Garbled`] for a body that is not the object.
pub async fn send_for<T: DeserializeOwned>(client: &Client, call: Call) -> Result<T, Failure> {
    let (verb, object) = (call.verb, call.object.clone());
    let body = send(client, call).await?;
    serde_json::from_slice(&body).map_err(|error| Failure {
        verb,
        object,
        cause: Cause::Garbled(error.to_string()),
    })
}

async fn exchange(client: &Client, call: &Call) -> Result<Bytes, Cause> {
    let request = Request::builder()
        .method(call.method())
        .uri(&call.uri)
        .header(header::ACCEPT, JSON)
        .header(header::CONTENT_TYPE, call.content_type)
        .body(Body::from(call.body.clone()))
        .map_err(|error| Cause::Garbled(error.to_string()))?;
    let response = client.send(request).await.map_err(unreachable)?;
    let code = response.status();
    let retry_after = retry_after(&response);
    let body = response.into_body().collect().await;
    let body = body.map_err(unreachable)?.to_bytes();
    if code.is_success() {
        return Ok(body);
    }
    Err(Cause::from_answer(code.as_u16(), retry_after, &body))
}

fn unreachable(error: kube::Error) -> Cause {
    match error {
        // A layer of the client that answers by itself, such as an authentication plugin.
        kube::Error::Api(status) => {
            let body = serde_json::to_vec(&status).unwrap_or_default();
            Cause::from_answer(status.code, None, &body)
        }
        other => Cause::Unreachable(with_sources(&other)),
    }
}

/// "connection refused" is in the sources of hyper's errors, not in their first words.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = inner.source();
    }
    text
}

fn retry_after<B>(response: &Response<B>) -> Option<u64> {
    let value = response.headers().get(header::RETRY_AFTER)?;
    value.to_str().ok()?.trim().parse().ok()
}
