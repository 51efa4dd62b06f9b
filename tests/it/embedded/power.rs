//! The embedded API on a simulated disk whose power is cut: what was answered or shown is there again.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};
use serde_json::json;
use zen_fabric::{
    embedded::{LogMistake, LogSettings, Server},
    ops::{tasks::Tasks, time::SystemClock},
    testing::{
        disk::{Faults, SimDisk},
        seeded::Seeded,
    },
};

/// Objects, each written by one client in a row of its own.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The highest number that was answered to a write or shown to a read, by name.
type Seen = Arc<Mutex<BTreeMap<String, u64>>>;

fn see(seen: &Seen, object: &ConfigMap) {
    let mut seen = seen.lock().unwrap();
    let at = seen.entry(object.name_any()).or_default();
    *at = (*at).max(number(object));
}

fn number(object: &ConfigMap) -> u64 {
    object.data.as_ref().unwrap()["n"].parse().unwrap()
}

fn api(client: &Client) -> Api<ConfigMap> {
    Api::default_namespaced(client.clone())
}

/// Writes ever higher numbers until the disk fails.
async fn write(client: Client, name: &'static str, seen: Seen) {
    let api = api(&client);
    let Ok(there) = api.get_opt(name).await else {
        return;
    };
    let mut n = there.as_ref().map_or(0, number);
    let mut there = there.is_some();
    loop {
        n += 1;
        let data = json!({ "metadata": { "name": name }, "data": { "n": n.to_string() } });
        let object: ConfigMap = serde_json::from_value(data).unwrap();
        let written = if there {
            api.replace(name, &PostParams::default(), &object).await
        } else {
            api.create(&PostParams::default(), &object).await
        };
        let Ok(written) = written else { return };
        there = true;
        see(&seen, &written);
    }
}

async fn read(client: Client, seen: Seen) {
    let api = api(&client);
    while let Ok(list) = api.list(&ListParams::default()).await {
        for object in list.items.iter().filter(|one| one.data.is_some()) {
            if object.data.as_ref().unwrap().contains_key("n") {
                see(&seen, object);
            }
        }
        tokio::task::yield_now().await;
    }
}

/// A few lives of one disk, each ended by a power cut.
async fn history(seed: u64, mistake: Option<LogMistake>) {
    let mut choices = Seeded::new(seed);
    let disk = SimDisk::new(choices.bits());
    let settings = LogSettings {
        compact_from: 3_000,
        mistake,
    };
    let seen = Seen::default();
    for _ in 0..4 {
        disk.set_faults(Faults {
            crash_after: Some(choices.below(90)),
            ..Faults::default()
        });
        let tasks = Tasks::new();
        let started = Server::on_disk(
            Arc::new(disk.clone()),
            settings,
            Arc::new(SystemClock),
            &tasks,
        );
        if let Ok(server) = started {
            let client = server.client();
            let writes = NAMES.map(|name| write(client.clone(), name, seen.clone()));
            let all = futures::future::join_all(writes);
            tokio::join!(all, read(client.clone(), seen.clone()));
        }
        tasks.stop(Duration::from_secs(30)).await.unwrap();
        disk.crash();
    }
    let tasks = Tasks::new();
    let server = Server::on_disk(
        Arc::new(disk.clone()),
        settings,
        Arc::new(SystemClock),
        &tasks,
    )
    .expect("the log opens");
    let api = api(&server.client());
    for (name, n) in seen.lock().unwrap().clone() {
        let object = api.get_opt(&name).await.unwrap();
        let there = object.as_ref().map_or(0, number);
        assert!(there >= n, "{name} was shown with {n}, and is {there}");
    }
    tasks.stop(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn nothing_that_was_answered_or_shown_is_taken_back() {
    for seed in 0..60 {
        history(seed, None).await;
    }
}

#[tokio::test]
async fn planted_mistakes_are_found() {
    for mistake in [
        LogMistake::NoSync,
        LogMistake::ShowBeforeSync,
        LogMistake::RenameBeforeSync,
    ] {
        let mut found = None;
        for seed in 0..500 {
            let run = AssertUnwindSafe(history(seed, Some(mistake))).catch_unwind();
            if run.await.is_err() {
                found = Some(seed);
                break;
            }
        }
        let seed = found.unwrap_or_else(|| panic!("{mistake:?} was not found"));
        println!("{mistake:?}: found by history {seed}");
    }
}
