//! The route table: what each endpoint checks and answers. Built from Ingestors, swapped atomically. Pure.

use std::{collections::HashMap, fmt, sync::Arc};

use governor::{
    Quota as Rate, RateLimiter,
    clock::{Clock as _, ReasonablyRealtime, Reference},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use ipnet::IpNet;

use super::{
    problem::Quota,
    replay::Idempotency,
    verify::Verifier,
};
use crate::{
    api::{
        DecisionSpec, Ingestor, SpecDigest, duration,
        ingestor::{Method as AllowedMethod, RateLimit, Strategy, Webhook},
        paths,
    },
    journal::IngestorUid,
    ops::time::Clock,
};

/// Headers that carry credentials of any kind: never written to the journal.
const CREDENTIALS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
];

/// All endpoints, by `<namespace>/<path>`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Routes by the rest of the URL after `/hooks/`.
    pub routes: HashMap<Box<str>, Arc<Route>>,
    /// Whether every cache was filled once: before that, an unknown path may just not be known yet.
    pub synced: bool,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Route {
    /// Whose it is.
    pub ingestor: IngestorUid,
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// What it checks before it verifies.
    pub gate: Gate,
    /// How it verifies; empty: the endpoint is closed.
    pub verifiers: Vec<Verifier>,
    /// Headers that don't go into the journal.
    pub withheld: Vec<HeaderName>,
    /// Its limit.
    pub limit: Arc<EndpointLimit>,
    /// How deliveries are recognised.
    pub idempotency: Idempotency,
    /// The status of an accepted event.
    pub accepted: StatusCode,
    /// The decision spec that is in force; absent: the endpoint is closed.
    pub spec: Option<InForce>,
}

/// What an endpoint checks before it reads a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    /// Methods that are served.
    pub methods: Vec<Method>,
    /// The `Allow` header of a 405.
    pub allow: HeaderValue,
    /// Media types that are accepted, in lower case, without parameters.
    pub content_types: Vec<String>,
    /// The largest body.
    pub max_body: usize,
    /// Networks that may send; empty: any.
    pub networks: Vec<IpNet>,
}

/// The decision spec in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InForce {
    /// Its digest.
    pub digest: SpecDigest,
    /// Whether one event gives one Observation whose name follows from the event's id.
    pub named_by_event: bool,
    /// Whose events these are: names are derived from it.
    pub identity: crate::api::decision::Identity,
}

/// Why an Ingestor gives no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    /// It has no webhook.
    #[error("the Ingestor has no webhook")]
    NoWebhook,
    /// A value that the API server should have refused.
    #[error("spec.source.webhook.{field}: {why}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl Gate {
    /// Reads the checks of a webhook; `max_body` is the gateway's own bound.
    ///
    /// # Errors
    /// A value that the API server should have refused.
    pub(crate) fn of(webhook: &Webhook, max_body: usize) -> Result<Self, RouteError> {
        let methods: Vec<Method> = webhook.methods.iter().map(|method| http_method(*method)).collect();
        let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
        let invalid = |field, why: String| RouteError::Invalid { field, why };
        let allow = HeaderValue::from_str(&names.join(", "))
            .map_err(|error| invalid("methods", error.to_string()))?;
        let networks = webhook
            .allowed_cidrs
            .iter()
            .map(|cidr| cidr.parse::<IpNet>().map(|net| net.trunc()))
            .collect::<Result<_, _>>()
            .map_err(|error| invalid("allowedCIDRs", error.to_string()))?;
        let asked = usize::try_from(webhook.max_body_bytes).unwrap_or(usize::MAX);
        Ok(Self {
            methods,
            allow,
            content_types: webhook.content_types.iter().map(|t| t.to_ascii_lowercase()).collect(),
            max_body: asked.min(max_body),
            networks,
        })
    }

    /// Whether the endpoint takes this media type; parameters such as `charset` play no part.
    #[must_use]
    pub(crate) fn takes(&self, content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        self.content_types.iter().any(|taken| taken.eq_ignore_ascii_case(essence))
    }
}

const fn http_method(method: AllowedMethod) -> Method {
    match method {
        AllowedMethod::Post => Method::POST,
        AllowedMethod::Put => Method::PUT,
        AllowedMethod::Patch => Method::PATCH,
    }
}

/// The key of an Ingestor's route, when it has the path.
#[must_use]
pub(crate) fn key(ingestor: &Ingestor) -> Option<Box<str>> {
    let (namespace, path) = paths::path_of(ingestor)?;
    Some(format!("{namespace}/{path}").into())
}

/// How an Ingestor's deliveries are recognised.
///
/// # Errors
/// A value that the API server should have refused.
pub(crate) fn idempotency(webhook: &Webhook) -> Result<Idempotency, RouteError> {
    let invalid = |field, why: String| RouteError::Invalid { field, why };
    let config = &webhook.idempotency;
    Ok(Idempotency {
        header: HeaderName::from_bytes(config.header.as_bytes())
            .map_err(|error| invalid("idempotency.header", error.to_string()))?,
        window: duration::parse_within(&config.window, &duration::IDEMPOTENCY_WINDOW)
            .map_err(|error| invalid("idempotency.window", error.to_string()))?,
        by_content: config.by_content,
    })
}

