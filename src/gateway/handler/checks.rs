//! What is checked before a body is read: framing, route, method, address, media type, length.

use core::net::IpAddr;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING},
    request::Parts,
};
use http_body_util::BodyExt as _;
use hyper::body::Body;

use super::{Origin, Refusal, Shared};
use crate::gateway::{
    address, body,
    framing::Framing,
    problem::{Kind, Problem},
    routes::{Route, State},
};

/// Most of a refused request's body that is read, so that the connection can go on and the sender
/// sees the answer instead of a reset.
const DISCARDED: u64 = 64 * 1_024;

/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(1);

impl Shared {
    /// The route, and the body's declared length.
    pub(super) fn before_body(
        &self,
        head: &Parts,
        length: Option<u64>,
        client: IpAddr,
        origin: Origin<'_>,
    ) -> Result<(Arc<Route>, Option<u64>), Refusal> {
        self.header_size(head)?;
        framing(head, origin.framing)?;
        if self.draining.is_cancelled() {
            return Err(Kind::Draining
                .because("the gateway is shutting down; try again")
                .into());
        }
        let table = self.table.load();
        let route = table.find(head.uri.path()).map_err(|kind| {
            kind.because(if kind == Kind::NotInSync {
                "the gateway is starting; try again"
            } else {
                "there is no endpoint at this path"
            })
        })?;
        self.endpoint_checks(head, route, length, client)
            .map(|()| (Arc::clone(route), length))
            .map_err(|problem| Refusal {
                problem,
                route: Some(Arc::clone(route)),
            })
    }

    fn header_size(&self, head: &Parts) -> Result<(), Problem> {
        let limits = &self.options.limits;
        // Name, value, colon, space and line end.
        let bytes: usize = head
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if head.headers.len() > limits.headers || bytes > limits.header_bytes {
            let (fields, bytes) = (limits.headers, limits.header_bytes);
            return Err(Kind::HeadersTooLarge.because(format!(
                "the header may have {fields} fields and {bytes} bytes"
            )));
        }
        let target = head
            .uri
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        if target > limits.target_bytes {
            let most = limits.target_bytes;
            return Err(
                Kind::UriTooLong.because(format!("the request target may have {most} bytes"))
            );
        }
        Ok(())
    }

    /// Whether the client's failing requests leave it to be heard. Asked before a body is read, and
    /// again before it is verified: many may have failed meanwhile.
    pub(super) fn address_limit(&self, client: IpAddr) -> Result<(), Problem> {
        let checked = self.addresses.check(client, self.uptime());
        checked.map_err(|wait| {
            let why = "too many requests of this address failed";
            let mut problem = Kind::AddressLimited.because(why);
            problem.retry_after = Some(wait.max(Duration::from_secs(1)));
            problem
        })
    }

    fn endpoint_checks(
        &self,
        head: &Parts,
        route: &Route,
        length: Option<u64>,
        client: IpAddr,
    ) -> Result<(), Problem> {
        let endpoint = &route.endpoint;
        if !endpoint.methods.contains(&head.method) {
            return Err(Kind::MethodNotAllowed.because("the endpoint serves other methods"));
        }
        if !endpoint.networks.is_empty() && !address::within(&endpoint.networks, client) {
            return Err(Kind::AddressRefused.because("this address may not send here"));
        }
        self.address_limit(client)?;
        if let State::Closed(kind) = route.state {
            return Err(kind.because("the endpoint is not ready; try again"));
        }
        let content_type = single(&head.headers, CONTENT_TYPE.as_str());
        if !content_type.is_some_and(|content_type| endpoint.accepts(content_type)) {
            return Err(Kind::UnsupportedMediaType.because(format!(
                "Content-Type must be one of: {}",
                endpoint.content_types.join(", ")
            )));
        }
        let mut encodings = head.headers.get_all(CONTENT_ENCODING).iter();
        if encodings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Kind::UnsupportedEncoding.because("send the body without Content-Encoding"));
        }
        let max = endpoint.max_body.min(self.options.limits.body_bytes);
        if length.is_some_and(|length| {
            usize::try_from(length).is_ok_and(|length| length > max)
                || usize::try_from(length).is_err()
        }) {
            return Err(body::too_large(max));
        }
        Ok(())
    }
}

/// The value of a header that came once and is text.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return None;
    }
    first.to_str().ok()
}

/// A request that can be understood in two ways is refused.
fn framing(head: &Parts, raw: Option<Framing>) -> Result<(), Problem> {
    let malformed = |why: &'static str| Err(Kind::Malformed.because(why));
    if head.version == http::Version::HTTP_11 && head.headers.get_all(HOST).iter().count() != 1 {
        return malformed("Host must come once");
    }
    if head.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return malformed("Content-Length came twice");
    }
    if !head.headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    let coding = single(&head.headers, TRANSFER_ENCODING.as_str());
    if !coding.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked")) {
        return malformed("Transfer-Encoding must be chunked");
    }
    match raw {
        Some(Framing::Clean) => Ok(()),
        Some(Framing::Both) => malformed("Content-Length beside Transfer-Encoding"),
        Some(Framing::Unknown) | None => {
            malformed("a chunked request must not be sent before the last answer came")
        }
    }
}

/// Reads what is left of a refused request's body, a little and not for long. A sender that waits
/// for `100 Continue` isn't told to go on.
pub(super) async fn discard<B>(mut body: B, head: &Parts, unread: &AtomicBool)
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return;
    }
    let small = body
        .size_hint()
        .exact()
        .is_some_and(|length| length <= DISCARDED);
    if head.headers.contains_key(EXPECT) || !small {
        unread.store(true, Ordering::Relaxed);
        return;
    }
    let drained = async { while let Some(Ok(_)) = body.frame().await {} };
    if tokio::time::timeout(DISCARD_TIME, drained).await.is_err() {
        unread.store(true, Ordering::Relaxed);
    }
}
