//! What the engine counts. Labels are words from enums: no name of a user's object becomes one.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

use crate::{
    journal::Items,
    kube::failure::{Failure, Verb},
};

use super::verdict::HoldReason;

/// Counters and gauges of the engine.
#[derive(Clone, Debug)]
pub struct Metrics {
    items: IntCounterVec,
    calls: IntCounterVec,
    holds: IntCounterVec,
    /// Ingestors that are held now.
    pub held: IntGauge,
    /// Ingestors with records being worked on.
    pub active: IntGauge,
    /// Records without an end.
    pub backlog: IntGauge,
    /// Writes under way.
    pub in_flight: IntGauge,
    /// Writes that may be under way.
    pub width: IntGauge,
    /// Expressions that failed on an event.
    pub expression_errors: IntCounter,
    /// Status writes.
    pub status_writes: IntCounter,
    /// Observations removed at the end of their time.
    pub expired: IntCounter,
    /// Commits to the journal that failed and were tried again.
    pub commit_failures: IntCounter,
    /// Buckets that are owned now.
    pub owned: IntGauge,
    /// Whether effects may be started: 1 or 0.
    pub gate: IntGauge,
    /// Claims, commits and status writes refused since another owns the bucket.
    pub fenced: IntCounter,
    end_to_end: Histogram,
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let add = Adding(registry);
        let metrics = Self {
            items: add.counters(
                "engine_items_total",
                "Items by the end they came to.",
                "end",
            )?,
            calls: add.calls()?,
            holds: add.counters("engine_holds_total", "Holds begun, by reason.", "reason")?,
            held: add.gauge(
                "engine_held_ingestors",
                "Ingestors whose writes are held now.",
            )?,
            active: add.gauge("engine_active_ingestors", "Ingestors being worked on.")?,
            backlog: add.gauge("engine_backlog_events", "Accepted events without an end.")?,
            in_flight: add.gauge("engine_writes_in_flight", "Writes under way.")?,
            width: add.gauge(
                "engine_writes_limit",
                "Writes that may be under way at once.",
            )?,
            expression_errors: add.counter(
                "engine_expression_errors_total",
                "Expressions that failed on an event.",
            )?,
            status_writes: add.counter("engine_status_writes_total", "Status writes.")?,
            expired: add.counter(
                "engine_observations_expired_total",
                "Observations removed by TTL.",
            )?,
            commit_failures: add.counter("engine_commit_failures_total", "Commits tried again.")?,
            owned: add.gauge("engine_owned_buckets", "Buckets that are owned now.")?,
            gate: add.gauge(
                "engine_gate_open",
                "Whether effects may be started: 1 or 0.",
            )?,
            fenced: add.counter(
                "engine_fenced_total",
                "Claims, commits and status writes refused since another owns the bucket.",
            )?,
            end_to_end: add.end_to_end()?,
        };
        // So that a rate can be taken from the first event on.
        for end in ["observed", "filtered", "deduplicated", "dead_lettered"] {
            metrics.items.with_label_values(&[end]);
        }
        for reason in HoldReason::ALL {
            metrics.holds.with_label_values(&[reason.as_str()]);
        }
        for verb in Verb::ALL {
            metrics.calls.with_label_values(&[verb.as_str(), "ok"]);
        }
        Ok(metrics)
    }

    /// Items of a committed record.
    pub fn ended(&self, items: Items) {
        let ends = [
            ("observed", items.observed),
            ("filtered", items.filtered),
            ("deduplicated", items.deduplicated),
            ("dead_lettered", items.dead_lettered),
        ];
        for (end, count) in ends {
            self.items
                .with_label_values(&[end])
                .inc_by(u64::from(count));
        }
    }

    /// A call to the API.
    pub fn called<T>(&self, verb: Verb, outcome: &Result<T, Failure>) {
        let outcome = match outcome {
            Ok(_) => "ok",
            Err(failure) => match failure.cause.code() {
                Some(409) => "conflict",
                Some(429) => "throttled",
                Some(400..=499) => "refused",
                Some(_) => "failed",
                None => "unanswered",
            },
        };
        self.calls
            .with_label_values(&[verb.as_str(), outcome])
            .inc();
    }

    /// An Ingestor is held from now on.
    pub fn holding(&self, reason: HoldReason) {
        self.holds.with_label_values(&[reason.as_str()]).inc();
    }

    /// An Observation is visible, so long after its event was accepted.
    pub fn visible(&self, after: Duration) {
        self.end_to_end.observe(after.as_secs_f64());
    }
}

struct Adding<'a>(&'a Registry);

impl Adding<'_> {
    fn add<C: Collector + Clone + 'static>(&self, it: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(it.clone()))?;
        Ok(it)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help)?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), &[label])?)
    }

    fn calls(&self) -> Result<IntCounterVec, prometheus::Error> {
        let opts = Opts::new("engine_api_calls_total", "Calls to the Kubernetes API.");
        self.add(IntCounterVec::new(opts, &["verb", "outcome"])?)
    }

    fn end_to_end(&self) -> Result<Histogram, prometheus::Error> {
        let help = "From acceptance to the visible Observation, in seconds.";
        // From an idle server's answer (5 ms) over the bar (50 ms) to a backlog of an hour.
        let buckets = vec![
            0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0,
        ];
        let opts = HistogramOpts::new("engine_end_to_end_seconds", help).buckets(buckets);
        self.add(Histogram::with_opts(opts)?)
    }
}