/// The status of an accepted event.
///
/// # Errors
/// A value that the API server should have refused.
pub(crate) fn accepted_status(webhook: &Webhook) -> Result<StatusCode, RouteError> {
    match webhook.response.status {
        200 => Ok(StatusCode::OK),
        202 => Ok(StatusCode::ACCEPTED),
        204 => Ok(StatusCode::NO_CONTENT),
        other => Err(RouteError::Invalid {
            field: "response.status",
            why: format!("{other} is not 200, 202 or 204"),
        }),
    }
}

/// Every header that is kept out of the journal.
#[must_use]
pub(crate) fn withheld(verifiers: &[Verifier]) -> Vec<HeaderName> {
    let mut names = CREDENTIALS.to_vec();
    for name in verifiers.iter().flat_map(Verifier::proof_headers) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl InForce {
    /// What the answers need to know of a decision spec.
    #[must_use]
    pub(crate) fn of(spec: &DecisionSpec, digest: SpecDigest) -> Self {
        Self {
            digest,
            named_by_event: spec.explode.is_none() && spec.dedup.strategy == Strategy::Event,
            identity: spec.ingestor.clone(),
        }
    }
}

// === the endpoint's limit ===

/// The monotonic clock that limits are told, through the one place that reads clocks.
#[derive(Clone)]
pub(crate) struct LimitClock {
    clock: Arc<dyn Clock>,
    start: std::time::Instant,
}

impl fmt::Debug for LimitClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LimitClock")
    }
}

impl LimitClock {
    /// Counts from now.
    #[must_use]
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            start: clock.instant(),
            clock,
        }
    }

    /// Since the start.
    #[must_use]
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.clock.instant().saturating_duration_since(self.start)
    }
}

impl governor::clock::Clock for LimitClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.elapsed())
    }
}

impl ReasonablyRealtime for LimitClock {}

/// A token bucket (GCRA) per endpoint.
#[derive(Debug)]
pub(crate) struct EndpointLimit {
    config: RateLimit,
    limiter: RateLimiter<NotKeyed, InMemoryState, LimitClock, StateInformationMiddleware>,
    clock: LimitClock,
}

impl EndpointLimit {
    /// A full bucket; zero counts as one.
    #[must_use]
    pub(crate) fn new(config: RateLimit, clock: LimitClock) -> Self {
        let one = std::num::NonZeroU32::MIN;
        let per_second = std::num::NonZeroU32::new(config.requests_per_second).unwrap_or(one);
        let burst = std::num::NonZeroU32::new(config.burst).unwrap_or(one);
        let rate = Rate::per_second(per_second).allow_burst(burst);
        Self {
            config,
            limiter: RateLimiter::direct_with_clock(rate, clock.clone())
                .with_middleware::<StateInformationMiddleware>(),
            clock,
        }
    }

    /// Whether it was made from this configuration, so that it can go on with its state.
    #[must_use]
    pub(crate) fn is_of(&self, config: RateLimit) -> bool {
        self.config == config
    }

    /// Spends one request.
    ///
    /// # Errors
    /// The state of the limit; nothing was spent.
    pub(crate) fn spend(&self) -> Result<(), Quota> {
        let refused = match self.limiter.check() {
            Ok(_) => return Ok(()),
            Err(refused) => refused,
        };
        let now = self.clock.now();
        let wait = refused.earliest_possible().duration_since(now);
        let rate = refused.quota();
        Err(Quota {
            remaining: 0,
            burst: rate.burst_size().get(),
            window: rate.burst_size_replenished_in(),
            retry_after: wait.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Mutex,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::journal::Millis;

    #[derive(Debug)]
    struct Manual(Mutex<Instant>);

    impl Clock for Manual {
        fn now(&self) -> Millis {
            Millis(0)
        }

        fn instant(&self) -> Instant {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any starting point for a manual clock")]
    fn an_endpoint_gets_its_burst_and_then_its_rate() {
        let clock = Arc::new(Manual(Mutex::new(Instant::now())));
        let config = RateLimit { requests_per_second: 10, burst: 3 };
        let limit = EndpointLimit::new(config, LimitClock::new(Arc::<Manual>::clone(&clock)));
        for _ in 0..3 {
            assert_eq!(limit.spend(), Ok(()));
        }
        let quota = limit.spend().unwrap_err();
        assert_eq!((quota.remaining, quota.burst), (0, 3));
        assert_eq!(quota.retry_after, Duration::from_millis(100));
        *clock.0.lock().unwrap() += Duration::from_millis(100);
        assert_eq!(limit.spend(), Ok(()));
        assert!(limit.spend().is_err());
    }

    #[test]
    fn media_types_match_without_parameters() {
        let webhook: Webhook =
            serde_json::from_value(serde_json::json!({"auth": [{"none": {}}]})).unwrap();
        let gate = Gate::of(&webhook, usize::MAX).unwrap();
        assert!(gate.takes("application/json"));
        assert!(gate.takes("Application/JSON; charset=utf-8"));
        assert!(!gate.takes("application/jsonx"));
        assert!(!gate.takes(""));
        assert_eq!(gate.allow, "POST");
    }
}
