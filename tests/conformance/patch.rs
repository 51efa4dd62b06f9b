//! Patches: JSON, merge, strategic merge.

use http::Method;
use serde_json::{Value, json};

use crate::bench::{Bench, Patch, config_map, version, widget};

/// A merge patch sets, removes by null and replaces whole arrays.
pub(crate) async fn merge(t: &Bench) {
    t.post(
        &t.widgets(),
        &widget(
            "a",
            json!({ "size": 1, "note": "old", "colors": ["x", "y"], "tags": { "k": "1", "l": "2" } }),
        ),
    )
    .await
    .created();
    let patch = json!({
        "spec": { "size": 2, "note": null, "colors": ["z"], "tags": { "k": "9" } },
    });
    let after = t.patch(&t.widget("a"), Patch::Merge, &patch).await.ok();
    assert_eq!(
        after["spec"],
        json!({ "size": 2, "color": "blue", "colors": ["z"], "tags": { "k": "9", "l": "2" } })
    );
    assert_eq!(after["metadata"]["generation"], 2);
}

/// A JSON patch does its operations in order.
pub(crate) async fn json(t: &Bench) {
    t.post(
        &t.widgets(),
        &widget("a", json!({ "size": 1, "note": "old", "colors": ["x"] })),
    )
    .await
    .created();
    let patch = json!([
        { "op": "test", "path": "/spec/size", "value": 1 },
        { "op": "replace", "path": "/spec/size", "value": 2 },
        { "op": "remove", "path": "/spec/note" },
        { "op": "add", "path": "/spec/colors/-", "value": "y" },
        { "op": "add", "path": "/spec/colors/0", "value": "w" },
        { "op": "copy", "from": "/spec/size", "path": "/spec/min" },
    ]);
    let after = t.patch(&t.widget("a"), Patch::Json, &patch).await.ok();
    assert_eq!(
        after["spec"],
        json!({ "size": 2, "min": 2, "color": "blue", "colors": ["w", "x", "y"] })
    );
}

/// A test that fails stops the whole patch.
pub(crate) async fn json_test_guards(t: &Bench) {
    let made = t.make("a", 1).await;
    let patch = json!([
        { "op": "replace", "path": "/spec/size", "value": 2 },
        { "op": "test", "path": "/spec/color", "value": "red" },
    ]);
    t.patch(&t.widget("a"), Patch::Json, &patch)
        .await
        .refused(422, "Invalid");
    assert_eq!(t.get(&t.widget("a")).await.ok(), made);
}

/// An operation on what isn't there is refused.
pub(crate) async fn json_of_a_missing_path_is_refused(t: &Bench) {
    t.make("a", 1).await;
    let patch = json!([{ "op": "remove", "path": "/spec/note" }]);
    t.patch(&t.widget("a"), Patch::Json, &patch)
        .await
        .refused(422, "Invalid");
}

/// What is no patch is refused.
pub(crate) async fn of_a_wrong_form_is_refused(t: &Bench) {
    t.make("a", 1).await;
    t.patch(&t.widget("a"), Patch::Json, &json!({ "spec": {} }))
        .await
        .refused(400, "BadRequest");
    for body in ["{", "[]", "3"] {
        let headers = [("content-type", "application/merge-patch+json")];
        t.send(Method::PATCH, &t.widget("a"), &headers, Some(body.into()))
            .await
            .refused(400, "BadRequest");
    }
}

/// A version in a merge patch is a precondition.
pub(crate) async fn merge_of_a_stale_version_conflicts(t: &Bench) {
    let made = t.make("a", 1).await;
    let resize = |size: u32, version: &Value| json!({ "metadata": { "resourceVersion": version }, "spec": { "size": size } });
    let stale = &made["metadata"]["resourceVersion"];
    t.patch(&t.widget("a"), Patch::Merge, &resize(2, stale))
        .await
        .ok();
    t.patch(&t.widget("a"), Patch::Merge, &resize(3, stale))
        .await
        .refused(409, "Conflict")
        .mentioning("the object has been modified");
}

/// A uid can't be patched, so that a patch with one guards against a namesake.
pub(crate) async fn merge_of_another_uid_is_refused(t: &Bench) {
    t.make("a", 1).await;
    let patch = json!({
        "metadata": { "uid": "00000000-0000-0000-0000-000000000000" }, "spec": { "size": 2 },
    });
    t.patch(&t.widget("a"), Patch::Merge, &patch)
        .await
        .refused(422, "Invalid")
        .caused_by(&["FieldValueInvalid metadata.uid: Invalid value: \
             \"00000000-0000-0000-0000-000000000000\": field is immutable"]);
}

