//! Brings one batch into the API and says what became of each item. It decides nothing by memory:
//! what the API has is the store of the dedup.

mod object;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use tracing::Instrument as _;

use crate::{
    api::{
        Observation,
        annotations::{PAYLOAD, RECORD, TRACEPARENT},
    },
    journal::Letter,
    kube::{
        failure::{Cause, Failure, Verb},
        observations::Observations,
    },
    ops::{telemetry::context, time::Clock},
};

use super::{
    aggregate,
    limiter::Limiter,
    metrics::Metrics,
    pace::Signal,
    pipeline::DedupKind,
    queue::{Batch, ItemEnd, Work},
    verdict::{DeadReason, HoldReason, Verdict, after_plain, verdict},
};

/// Writes Observations.
#[derive(Clone, Debug)]
pub struct Writer {
    observations: Observations,
    limiter: Arc<Limiter>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    /// Whether the limiter learns from its calls.
    teaches: bool,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Ends of its first items, in order; the others are to be tried again.
    pub ends: Vec<ItemEnd>,
    /// Why the others were not brought in.
    pub trouble: Option<Trouble>,
    /// The batch was refused as a whole: its items are to be tried one by one.
    pub singly: bool,
}

/// A failure that holds something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Why.
    pub reason: HoldReason,
    /// What failed, on which object, and what the server said.
    pub message: String,
    /// What it holds.
    pub scope: Scope,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

/// What a failure holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The name; with several names the Ingestor.
    Name,
    /// The Ingestor.
    Ingestor,
}

/// An object may be changed, or deleted and made again, between two calls. Whoever does that more
/// often than so within one attempt does it all the time: the batch is tried again after a wait.
const MOST_ROUNDS: usize = 4;

