//! Watches: from a version, bookmarks, 410, selectors.

use futures::StreamExt as _;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};

use crate::bench::{Bench, PATIENCE, Patch, Refusal, text, version, widget};

async fn list_version(t: &Bench) -> u64 {
    version(&t.get(&t.widgets()).await.ok())
}

/// From a list's version on every change comes once, in order, each with its version.
pub(crate) async fn from_a_version_shows_every_change(t: &Bench) {
    t.make("before", 1).await;
    let start = list_version(t).await;
    let made = t.make("a", 1).await;
    let mut object = made.clone();
    object["spec"]["size"] = 2.into();
    let changed = t.put(&t.widget("a"), &object).await.ok();
    t.delete(&t.widget("a")).await.ok();

    let mut watch = t
        .watch(&t.widgets(), &format!("&resourceVersion={start}"))
        .await;
    let added = watch.next().await;
    assert_eq!((&added["type"], &added["object"]), (&json!("ADDED"), &made));
    let modified = watch.next().await;
    assert_eq!(
        (&modified["type"], &modified["object"]),
        (&json!("MODIFIED"), &changed)
    );
    let deleted = watch.next().await;
    assert_eq!(deleted["type"], "DELETED");
    assert_eq!(deleted["object"]["spec"]["size"], 2, "the last state");
    assert!(
        version(&deleted["object"]) > version(&changed),
        "the deletion has a version of its own"
    );
}

/// A watch that is open shows what happens.
pub(crate) async fn that_is_open_goes_on(t: &Bench) {
    let start = list_version(t).await;
    let mut watch = t
        .watch(&t.widgets(), &format!("&resourceVersion={start}"))
        .await;
    for name in ["a", "b", "c"] {
        t.make(name, 1).await;
        assert_eq!(watch.names(1).await, [format!("ADDED {name}")]);
    }
}

/// Without a version, what is there comes first, as added.
pub(crate) async fn without_a_version_begins_with_what_is_there(t: &Bench) {
    for name in ["b", "a"] {
        t.make(name, 1).await;
    }
    let mut watch = t.watch(&t.widgets(), "").await;
    let mut first = watch.names(2).await;
    first.sort();
    assert_eq!(first, ["ADDED a", "ADDED b"]);
    t.make("c", 1).await;
    assert_eq!(watch.names(1).await, ["ADDED c"]);
}

/// An object that comes to match is added; one that ceases to match is deleted.
pub(crate) async fn by_label_shows_coming_and_going(t: &Bench) {
    let start = list_version(t).await;
    let mut watch = t
        .watch(
            &t.widgets(),
            &format!("&resourceVersion={start}&labelSelector=on%3Dyes"),
        )
        .await;
    let label = |value: Value| json!({ "metadata": { "labels": { "on": value } } });
    t.make("a", 1).await;
    for (value, expected) in [("yes", "ADDED a"), ("no", "DELETED a"), ("yes", "ADDED a")] {
        t.patch(&t.widget("a"), Patch::Merge, &label(value.into()))
            .await
            .ok();
        assert_eq!(watch.names(1).await, [expected]);
    }
    let size = json!({ "spec": { "size": 2 } });
    t.patch(&t.widget("a"), Patch::Merge, &size).await.ok();
    assert_eq!(watch.names(1).await, ["MODIFIED a"]);
}

/// Selectable fields work in watches as labels do.
pub(crate) async fn by_field_shows_coming_and_going(t: &Bench) {
    let start = list_version(t).await;
    let mut watch = t
        .watch(
            &t.widgets(),
            &format!("&resourceVersion={start}&fieldSelector=spec.color%3Dred"),
        )
        .await;
    t.make("a", 1).await;
    for (color, expected) in [("red", "ADDED a"), ("green", "DELETED a")] {
        let body = json!({ "spec": { "color": color } });
        t.patch(&t.widget("a"), Patch::Merge, &body).await.ok();
        assert_eq!(watch.names(1).await, [expected]);
    }
}

/// One object is watched by its name.
pub(crate) async fn of_one_name(t: &Bench) {
    let start = list_version(t).await;
    let mut watch = t
        .watch(
            &t.widgets(),
            &format!("&resourceVersion={start}&fieldSelector=metadata.name%3Db"),
        )
        .await;
    for name in ["a", "b"] {
        t.make(name, 1).await;
    }
    assert_eq!(watch.names(1).await, ["ADDED b"]);
}

/// The finalizers' end shows as a change, then a deletion.
pub(crate) async fn shows_deletion_by_finalizer(t: &Bench) {
    let start = list_version(t).await;
    let mut watch = t
        .watch(&t.widgets(), &format!("&resourceVersion={start}"))
        .await;
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    t.post(&t.widgets(), &body).await.created();
    t.delete(&t.widget("a")).await.ok();
    let none = json!({ "metadata": { "finalizers": null } });
    t.patch(&t.widget("a"), Patch::Merge, &none).await.ok();
    assert_eq!(watch.names(3).await, ["ADDED a", "MODIFIED a", "DELETED a"]);
}

/// A server that ends a watch says before how far it came.
pub(crate) async fn ends_in_time_with_a_bookmark(t: &Bench) {
    let made = t.make("a", 1).await;
    let query = format!(
        "&resourceVersion={}&allowWatchBookmarks=true&timeoutSeconds=15",
        version(&made)
    );
    let mut watch = t.watch(&t.widgets(), &query).await;
    let mut last = Value::Null;
    while let Some(event) = watch.next_or_end().await {
        last = event;
    }
    assert_eq!(last["type"], "BOOKMARK");
    let object = &last["object"];
    assert_eq!(object["kind"], "Widget");
    assert_eq!(object["apiVersion"], "conformance.test/v1");
    assert!(version(object) >= version(&made));
    assert_eq!(object["metadata"].get("name"), None);
}

