//! One request, from its head to its answer, in the order of the contract's checks.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tracing::{Instrument as _, debug};

use super::{
    address::AddressLimit,
    metrics::Metrics,
    prefer,
    problem::{self, Answer, IDEMPOTENCY_REPLAYED, PREFERENCE_APPLIED, Problem, Quota},
    replay::{self, Delivery},
    routes::{InForce, LimitClock, Route},
    table::Shared,
    verify::{Refusal, Signed, Verified},
};
use crate::{
    engine::{body, names},
    journal::{AppendError, Appended, End, Ended, Event, Journal, Origin, PayloadDigest, RecordId},
    ops::{telemetry::context, time::Clock},
};

/// Where every endpoint lies.
const PREFIX: &str = "/hooks/";

/// Bodies whose length is not told begin with this much room.
const BODY_START: usize = 4 * 1024;

/// What bounds a request.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// From the header to the last byte of the body.
    pub body_timeout: Duration,
    /// The longest that `Prefer: wait` is honoured.
    pub max_wait: Duration,
    /// Requests that wait at once.
    pub max_waiters: usize,
    /// Proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<IpNet>,
    /// Refused requests per second and at once, per client address.
    pub address_failures: (u32, u32),
}

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Endpoints {
    shared: Arc<Shared>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    monotonic: LimitClock,
    metrics: Metrics,
    limits: Limits,
    addresses: Mutex<AddressLimit>,
    /// Whether any address owes anything: most of the time none does.
    owing: AtomicBool,
    waiters: Semaphore,
    draining: AtomicBool,
    open: AtomicUsize,
}

/// What a refusal carries beside the problem.
#[derive(Debug)]
struct Refused {
    problem: Problem,
    quota: Option<Quota>,
    allow: Option<HeaderValue>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            quota: None,
            allow: None,
        }
    }
}

/// An event that is durable.
struct Accepted {
    record: RecordId,
    event_id: Arc<str>,
    replayed: bool,
    /// The Observation's name, where it follows from the id.
    name: Option<String>,
}

impl Endpoints {
    /// Endpoints over a route table.
    pub(crate) fn new(
        shared: Arc<Shared>,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        limits: Limits,
    ) -> Self {
        let (rate, burst) = limits.address_failures;
        Self {
            shared,
            journal,
            monotonic: LimitClock::new(Arc::clone(&clock)),
            clock,
            metrics,
            addresses: Mutex::new(AddressLimit::new(rate, burst)),
            owing: AtomicBool::new(false),
            waiters: Semaphore::new(limits.max_waiters),
            draining: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            limits,
        }
    }

