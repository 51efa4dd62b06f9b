//! What is counted about coordination.

use std::{collections::BTreeMap, time::Duration};

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::{
    coordination::{
        event::{Death, Evidence},
        port::Object,
    },
    kube::failure::Verb,
    ops::metrics::STEP_BUCKETS,
};

/// Why something that a peer sent, or was to be sent, went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Why {
    /// Of another fleet.
    Fleet,
    /// More than one protocol apart.
    Protocol,
    /// Of an incarnation that is over.
    Incarnation,
    /// It says what can't be.
    Malformed,
    /// It is longer than a frame may be.
    TooLarge,
    /// In the name of another pod than the certificate's.
    Name,
    /// The connection is opened by the wrong side, or before this replica is one.
    Uninvited,
}

/// Counters and gauges of this replica.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) leads: IntGauge,
    pub(super) term: IntGauge,
    pub(super) version: IntGauge,
    pub(super) gate: IntGauge,
    pub(super) buckets: IntGauge,
    pub(super) moves: IntGauge,
    pub(super) members: IntGauge,
    pub(super) links: IntGauge,
    pub(super) takeovers: IntCounter,
    pub(super) healings: IntCounter,
    pub(super) watches_broken: IntCounter,
    pub(super) writes_refused: IntCounter,
    pub(super) dropped: IntCounter,
    pub(super) sent: IntCounter,
    pub(super) received: IntCounter,
    marks: IntCounterVec,
    deaths: IntCounterVec,
    refused: IntCounterVec,
    unread: IntCounterVec,
    writes: IntCounterVec,
    requests: HistogramVec,
}

// === impl Why ===

impl Why {
    pub(super) const ALL: [Self; 7] = [
        Self::Fleet,
        Self::Protocol,
        Self::Incarnation,
        Self::Malformed,
        Self::TooLarge,
        Self::Name,
        Self::Uninvited,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Protocol => "protocol",
            Self::Incarnation => "incarnation",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Name => "name",
            Self::Uninvited => "uninvited",
        }
    }
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| gauge(registry, name, help);
        let counter = |name, help| counter(registry, name, help);
        let counters = |name, help, labels: &[&str]| counters(registry, name, help, labels);
        let seconds = HistogramOpts::new(
            "fleet_request_seconds",
            "Requests about Leases and the ShardMap, by object and verb",
        );
        let seconds = seconds.buckets(STEP_BUCKETS.to_vec());
        let requests = HistogramVec::new(seconds, &["object", "verb"])?;
        registry.register(Box::new(requests.clone()))?;
        let bytes = counters(
            "fleet_peer_bytes_total",
            "Bytes of gossip and messages, framing estimated",
            &["direction"],
        )?;
        let refused = counters(
            "fleet_messages_refused_total",
            "What peers sent and changed nothing, by reason",
            &["reason"],
        )?;
        let unread = counters(
            "fleet_objects_refused_total",
            "Leases and ShardMaps that could not be read or were not followed, by object",
            &["object"],
        )?;
        for why in Why::ALL {
            refused.with_label_values(&[why.label()]).inc_by(0);
        }
        Ok(Self {
            leads: gauge("fleet_leader", "Whether this replica leads")?,
            term: gauge(
                "fleet_term",
                "The term under which this replica leads, else 0",
            )?,
            version: gauge(
                "fleet_map_version",
                "The version of the ShardMap that is followed",
            )?,
            gate: gauge("fleet_gate_open", "Whether this replica may start effects")?,
            buckets: gauge("fleet_buckets", "Buckets that this replica works on")?,
            moves: gauge("fleet_moves", "Buckets that are moving, in the whole fleet")?,
            members: gauge(
                "fleet_members",
                "Live replicas that are known, this one too",
            )?,
            links: gauge("fleet_links", "Open connections to other replicas")?,
            takeovers: counter("fleet_takeovers_total", "Leaderships begun by this replica")?,
            healings: counter("fleet_healings_total", "Times the ShardMap was made again")?,
            watches_broken: counter("fleet_watches_broken_total", "Watches that broke off")?,
            writes_refused: counter(
                "fleet_writes_refused_total",
                "Writes that the API server would not have",
            )?,
            dropped: counter(
                "fleet_messages_dropped_total",
                "Messages that were not sent: no connection, or a peer that doesn't keep up",
            )?,
            sent: bytes.with_label_values(&["sent"]),
            received: bytes.with_label_values(&["received"]),
            marks: counters(
                "fleet_marks_total",
                "Holders that this replica declared dead, by evidence",
                &["evidence"],
            )?,
            deaths: counters(
                "fleet_deaths_total",
                "Times this replica went on as another holder, by cause",
                &["cause"],
            )?,
            writes: counters(
                "fleet_writes_total",
                "Writes of Leases and the ShardMap, by object",
                &["object"],
            )?,
            refused,
            unread,
            requests,
        })
    }

    pub(super) fn refuse(&self, why: Why) {
        self.refused.with_label_values(&[why.label()]).inc();
    }

    /// What the cores refused, as they count it.
    pub(super) fn refused(&self, counts: &mut BTreeMap<Why, u64>, why: Why, total: u64) {
        let before = counts.insert(why, total).unwrap_or_default();
        let counter = self.refused.with_label_values(&[why.label()]);
        counter.inc_by(total.saturating_sub(before));
    }

    pub(super) fn mark(&self, evidence: Evidence) {
        let label = match evidence {
            Evidence::Refused => "refused",
            Evidence::Unanswered => "unanswered",
            Evidence::Stale => "stale",
        };
        self.marks.with_label_values(&[label]).inc();
    }

    pub(super) fn death(&self, death: Death) {
        let label = match death {
            Death::Marked => "marked",
            Death::Superseded => "superseded",
            Death::Down => "down",
            Death::Lost => "lost",
        };
        self.deaths.with_label_values(&[label]).inc();
    }

    /// An object that can't be read, or is not followed.
    pub(super) fn unread(&self, object: &Object) {
        self.unread.with_label_values(&[named(object)]).inc();
    }

    pub(super) fn requested(&self, object: &Object, verb: Verb, took: Duration) {
        let labels = [named(object), verb.as_str()];
        let seconds = self.requests.with_label_values(&labels);
        seconds.observe(took.as_secs_f64());
        if !matches!(verb, Verb::Get | Verb::List) {
            self.writes.with_label_values(&[named(object)]).inc();
        }
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

const fn named(object: &Object) -> &'static str {
    match object {
        Object::Leader => "leader",
        Object::Member(_) => "member",
        Object::Map => "shardmap",
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}