/// Priority and fairness asks for a second or so; longer waits are left to the Ingestors' holds, so
/// that one mistaken answer can't stop everything.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Writer {
    /// Calls go through `observations`; each tells `limiter` how the server does.
    #[must_use]
    pub const fn new(
        observations: Observations,
        limiter: Arc<Limiter>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            observations,
            limiter,
            metrics,
            clock,
            teaches: true,
        }
    }

    /// One for the writes of held Ingestors: that they fail again says nothing new about the server.
    #[must_use]
    pub(super) fn probing(&self) -> Self {
        Self {
            teaches: false,
            ..self.clone()
        }
    }

    /// The calls that are no writes of items.
    #[must_use]
    pub(crate) const fn observations(&self) -> &Observations {
        &self.observations
    }

    /// Brings a batch in.
    pub async fn write(&self, batch: &Batch) -> Written {
        let items = batch.items.iter();
        let traceparents = items.map(|work| work.item.annotations.get(TRACEPARENT));
        let span = context::write_span(&batch.name, traceparents.map(|text| Some(text?.as_str())));
        let written = self.bring_in(batch).instrument(span.clone()).await;
        if let Some(trouble) = &written.trouble {
            context::failed(&span, trouble.reason.as_str(), &trouble.message);
        }
        written
    }

    async fn bring_in(&self, batch: &Batch) -> Written {
        let Some((first, rest)) = batch.items.split_first() else {
            return Written::default();
        };
        let mut last = None;
        for _ in 0..MOST_ROUNDS {
            let attempt = match first.item.dedup {
                DedupKind::Event | DedupKind::Fingerprint { .. } => {
                    self.make_unique(first, rest).await
                }
                DedupKind::Aggregate { .. } => self.count(batch, first, rest).await,
            };
            let failure = match attempt {
                Ok(ends) => return Written::all(ends),
                Err(failure) => failure,
            };
            match verdict(&failure) {
                Verdict::Look | Verdict::ReadAgain | Verdict::BeginAnew => last = Some(failure),
                Verdict::AskPlain if counts(first) && !rest.is_empty() => {
                    return Written::one_by_one();
                }
                Verdict::AskPlain => return self.refused(first, &failure).await,
                Verdict::Dead(reason) => return Written::dead(&batch.items, reason, &failure),
                Verdict::HoldName(reason) => return Written::held(reason, Scope::Name, &failure),
                Verdict::HoldIngestor(reason) => {
                    return Written::held(reason, Scope::Ingestor, &failure);
                }
            }
        }
        last.map_or_else(Written::default, |failure| {
            Written::held(HoldReason::Conflict, Scope::Name, &failure)
        })
    }

    /// Strategies `event` and `fingerprint`: the first item that comes makes the object.
    async fn make_unique(&self, first: &Work, rest: &[Work]) -> Result<Vec<ItemEnd>, Failure> {
        let (namespace, name) = (&*first.home.namespace, first.item.name.as_str());
        let body = object::of(first, first.item.spec.clone());
        let created = self.observations.create(namespace, name, body);
        match self.call(Verb::Create, created).await {
            Ok(stored) => {
                self.visible(first);
                Ok(met_all(first, rest, &stored.metadata.annotations))
            }
            Err(failure) if verdict(&failure) == Verdict::Look => {
                let read = self.observations.look(namespace, name);
                let stored = self.call(Verb::Get, read).await?;
                Ok(met_all(first, rest, &stored.metadata.annotations))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Strategy `aggregate`: what the object doesn't count yet is added to it.
    async fn count(
        &self,
        batch: &Batch,
        first: &Work,
        rest: &[Work],
    ) -> Result<Vec<ItemEnd>, Failure> {
        let (namespace, name) = (&*first.home.namespace, first.item.name.as_str());
        let read = self.observations.get(namespace, name);
        match self.call(Verb::Get, read).await {
            Ok(object) => self.add(batch, object).await,
            Err(failure) if verdict(&failure) == Verdict::BeginAnew => {
                let more = rest.iter().map(|work| (work.id, &work.item.spec));
                let spec = aggregate::add(first.item.spec.clone(), more);
                let created = self
                    .observations
                    .create(namespace, name, object::of(first, spec));
                let stored = self.call(Verb::Create, created).await?;
                self.visible(first);
                Ok(met_all(first, rest, &stored.metadata.annotations))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn add(&self, batch: &Batch, object: Observation) -> Result<Vec<ItemEnd>, Failure> {
        let none = BTreeMap::new();
        let annotations = object.metadata.annotations.as_ref().unwrap_or(&none);
        let ends = batch
            .items
            .iter()
            .map(|work| met(work, annotations))
            .collect();
        let open: Vec<&Work> = batch
            .items
            .iter()
            .filter(|work| !aggregate::covers(&object.spec.applied, work.id))
            .collect();
        let Some(first) = open.first() else {
            return Ok(ends);
        };
        let (namespace, name) = (&*first.home.namespace, first.item.name.as_str());
        let body = object::with_sum(object, open.iter().map(|work| (work.id, &work.item.spec)));
        let updated = self.observations.update(namespace, name, body);
        self.call(Verb::Update, updated).await?;
        for work in open {
            self.visible(work);
        }
        Ok(ends)
    }

    /// The server refuses the object of `work`. Would it take another in its place?
    async fn refused(&self, work: &Work, failure: &Failure) -> Written {
        let (name, body) = object::plain(work);
        let tried = self.observations.dry_run(&work.home.namespace, &name, body);
        let tried = self.call(Verb::DryRun, tried).await;
        let told = tried.as_ref().err().unwrap_or(failure);
        match after_plain(tried.as_ref().copied()) {
            Verdict::Dead(DeadReason::Refused) => {
                Written::dead(std::slice::from_ref(work), DeadReason::Refused, failure)
            }
            Verdict::Dead(reason) => Written::dead(std::slice::from_ref(work), reason, told),
            Verdict::HoldName(reason) => Written::held(reason, Scope::Name, told),
            Verdict::HoldIngestor(reason) => Written::held(reason, Scope::Ingestor, told),
            Verdict::Look | Verdict::ReadAgain | Verdict::BeginAnew | Verdict::AskPlain => {
                Written::held(HoldReason::Policy, Scope::Ingestor, told)
            }
        }
    }

    fn visible(&self, work: &Work) {
        let millis = self.clock.now().0.saturating_sub(work.accepted_at.0);
        let after = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        self.metrics.visible(after);
    }

    /// Makes a call, counts it, and lets the limiter learn from it.
    pub(crate) async fn call<T>(
        &self,
        verb: Verb,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let start = self.clock.instant();
        let outcome = call.await;
        let now = self.clock.instant();
        self.metrics.called(verb, &outcome);
        let took = now.saturating_duration_since(start);
        if let Some(signal) = signal(verb, &outcome, took).filter(|_| self.teaches) {
            self.limiter.learn(signal);
        }
        if let Err(failure) = &outcome
            && failure.cause.code() == Some(429)
        {
            let asked = failure.cause.retry_after().unwrap_or_default();
            let pause = asked.clamp(Duration::from_millis(100), LONGEST_PAUSE);
            self.limiter.pause(now + pause);
        }
        outcome
    }
}

/// What an outcome tells about the server's load, by the calls that bring items in: a page of a list
/// takes longer than a write on the calmest server. A plain 500 tells nothing: it may be one object's
/// bad luck with a webhook.
fn signal<T>(verb: Verb, outcome: &Result<T, Failure>, after: Duration) -> Option<Signal> {
    match verb {
        Verb::Create | Verb::Update | Verb::Get => {}
        Verb::DryRun | Verb::List | Verb::Patch | Verb::Delete => return None,
    }
    let Err(failure) = outcome else {
        return Some(Signal::Answered(after));
    };
    match &failure.cause {
        Cause::TimedOut(_) | Cause::Unreachable(_) => Some(Signal::Overloaded),
        Cause::Garbled(_) => None,
        Cause::Refused { code, .. } => match code {
            429 | 503 | 504 => Some(Signal::Overloaded),
            500..=599 => None,
            _ => Some(Signal::Answered(after)),
        },
    }
}

fn counts(work: &Work) -> bool {
    matches!(work.item.dedup, DedupKind::Aggregate { .. })
}

fn met_all(first: &Work, rest: &[Work], annotations: &BTreeMap<String, String>) -> Vec<ItemEnd> {
    let items = std::iter::once(first).chain(rest);
    items.map(|work| met(work, annotations)).collect()
}

/// What an item is, given the annotations of the object that has its name.
fn met(work: &Work, annotations: &BTreeMap<String, String>) -> ItemEnd {
    let annotation = |name: &str| annotations.get(name).map(String::as_str);
    if annotation(RECORD) == Some(work.id.to_string().as_str()) {
        return ItemEnd::Observed;
    }
    let payload = format!("{:?}", work.payload);
    if counts(work) && annotation(RECORD).is_some_and(|made_by| aggregate::behind(work.id, made_by))
    {
        let message = "it was refused before another item of its record made the observation";
        return dead(work, DeadReason::Refused, message.to_owned());
    }
    if work.item.dedup == DedupKind::Event && annotation(PAYLOAD) != Some(payload.as_str()) {
        let made_by = annotation(RECORD).unwrap_or("something else");
        return dead(
            work,
            DeadReason::KeyReused,
            format!(
                "observation {}/{} was made by {made_by} from another payload with the same event id; replay it to give it an id of its own",
                work.home.namespace, work.item.name
            ),
        );
    }
    ItemEnd::Deduplicated
}

/// The end of an item that retrying can't mend.
pub(super) fn dead(work: &Work, reason: DeadReason, message: String) -> ItemEnd {
    ItemEnd::Dead(Letter {
        index: work.id.index,
        reason: Arc::from(reason.as_str()),
        message,
    })
}

impl Written {
    const fn all(ends: Vec<ItemEnd>) -> Self {
        Self {
            ends,
            trouble: None,
            singly: false,
        }
    }

    const fn one_by_one() -> Self {
        Self {
            ends: Vec::new(),
            trouble: None,
            singly: true,
        }
    }

    fn dead(items: &[Work], reason: DeadReason, failure: &Failure) -> Self {
        Self::given_up(items, reason, &failure.to_string())
    }

    /// Nothing was tried: retrying can't mend it.
    pub(super) fn given_up(items: &[Work], reason: DeadReason, message: &str) -> Self {
        let ends = items.iter();
        Self::all(
            ends.map(|work| dead(work, reason, message.to_owned()))
                .collect(),
        )
    }

    /// Nothing was tried, and it is not known whether it may.
    pub(super) const fn not_tried(trouble: Trouble) -> Self {
        Self {
            ends: Vec::new(),
            trouble: Some(trouble),
            singly: false,
        }
    }

    fn held(reason: HoldReason, scope: Scope, failure: &Failure) -> Self {
        Self {
            ends: Vec::new(),
            singly: false,
            trouble: Some(Trouble {
                reason,
                message: failure.to_string(),
                scope,
                retry_after: failure.cause.retry_after(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calls_that_bring_items_in_tell_of_load() {
        let slow = Duration::from_secs(2);
        let told = |verb| signal(verb, &Ok(()), slow).is_some();
        let telling: Vec<Verb> = Verb::ALL.into_iter().filter(|verb| told(*verb)).collect();
        assert_eq!(telling, [Verb::Create, Verb::Get, Verb::Update]);
        let refused = Err::<(), _>(Failure {
            verb: Verb::List,
            object: "observations".into(),
            cause: Cause::from_answer(503, None, b""),
        });
        assert!(signal(Verb::List, &refused, slow).is_none());
        assert!(signal(Verb::Create, &refused, slow).is_some());
    }
}
