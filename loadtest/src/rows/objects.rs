//! Observations written to the real kube-apiserver, beside what a bare client reaches in the same run.

use std::time::Duration;

use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use zen_fabric::{api::Observation, testing::cluster::User};

use super::{Bench, Error, Measured, generate, run_id, visible};
use crate::{
    admin::Admin,
    cluster,
    generator::{Ids, Inputs, OnBreak, Pace, Requests, Target, Window, float, now},
    ledger::Ledger,
};

/// Name of the Ingestor.
const NAME: &str = "load";

/// Namespace of the bare client's objects.
const BARE: &str = "bare";

/// Writes in flight of the bare client: past this it gets no more a second on two cores.
const IN_FLIGHT: usize = 64;

/// What the fabric has to reach of the bare client's rate.
const BAR: f64 = 0.70;

/// How long the backlog may take: 20,000 at a fifth of what a bare client reaches.
const DRAIN: Duration = Duration::from_secs(120);

/// Measures bare, ours, bare.
pub(crate) async fn measure(bench: &Bench) -> Result<Measured, Error> {
    let place = bench.place()?;
    let real = visible::real_cluster().await?;
    let kubeconfig = real.kubeconfig(&User::admin());
    let start = bench
        .start(&place.data())
        .flag("kubeconfig", kubeconfig.display().to_string())
        .flag("install-crds", "true");
    let dev = start.run().await?;
    let client = crate::dev::client(&kubeconfig).await?;
    let profile = &bench.profile;
    cluster::prepare(&client, profile).await?;
    cluster::namespace(&client, BARE).await?;
    let uid = cluster::ingestor(&client, &profile.ingestor(NAME, None)).await?;
    let path = cluster::path(profile, NAME);
    let target = Target {
        address: dev.gateway()?,
        tls: None,
    };
    cluster::serving(&target, std::slice::from_ref(&path)).await?;
    let requests = Requests::github(profile, &[path], cluster::SECRET);
    let run = run_id();
    let mut ids = Ids::new(run);
    let mut ledger = Ledger::create(&place.file("ledger")).map_err(Error::io("make the ledger"))?;
    let admin = Admin::of(&dev.data_dir)?;
    let mut send = |count, connections| {
        let inputs = Inputs {
            target: &target,
            requests: &requests,
            ids: &mut ids,
            ledger: &mut ledger,
            connections,
        };
        let window = Window {
            warm_up: Duration::ZERO,
            measure: Duration::from_secs(60),
            at_most: Some(count),
        };
        generate(inputs, Pace::Closed, window, OnBreak::Reconnect)
    };

    // One event makes the object that the bare client then copies.
    send(1, 1)?;
    admin.drained(DRAIN).await?;
    let sample = sample(&client, profile.namespace()).await?;
    let seconds = Duration::from_secs(profile.objects.bare_seconds);
    let before = bare(&client, &sample, "before", seconds).await?;

    cluster::pace(&client, profile, NAME, Some(0)).await?;
    let events = profile.objects.events;
    let sent = send(events, profile.connections)?;
    cluster::pace(&client, profile, NAME, None).await?;
    let ours = write_rate(&admin, &uid, sent.acknowledged + 1).await?;
    let after = bare(&client, &sample, "after", seconds).await?;

    let acknowledged = ledger.ids().map_err(Error::io("read the ledger"))?;
    let found = cluster::find(&client, profile.namespace(), run, "").await?;
    let lost = acknowledged.difference(&found.ids).count();
    dev.stop().await?;
    let bare = f64::midpoint(before, after);
    let ratio = ours / bare;
    Ok(Measured {
        row: "objects".to_owned(),
        what: "Observations written to the real kube-apiserver".to_owned(),
        bar: "≥ 70 % of a bare client loop in the same run".to_owned(),
        result: format!(
            "{ours:.0}/s: {:.0} % of the bare client's {bare:.0}/s",
            ratio * 100.0
        ),
        met: Some(ratio >= BAR && lost == 0 && found.doubled == 0),
        details: vec![
            (
                "bare client before and after".to_owned(),
                format!("{before:.0}/s, {after:.0}/s, {IN_FLIGHT} writes in flight"),
            ),
            (
                "compared with the ledger".to_owned(),
                format!(
                    "{} acknowledged, {} objects, {lost} lost, {} doubled",
                    acknowledged.len(),
                    found.ids.len(),
                    found.doubled
                ),
            ),
        ],
        curve: Vec::new(),
    })
}

/// Observations a second between the first tenth and the last, so that neither the change of pace
/// nor the last stragglers count.
async fn write_rate(admin: &Admin, uid: &str, events: u64) -> Result<f64, Error> {
    let begun = now();
    let (low, high) = (events / 10, events - events / 10);
    let mut from = None;
    loop {
        let observed = admin.tally(uid).await?.observed;
        let at = now();
        if from.is_none() && observed >= low {
            from = Some((observed, at));
        }
        if let Some((first, since)) = from
            && observed >= high
        {
            let seconds = at.saturating_duration_since(since).as_secs_f64();
            admin.drained(DRAIN).await?;
            return Ok(float(observed - first) / seconds);
        }
        if at.saturating_duration_since(begun) > DRAIN {
            return Err(Error::Wrong(format!(
                "only {observed} of {events} events were observed after {DRAIN:?}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn sample(client: &Client, namespace: &str) -> Result<Observation, Error> {
    let api: Api<Observation> = Api::namespaced(client.clone(), namespace);
    let page = api
        .list(&ListParams::default().limit(1))
        .await
        .map_err(Error::other("read the sample Observation"))?;
    let mut sample = page
        .items
        .into_iter()
        .next()
        .ok_or_else(|| Error::Wrong("no Observation was made of the first event".to_owned()))?;
    let metadata = &mut sample.metadata;
    metadata.uid = None;
    metadata.resource_version = None;
    metadata.creation_timestamp = None;
    metadata.managed_fields = None;
    metadata.generation = None;
    metadata.namespace = None;
    sample.status = None;
    Ok(sample)
}

/// Creates of copies of `sample`, a second, by a plain client.
async fn bare(
    client: &Client,
    sample: &Observation,
    prefix: &str,
    seconds: Duration,
) -> Result<f64, Error> {
    let api: Api<Observation> = Api::namespaced(client.clone(), BARE);
    let begun = now();
    let writes = futures::stream::iter(0_u64..)
        .take_while(|_| std::future::ready(now().saturating_duration_since(begun) < seconds))
        .map(|number| {
            let mut copy = sample.clone();
            copy.metadata.name = Some(format!("{prefix}-{number}"));
            let api = api.clone();
            async move { api.create(&PostParams::default(), &copy).await }
        })
        .buffer_unordered(IN_FLIGHT);
    let mut writes = std::pin::pin!(writes);
    let mut count = 0;
    while let Some(write) = writes.next().await {
        write.map_err(Error::other("write an Observation as a bare client"))?;
        count += 1;
    }
    Ok(float(count) / now().saturating_duration_since(begun).as_secs_f64())
}
