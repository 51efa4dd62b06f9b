//! What is done with a body: verify, parse, limit, append, answer.

use core::net::IpAddr;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header::CONTENT_TYPE, request::Parts};
use sha2::{Digest as _, Sha256};
use tracing::{Instrument as _, Span, warn};

use super::{Pending, Shared, made_here};
use crate::{
    engine::body,
    gateway::{
        answer::Answer,
        body::{Lease, Payload},
        prefer,
        problem::{Kind, Problem},
        replay,
        routes::{Route, Spec, State, location},
        verify::{self, Message},
    },
    journal::{AppendError, Appended, End, Event, Key, Origin, PayloadDigest, RecordId},
    ops::telemetry::context,
};

impl Shared {
    /// Checks 6 to 10 of the contract.
    pub(super) async fn accept(
        self: &Arc<Self>,
        head: &Parts,
        route: &Arc<Route>,
        Payload { bytes, lease }: Payload,
        client: IpAddr,
        pending: &mut Pending<'_>,
    ) -> Result<Answer, Problem> {
        let State::Open { spec, .. } = &route.state else {
            return Err(Kind::Closed.because("the endpoint is not ready; try again"));
        };
        self.address_limit(client)?;
        let event = self.event(head, route, spec, bytes, &pending.span)?;
        let id = Arc::clone(&event.event_id);
        let begun = self.clock.instant();
        // From here on the append counts, also when the sender hangs up.
        pending.counted = true;
        let appending = self.append(event, lease);
        let appended = appending.instrument(context::append_span()).await;
        let took = self.clock.instant().saturating_duration_since(begun);
        self.metrics.append.observe(took.as_secs_f64());
        let (record, id, location, replayed) = match appended {
            Ok(Appended::Accepted(record)) => {
                self.share_has_room(route);
                let location = spec.location(&id);
                (record, id, location, false)
            }
            Ok(Appended::Replayed(seen)) => {
                let named = seen.named.then(|| spec.observation(&seen.event_id));
                (seen.record, seen.event_id, named.flatten(), true)
            }
            Err(error) => return Err(self.refused(route, error)),
        };
        let mut answer = Answer {
            status: route.endpoint.accepted,
            id,
            location,
            replayed,
            waited: None,
        };
        let max = self.options.limits.wait.as_secs();
        if let Some(seconds) = prefer::wait_seconds(&head.headers, max) {
            self.wait(&mut answer, &route.endpoint.namespace, record, seconds)
                .await;
        }
        Ok(answer)
    }

    /// The verified event of a request.
    fn event(
        &self,
        head: &Parts,
        route: &Route,
        spec: &Spec,
        body: Bytes,
        span: &Span,
    ) -> Result<Event, Problem> {
        let State::Open {
            verifiers,
            security,
            ..
        } = &route.state
        else {
            return Err(Kind::Closed.because("the endpoint is not ready; try again"));
        };
        let now = self.clock.now();
        let begun = self.clock.instant();
        let message = Message {
            headers: &head.headers,
            body: &body,
            now: now.0.div_euclid(1_000),
        };
        let verdict = verify::verify(verifiers, security, &message);
        // Forgeries cost time, too.
        let took = self.clock.instant().saturating_duration_since(begun);
        self.metrics.verify.observe(took.as_secs_f64());
        let accepted = verdict.map_err(|why| {
            self.metrics.unverified(why);
            Kind::Unauthorized.because("the request was not verified")
        })?;
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        body::check(content_type.unwrap_or_default(), &body)
            .map_err(|error| Kind::InvalidBody.because(error.to_string()))?;
        route.bucket.take(self.uptime()).map_err(|wait| {
            let mut problem = Kind::EndpointLimited.because("the endpoint's limit is reached");
            problem.retry_after = Some(wait.max(Duration::from_millis(1)));
            problem.limit = Some(route.limit());
            problem
        })?;
        let payload = PayloadDigest(Sha256::digest(&body).into());
        let delivery = replay::delivery(
            &route.ingestor,
            &route.endpoint.replay,
            &accepted,
            &head.headers,
            &payload,
            made_here(),
        )?;
        context::brought(span, &route.ingestor.0, &delivery.event_id);
        let traceparent = context::carry_on(span, context::traceparent(head));
        Ok(Event {
            ingestor: route.ingestor.clone(),
            spec: spec.digest,
            event_id: delivery.event_id,
            key: delivery.key.map(|hash| Key {
                hash,
                window: route.endpoint.replay.window,
                named: spec.named,
            }),
            payload,
            accepted_at: now,
            origin: Origin::Request,
            traceparent: traceparent.map(String::into_boxed_str),
            headers: kept_headers(&head.headers, &route.endpoint.hidden),
            query: head.uri.query().unwrap_or_default().into(),
            body,
        })
    }

