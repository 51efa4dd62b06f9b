//! Several cores: one is killed, its work is taken over, it comes back; drains; what the command line
//! says of it.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use kube::api::ListParams;
use serde_json::Value;

use crate::process::{Child, Dev, Sender, until};

/// How many events come before, during and after a kill.
const EVENTS: u64 = 150;

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn run(data: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_zen-fabric"))
        .args(args)
        .args(["--data-dir".as_ref(), data.as_os_str()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn status(data: &Path) -> Value {
    let (fine, text) = run(data, &["status", "-o", "json"]);
    assert!(fine, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// How many buckets a pod owns.
fn buckets(status: &Value, pod: &str) -> u64 {
    let members = status["members"].as_array().unwrap();
    let member = members.iter().find(|member| member["pod"] == pod);
    member.map_or(0, |member| member["buckets"].as_u64().unwrap())
}

/// Sends deliveries until `until` has been sent, and gives those that were acknowledged.
async fn send(dev: &Dev, from: u64, until: u64, acknowledged: &mut BTreeSet<String>) {
    let (url, secret) = dev.sample().await;
    let sender = Sender::new();
    for n in from..until {
        let id = format!("r-{n}");
        let body =
            format!(r#"{{"repository":{{"full_name":"octo/{id}"}},"sender":{{"login":"m"}}}}"#);
        let answer = sender.github(&url, &secret, "push", &id, Bytes::from(body));
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        acknowledged.insert(format!("github/{id}"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn observed(dev: &Dev) -> Vec<String> {
    let observations = dev.observations().await;
    let mut ids = Vec::new();
    let mut page = ListParams::default().limit(500);
    loop {
        let list = observations.list(&page).await.unwrap();
        ids.extend(
            list.items
                .into_iter()
                .map(|object| object.metadata.annotations.unwrap()["zen.io/event-id"].clone()),
        );
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return ids,
        }
    }
}

fn owner(ingestor: &zen_fabric::api::Ingestor) -> Option<String> {
    let owner = ingestor.status.as_ref()?.owner.as_ref()?;
    Some(owner.holder.split('#').next()?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_is_replaced_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let dev = Dev::start_with(&data, &["--replicas=3"]).await;
    let children = dev.children();
    assert_eq!(children.len(), 3, "{children:?}");
    assert!(
        dev.output()
            .contains(&format!("kill -9 {}", children[2].pid))
    );
    let mut acknowledged = BTreeSet::new();
    send(&dev, 0, EVENTS, &mut acknowledged).await;
    let victim = until("the Ingestor has an owner", async || {
        owner(&dev.ingestor().await)
    })
    .await;
    let Child { pid, name, .. } = children
        .iter()
        .find(|child| child.name == victim)
        .unwrap()
        .clone();
    kill(pid);
    send(&dev, EVENTS, 2 * EVENTS, &mut acknowledged).await;
    // The terminal tells what became of it, and the ready file that it is back.
    until("the takeover is told", async || {
        let output = dev.output();
        (output.contains(&format!("{name} (pid {pid}) ended: signal: 9 (SIGKILL)"))
            && output.contains(&format!("buckets of {name} are owned by ")))
        .then_some(())
    })
    .await;
    let again = until("it is started again", async || {
        dev.children()
            .into_iter()
            .find(|child| child.name == name && child.pid != pid)
    })
    .await;
    until("its next life works", async || {
        dev.output()
            .contains(&format!("{name}#2 (pid {}) works", again.pid))
            .then_some(())
    })
    .await;
    send(&dev, 2 * EVENTS, 3 * EVENTS, &mut acknowledged).await;
    until("every acknowledged event is an Observation", async || {
        let observed = observed(&dev).await;
        let set: BTreeSet<String> = observed.iter().cloned().collect();
        assert_eq!(set.len(), observed.len(), "an event became two");
        (set == acknowledged).then_some(())
    })
    .await;
    until("the counters add up", async || {
        let status = dev.ingestor().await.status?;
        let counters = status.counters?;
        let all = i64::try_from(acknowledged.len()).unwrap();
        (counters.accepted == all && counters.observed == all && status.backlog == Some(0))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_the_fleet_drains_a_replica_and_takes_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut dev = Dev::start_with(&data, &["--replicas=3"]).await;
    let seen = until("all are members", async || {
        let seen = status(&data);
        (0..3)
            .all(|n| buckets(&seen, &format!("core-{n}")) > 0)
            .then_some(seen)
    })
    .await;
    let total: u64 = (0..3).map(|n| buckets(&seen, &format!("core-{n}"))).sum();
    assert_eq!(total, 1024, "{seen:#}");
    let (fine, text) = run(&data, &["status"]);
    assert!(fine, "{text}");
    for word in [
        "core-0#1", "core-1#1", "core-2#1", "leader", "open", "Active",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }

    let (fine, text) = run(&data, &["drain", "core-1"]);
    assert!(fine, "{text}");
    assert!(text.contains("core-1"), "{text}");
    let seen = status(&data);
    assert_eq!(buckets(&seen, "core-1"), 0, "{seen:#}");
    assert_eq!(dev.children().len(), 3, "it stays");
    let (fine, text) = run(&data, &["undrain", "core-1"]);
    assert!(fine, "{text}");
    until("it has work again", async || {
        (buckets(&status(&data), "core-1") > 0).then_some(())
    })
    .await;
    let (fine, text) = run(&data, &["drain", "core-9"]);
    assert!(!fine);
    assert!(text.contains("core-9"), "{text}");

    // Everything ends in order, the children too.
    let children = dev.children();
    dev.terminate();
    assert!(dev.ended().await.success(), "{}", dev.output());
    for child in children {
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.pid).unwrap()).unwrap();
        assert!(
            rustix::process::test_kill_process(pid).is_err(),
            "{child:?} still runs"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_end_with_a_parent_that_is_killed_and_their_next_lives_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let dev = Dev::start_with(&data, &["--replicas=2"]).await;
    let mut acknowledged = BTreeSet::new();
    send(&dev, 0, EVENTS, &mut acknowledged).await;
    let children = dev.children();
    dev.kill();
    for child in children {
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.pid).unwrap()).unwrap();
        until("a child has ended", async || {
            rustix::process::test_kill_process(pid)
                .is_err()
                .then_some(())
        })
        .await;
    }
    let dev = Dev::start_with(&data, &["--replicas=2"]).await;
    until("every acknowledged event is an Observation", async || {
        let observed = observed(&dev).await;
        let set: BTreeSet<String> = observed.iter().cloned().collect();
        assert_eq!(set.len(), observed.len(), "an event became two");
        (set == acknowledged).then_some(())
    })
    .await;
}
