//! The status subresource is apart from the rest of the object.

use serde_json::json;

use crate::bench::{Bench, Patch, UNCHECKED, unique, version, widget};

/// A creation leaves the status out.
pub(crate) async fn is_not_created_with_the_object(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["status"] = json!({ "phase": "Done" });
    let made = t.post(&t.widgets(), &body).await.created();
    assert_eq!(made.get("status"), None);
}

/// A write to the object leaves the status as it is.
pub(crate) async fn is_not_changed_with_the_object(t: &Bench) {
    t.make("a", 1).await;
    let phase = json!({ "status": { "phase": "Made" } });
    let path = format!("{}/status", t.widget("a"));
    let mut object = t.patch(&path, Patch::Merge, &phase).await.ok();
    object["status"]["phase"] = "Other".into();
    object["spec"]["size"] = 2.into();
    let after = t.put(&t.widget("a"), &object).await.ok();
    assert_eq!(after["status"]["phase"], "Made");
    assert_eq!(after["spec"]["size"], 2);
    let other = json!({ "status": { "phase": "Other" }, "spec": { "size": 3 } });
    let after = t.patch(&t.widget("a"), Patch::Merge, &other).await.ok();
    assert_eq!(after["status"]["phase"], "Made");
    assert_eq!(after["spec"]["size"], 3);
}

/// A write to the status leaves all else as it is, labels and generation included.
pub(crate) async fn changes_alone(t: &Bench) {
    let mut object = t.make("a", 1).await;
    object["status"] = json!({ "phase": "Made" });
    object["spec"]["size"] = 2.into();
    object["metadata"]["labels"] = json!({ "x": "y" });
    let path = format!("{}/status", t.widget("a"));
    let after = t.put(&path, &object).await.ok();
    assert_eq!(after["status"], json!({ "phase": "Made" }));
    assert_eq!(after["spec"]["size"], 1);
    assert_eq!(after["metadata"].get("labels"), None);
    assert_eq!(after["metadata"]["generation"], 1);
    assert!(version(&after) > version(&object));
    assert_eq!(t.get(&path).await.ok(), after, "status can be read alone");
}

/// Status writes compare versions as others do.
pub(crate) async fn of_a_stale_version_conflicts(t: &Bench) {
    let stale = t.make("a", 1).await;
    let path = format!("{}/status", t.widget("a"));
    let mut body = stale.clone();
    body["status"] = json!({ "phase": "One" });
    t.put(&path, &body).await.ok();
    body["status"] = json!({ "phase": "Two" });
    t.put(&path, &body)
        .await
        .refused(409, "Conflict")
        .mentioning("the object has been modified");
}

/// Status writes are validated, and only the status is.
pub(crate) async fn is_validated(t: &Bench) {
    t.make("a", 1).await;
    let path = format!("{}/status", t.widget("a"));
    let wrong = json!({ "status": { "conditions": [{ "type": "Ready" }] } });
    t.patch(&path, Patch::Merge, &wrong)
        .await
        .refused(422, "Invalid")
        .caused_by(&[
            "FieldValueRequired status.conditions[0].status: Required value",
            UNCHECKED,
        ]);
}

/// A JSON patch to the status works where there was none.
pub(crate) async fn takes_a_json_patch(t: &Bench) {
    t.make("a", 1).await;
    let path = format!("{}/status", t.widget("a"));
    let patch = json!([{ "op": "add", "path": "/status", "value": { "phase": "Made" } }]);
    let after = t.patch(&path, Patch::Json, &patch).await.ok();
    assert_eq!(after["status"]["phase"], "Made");
}

/// Without the subresource the status is a field like others, and has no address.
pub(crate) async fn without_the_subresource_is_a_field(t: &Bench) {
    let name = unique("gadget");
    let body = json!({
        "apiVersion": "conformance.test/v1", "kind": "Gadget",
        "metadata": { "name": name }, "status": { "phase": "Made" },
    });
    let made = t
        .post("/apis/conformance.test/v1/gadgets", &body)
        .await
        .created();
    assert_eq!(made["status"]["phase"], "Made");
    let path = format!("/apis/conformance.test/v1/gadgets/{name}");
    t.get(&format!("{path}/status"))
        .await
        .refused(404, "NotFound")
        .about("gadgets", "conformance.test", &name);
    t.delete(&path).await.ok();
}