/// A patch that changes nothing writes nothing.
pub(crate) async fn of_nothing_keeps_the_version(t: &Bench) {
    let made = t.make("a", 1).await;
    let same = json!({ "spec": { "size": 1 } });
    let after = t.patch(&t.widget("a"), Patch::Merge, &same).await.ok();
    assert_eq!(version(&after), version(&made));
}

/// There is no patching what isn't there.
pub(crate) async fn of_a_missing_object_is_not_found(t: &Bench) {
    t.patch(&t.widget("a"), Patch::Merge, &json!({}))
        .await
        .refused(404, "NotFound")
        .about("widgets", "conformance.test", "a");
}

/// The result is validated like any other object.
pub(crate) async fn is_validated(t: &Bench) {
    t.make("a", 1).await;
    let large = json!({ "spec": { "size": 101 } });
    t.patch(&t.widget("a"), Patch::Merge, &large)
        .await
        .refused(422, "Invalid")
        .caused_by(&[
            "FieldValueInvalid spec.size: Invalid value: 101: spec.size in body should be less \
             than or equal to 100",
        ]);
}

/// A dry run of a patch answers what would be, and nothing is.
pub(crate) async fn dry_run_changes_nothing(t: &Bench) {
    let made = t.make("a", 1).await;
    let resize = json!({ "spec": { "size": 2 } });
    let path = format!("{}?dryRun=All", t.widget("a"));
    let would = t.patch(&path, Patch::Merge, &resize).await.ok();
    assert_eq!(would["spec"]["size"], 2);
    assert_eq!(t.get(&t.widget("a")).await.ok(), made);
}

/// A strategic merge patch needs to know the type: custom resources have none.
pub(crate) async fn strategic_of_a_custom_resource_is_unsupported(t: &Bench) {
    t.make("a", 1).await;
    t.patch(&t.widget("a"), Patch::Strategic, &json!({}))
        .await
        .refused(415, "UnsupportedMediaType")
        .mentioning(
            "the body of the request was in an unknown format - accepted media types include",
        );
}

/// On a core kind it merges maps, by null removes, and merges lists that say so.
pub(crate) async fn strategic_of_a_config_map(t: &Bench) {
    let path = format!("{}/a", t.core("configmaps"));
    let mut body = config_map("a");
    body["data"] = json!({ "a": "1", "b": "2" });
    body["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    t.post(&t.core("configmaps"), &body).await.created();

    let patch = json!({
        "data": { "a": null, "c": "3" },
        "metadata": { "finalizers": ["conformance.test/two"], "labels": { "x": "y" } },
    });
    let after = t.patch(&path, Patch::Strategic, &patch).await.ok();
    assert_eq!(after["data"], json!({ "b": "2", "c": "3" }));
    assert_eq!(after["metadata"]["labels"], json!({ "x": "y" }));
    let mut finalizers: Vec<&str> = after["metadata"]["finalizers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    finalizers.sort_unstable();
    assert_eq!(
        finalizers,
        ["conformance.test/one", "conformance.test/two"],
        "merged, not replaced"
    );

    let patch = json!({
        "metadata": { "$deleteFromPrimitiveList/finalizers": ["conformance.test/one"] },
    });
    let after = t.patch(&path, Patch::Strategic, &patch).await.ok();
    assert_eq!(
        after["metadata"]["finalizers"],
        json!(["conformance.test/two"])
    );
    let none = json!({ "metadata": { "finalizers": null } });
    t.patch(&path, Patch::Strategic, &none).await.ok();
    t.delete(&path).await.ok();
}

/// Owners are merged by their uid.
pub(crate) async fn strategic_merges_owners_by_uid(t: &Bench) {
    let path = format!("{}/a", t.core("configmaps"));
    let owner = |uid: &str, name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid });
    let mut body = config_map("a");
    body["metadata"]["ownerReferences"] = json!([owner("u1", "first")]);
    t.post(&t.core("configmaps"), &body).await.created();
    let patch = json!({
        "metadata": { "ownerReferences": [owner("u2", "second"), { "uid": "u1", "name": "renamed" }] },
    });
    let after = t.patch(&path, Patch::Strategic, &patch).await.ok();
    let mut owners: Vec<(&Value, &Value)> = after["metadata"]["ownerReferences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|owner| (&owner["uid"], &owner["name"]))
        .collect();
    owners.sort_by_key(|(uid, _)| uid.to_string());
    assert_eq!(
        owners,
        [
            (&json!("u1"), &json!("renamed")),
            (&json!("u2"), &json!("second"))
        ]
    );
}