    /// From now on requests are answered 503.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Requests in service.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Serves one request; every outcome is an answer.
    pub(crate) async fn serve<B>(&self, request: Request<B>, peer: SocketAddr) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.metrics.requests.inc();
        let (head, incoming) = request.into_parts();
        let id = request_id(&head.headers);
        let traceparent = header_text(&head.headers, "traceparent");
        let span = context::request_span(traceparent);
        let handling = self.handle(&head, incoming, peer, &span);
        let outcome = if span.is_disabled() {
            handling.await
        } else {
            handling.instrument(span.clone()).await
        };
        let mut answer = match outcome {
            Ok(answer) => answer,
            Err(refused) => {
                self.metrics.rejected(refused.problem);
                debug!(problem = refused.problem.word(), path = head.uri.path(), %peer, "refused");
                let mut answer = refused.problem.answer(&id, refused.quota);
                if let Some(allow) = refused.allow {
                    answer.headers_mut().insert(header::ALLOW, allow);
                }
                answer
            }
        };
        problem::common(answer.headers_mut(), &id);
        self.open.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    async fn handle<B>(
        &self,
        head: &Parts,
        incoming: B,
        peer: SocketAddr,
        span: &tracing::Span,
    ) -> Result<Answer, Refused>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Problem::Draining.into());
        }
        let client = self.client(peer.ip(), &head.headers);
        self.check_address(client)?;
        let outcome = self.checked(head, incoming, client, span).await;
        if let Err(refused) = &outcome
            && refused.problem.charges_address()
        {
            self.charge(client);
        }
        outcome
    }

    async fn checked<B>(
        &self,
        head: &Parts,
        incoming: B,
        client: IpAddr,
        span: &tracing::Span,
    ) -> Result<Answer, Refused>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let route = self.route(head.uri.path())?;
        check_head(&route, head, client)?;
        let Some(spec) = route.spec.as_ref().filter(|_| !route.verifiers.is_empty()) else {
            return Err(Problem::EndpointClosed.into());
        };
        let body = self
            .body(incoming, &head.headers, route.gate.max_body)
            .await?;
        let now = self.clock.now();
        let verified = self.verify(&route, head, &body, now.0.div_euclid(1_000))?;
        let content_type = header_text(&head.headers, "content-type").unwrap_or_default();
        body::check(content_type, &body).map_err(|_why| Problem::UnreadableBody)?;
        route.limit.spend().map_err(|quota| Refused {
            problem: Problem::EndpointLimit,
            quota: Some(quota),
            allow: None,
        })?;
        let payload = PayloadDigest(Sha256::digest(&body).into());
        let delivery = replay::delivery(
            &route.ingestor,
            &route.idempotency,
            verified,
            &head.headers,
            payload,
            || uuid::Uuid::new_v4().to_string(),
        )
        .map_err(|_bad_key| {
            Problem::BadRequest(
                "The idempotency header must be there once, with 1 to 255 visible ASCII characters.",
            )
        })?;
        let event = Event {
            ingestor: route.ingestor.clone(),
            spec: spec.digest,
            event_id: Arc::clone(&delivery.event_id),
            key: delivery.key,
            payload,
            accepted_at: now,
            origin: Origin::Request,
            traceparent: context::carry_on(span, header_text(&head.headers, "traceparent"))
                .map(Into::into),
            headers: journaled(&head.headers, &route),
            query: head.uri.query().unwrap_or_default().into(),
            body,
        };
        let accepted = self.append(&route, spec, event, delivery).await?;
        Ok(self.answer(&route, head, accepted).await)
    }

    // === checks ===

    fn route(&self, path: &str) -> Result<Arc<Route>, Problem> {
        let table = self.shared.routes.load();
        let found = path
            .strip_prefix(PREFIX)
            .and_then(|key| table.routes.get(key));
        match found {
            Some(route) => Ok(Arc::clone(route)),
            None if !table.synced => Err(Problem::NotInSync),
            None => Err(Problem::NotFound),
        }
    }

    /// The client's address: the peer's, unless the peer is a listed proxy that names another.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusted = &self.limits.trusted_proxies;
        if trusted.is_empty() {
            return peer;
        }
        let listed = |address: IpAddr| {
            trusted
                .iter()
                .any(|net| net.contains(&address.to_canonical()))
        };
        let mut client = peer;
        let forwarded: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        // From the nearest hop outwards, as long as the one that says so is trusted.
        for hop in forwarded.iter().rev() {
            if !listed(client) {
                break;
            }
            let Ok(address) = hop.trim().parse() else {
                break;
            };
            client = address;
        }
        client
    }

    fn check_address(&self, client: IpAddr) -> Result<(), Refused> {
        if !self.owing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = self.monotonic.elapsed();
        let addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        addresses.check(client, now).map_err(|wait| Refused {
            problem: Problem::AddressLimit,
            quota: Some(Quota {
                remaining: 0,
                burst: self.limits.address_failures.1,
                window: Duration::from_secs(u64::from(
                    self.limits.address_failures.1 / self.limits.address_failures.0.max(1),
                )),
                retry_after: wait,
            }),
            allow: None,
        })
    }

    fn charge(&self, client: IpAddr) {
        let now = self.monotonic.elapsed();
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        addresses.charge(client, now);
        self.owing.store(!addresses.is_idle(), Ordering::Relaxed);
    }

    async fn body<B>(
        &self,
        incoming: B,
        headers: &HeaderMap,
        limit: usize,
    ) -> Result<Bytes, Problem>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if let Some(length) = headers.get(header::CONTENT_LENGTH) {
            let length: Option<u64> = length.to_str().ok().and_then(|text| text.parse().ok());
            if length.is_none_or(|length| usize::try_from(length).map_or(true, |n| n > limit)) {
                return Err(Problem::TooLarge);
            }
        }
        match tokio::time::timeout(self.limits.body_timeout, collect(incoming, limit)).await {
            Ok(body) => body,
            Err(_elapsed) => Err(Problem::BodyTimeout),
        }
    }

    fn verify<'a>(
        &self,
        route: &Route,
        head: &'a Parts,
        body: &'a [u8],
        now: i64,
    ) -> Result<Verified<'a>, Problem> {
        let started = self.monotonic.elapsed();
        let signed = Signed {
            headers: &head.headers,
            body,
            now,
        };
        let mut first_refusal: Option<Refusal> = None;
        let verified = route
            .verifiers
            .iter()
            .find_map(|verifier| match verifier.verify(signed) {
                Ok(verified) => Some(verified),
                Err(refusal) => {
                    first_refusal.get_or_insert(refusal);
                    None
                }
            });
        let took = self.monotonic.elapsed().saturating_sub(started);
        self.metrics.verify.observe(took.as_secs_f64());
        match (verified, first_refusal) {
            (Some(verified), _) => {
                self.metrics.verified(verified.scheme);
                Ok(verified)
            }
            (None, refusal) => {
                self.metrics
                    .refused(refusal.unwrap_or(Refusal::MissingSignature));
                Err(Problem::Unauthorized)
            }
        }
    }

    // === the durable part ===

    async fn append(
        &self,
        route: &Route,
        spec: &InForce,
        event: Event,
        delivery: Delivery,
    ) -> Result<Accepted, Refused> {
        let started = self.monotonic.elapsed();
        let appended = self.journal.append(event).await;
        let took = self.monotonic.elapsed().saturating_sub(started);
        self.metrics.append.observe(took.as_secs_f64());
        let name = |event_id: &str, same_spec: bool| {
            (same_spec && spec.named_by_event).then(|| names::event(&spec.identity, event_id, 0))
        };
        match appended {
            Ok(Appended::Accepted(record)) => {
                self.metrics.accepted.inc();
                Ok(Accepted {
                    record,
                    name: name(&delivery.event_id, true),
                    event_id: delivery.event_id,
                    replayed: false,
                })
            }
            Ok(Appended::Replayed(seen)) => {
                self.metrics.replayed.inc();
                Ok(Accepted {
                    record: seen.record,
                    name: name(&seen.event_id, seen.spec == spec.digest),
                    event_id: seen.event_id,
                    replayed: true,
                })
            }
            Err(error) => {
                debug!(%error, ingestor = %route.ingestor, "not accepted");
                Err(refusal_of(&error).into())
            }
        }
    }

    async fn answer(&self, route: &Route, head: &Parts, accepted: Accepted) -> Answer {
        let preference = prefer::wait(&head.headers, self.limits.max_wait);
        let mut waited = None;
        let mut created = None;
        if let Some(longest) = preference
            && let Ok(_slot) = self.waiters.try_acquire()
        {
            waited = Some(longest);
            let end = tokio::time::timeout(longest, self.journal.ended(accepted.record)).await;
            created = end
                .ok()
                .flatten()
                .and_then(|ended| only_observation(&ended, &accepted));
        }
        let status = match &created {
            Some(_) => StatusCode::CREATED,
            None => route.accepted,
        };
        let location = created.or(accepted.name);
        let mut answer = if status == StatusCode::NO_CONTENT {
            Response::new(Full::default())
        } else {
            let id = serde_json::to_string(&*accepted.event_id).unwrap_or_default();
            let text = format!("{{\"id\":{id},\"status\":\"accepted\"}}");
            let mut answer = Response::new(Full::new(Bytes::from(text)));
            let json = HeaderValue::from_static("application/json");
            answer.headers_mut().insert(header::CONTENT_TYPE, json);
            answer
        };
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        if let Some(name) = location
            && let Ok(value) = HeaderValue::from_str(&format!(
                "/apis/zen.watcher.io/v1/namespaces/{}/observations/{name}",
                route.namespace
            ))
        {
            headers.insert(header::LOCATION, value);
        }
        if accepted.replayed {
            headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(waited) = waited
            && let Ok(value) = HeaderValue::from_str(&format!("wait={}", waited.as_secs()))
        {
            headers.insert(PREFERENCE_APPLIED, value);
        }
        answer
    }
}

