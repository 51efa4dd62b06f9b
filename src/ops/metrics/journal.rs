//! The journal's tallies and sizes, read in one snapshot when they are asked for.

use std::sync::Arc;

use prometheus::{
    Gauge, GaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::journal::{Journal, Tally};

/// Sums over all Ingestors: what one of them did is in its status and in `/tallies`, so that the
/// number of series does not grow with what users create.
#[derive(Debug)]
pub struct JournalMetrics {
    journal: Arc<dyn Journal>,
    accepted: GaugeVec,
    ended: GaugeVec,
    sizes: Vec<Gauge>,
    available: Gauge,
}

/// Names and help of the gauges that are one number of the journal's, in the order of [`sizes`].
const SIZES: [(&str, &str); 16] = [
    ("journal_backlog_records", "Accepted events without an end"),
    (
        "journal_backlog_bytes",
        "Size of the accepted events without an end",
    ),
    ("journal_disk_bytes", "Bytes on disk"),
    ("journal_live_bytes", "Bytes on disk that are still needed"),
    ("journal_segments", "Segments on disk"),
    ("journal_keys", "Idempotency keys remembered"),
    (
        "journal_keys_evicted",
        "Keys that left before their window was over",
    ),
    (
        "journal_key_window_seconds",
        "Age of the oldest remembered key",
    ),
    ("journal_dead_letters", "Dead letters kept"),
    (
        "journal_dead_letters_evicted",
        "Dead letters that had to leave",
    ),
    ("journal_syncs", "Syncs since the start"),
    ("journal_appended", "Records appended since the start"),
    (
        "journal_claims",
        "Buckets claimed at a new epoch since the start",
    ),
    (
        "journal_claims_refused",
        "Claims refused since the start: another core holds the bucket",
    ),
    (
        "journal_commits_refused",
        "Commits refused since the start: their core had lost the bucket",
    ),
    (
        "journal_highest_epoch",
        "Highest epoch under which any bucket was claimed",
    ),
];

impl JournalMetrics {
    /// Metrics of `journal`, to be registered.
    ///
    /// # Errors
    /// Never: the names are constants; the library's error otherwise.
    pub fn new(journal: Arc<dyn Journal>) -> prometheus::Result<Self> {
        Ok(Self {
            journal,
            accepted: GaugeVec::new(
                Opts::new("events_accepted", "Accepted events, by origin"),
                &["origin"],
            )?,
            ended: GaugeVec::new(
                Opts::new("events_ended", "Events that have an end, by end"),
                &["end"],
            )?,
            sizes: SIZES
                .iter()
                .map(|(name, help)| Gauge::new(*name, *help))
                .collect::<Result<_, _>>()?,
            available: Gauge::new("journal_available", "Whether appends work: 1 or 0")?,
        })
    }

    fn collectors(&self) -> impl Iterator<Item = &dyn Collector> {
        let vecs: [&dyn Collector; 3] = [&self.accepted, &self.ended, &self.available];
        vecs.into_iter()
            .chain(self.sizes.iter().map(|gauge| gauge as &dyn Collector))
    }
}

impl Collector for JournalMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.collectors().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sum = total(self.journal.tallies().into_iter().map(|(_, tally)| tally));
        for (origin, count) in [("request", sum.requests), ("replay", sum.replays)] {
            self.accepted.with_label_values(&[origin]).set(float(count));
        }
        let ends = [
            ("observed", sum.observed),
            ("filtered", sum.filtered),
            ("deduplicated", sum.deduplicated),
            ("dead_lettered", sum.dead_lettered),
            ("damaged", sum.damaged),
        ];
        for (end, count) in ends {
            self.ended.with_label_values(&[end]).set(float(count));
        }
        let stats = self.journal.stats();
        let sizes = [
            float(sum.backlog),
            float(sum.backlog_bytes),
            float(stats.disk_bytes),
            float(stats.live_bytes),
            float(stats.segments),
            float(stats.keys),
            float(stats.keys_evicted),
            stats.key_window.map_or(0.0, |window| window.as_secs_f64()),
            float(stats.letters),
            float(stats.letters_evicted),
            float(stats.syncs),
            float(stats.appended),
            float(stats.claims),
            float(stats.claims_refused),
            float(stats.commits_refused),
            float(self.journal.highest_epoch().0),
        ];
        for (gauge, value) in self.sizes.iter().zip(sizes) {
            gauge.set(value);
        }
        self.available.set(if stats.unavailable.is_none() {
            1.0
        } else {
            0.0
        });
        self.collectors().flat_map(Collector::collect).collect()
    }
}

/// The sum of tallies.
#[must_use]
pub fn total(tallies: impl IntoIterator<Item = Tally>) -> Tally {
    tallies
        .into_iter()
        .fold(Tally::default(), |mut sum, tally| {
            sum.requests += tally.requests;
            sum.replays += tally.replays;
            sum.observed += tally.observed;
            sum.filtered += tally.filtered;
            sum.deduplicated += tally.deduplicated;
            sum.dead_lettered += tally.dead_lettered;
            sum.damaged += tally.damaged;
            sum.items.observed += tally.items.observed;
            sum.items.filtered += tally.items.filtered;
            sum.items.deduplicated += tally.items.deduplicated;
            sum.items.dead_lettered += tally.items.dead_lettered;
            sum.backlog += tally.backlog;
            sum.backlog_bytes += tally.backlog_bytes;
            sum.last_accepted_at = sum.last_accepted_at.max(tally.last_accepted_at);
            sum
        })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' numbers are floats; exact up to 2^53, which no counter here reaches"
)]
fn float(count: u64) -> f64 {
    count as f64
}
