//! Writes the status of each Ingestor whose bucket is owned, within a budget: conditions first,
//! counters when there is room, in turn, nothing for what is unchanged, and never one write per event.
//!
//! A status that another owner has written under a higher epoch is not ours to write. That is told
//! once, and the Ingestor left alone until its bucket is owned under an epoch above it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::select_all;
use kube::Client;
use tokio::sync::watch;
use tracing::warn;

use crate::{
    api::{Ingestor, IngestorStatus, Owner, paths},
    journal::{Bucket, Epoch, Holder, IngestorUid, Tally},
    kube::{
        failure::{Failure, Verb},
        status::{self as wire, Target},
    },
};

use super::{
    hold::backoff,
    shared::Shared,
    status::{Change, Known, change, project},
    stint::Log,
    sum,
    verdict::{Verdict, verdict},
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
/// The longest wait after a status that the server will not have.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is remembered of the writes for one Ingestor.
#[derive(Debug, Default)]
struct Past {
    /// When its status was last written, or the last attempt was made.
    tried: Option<Instant>,
    counters_not_before: Option<Instant>,
    not_before: Option<Instant>,
    failures: u32,
    /// The longest wait after failures like these.
    longest: Duration,
}

/// How long a status that can't be written waits at most: what heals by itself is tried again within
/// moments of its recovery.
fn longest_wait(failure: &Failure) -> Duration {
    match verdict(failure) {
        Verdict::HoldName(reason) | Verdict::HoldIngestor(reason) => reason.longest_wait(),
        Verdict::Look
        | Verdict::ReadAgain
        | Verdict::BeginAnew
        | Verdict::Dead(_)
        | Verdict::AskPlain => LONGEST_WAIT,
    }
}

struct Reporter {
    shared: Arc<Shared>,
    client: Client,
    pod_uid: String,
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
    owner: Owner,
    status: IngestorStatus,
}

/// Who we are, what is ours, and what is known of it.
struct View {
    now: Instant,
    holder: Holder,
    epochs: BTreeMap<Bucket, Epoch>,
    logs: Vec<Arc<Log>>,
    tallies: HashMap<IngestorUid, Tally>,
    /// Every log has been reached.
    whole: bool,
    paths: paths::Owners,
}

/// Runs until the engine stops.
pub(super) async fn run(shared: Arc<Shared>, client: Client, pod_uid: String, per_second: u32) {
    let mut specs = shared.ingestors.changes();
    let stop = shared.stop.clone();
    let mut reporter = Reporter {
        shared,
        client,
        pod_uid,
        per_second: per_second.max(1),
        past: HashMap::new(),
    };
    while !stop.is_cancelled() {
        let mut known = reporter.facts();
        tokio::select! {
            () = stop.cancelled() => return,
            () = reporter.look() => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AT_LEAST_EVERY) => {}
            Ok(()) = specs.changed() => {}
            () = any_changed(&mut known) => {}
        }
    }
}

/// Waits until one of them changes; for ever where there is none.
async fn any_changed(all: &mut [watch::Receiver<u64>]) {
    if all.is_empty() {
        return std::future::pending().await;
    }
    select_all(all.iter_mut().map(|one| Box::pin(one.changed())))
        .await
        .0
        .ok();
}

impl Reporter {
    /// Change notices of the gateways' facts.
    fn facts(&self) -> Vec<watch::Receiver<u64>> {
        let logs = self.shared.logs.all();
        logs.iter().map(|log| log.source.changes()).collect()
    }

    /// Looks at all Ingestors that are ours and writes what is due, most urgent first, a second's
    /// budget at most.
    async fn look(&mut self) {
        if !self.shared.ingestors.is_complete() {
            return;
        }
        let (Some(holder), epochs) = self.shared.epochs() else {
            return;
        };
        let all = self.shared.ingestors.all();
        let view = self.view(holder, epochs, &all);
        self.gauge(&view.tallies);
        self.past.retain(|uid, _| {
            view.tallies.contains_key(uid) || self.shared.ingestors.get(uid).is_some()
        });
        let mut due: Vec<Due> = all
            .into_iter()
            .filter_map(|(uid, ingestor)| self.due(&view, uid, ingestor))
            .collect();
        // Whoever waits longest comes first, else the busiest few would take every budget.
        due.sort_by_key(|one| (std::cmp::Reverse(one.change), one.tried));
        let budget = usize::try_from(self.per_second).unwrap_or(usize::MAX);
        let pace = Duration::from_secs(1) / self.per_second;
        for one in due.into_iter().take(budget) {
            if self.write(one).await {
                tokio::time::sleep(pace).await;
            }
        }
    }

