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

/// A few lives of one disk, each ended by a power cut, or by the end of the process.
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
            sync: if choices.chance(20) { 5 } else { 0 },
            // Only a file that is to follow is made while it runs: its compaction fails.
            create: if choices.chance(30) { 50 } else { 0 },
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
        disk.set_faults(Faults::default());
        // Else the process alone has ended.
        if choices.chance(70) {
            disk.crash();
        }
    }
    disk.crash();
    let tasks = Tasks::new();
    let server = Server::on_disk(
        Arc::new(disk.clone()),
        settings,
        Arc::new(SystemClock),
        &tasks,
    )
    .expect("the log opens");
    let api = api(&server.client());
    let seen = seen.lock().unwrap().clone();
    for (name, n) in seen {
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

async fn put(api: &Api<ConfigMap>, n: u64) -> kube::Result<ConfigMap> {
    let data = json!({
        "metadata": { "name": "a" },
        "data": { "n": n.to_string(), "size": "x".repeat(500) },
    });
    let object: ConfigMap = serde_json::from_value(data).unwrap();
    match api.replace("a", &PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            api.create(&PostParams::default(), &object).await
        }
        answer => answer,
    }
}

#[tokio::test]
async fn without_room_to_compact_writes_go_on_and_without_any_the_failure_is_told() {
    let disk = SimDisk::new(1);
    let settings = LogSettings {
        compact_from: 6_000,
        mistake: None,
    };
    let (clock, tasks) = (Arc::new(SystemClock), Tasks::new());
    let server = Server::on_disk(Arc::new(disk.clone()), settings, clock.clone(), &tasks).unwrap();
    let api = api(&server.client());
    let files = || disk.files().into_iter().map(|(name, _)| name);
    let size = || {
        disk.files()
            .into_iter()
            .map(|(_, size)| size)
            .sum::<usize>()
    };
    // A file that is to follow can't be made.
    disk.set_faults(Faults {
        create: 100,
        ..Faults::default()
    });
    for n in 1..60 {
        put(&api, n).await.unwrap();
    }
    assert!(size() > 40_000, "{}", size());
    assert_eq!(server.failure(), None);
    disk.set_faults(Faults::default());
    for n in 60..80 {
        put(&api, n).await.unwrap();
    }
    let compacted = async {
        while size() > 30_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), compacted)
        .await
        .unwrap();
    assert_eq!(files().collect::<Vec<_>>(), ["objects.log"]);
    // Nothing has room any more.
    disk.set_faults(Faults {
        capacity: Some(0),
        ..Faults::default()
    });
    put(&api, 80).await.unwrap_err();
    server.broken().cancelled().await;
    assert!(server.failure().is_some());
    // Mended and started again, it goes on from what was answered.
    tasks.stop(Duration::from_secs(30)).await.unwrap();
    disk.set_faults(Faults::default());
    disk.crash();
    let tasks = Tasks::new();
    let server = Server::on_disk(Arc::new(disk.clone()), settings, clock, &tasks).unwrap();
    let api = self::api(&server.client());
    assert!(number(&api.get("a").await.unwrap()) >= 79);
    tasks.stop(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn planted_mistakes_are_found() {
    for mistake in [
        LogMistake::NoSync,
        LogMistake::ShowEarly,
        LogMistake::RenameEarly,
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