/// The problem that an append's error is to the sender.
const fn refusal_of(error: &AppendError) -> Problem {
    match error {
        AppendError::Conflict(_) => Problem::Conflict,
        AppendError::ShareFull => Problem::ShareFull,
        AppendError::TooLarge { .. } => Problem::TooLarge,
        AppendError::Closing => Problem::Draining,
        AppendError::Full
        | AppendError::NoSpace
        | AppendError::Disk(_)
        | AppendError::UnknownSpec(_)
        | AppendError::AlreadyReplayed => Problem::JournalUnavailable,
    }
}

/// The one Observation that an event became, if it became exactly one.
fn only_observation(ended: &Ended, accepted: &Accepted) -> Option<String> {
    let items = ended.items;
    let one = ended.end == End::Observed
        && items.observed == 1
        && items.dead_lettered == 0
        && items.deduplicated == 0;
    if !one {
        return None;
    }
    ended
        .observation
        .as_deref()
        .map(str::to_owned)
        .or_else(|| accepted.name.clone())
}

fn check_head(route: &Route, head: &Parts, client: IpAddr) -> Result<(), Refused> {
    let gate = &route.gate;
    if !gate.methods.contains(&head.method) {
        return Err(Refused {
            problem: Problem::MethodNotAllowed,
            quota: None,
            allow: Some(gate.allow.clone()),
        });
    }
    let client = client.to_canonical();
    if !gate.networks.is_empty() && !gate.networks.iter().any(|net| net.contains(&client)) {
        return Err(Problem::AddressNotAllowed.into());
    }
    let mut types = head.headers.get_all(header::CONTENT_TYPE).iter();
    let content_type = types
        .next()
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if types.next().is_some() || !gate.takes(content_type) {
        return Err(Problem::UnsupportedMediaType.into());
    }
    let encoded = head
        .headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err(Problem::UnsupportedEncoding.into());
    }
    Ok(())
}

