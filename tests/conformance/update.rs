//! Replacing an object, and compare-and-swap.

use serde_json::json;

use crate::bench::{Bench, config_map, version, widget};

/// A replaced object has a higher version and, as its spec changed, the next generation.
pub(crate) async fn raises_version_and_generation(t: &Bench) {
    let mut object = t.make("a", 1).await;
    let before = version(&object);
    object["spec"]["size"] = 2.into();
    let after = t.put(&t.widget("a"), &object).await.ok();
    assert!(version(&after) > before);
    assert_eq!(after["metadata"]["generation"], 2);
    assert_eq!(t.get(&t.widget("a")).await.ok(), after);
}

/// Labels and annotations are not part of the generation.
pub(crate) async fn of_metadata_keeps_the_generation(t: &Bench) {
    let mut object = t.make("a", 1).await;
    object["metadata"]["labels"] = json!({ "x": "y" });
    let after = t.put(&t.widget("a"), &object).await.ok();
    assert_eq!(after["metadata"]["generation"], 1);
    assert!(version(&after) > version(&object));
}

/// What changes nothing writes nothing.
pub(crate) async fn of_nothing_keeps_the_version(t: &Bench) {
    let object = t.make("a", 1).await;
    let after = t.put(&t.widget("a"), &object).await.ok();
    assert_eq!(version(&after), version(&object));
}

/// A version that is no longer the object's: nothing is written, and the reason is Conflict.
pub(crate) async fn of_a_stale_version_conflicts(t: &Bench) {
    let stale = t.make("a", 1).await;
    let mut fresh = stale.clone();
    fresh["spec"]["size"] = 2.into();
    t.put(&t.widget("a"), &fresh).await.ok();

    let mut late = stale;
    late["spec"]["size"] = 3.into();
    t.put(&t.widget("a"), &late)
        .await
        .refused(409, "Conflict")
        .saying(
            "Operation cannot be fulfilled on widgets.conformance.test \"a\": the object has been \
             modified; please apply your changes to the latest version and try again",
        )
        .about("widgets", "conformance.test", "a");
    assert_eq!(t.get(&t.widget("a")).await.ok()["spec"]["size"], 2);
}

/// A custom resource is replaced only by one who says which version was read.
pub(crate) async fn of_a_custom_resource_needs_a_version(t: &Bench) {
    t.make("a", 1).await;
    t.put(&t.widget("a"), &widget("a", json!({ "size": 2 })))
        .await
        .refused(422, "Invalid")
        .saying(
            "widgets.conformance.test \"a\" is invalid: metadata.resourceVersion: Invalid value: \
             0: must be specified for an update",
        );
}

/// A ConfigMap may be replaced whatever its version.
pub(crate) async fn of_a_config_map_needs_no_version(t: &Bench) {
    let path = t.core("configmaps");
    t.post(&path, &config_map("a")).await.created();
    let mut body = config_map("a");
    body["data"]["a"] = "2".into();
    let after = t.put(&format!("{path}/a"), &body).await.ok();
    assert_eq!(after["data"]["a"], "2");
}

/// An object that was deleted and made again is another one.
pub(crate) async fn of_another_uid_conflicts(t: &Bench) {
    let first = t.make("a", 1).await;
    t.delete(&t.widget("a")).await.ok();
    let second = t.make("a", 1).await;
    let mut body = second.clone();
    body["metadata"]["uid"] = first["metadata"]["uid"].clone();
    t.put(&t.widget("a"), &body)
        .await
        .refused(409, "Conflict")
        .mentioning("Precondition failed: UID in precondition: ");
}

/// There is no replacing what isn't there.
pub(crate) async fn of_a_missing_object_is_not_found(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["resourceVersion"] = "1".into();
    t.put(&t.widget("a"), &body)
        .await
        .refused(404, "NotFound")
        .saying("widgets.conformance.test \"a\" not found")
        .about("widgets", "conformance.test", "a");
}

/// The name in the body is that of the path.
pub(crate) async fn of_another_name_than_the_paths_is_refused(t: &Bench) {
    let mut object = t.make("a", 1).await;
    object["metadata"]["name"] = "b".into();
    t.put(&t.widget("a"), &object)
        .await
        .refused(400, "BadRequest")
        .saying("the name of the object (b) does not match the name on the URL (a)");
}

/// What the server gave can't be written over.
pub(crate) async fn keeps_what_the_server_gave(t: &Bench) {
    let made = t.make("a", 1).await;
    let mut object = made.clone();
    object["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    object["metadata"]["generation"] = 9.into();
    let after = t.put(&t.widget("a"), &object).await.ok();
    assert_eq!(
        after["metadata"]["creationTimestamp"],
        made["metadata"]["creationTimestamp"]
    );
    assert_eq!(after["metadata"]["generation"], 1);
}

/// Nobody dies by a write.
pub(crate) async fn of_the_deletion_time_is_refused(t: &Bench) {
    let mut object = t.make("a", 1).await;
    object["metadata"]["deletionTimestamp"] = "2001-01-01T00:00:00Z".into();
    t.put(&t.widget("a"), &object)
        .await
        .refused(422, "Invalid")
        .caused_by(&[
            "FieldValueInvalid metadata.deletionTimestamp: Invalid value: \
             \"2001-01-01T00:00:00Z\": field is immutable",
        ]);
}

/// A dry run of a replacement answers what would be, and nothing is.
pub(crate) async fn dry_run_changes_nothing(t: &Bench) {
    let made = t.make("a", 1).await;
    let mut object = made.clone();
    object["spec"]["size"] = 2.into();
    let would = t
        .put(&format!("{}?dryRun=All", t.widget("a")), &object)
        .await
        .ok();
    assert_eq!(would["spec"]["size"], 2);
    assert_eq!(t.get(&t.widget("a")).await.ok(), made);
}
