//! Many at once.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::json;

use crate::bench::{Bench, text, version, widget};

/// Of many who create one name one succeeds, and the others are told that it exists.
pub(crate) async fn one_name_is_created_once(t: &Bench) {
    let body = widget("a", json!({ "size": 1 }));
    let path = t.widgets();
    let answers = join_all((0..16).map(|_| t.post(&path, &body))).await;
    let (made, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.code == 201);
    assert_eq!(made.len(), 1);
    for other in others {
        other.refused(409, "AlreadyExists");
    }
}

/// Read, add one, write by compare-and-swap, again on conflict: no addition is lost.
pub(crate) async fn no_update_is_lost(t: &Bench) {
    t.make("a", 0).await;
    let path = t.widget("a");
    let add = async || {
        loop {
            let mut object = t.get(&path).await.ok();
            let size = object["spec"]["size"].as_u64().unwrap();
            object["spec"]["size"] = (size + 1).into();
            let answer = t.put(&path, &object).await;
            if answer.code == 200 {
                return;
            }
            answer.refused(409, "Conflict");
        }
    };
    join_all((0..8).map(|_| add())).await;
    let after = t.get(&path).await.ok();
    assert_eq!(after["spec"]["size"], 8);
    assert_eq!(after["metadata"]["generation"], 9);
}

/// Patches without a version don't conflict for their callers: the server tries again.
pub(crate) async fn patches_of_different_fields_all_hold(t: &Bench) {
    t.make("a", 1).await;
    let path = t.widget("a");
    let patches: Vec<_> = (0..4)
        .map(|n| json!({ "spec": { "tags": { format!("k{n}"): "v" } } }))
        .collect();
    let answers = join_all(
        patches
            .iter()
            .map(|patch| t.patch(&path, crate::bench::Patch::Merge, patch)),
    )
    .await;
    for answer in answers {
        answer.ok();
    }
    let after = t.get(&path).await.ok();
    assert_eq!(after["spec"]["tags"].as_object().unwrap().len(), 4);
}

/// Every watcher sees every change once, in the order of the versions.
pub(crate) async fn watchers_see_one_order(t: &Bench) {
    let start = version(&t.get(&t.widgets()).await.ok());
    let query = format!("&resourceVersion={start}");
    let mut watches = [
        t.watch(&t.widgets(), &query).await,
        t.watch(&t.widgets(), &query).await,
    ];
    let path = t.widgets();
    let bodies: Vec<_> = (0..20)
        .map(|n| widget(&format!("w{n}"), json!({ "size": 1 })))
        .collect();
    let answers = join_all(bodies.iter().map(|body| t.post(&path, body))).await;
    let mut made: Vec<(u64, String)> = answers
        .into_iter()
        .map(|answer| {
            let object = answer.created();
            (version(&object), text(&object["metadata"]["name"]))
        })
        .collect();
    made.sort();
    let versions: BTreeSet<u64> = made.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions.len(), made.len(), "no version is given twice");
    for watch in &mut watches {
        let mut seen = Vec::new();
        for _ in 0..made.len() {
            let event = watch.next().await;
            assert_eq!(event["type"], "ADDED");
            let object = &event["object"];
            seen.push((version(object), text(&object["metadata"]["name"])));
        }
        assert_eq!(seen, made);
    }
}

/// A list is one moment: what it shows was all there at its version, and a watch goes on from it.
pub(crate) async fn list_and_watch_leave_no_gap(t: &Bench) {
    let path = t.widgets();
    let bodies: Vec<_> = (0..20)
        .map(|n| widget(&format!("w{n}"), json!({ "size": 1 })))
        .collect();
    let writes = join_all(bodies.iter().map(|body| t.post(&path, body)));
    let follow = async {
        let list = t.get(&path).await.ok();
        let mut seen: BTreeSet<String> = crate::bench::names(&list).into_iter().collect();
        let mut watch = t
            .watch(&path, &format!("&resourceVersion={}", version(&list)))
            .await;
        while seen.len() < bodies.len() {
            let event = watch.next().await;
            assert!(
                seen.insert(text(&event["object"]["metadata"]["name"])),
                "listed or shown before: {event}"
            );
        }
    };
    let (answers, ()) = futures::join!(writes, follow);
    for answer in answers {
        answer.created();
    }
}