    fn view(
        &self,
        holder: Holder,
        epochs: BTreeMap<Bucket, Epoch>,
        all: &[(IngestorUid, Arc<Ingestor>)],
    ) -> View {
        let logs = self.shared.logs.all();
        let mut tallies: HashMap<IngestorUid, Tally> = HashMap::new();
        for log in &logs {
            for (uid, tally) in log.source.tallies() {
                if epochs.contains_key(&Bucket::of(&uid)) {
                    sum::add(tallies.entry(uid).or_default(), &tally);
                }
            }
        }
        View {
            now: self.shared.clock.instant(),
            holder,
            epochs,
            tallies,
            whole: logs.iter().all(|log| log.was_reached()),
            logs,
            paths: paths::owners(all.iter().map(|(_, ingestor)| &**ingestor)),
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

    fn due(&self, view: &View, uid: IngestorUid, ingestor: Arc<Ingestor>) -> Option<Due> {
        let bucket = Bucket::of(&uid);
        let epoch = *view.epochs.get(&bucket)?;
        let past = self.past.get(&uid);
        if past.is_some_and(|past| past.not_before.is_some_and(|at| at > view.now)) {
            return None;
        }
        if self.is_anothers(bucket, &ingestor) {
            return None;
        }
        let status = self.status(view, &uid, &ingestor);
        let change = change(ingestor.status.as_ref(), &status);
        let early = change == Change::Counters
            && past.is_some_and(|past| past.counters_not_before.is_some_and(|at| at > view.now));
        (change > Change::Nothing && !early).then(|| Due {
            change,
            tried: past.and_then(|past| past.tried),
            owner: Owner {
                holder: view.holder.0.to_string(),
                pod_uid: self.pod_uid.clone(),
                epoch: i64::try_from(epoch.0).unwrap_or(i64::MAX),
            },
            uid,
            ingestor,
            status,
        })
    }

    /// Whether the stored owner is above us, which is told.
    fn is_anothers(&self, bucket: Bucket, ingestor: &Ingestor) -> bool {
        let status = ingestor.status.as_ref();
        let Some(owner) = status.and_then(|status| status.owner.as_ref()) else {
            return false;
        };
        let epoch = Epoch(u64::try_from(owner.epoch).unwrap_or_default());
        let holder = Holder(owner.holder.as_str().into());
        self.shared.stored(bucket, epoch, &holder)
    }

    fn status(&self, view: &View, uid: &IngestorUid, ingestor: &Ingestor) -> IngestorStatus {
        let facts = sum::merge(view.logs.iter().filter_map(|log| log.source.facts(uid)));
        let account = self.shared.accounts.find(uid);
        let ledger = account.as_ref().map(|account| account.lock());
        let held = ledger.as_ref().and_then(|ledger| {
            let hold = ledger.holds.worst()?;
            let told = hold.is_worth_telling().then(|| hold.message.clone())?;
            Some(if ledger.crowded { told + CROWDED } else { told })
        });
        project(&Known {
            ingestor,
            tally: view.tallies.get(uid).copied().unwrap_or_default(),
            whole: view.whole,
            facts: facts.as_ref(),
            conflict: view.paths.conflict(ingestor),
            held: held.as_deref(),
            letter: ledger.as_ref().and_then(|ledger| ledger.letter.as_ref()),
            expression: ledger
                .as_ref()
                .and_then(|ledger| ledger.expression.as_ref()),
            now: self.shared.clock.now(),
        })
    }

    /// Writes one, if it is still ours and effects may be started; whether anything was asked.
    async fn write(&mut self, due: Due) -> bool {
        let bucket = Bucket::of(&due.uid);
        let ours = self.shared.epoch(bucket).map(|epoch| epoch.0);
        if ours != u64::try_from(due.owner.epoch).ok() || !self.shared.may_start() {
            return false;
        }
        let meta = &due.ingestor.metadata;
        let target = Target {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: due.uid.0.to_string(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        };
        let written = wire::write(&self.client, &target, &due.owner, &due.status);
        let outcome = self.shared.writer.call(Verb::Patch, written).await;
        let anothers = match &outcome {
            Err(failure) if matches!(failure.cause.code(), Some(403 | 409 | 422)) => {
                self.read_again(bucket, &target).await
            }
            Ok(_) | Err(_) => false,
        };
        self.note(due.uid, outcome, anothers);
        true
    }

    /// The fence, the admission policy, or a version that the watch hasn't shown yet: is the stored
    /// owner above us?
    async fn read_again(&self, bucket: Bucket, target: &Target) -> bool {
        let observations = self.shared.writer.observations();
        let read = observations.ingestor(&target.namespace, &target.name);
        let read = self.shared.writer.call(Verb::Get, read).await;
        let anothers = read.is_ok_and(|stored| self.is_anothers(bucket, &stored));
        if anothers {
            self.shared.metrics.fenced.inc();
        }
        anothers
    }

    /// A write came to an end.
    fn note(&mut self, uid: IngestorUid, outcome: Result<Ingestor, Failure>, anothers: bool) {
        let now = self.shared.clock.instant();
        let jitter = self.shared.jitter();
        let past = self.past.entry(uid).or_default();
        past.tried = Some(now);
        match outcome {
            Ok(_) => {
                self.shared.metrics.status_writes.inc();
                past.failures = 0;
                past.counters_not_before = Some(now + COUNTERS_EVERY);
                // The watch shows it within moments; writing again before would only conflict.
                past.not_before = Some(now + LOOK_EVERY);
            }
            // Changed or gone meanwhile, or another's: the watch brings what is true.
            Err(failure) if anothers || matches!(failure.cause.code(), Some(404 | 409)) => {
                past.not_before = Some(now + LOOK_EVERY);
            }
            Err(failure) => {
                let longest = longest_wait(&failure);
                // As for writes: what is refused behind an outage is refused for the first time.
                if past.longest != longest {
                    past.failures = 0;
                }
                past.longest = longest;
                past.failures = past.failures.saturating_add(1);
                if past.failures == 1 {
                    warn!(%failure, "status can't be written; it is tried again");
                }
                past.not_before = Some(now + backoff(past.failures, longest, jitter));
            }
        }
    }
}
