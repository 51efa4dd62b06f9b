//! Writes each Ingestor's status, within a budget: conditions first, counters when there is room, in
//! turn, nothing for what is unchanged, and never one write per event.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use tracing::warn;

use crate::{
    api::{Ingestor, IngestorStatus, paths},
    journal::{IngestorUid, Tally, facts::FactSource},
    kube::{
        failure::Verb,
        status::{self as wire, Target},
    },
};

use super::{
    hold::backoff,
    shared::Shared,
    status::{Change, Known, change, project},
};

/// At least so long between two looks: changes that come together become one write.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Told beside a hold of names that stops the others as well.
const CROWDED: &str =
    "; so many events wait behind held names that no other goes on before one of those does";

/// At most so long: tallies and holds change without notice.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// Counters of one Ingestor are written at most so often.
const COUNTERS_EVERY: Duration = Duration::from_secs(5);
/// The longest wait after a status that can't be written.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is remembered of the writes for one Ingestor.
#[derive(Debug, Default)]
struct Past {
    /// When its status was last written, or the last attempt was made.
    tried: Option<Instant>,
    counters_not_before: Option<Instant>,
    not_before: Option<Instant>,
    failures: u32,
}

struct Reporter {
    shared: Arc<Shared>,
    client: Client,
    facts: Arc<dyn FactSource>,
    per_second: u32,
    past: HashMap<IngestorUid, Past>,
}

/// A write that is due.
struct Due {
    change: Change,
    /// When the last attempt was made; `None`: never.
    tried: Option<Instant>,
    uid: IngestorUid,
    ingestor: Arc<Ingestor>,
    status: IngestorStatus,
}

/// Runs until the engine stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    client: Client,
    facts: Arc<dyn FactSource>,
    per_second: u32,
) {
    let mut specs = shared.ingestors.changes();
    let mut known = facts.changes();
    let stop = shared.stop.clone();
    let mut reporter = Reporter {
        shared,
        client,
        facts,
        per_second: per_second.max(1),
        past: HashMap::new(),
    };
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = reporter.look() => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AT_LEAST_EVERY) => {}
            Ok(()) = specs.changed() => {}
            Ok(()) = known.changed() => {}
        }
    }
}

impl Reporter {
    /// Looks at all Ingestors and writes what is due, most urgent first, a second's budget at most.
    async fn look(&mut self) {
        if !self.shared.ingestors.is_complete() {
            return;
        }
        let all = self.shared.ingestors.all();
        let tallies: HashMap<IngestorUid, Tally> =
            self.shared.journal.tallies().into_iter().collect();
        self.gauge(&tallies);
        let owners = paths::owners(all.iter().map(|(_, ingestor)| &**ingestor));
        self.past
            .retain(|uid, _| tallies.contains_key(uid) || self.shared.ingestors.get(uid).is_some());
        let now = self.shared.clock.instant();
        let mut due: Vec<Due> = all
            .into_iter()
            .filter_map(|(uid, ingestor)| {
                let tally = tallies.get(&uid).copied().unwrap_or_default();
                self.due(now, uid, ingestor, tally, &owners)
            })
            .collect();
        // Whoever waits longest comes first, else the busiest few would take every budget.
        due.sort_by_key(|one| (std::cmp::Reverse(one.change), one.tried));
        let budget = usize::try_from(self.per_second).unwrap_or(usize::MAX);
        let pace = Duration::from_secs(1) / self.per_second;
        for one in due.into_iter().take(budget) {
            self.write(one).await;
            tokio::time::sleep(pace).await;
        }
    }

    fn gauge(&self, tallies: &HashMap<IngestorUid, Tally>) {
        let metrics = &self.shared.metrics;
        let backlog = tallies.values().map(|tally| tally.backlog).sum::<u64>();
        metrics
            .backlog
            .set(i64::try_from(backlog).unwrap_or(i64::MAX));
        let set = |gauge: &prometheus::IntGauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&metrics.held, self.shared.accounts.held());
        set(&metrics.active, self.shared.slots.len());
        set(&metrics.width, self.shared.limiter.width());
        set(&metrics.in_flight, self.shared.limiter.in_use());
    }

    fn due(
        &self,
        now: Instant,
        uid: IngestorUid,
        ingestor: Arc<Ingestor>,
        tally: Tally,
        owners: &paths::Owners,
    ) -> Option<Due> {
        let past = self.past.get(&uid);
        if past.is_some_and(|past| past.not_before.is_some_and(|at| at > now)) {
            return None;
        }
        let facts = self.facts.facts(&uid);
        let account = self.shared.accounts.find(&uid);
        let ledger = account.as_ref().map(|account| account.lock());
        let held = ledger.as_ref().and_then(|ledger| {
            let hold = ledger.holds.worst()?;
            let told = hold.is_worth_telling().then(|| hold.message.clone())?;
            Some(if ledger.crowded { told + CROWDED } else { told })
        });
        let status = project(&Known {
            ingestor: &ingestor,
            tally,
            facts: facts.as_ref(),
            conflict: owners.conflict(&ingestor),
            held: held.as_deref(),
            letter: ledger.as_ref().and_then(|ledger| ledger.letter.as_ref()),
            expression: ledger
                .as_ref()
                .and_then(|ledger| ledger.expression.as_ref()),
            now: self.shared.clock.now(),
        });
        drop(ledger);
        let change = change(ingestor.status.as_ref(), &status);
        let early = change == Change::Counters
            && past.is_some_and(|past| past.counters_not_before.is_some_and(|at| at > now));
        (change > Change::Nothing && !early).then_some(Due {
            change,
            tried: past.and_then(|past| past.tried),
            uid,
            ingestor,
            status,
        })
    }

    async fn write(&mut self, due: Due) {
        let meta = &due.ingestor.metadata;
        let target = Target {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: due.uid.0.to_string(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        };
        let written = wire::write(&self.client, &target, &due.status);
        let outcome = self.shared.writer.call(Verb::Patch, written).await;
        let now = self.shared.clock.instant();
        let jitter = self.shared.jitter();
        let past = self.past.entry(due.uid).or_default();
        past.tried = Some(now);
        match outcome {
            Ok(_) => {
                self.shared.metrics.status_writes.inc();
                past.failures = 0;
                past.counters_not_before = Some(now + COUNTERS_EVERY);
                // The watch shows it within moments; writing again before would only conflict.
                past.not_before = Some(now + LOOK_EVERY);
            }
            // Changed or gone meanwhile: the watch brings what is true.
            Err(failure) if matches!(failure.cause.code(), Some(404 | 409)) => {
                past.not_before = Some(now + LOOK_EVERY);
            }
            Err(failure) => {
                past.failures = past.failures.saturating_add(1);
                if past.failures == 1 {
                    warn!(%failure, "status can't be written; it is tried again");
                }
                past.not_before = Some(now + backoff(past.failures, LONGEST_WAIT, jitter));
            }
        }
    }
}