    /// Appends, and goes on even when the sender hangs up meanwhile, so that what the journal
    /// accepts is counted. The body's memory is counted for as long as the journal needs it, neither
    /// longer, for one who waits for the end, nor shorter, for one who has hung up.
    async fn append(self: &Arc<Self>, event: Event, lease: Lease) -> Result<Appended, AppendError> {
        let shared = Arc::clone(self);
        let appending = Box::pin(async move {
            let appended = shared.journal.append(event).await;
            drop(lease);
            match &appended {
                Ok(Appended::Accepted(_)) => shared.metrics.accepted.inc(),
                Ok(Appended::Replayed(_)) => shared.metrics.replayed.inc(),
                Err(_) => {}
            }
            appended
        });
        Finished {
            shared: self,
            appending: Some(appending),
        }
        .await
    }

    fn refused(&self, route: &Route, error: AppendError) -> Problem {
        match error {
            AppendError::Conflict(_) => {
                Kind::KeyConflict.because("this idempotency key came before with another payload")
            }
            AppendError::ShareFull => {
                if !route.share_full.swap(true, Ordering::Relaxed) {
                    self.facts.share(&route.ingestor, true);
                }
                Kind::BacklogFull.because("events wait to be processed; try again later")
            }
            AppendError::TooLarge { limit, .. } => {
                Kind::TooLarge.because(format!("an event may have {limit} bytes"))
            }
            AppendError::Closing => {
                Kind::Draining.because("the gateway is shutting down; try again")
            }
            error @ (AppendError::Full
            | AppendError::NoSpace
            | AppendError::Disk(_)
            | AppendError::UnknownSpec(_)
            | AppendError::AlreadyReplayed) => {
                warn!(ingestor = %route.ingestor, %error, "event not stored");
                Kind::JournalUnavailable.because("the event could not be stored; try again")
            }
        }
    }

    fn share_has_room(&self, route: &Route) {
        if route.share_full.load(Ordering::Relaxed)
            && route.share_full.swap(false, Ordering::Relaxed)
        {
            self.facts.share(&route.ingestor, false);
        }
    }

    /// Waits for the event's end, where a place to wait is free; 201 when it is one Observation.
    async fn wait(&self, answer: &mut Answer, namespace: &str, record: RecordId, seconds: u64) {
        let Ok(_place) = self.waiters.try_acquire() else {
            return;
        };
        answer.waited = Some(seconds);
        let ended = tokio::select! {
            ended = self.journal.ended(record) => ended,
            () = tokio::time::sleep(Duration::from_secs(seconds)) => None,
            () = self.draining.cancelled() => None,
        };
        let Some(ended) = ended else {
            return;
        };
        let items = ended.items;
        let all = u64::from(items.observed)
            + u64::from(items.filtered)
            + u64::from(items.deduplicated)
            + u64::from(items.dead_lettered);
        if ended.end != End::Observed || items.observed != 1 || all != 1 {
            return;
        }
        if let Some(name) = &ended.observation {
            answer.location = Some(location(namespace, name));
        }
        if answer.location.is_some() {
            answer.status = StatusCode::CREATED;
        }
    }
}

type Appending = Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>;

/// An append that is finished by a task of its own when it is dropped unfinished.
struct Finished<'a> {
    shared: &'a Shared,
    appending: Option<Appending>,
}

impl Future for Finished<'_> {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(appending) = &mut self.appending else {
            return Poll::Ready(Err(AppendError::Closing));
        };
        let appended = std::task::ready!(appending.as_mut().poll(cx));
        self.appending = None;
        Poll::Ready(appended)
    }
}

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        if let Some(appending) = self.appending.take() {
            let metrics = self.shared.metrics.clone();
            metrics.hung_up.inc();
            let tasks = &self.shared.tasks;
            tasks.spawn_contained("gateway-append", async move {
                if appending.await.is_err() {
                    metrics.reject(Kind::Aborted);
                }
            });
        }
    }
}

/// The header as the journal keeps it: without credentials.
fn kept_headers(headers: &HeaderMap, hidden: &[HeaderName]) -> Vec<(Box<str>, Box<str>)> {
    let mut kept = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        if !hidden.contains(name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            kept.push((name.as_str().into(), value.into_owned().into_boxed_str()));
        }
    }
    kept
}
