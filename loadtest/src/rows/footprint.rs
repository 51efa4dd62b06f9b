//! Memory at rest and with many Ingestors, and how long these take to serve.

use std::time::Duration;

use super::{Bench, Error, Measured};
use crate::{cluster, generator::Target};

/// Long enough for caches to fill and allocators to settle.
const REST: Duration = Duration::from_secs(10);

/// Bars, in bytes and time.
const AT_REST: u64 = 60 << 20;
const WITH_INGESTORS: u64 = 120 << 20;
const SERVING: Duration = Duration::from_secs(2);

/// Measures the three rows on one process.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Measured>, Error> {
    let place = bench.place()?;
    // Probes are requests without a signature: they must not meet the limit of failing ones.
    let start = bench
        .start(&place.data())
        .flag("address-failures-per-second", "1000000")
        .flag("address-failures-burst", "1000000");
    let dev = start.run().await?;
    let started_in = dev.started_in;
    tokio::time::sleep(REST).await;
    let at_rest = dev.resident()?;

    let client = dev.client().await?;
    let profile = &bench.profile;
    cluster::prepare(&client, profile).await?;
    let mut paths = Vec::new();
    for number in 0..profile.ingestors {
        let name = format!("load-{number:04}");
        cluster::ingestor(&client, &profile.ingestor(&name, None)).await?;
        paths.push(cluster::path(profile, &name));
    }
    let target = Target {
        address: dev.gateway()?,
        tls: None,
    };
    let serving = cluster::serving(&target, &paths).await?;
    tokio::time::sleep(REST).await;
    let with_ingestors = dev.resident()?;
    dev.stop().await?;

    let memory = |row: &str, what: &str, bar: u64, bytes: u64| Measured {
        row: row.to_owned(),
        what: what.to_owned(),
        bar: format!("≤ {} MiB", bar >> 20),
        result: format!("{:.1} MiB", mib(bytes)),
        met: Some(bytes <= bar),
        details: Vec::new(),
        curve: Vec::new(),
    };
    let mut rest = memory("memory", "memory of `dev` at rest", AT_REST, at_rest);
    rest.details.push((
        "from the process's start until events are accepted".to_owned(),
        format!("{} ms", started_in.as_millis()),
    ));
    Ok(vec![
        rest,
        memory(
            "memory-ingestors",
            "memory of `dev` with 1,000 Ingestors",
            WITH_INGESTORS,
            with_ingestors,
        ),
        Measured {
            row: "routes".to_owned(),
            what: "1,000 Ingestors applied: all serving after the last apply".to_owned(),
            bar: "≤ 2 s".to_owned(),
            result: format!("{} ms", serving.as_millis()),
            met: Some(serving <= SERVING),
            details: Vec::new(),
            curve: Vec::new(),
        },
    ])
}

#[expect(clippy::cast_precision_loss, reason = "a size for reading")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