/// Reads a body of at most `limit` bytes.
async fn collect<B>(mut incoming: B, limit: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first: Option<Bytes> = None;
    let mut buffer = BytesMut::new();
    let mut size = 0_usize;
    while let Some(frame) = incoming.frame().await {
        // The connection broke: nobody reads the answer.
        let frame = frame.map_err(|_broken| {
            Problem::BadRequest("The body ended before its announced length.")
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        size = size.saturating_add(data.len());
        if size > limit {
            return Err(Problem::TooLarge);
        }
        // Most bodies come in one piece: that one is kept as it is.
        match first.take() {
            None if buffer.is_empty() => first = Some(data),
            None => buffer.extend_from_slice(&data),
            Some(start) => {
                buffer.reserve((start.len() + data.len()).max(BODY_START));
                buffer.extend_from_slice(&start);
                buffer.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| buffer.freeze()))
}

/// The headers that the journal keeps: all but credentials and proofs.
fn journaled(headers: &HeaderMap, route: &Route) -> Vec<(Box<str>, Box<str>)> {
    headers
        .iter()
        .filter(|(name, _)| !route.withheld.contains(name))
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().into(), value.into())
        })
        .collect()
}

fn header_text<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The sender's request id when it is a UUID, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(problem::REQUEST_ID);
    if let Some(value) = given
        && value.len() == 36
        && value
            .to_str()
            .is_ok_and(|text| uuid::Uuid::try_parse(text).is_ok())
    {
        return value.clone();
    }
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let made = uuid::Uuid::new_v4();
    HeaderValue::from_str(made.hyphenated().encode_lower(&mut text))
        .unwrap_or_else(|_never| HeaderValue::from_static("-"))
}