/// Without being asked for there are no bookmarks, and the end comes in time all the same.
pub(crate) async fn ends_in_time(t: &Bench) {
    let made = t.make("a", 1).await;
    let query = format!("&resourceVersion={}&timeoutSeconds=2", version(&made));
    let mut watch = t.watch(&t.widgets(), &query).await;
    assert_eq!(watch.next_or_end().await, None);
}

/// A version from before what the server remembers is 410, as an event of the watch.
pub(crate) async fn from_a_forgotten_version_is_expired(t: &Bench) {
    t.make("a", 1).await;
    let mut watch = t.watch(&t.widgets(), "&resourceVersion=1").await;
    let event = watch.next().await;
    assert_eq!(event["type"], "ERROR");
    let told = Refusal::new(event["object"].clone(), 410, "Expired", event.to_string())
        .mentioning("too old resource version: 1 (");
    assert!(told.message().ends_with(')'));
    assert_eq!(watch.next_or_end().await, None);
}

/// A version that isn't a number is refused.
pub(crate) async fn from_a_bad_version_is_refused(t: &Bench) {
    let answer = t
        .get(&format!("{}?watch=true&resourceVersion=abc", t.widgets()))
        .await;
    assert!(answer.code >= 400, "{answer}");
    assert!(answer.text.contains("abc"), "{answer}");
}

/// A version that no change has yet: what comes before it is not shown, and nobody is told so.
pub(crate) async fn from_a_version_still_to_come_shows_nothing_before_it(t: &Bench) {
    let to_come = list_version(t).await + 1_000_000;
    let query = format!("&resourceVersion={to_come}&timeoutSeconds=2");
    let mut watch = t.watch(&t.widgets(), &query).await;
    t.make("a", 1).await;
    assert_eq!(watch.next_or_end().await, None);
}

/// A list that is to be as new as a version that no change has yet is refused, as an event.
pub(crate) async fn with_the_list_of_a_version_still_to_come_is_refused(t: &Bench) {
    let to_come = list_version(t).await + 1_000_000;
    let query = format!(
        "&resourceVersion={to_come}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut watch = t.watch(&t.widgets(), &query).await;
    let event = watch.next().await;
    assert_eq!(event["type"], "ERROR");
    let status = event["object"].clone();
    let told = Refusal::new(status, 504, "Timeout", event.to_string())
        .mentioning(&format!("Too large resource version: {to_come}, current: "));
    assert!(told.message().starts_with("Timeout: "));
    assert_eq!(watch.next_or_end().await, None);
}

/// A watch over all namespaces shows those of each.
pub(crate) async fn spans_namespaces(t: &Bench) {
    let start = list_version(t).await;
    let other = crate::bench::unique("other");
    t.new_namespace(&other).await;
    let mark = crate::bench::unique("mark");
    let mut watch = t
        .watch(
            "/apis/conformance.test/v1/widgets",
            &format!("&resourceVersion={start}&labelSelector=mark%3D{mark}"),
        )
        .await;
    for namespace in [&t.namespace, &other] {
        let mut body = widget("a", json!({ "size": 1 }));
        body["metadata"]["labels"] = json!({ "mark": mark });
        let path = format!("/apis/conformance.test/v1/namespaces/{namespace}/widgets");
        t.post(&path, &body).await.created();
        let event = watch.next().await;
        assert_eq!(text(&event["object"]["metadata"]["namespace"]), *namespace);
    }
}

/// A watch may begin with the list, whose end a bookmark marks.
pub(crate) async fn may_begin_with_the_list(t: &Bench) {
    for name in ["a", "b"] {
        t.make(name, 1).await;
    }
    let query =
        "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = t.watch(&t.widgets(), query).await;
    let mut first = watch.names(2).await;
    first.sort();
    assert_eq!(first, ["ADDED a", "ADDED b"]);
    let mark = watch.next().await;
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    t.make("c", 1).await;
    assert_eq!(watch.names(1).await, ["ADDED c"]);
}

/// Metadata alone can be watched.
pub(crate) async fn of_metadata_alone(t: &Bench) {
    let start = list_version(t).await;
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let mut watch = t
        .watch_as(&t.widgets(), &format!("&resourceVersion={start}"), accept)
        .await;
    t.make("a", 1).await;
    let event = watch.next().await;
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(event["object"]["metadata"]["name"], "a");
    assert_eq!(event["object"].get("spec"), None);
}

/// What kube-rs builds on all of this keeps up with the server.
pub(crate) async fn as_kube_does_it(t: &Bench) {
    let kind = GroupVersionKind::gvk("conformance.test", "v1", "Widget");
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(t.client.clone(), &t.namespace, &resource);
    t.make("a", 1).await;
    for config in [
        watcher::Config::default(),
        watcher::Config::default().any_semantic().page_size(1),
        watcher::Config::default().streaming_lists(),
    ] {
        let mut objects = Box::pin(watcher(api.clone(), config).applied_objects());
        assert_eq!(next_name(&mut objects).await, "a");
        t.make("b", 1).await;
        assert_eq!(next_name(&mut objects).await, "b");
        t.delete(&t.widget("b")).await.ok();
    }
}

async fn next_name<S>(objects: &mut S) -> String
where
    S: futures::Stream<Item = Result<DynamicObject, watcher::Error>> + Unpin,
{
    tokio::time::timeout(PATIENCE, objects.next())
        .await
        .expect("the watch shows the object")
        .expect("the watch goes on")
        .unwrap()
        .name_any()
}
