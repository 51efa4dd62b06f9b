//! Observations written to the real kube-apiserver, beside what a bare client reaches in the same run.

use std::time::Duration;

use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use zen_fabric::api::Observation;

use super::{
    Bench, Error, Measured,
    rig::{NAME, Rig, real_cluster},
};
use crate::{
    admin::Admin,
    cluster,
    generator::{float, now},
};

/// Namespace of the bare client's objects.
const BARE: &str = "bare";

/// Writes in flight of the bare client: past this it gets no more a second on two cores.
const IN_FLIGHT: usize = 64;

/// What the fabric has to reach of the bare client's rate.
const BAR: f64 = 0.70;

/// How long the backlog may take: 20,000 at a fifth of what a bare client reaches.
const DRAIN: Duration = Duration::from_mins(2);

/// Measures bare, ours, bare.
pub(crate) async fn measure(bench: &Bench) -> Result<Measured, Error> {
    let real = real_cluster().await?;
    let mut rig = Rig::on_cluster(bench, &real).await?;
    let client = rig.client.clone();
    let profile = &bench.profile;
    cluster::namespace(&client, BARE).await?;

    // One event makes the object that the bare client then copies.
    rig.send_count(1, 1)?;
    rig.admin.drained(DRAIN).await?;
    let sample = sample(&client, profile.namespace()).await?;
    let seconds = Duration::from_secs(profile.objects.bare_seconds);
    let before = bare(&client, &sample, "before", seconds).await?;

    cluster::pace(&client, profile, NAME, Some(0)).await?;
    let sent = rig.send_count(profile.connections, profile.objects.events)?;
    cluster::pace(&client, profile, NAME, None).await?;
    let ours = write_rate(&rig.admin, &rig.uid, sent.acknowledged + 1).await?;
    let after = bare(&client, &sample, "after", seconds).await?;

    let acknowledged = rig.ledger.ids().map_err(Error::io("read the ledger"))?;
    let found = cluster::find(&client, profile.namespace(), rig.run, "").await?;
    let lost = acknowledged.difference(&found.ids).count();
    rig.dev.stop().await?;
    let bare = f64::midpoint(before, after);
    let share = ours / bare;
    Ok(Measured {
        row: "objects".to_owned(),
        what: "Observations written to the real kube-apiserver".to_owned(),
        bar: "≥ 70 % of a bare client loop in the same run".to_owned(),
        result: format!(
            "{ours:.0}/s: {:.0} % of the bare client's {bare:.0}/s",
            share * 100.0
        ),
        met: Some(share >= BAR && lost == 0 && found.doubled == 0),
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
