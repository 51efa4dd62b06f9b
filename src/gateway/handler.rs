//! One request, from its header to its answer: the contract's checks, in the contract's order.

mod accept;
mod checks;

use core::net::IpAddr;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Body;
use rand::Rng as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug};
use uuid::Uuid;

use super::{
    address,
    answer::{Answer, Base, Connection, REQUEST_ID},
    body::{self, Budget},
    facts::FactTable,
    framing::Framing,
    limits::Addresses,
    metrics::Metrics,
    options::Options,
    problem::{Kind, Problem},
    routes::{Route, Table},
};
use crate::{
    journal::Journal,
    ops::{tasks::Tasks, telemetry::context, time::Clock},
};

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) table: ArcSwap<Table>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started: Instant,
    pub(super) metrics: Metrics,
    pub(super) facts: Arc<FactTable>,
    pub(super) addresses: Arc<Addresses>,
    pub(super) bodies: Arc<Budget>,
    pub(super) waiters: Arc<Semaphore>,
    pub(super) draining: CancellationToken,
    pub(super) tasks: Tasks,
    pub(super) base: Base,
}

/// What the connection knows of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// What the raw header says, where it has a `Transfer-Encoding`.
    pub(super) framing: Option<Framing>,
    /// Set where the body was not read to its end.
    pub(super) unread: &'a AtomicBool,
}

/// A refusal, and the endpoint's methods for `Allow`.
struct Refusal {
    problem: Problem,
    route: Option<Arc<Route>>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            route: None,
        }
    }
}

/// A request under way: its span, and whether it is counted. One whose sender went away before it
/// was answered is counted when it is dropped.
struct Pending<'a> {
    metrics: &'a Metrics,
    span: Span,
    counted: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.counted {
            self.metrics.reject(Kind::Aborted);
        }
    }
}

impl Shared {
    /// Nanoseconds since the gateway started, for the limits.
    pub(super) fn uptime(&self) -> Duration {
        self.clock.instant().saturating_duration_since(self.started)
    }

    /// What could not be parsed was refused without having been a request. Nobody knows for whom a
    /// proxy brought it, so the peer is charged.
    pub(super) fn refused_unparsed(&self, kind: Kind, peer: IpAddr) {
        self.metrics.reject(kind);
        if kind.charges_address() {
            self.addresses.charge(peer, self.uptime());
        }
    }

    /// Answers a request.
    pub(super) async fn serve<B>(
        self: &Arc<Self>,
        request: Request<B>,
        origin: Origin<'_>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let (head, body) = request.into_parts();
        let span = context::request_span(&head);
        let mut pending = Pending {
            metrics: &self.metrics,
            span: span.clone(),
            counted: false,
        };
        let request_id = request_id(&head.headers);
        let client = address::client(origin.peer, &head.headers, &self.options.trusted_proxies);
        let outcome = self
            .process(&head, body, client, origin, &mut pending)
            .instrument(span.clone())
            .await;
        let draining = self.draining.is_cancelled();
        match outcome {
            Ok(answer) => {
                let closes = draining && head.version < http::Version::HTTP_2;
                let connection = if closes {
                    Connection::Close
                } else {
                    Connection::Keep
                };
                let response = self.base.accepted(&answer, request_id, connection);
                context::answered(&span, response.status(), None);
                response
            }
            Err(refusal) => {
                let kind = refusal.problem.kind;
                pending.counted = true;
                self.metrics.reject(kind);
                if kind.charges_address() {
                    self.addresses.charge(client, self.uptime());
                }
                debug!(%client, path = head.uri.path(), reason = kind.label(), detail = %refusal.problem.detail, "refused");
                // What was left unread can't be told from a next request, so the connection ends;
                // whoever is told so sends nothing more into it.
                let ends = draining
                    || origin.unread.load(Ordering::Relaxed)
                    || matches!(kind, Kind::Malformed | Kind::HeadersTooLarge);
                let connection = if ends && head.version < http::Version::HTTP_2 {
                    Connection::Close
                } else {
                    Connection::Keep
                };
                let allow = refusal.route.as_ref().map(|route| &route.endpoint.allow);
                let response = self
                    .base
                    .problem(&refusal.problem, request_id, allow, connection);
                context::answered(&span, response.status(), Some(kind.label()));
                response
            }
        }
    }

    async fn process<B>(
        self: &Arc<Self>,
        head: &http::request::Parts,
        body: B,
        client: IpAddr,
        origin: Origin<'_>,
        pending: &mut Pending<'_>,
    ) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let checked = self.before_body(head, body.size_hint().exact(), client, origin);
        let (route, declared) = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                checks::discard(body, head, origin.unread).await;
                return Err(refusal);
            }
        };
        let max = route.endpoint.max_body.min(self.options.limits.body_bytes);
        let limit = self.options.limits.body_timeout;
        // A request that names no client beyond a trusted proxy counts for nobody.
        let trusted = address::within(&self.options.trusted_proxies, client);
        let lease = self.bodies.lease((!trusted).then_some(client));
        let payload = match body::read(body, declared, max, limit, lease).await {
            Ok(read) => read,
            Err(problem) => {
                origin.unread.store(true, Ordering::Relaxed);
                return Err(problem.into());
            }
        };
        self.metrics
            .body_bytes
            .inc_by(u64::try_from(payload.bytes.len()).unwrap_or_default());
        let answer = self.accept(head, &route, payload, client, pending).await;
        answer.map_err(Refusal::from)
    }
}

/// The sender's request id where it is a UUID, else one made here.
fn request_id(headers: &http::HeaderMap) -> HeaderValue {
    if let Some(given) = headers.get(REQUEST_ID)
        && given.len() == 36
        && Uuid::try_parse_ascii(given.as_bytes()).is_ok()
    {
        return given.clone();
    }
    let mut text = Uuid::encode_buffer();
    let made = made_here().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(made).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// A random UUID, from the thread's generator: the system's would cost a call per request.
fn made_here() -> Uuid {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
