//! Lists: shape, order, pages, selectors, versions.

use serde_json::{Value, json};

use crate::bench::{Bench, config_map, names, text, unique, version, widget};

async fn labeled(t: &Bench, name: &str, labels: Value) {
    let mut body = widget(name, json!({ "size": 1 }));
    body["metadata"]["labels"] = labels;
    t.post(&t.widgets(), &body).await.created();
}

async fn selected(t: &Bench, query: &str) -> Vec<String> {
    names(&t.get(&format!("{}?{query}", t.widgets())).await.ok())
}

/// A list has a kind and a version of its own; its items are in the order of their names.
pub(crate) async fn is_ordered_by_name(t: &Bench) {
    for name in ["b", "c", "a"] {
        t.make(name, 1).await;
    }
    let newest = version(&t.get(&t.widget("a")).await.ok());
    let list = t.get(&t.widgets()).await.ok();
    assert_eq!(list["kind"], "WidgetList");
    assert_eq!(list["apiVersion"], "conformance.test/v1");
    assert!(version(&list) >= newest);
    assert_eq!(names(&list), ["a", "b", "c"]);
    assert_eq!(list["items"][0]["kind"], "Widget");
    assert_eq!(list["items"][0]["apiVersion"], "conformance.test/v1");
}

/// The items of a core kind's list don't repeat what the list says.
pub(crate) async fn of_a_core_kind_leaves_out_the_items_kind(t: &Bench) {
    t.post(&t.core("configmaps"), &config_map("a"))
        .await
        .created();
    let list = t.get(&t.core("configmaps")).await.ok();
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"][0].get("kind"), None);
    assert_eq!(list["items"][0].get("apiVersion"), None);
}

/// An empty list has items, none.
pub(crate) async fn of_nothing_is_empty(t: &Bench) {
    let list = t.get(&t.widgets()).await.ok();
    assert_eq!(list["items"], json!([]));
    assert!(version(&list) > 0);
}

/// A list over all namespaces has those of each.
pub(crate) async fn spans_namespaces(t: &Bench) {
    let other = unique("other");
    t.new_namespace(&other).await;
    let mark = unique("mark");
    for namespace in [&t.namespace, &other] {
        let mut body = widget("a", json!({ "size": 1 }));
        body["metadata"]["labels"] = json!({ "mark": mark });
        let path = format!("/apis/conformance.test/v1/namespaces/{namespace}/widgets");
        t.post(&path, &body).await.created();
    }
    let list = t
        .get(&format!(
            "/apis/conformance.test/v1/widgets?labelSelector=mark%3D{mark}"
        ))
        .await
        .ok();
    let mut found: Vec<String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| text(&item["metadata"]["namespace"]))
        .collect();
    let mut expected = vec![t.namespace.clone(), other];
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

/// Pages hold at most what was asked for, and all of them what was there at the first.
pub(crate) async fn pages_show_one_version(t: &Bench) {
    for name in ["a", "b", "c", "d", "e"] {
        t.make(name, 1).await;
    }
    let first = t.get(&format!("{}?limit=2", t.widgets())).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    t.make("bb", 1).await;
    t.delete(&t.widget("d")).await.ok();

    let mut token = text(&first["metadata"]["continue"]);
    let mut rest = Vec::new();
    while !token.is_empty() {
        let page = t
            .get(&format!("{}?limit=2&continue={token}", t.widgets()))
            .await
            .ok();
        assert_eq!(version(&page), version(&first));
        rest.extend(names(&page));
        token = text(&page["metadata"]["continue"]);
    }
    assert_eq!(rest, ["c", "d", "e"]);
}

/// The last page says that it is.
pub(crate) async fn last_page_has_no_continuation(t: &Bench) {
    for name in ["a", "b"] {
        t.make(name, 1).await;
    }
    for limit in ["2", "3", "0"] {
        let page = t.get(&format!("{}?limit={limit}", t.widgets())).await.ok();
        assert_eq!(names(&page), ["a", "b"], "limit {limit}");
        assert_eq!(text(&page["metadata"]["continue"]), "", "limit {limit}");
        assert_eq!(page["metadata"].get("remainingItemCount"), None);
    }
}

/// With a selector nobody knows how many remain.
pub(crate) async fn selected_pages_dont_count_the_rest(t: &Bench) {
    for name in ["a", "b", "c"] {
        labeled(t, name, json!({ "x": "1" })).await;
    }
    let page = t
        .get(&format!("{}?limit=1&labelSelector=x", t.widgets()))
        .await
        .ok();
    assert_eq!(names(&page), ["a"]);
    assert!(page["metadata"]["continue"].is_string());
    assert_eq!(page["metadata"].get("remainingItemCount"), None);
}

/// A continuation that the server didn't write is refused.
pub(crate) async fn of_a_made_up_continuation_is_refused(t: &Bench) {
    t.get(&format!("{}?limit=1&continue=bm9uc2Vuc2U", t.widgets()))
        .await
        .refused(400, "BadRequest")
        .mentioning("continue key is not valid");
}

