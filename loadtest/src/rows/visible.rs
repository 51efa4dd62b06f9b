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
use crate::generator::{Id, Outcome, Pace, Window, due_at, float, histogram, now};

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
    let missing = acknowledged.iter().filter(|id| !seen.contains_key(id));
    let lost = missing.count();
    let first = outcome.start;
    let due = |id| first + due_at(id, per_second);
    let latencies = latencies(&seen, due, first + window.warm_up);
    rig.dev.stop().await?;
    Ok(judge(&outcome, &latencies, lost))
}

fn judge(outcome: &Outcome, latencies: &Histogram<u64>, lost: usize) -> Measured {
    let millis = |percentile: f64| float(latencies.value_at_percentile(percentile)) / 1e6;
    let (p50, p95, p99) = (millis(50.0), millis(95.0), millis(99.0));
    Measured {
        row: "visible".to_owned(),
        what: "POST to visible Observation at 200/s, real kube-apiserver".to_owned(),
        bar: "p95 ≤ 50 ms".to_owned(),
        result: format!("p50 {p50:.1} ms, p95 {p95:.1} ms, p99 {p99:.1} ms"),
        met: Some(lost == 0 && outcome.error_count() == 0 && p95 <= BAR_MILLIS),
        details: vec![
            ("events".to_owned(), latencies.len().to_string()),
            ("acknowledged and not seen".to_owned(), lost.to_string()),
            ("errors".to_owned(), errors(outcome)),
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
