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
    testing::cluster::{EtcdSync, Options, RealCluster, User},
};

use super::{Bench, Error, Measured, errors, generate, run_id};
use crate::{
    cluster,
    generator::{
        Id, Ids, Inputs, OnBreak, Pace, Requests, Target, Window, due_at, float, histogram, now,
    },
    ledger::Ledger,
};

/// Name of the Ingestor.
const NAME: &str = "load";

/// The bar for the 95th percentile.
const BAR_MILLIS: f64 = 50.0;

/// How long the last Observation may take to show.
const LAST: Duration = Duration::from_secs(30);

/// When each delivery's Observation was first seen.
type Seen = Arc<Mutex<BTreeMap<u64, Instant>>>;

/// A real API server whose etcd waits for the disk, as in production.
pub(crate) async fn real_cluster() -> Result<RealCluster, Error> {
    let options = Options {
        etcd_sync: EtcdSync::On,
        ..Options::default()
    };
    Ok(RealCluster::start_with(options).await?)
}

/// Measures the row.
pub(crate) async fn measure(bench: &Bench) -> Result<Measured, Error> {
    let place = bench.place()?;
    let real = real_cluster().await?;
    let kubeconfig = real.kubeconfig(&User::admin());
    let start = bench
        .start(&place.data())
        .flag("kubeconfig", kubeconfig.display().to_string())
        .flag("install-crds", "true");
    let dev = start.run().await?;
    let client = crate::dev::client(&kubeconfig).await?;
    let profile = &bench.profile;
    cluster::prepare(&client, profile).await?;
    cluster::ingestor(&client, &profile.ingestor(NAME, None)).await?;
    let path = cluster::path(profile, NAME);
    let target = Target {
        address: dev.gateway()?,
        tls: None,
    };
    cluster::serving(&target, std::slice::from_ref(&path)).await?;

    let run = run_id();
    let seen = Seen::default();
    let tasks = Tasks::new();
    watch(
        client.clone(),
        profile.namespace().to_owned(),
        run,
        &seen,
        &tasks,
    );
    let requests = Requests::github(profile, &[path], cluster::SECRET);
    let mut ids = Ids::new(run);
    let mut ledger = Ledger::create(&place.file("ledger")).map_err(Error::io("make the ledger"))?;
    let per_second = profile.visible.per_second;
    let window = Window {
        warm_up: Duration::from_secs(profile.warm_up_seconds),
        measure: Duration::from_secs(profile.visible.seconds),
        at_most: None,
    };
    let inputs = Inputs {
        target: &target,
        requests: &requests,
        ids: &mut ids,
        ledger: &mut ledger,
        connections: 16,
    };
    let outcome = generate(
        inputs,
        Pace::Open { per_second },
        window,
        OnBreak::Reconnect,
    )?;
    let acknowledged = ledger.ids().map_err(Error::io("read the ledger"))?;
    let begun = now();
    while now().saturating_duration_since(begun) < LAST && lock(&seen).len() < acknowledged.len() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tasks
        .stop(Duration::from_secs(1))
        .await
        .map_err(Error::other("end the watch"))?;
    let seen = lock(&seen).clone();
    let lost = acknowledged
        .iter()
        .filter(|id| !seen.contains_key(id))
        .count();
    let first = outcome.start;
    let latencies = latencies(
        &seen,
        |id| first + due_at(id, per_second),
        first + window.warm_up,
    );
    dev.stop().await?;
    let millis = |percentile: f64| float(latencies.value_at_percentile(percentile)) / 1e6;
    Ok(Measured {
        row: "visible".to_owned(),
        what: "POST to visible Observation at 200/s, real kube-apiserver".to_owned(),
        bar: "p95 ≤ 50 ms".to_owned(),
        result: format!(
            "p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms",
            millis(50.0),
            millis(95.0),
            millis(99.0)
        ),
        met: Some(lost == 0 && outcome.error_count() == 0 && millis(95.0) <= BAR_MILLIS),
        details: vec![
            ("events".to_owned(), latencies.len().to_string()),
            ("acknowledged and not seen".to_owned(), lost.to_string()),
            ("errors".to_owned(), errors(&outcome)),
            (
                "POST to 202, p99".to_owned(),
                format!("{:.2} ms", outcome.millis(99.0)),
            ),
        ],
        curve: Vec::new(),
    })
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