/// Equality, sets and existence of labels, alone and together.
pub(crate) async fn label_selectors(t: &Bench) {
    labeled(t, "a", json!({ "tier": "web", "env": "prod" })).await;
    labeled(t, "b", json!({ "tier": "db", "env": "prod" })).await;
    labeled(t, "c", json!({ "tier": "db" })).await;
    labeled(t, "d", json!({})).await;
    for (selector, expected) in [
        ("tier%3Ddb", vec!["b", "c"]),
        ("tier%3D%3Ddb", vec!["b", "c"]),
        ("tier%21%3Ddb", vec!["a", "d"]),
        ("tier", vec!["a", "b", "c"]),
        ("%21tier", vec!["d"]),
        ("tier%20in%20%28web%2Cdb%29", vec!["a", "b", "c"]),
        ("tier%20notin%20%28db%29", vec!["a", "d"]),
        ("tier%3Ddb%2Cenv%3Dprod", vec!["b"]),
        ("tier%2C%21env", vec!["c"]),
        ("", vec!["a", "b", "c", "d"]),
    ] {
        assert_eq!(
            selected(t, &format!("labelSelector={selector}")).await,
            expected,
            "{selector}"
        );
    }
}

/// A selector that can't be read is refused.
pub(crate) async fn of_a_bad_label_selector_is_refused(t: &Bench) {
    for selector in ["a%20b", "tier%20in%20%28", "%3Dx", "a%3D%3D%3Db"] {
        t.get(&format!("{}?labelSelector={selector}", t.widgets()))
            .await
            .refused(400, "BadRequest");
    }
}

/// Name, namespace and what the definition makes selectable.
pub(crate) async fn field_selectors(t: &Bench) {
    for (name, size, color) in [("a", 1, "red"), ("b", 2, "red"), ("c", 2, "green")] {
        t.post(
            &t.widgets(),
            &widget(name, json!({ "size": size, "color": color })),
        )
        .await
        .created();
    }
    t.make("d", 1).await;
    let own = format!("metadata.namespace%3D{}", t.namespace);
    for (selector, expected) in [
        ("metadata.name%3Db", vec!["b"]),
        ("metadata.name%21%3Db", vec!["a", "c", "d"]),
        ("spec.color%3Dred", vec!["a", "b"]),
        ("spec.color%3Dblue", vec!["d"]),
        ("spec.color%21%3Dred", vec!["c", "d"]),
        ("spec.size%3D2%2Cspec.color%3Dred", vec!["b"]),
        (own.as_str(), vec!["a", "b", "c", "d"]),
        ("metadata.namespace%3Delsewhere", vec![]),
    ] {
        assert_eq!(
            selected(t, &format!("fieldSelector={selector}")).await,
            expected,
            "{selector}"
        );
    }
}

/// A field that isn't selectable is refused, not taken as matching nothing.
pub(crate) async fn of_an_unselectable_field_is_refused(t: &Bench) {
    t.get(&format!("{}?fieldSelector=spec.note%3Dx", t.widgets()))
        .await
        .refused(400, "BadRequest")
        .saying("field label not supported: spec.note");
    t.get(&format!(
        "{}?fieldSelector=data.a%3D1",
        t.core("configmaps")
    ))
    .await
    .refused(400, "BadRequest")
    .mentioning("data.a");
}

/// Version 0 takes any version, and is answered without waiting.
pub(crate) async fn at_any_version(t: &Bench) {
    t.make("a", 1).await;
    // A cache may be behind, but not for ever.
    t.eventually("the object is listed", async || {
        (selected(t, "resourceVersion=0").await == ["a"]).then_some(())
    })
    .await;
}

/// A version that the server has seen: the list is at least as new.
pub(crate) async fn not_older_than_a_version(t: &Bench) {
    let made = t.make("a", 1).await;
    let list = t
        .get(&format!(
            "{}?resourceVersion={}",
            t.widgets(),
            version(&made)
        ))
        .await
        .ok();
    assert!(version(&list) >= version(&made));
    assert_eq!(names(&list), ["a"]);
}

/// A version that isn't a number is refused.
pub(crate) async fn of_a_bad_version_is_refused(t: &Bench) {
    t.get(&format!("{}?resourceVersion=abc", t.widgets()))
        .await
        .refused(400, "BadRequest")
        .mentioning("abc");
}

/// How to match a version can be said only with a version.
pub(crate) async fn of_a_match_without_version_is_refused(t: &Bench) {
    t.get(&format!(
        "{}?resourceVersionMatch=NotOlderThan",
        t.widgets()
    ))
    .await
    .refused(422, "Invalid")
    .mentioning("resourceVersionMatch is forbidden unless resourceVersion is provided");
}

/// Metadata alone, for one object and for a list.
pub(crate) async fn of_metadata_alone(t: &Bench) {
    let made = t.make("a", 1).await;
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let one = t.get_as(&t.widget("a"), accept).await.ok();
    assert_eq!(one["kind"], "PartialObjectMetadata");
    assert_eq!(one["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(one["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(one.get("spec"), None);

    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = t.get_as(&t.widgets(), accept).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(names(&list), ["a"]);
    assert_eq!(list["items"][0].get("spec"), None);
}
