//! From POST to an Observation that a watch shows, on the real kube-apiserver.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use hdrhistogram::Histogram;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use zen_fabric::{
    api::{Observation, annotations},
    ops::tasks::Tasks,
};

use super::{
    Bench, Error, Measured, errors,
    rig::{Rig, real_cluster},
};
use crate::{
    cluster,
    generator::{Id, Outcome, Pace, Window, due_at, float, histogram, now},
};

/// Connections: at 200 a second one would do; more keep a slow answer from delaying the next request.
const CONNECTIONS: usize = 16;

/// The bar for the 95th percentile.
const BAR_MILLIS: f64 = 50.0;

/// How long the last Observation may take to show.
const LAST: Duration = Duration::from_secs(30);

/// When each delivery's Observation was first seen.
type Seen = Arc<Mutex<BTreeMap<u64, Instant>>>;

/// Measures the row.
pub(crate) async fn measure(bench: &Bench) -> Result<Measured, Error> {
    let real = real_cluster().await?;
    let mut rig = Rig::on_cluster(bench, &real).await?;
    let profile = &bench.profile;
    let seen = Seen::default();
    let tasks = Tasks::new();
    let namespace = profile.namespace().to_owned();
    watch(rig.client.clone(), namespace, rig.run, &seen, &tasks);
    let per_second = profile.visible.per_second;
    let window = Window {
        warm_up: Duration::from_secs(profile.warm_up_seconds),
        measure: Duration::from_secs(profile.visible.seconds),
        at_most: None,
    };
    let outcome = rig.send(CONNECTIONS, Pace::Open { per_second }, window)?;
    let acknowledged = rig.ledger.ids().map_err(Error::io("read the ledger"))?;
    all_seen(&seen, acknowledged.len()).await;
    tasks
        .stop(Duration::from_secs(1))
        .await
        .map_err(Error::other("end the watch"))?;
    let seen = lock(&seen).clone();
    // What the watch didn't show, or not once, the list does.
    rig.admin.drained(LAST).await?;
    let found = cluster::find(&rig.client, profile.namespace(), rig.run, "").await?;
    let missing = |id: &&u64| !seen.contains_key(id) || !found.ids.contains(id);
    let lost = acknowledged.iter().filter(missing).count();
    let first = outcome.start;
    let due = |id| first + due_at(id, per_second);
    let latencies = latencies(&seen, due, first + window.warm_up);
    rig.dev.stop().await?;
    Ok(judge(&outcome, &latencies, lost, found.doubled))
}

fn judge(outcome: &Outcome, latencies: &Histogram<u64>, lost: usize, doubled: u64) -> Measured {
    // Late ones were not sent when they were due: their latency is not in the figure.
    let whole = outcome.error_count() + outcome.unanswered + outcome.late == 0;
    let millis = |percentile: f64| float(latencies.value_at_percentile(percentile)) / 1e6;
    let (p50, p95, p99) = (millis(50.0), millis(95.0), millis(99.0));
    Measured {
        row: "visible".to_owned(),
        what: "POST to visible Observation at 200/s, real kube-apiserver".to_owned(),
        bar: "p95 ≤ 50 ms".to_owned(),
        result: format!("p50 {p50:.1} ms, p95 {p95:.1} ms, p99 {p99:.1} ms"),
        met: Some(lost == 0 && doubled == 0 && whole && p95 <= BAR_MILLIS),
        details: vec![
            ("events".to_owned(), latencies.len().to_string()),
            ("acknowledged and not seen".to_owned(), lost.to_string()),
            (
                "events with several objects".to_owned(),
                doubled.to_string(),
            ),
            ("errors".to_owned(), errors(outcome)),
            (
                "never answered, not sent in time".to_owned(),
                format!("{}, {}", outcome.unanswered, outcome.late),
            ),
            (
                "POST to 202, p99".to_owned(),
                format!("{:.2} ms", outcome.millis(99.0)),
            ),
        ],
        curve: Vec::new(),
    }
}

/// Waits for the last Observations.
async fn all_seen(seen: &Seen, count: usize) {
    let begun = now();
    while now().saturating_duration_since(begun) < LAST && lock(seen).len() < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn lock(seen: &Seen) -> std::sync::MutexGuard<'_, BTreeMap<u64, Instant>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(client: Client, namespace: String, run: u32, seen: &Seen, tasks: &Tasks) {
    let seen = Arc::clone(seen);
    let stop = tasks.token();
    tasks.spawn("watch", async move {
        let api: Api<Observation> = Api::namespaced(client, &namespace);
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            let observation = match event {
                Some(Ok(watcher::Event::Apply(seen) | watcher::Event::InitApply(seen))) => seen,
                Some(_) => continue,
                None => return,
            };
            let id = observation
                .annotations()
                .get(annotations::EVENT_ID)
                .and_then(|text| Id::number_of(run, text));
            if let Some(id) = id {
                let at = now();
                lock(&seen).entry(id).or_insert(at);
            }
        }
    });
}

fn latencies(
    seen: &BTreeMap<u64, Instant>,
    due: impl Fn(u64) -> Instant,
    from: Instant,
) -> Histogram<u64> {
    let mut latencies = histogram();
    for (id, at) in seen {
        let due = due(*id);
        if due >= from {
            let nanos = at.saturating_duration_since(due).as_nanos();
            latencies.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
    }
    latencies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_met_by_a_whole_run_alone() {
        let window = Window {
            warm_up: Duration::ZERO,
            measure: Duration::from_secs(1),
            at_most: None,
        };
        let quick = histogram();
        let met = |change: fn(&mut Outcome), lost, doubled| {
            let mut outcome = Outcome::of_nothing(window);
            change(&mut outcome);
            judge(&outcome, &quick, lost, doubled).met
        };
        assert_eq!(met(|_| {}, 0, 0), Some(true));
        assert_eq!(met(|outcome| outcome.late = 1, 0, 0), Some(false));
        assert_eq!(met(|outcome| outcome.unanswered = 1, 0, 0), Some(false));
        assert_eq!(met(|_| {}, 1, 0), Some(false));
        assert_eq!(met(|_| {}, 0, 1), Some(false));
    }
}
