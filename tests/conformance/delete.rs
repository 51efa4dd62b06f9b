//! Deleting, finalizers, preconditions.

use serde_json::{Value, json};

use crate::bench::{Bench, config_map, names, text, version, widget};

/// A deletion that is done at once says which object it was.
pub(crate) async fn answers_which_object_is_gone(t: &Bench) {
    let made = t.make("a", 1).await;
    let answer = t.delete(&t.widget("a")).await.ok();
    assert_eq!(answer["kind"], "Status");
    assert_eq!(answer["status"], "Success");
    assert_eq!(
        answer["details"],
        json!({
            "name": "a", "group": "conformance.test", "kind": "widgets",
            "uid": made["metadata"]["uid"],
        })
    );
    t.get(&t.widget("a"))
        .await
        .refused(404, "NotFound")
        .saying("widgets.conformance.test \"a\" not found")
        .about("widgets", "conformance.test", "a");
}

/// There is no deleting what isn't there.
pub(crate) async fn of_a_missing_object_is_not_found(t: &Bench) {
    t.delete(&t.widget("a"))
        .await
        .refused(404, "NotFound")
        .about("widgets", "conformance.test", "a");
}

/// A uid as precondition guards against deleting a namesake.
pub(crate) async fn with_another_uid_conflicts(t: &Bench) {
    let made = t.make("a", 1).await;
    let other = "00000000-0000-0000-0000-000000000000";
    t.delete_with(
        &t.widget("a"),
        &json!({ "preconditions": { "uid": other } }),
    )
    .await
    .refused(409, "Conflict")
    .saying(&format!(
        "Operation cannot be fulfilled on Widget.conformance.test \"a\": the UID in the precondition \
         ({other}) does not match the UID in record ({}). The object might have been deleted and \
         then recreated",
        text(&made["metadata"]["uid"])
    ));
    t.get(&t.widget("a")).await.ok();
    let uid = &made["metadata"]["uid"];
    t.delete_with(&t.widget("a"), &json!({ "preconditions": { "uid": uid } }))
        .await
        .ok();
}

/// A version as precondition guards against deleting what one hasn't seen.
pub(crate) async fn with_a_stale_version_conflicts(t: &Bench) {
    let mut object = t.make("a", 1).await;
    let stale = version(&object);
    object["spec"]["size"] = 2.into();
    let fresh = version(&t.put(&t.widget("a"), &object).await.ok());
    let guarded =
        |version: u64| json!({ "preconditions": { "resourceVersion": version.to_string() } });
    t.delete_with(&t.widget("a"), &guarded(stale))
        .await
        .refused(409, "Conflict")
        .saying(&format!(
            "Operation cannot be fulfilled on Widget.conformance.test \"a\": the ResourceVersion in the \
             precondition ({stale}) does not match the ResourceVersion in record ({fresh}). The \
             object might have been modified"
        ));
    t.delete_with(&t.widget("a"), &guarded(fresh)).await.ok();
}

/// An object with finalizers stays until the last of them is taken away.
pub(crate) async fn waits_for_finalizers(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["finalizers"] = json!(["conformance.test/one", "conformance.test/two"]);
    t.post(&t.widgets(), &body).await.created();

    let mut going = t.delete(&t.widget("a")).await.ok();
    assert_eq!(going["kind"], "Widget", "the object itself is the answer");
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(going["metadata"]["generation"], 2);
    assert_eq!(t.get(&t.widget("a")).await.ok(), going);

    going["metadata"]["finalizers"] = json!(["conformance.test/two"]);
    let mut last = t.put(&t.widget("a"), &going).await.ok();
    assert_eq!(
        last["metadata"]["deletionTimestamp"],
        going["metadata"]["deletionTimestamp"]
    );
    last["metadata"]["finalizers"] = json!([]);
    t.put(&t.widget("a"), &last).await.ok();
    t.get(&t.widget("a")).await.refused(404, "NotFound");
}

/// Deleting again what waits for its finalizers changes nothing.
pub(crate) async fn twice_keeps_the_first_time(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    t.post(&t.widgets(), &body).await.created();
    let first = t.delete(&t.widget("a")).await.ok();
    let second = t.delete(&t.widget("a")).await.ok();
    assert_eq!(
        second["metadata"]["deletionTimestamp"],
        first["metadata"]["deletionTimestamp"]
    );
    assert_eq!(version(&second), version(&first));
}

/// A dying object takes no new finalizer, but may change otherwise.
pub(crate) async fn forbids_new_finalizers(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    t.post(&t.widgets(), &body).await.created();
    let mut going = t.delete(&t.widget("a")).await.ok();

    going["spec"]["size"] = 2.into();
    let mut going = t.put(&t.widget("a"), &going).await.ok();
    going["metadata"]["finalizers"] = json!(["conformance.test/one", "conformance.test/new"]);
    t.put(&t.widget("a"), &going)
        .await
        .refused(422, "Invalid")
        .caused_by(&[
            "FieldValueForbidden metadata.finalizers: Forbidden: no new finalizers can be added \
             if the object is being deleted, found new finalizers \
             []string{\"conformance.test/new\"}",
        ]);
}

/// A dying object's name is taken until it is gone.
pub(crate) async fn keeps_the_name_while_finalizers_wait(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["finalizers"] = json!(["conformance.test/one"]);
    t.post(&t.widgets(), &body).await.created();
    t.delete(&t.widget("a")).await.ok();
    t.post(&t.widgets(), &widget("a", json!({ "size": 1 })))
        .await
        .refused(409, "AlreadyExists");
}

/// A dry run deletes nothing.
pub(crate) async fn dry_run_deletes_nothing(t: &Bench) {
    let made = t.make("a", 1).await;
    t.delete(&format!("{}?dryRun=All", t.widget("a")))
        .await
        .ok();
    t.delete_with(&t.widget("a"), &json!({ "dryRun": ["All"] }))
        .await
        .ok();
    assert_eq!(t.get(&t.widget("a")).await.ok(), made);
}

/// What kubectl asks for: dependents are the collector's affair, the object goes at once.
pub(crate) async fn in_the_background_is_done_at_once(t: &Bench) {
    t.make("a", 1).await;
    t.delete_with(
        &t.widget("a"),
        &json!({ "propagationPolicy": "Background", "kind": "DeleteOptions", "apiVersion": "v1" }),
    )
    .await
    .ok();
    t.get(&t.widget("a")).await.refused(404, "NotFound");
}

/// A collection is deleted as far as the selector reaches; the answer lists what went.
pub(crate) async fn of_a_collection_follows_the_selector(t: &Bench) {
    for (name, team) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut body = widget(name, json!({ "size": 1 }));
        body["metadata"]["labels"] = json!({ "team": team });
        t.post(&t.widgets(), &body).await.created();
    }
    let gone = t
        .delete(&format!("{}?labelSelector=team%3Dx", t.widgets()))
        .await
        .ok();
    assert_eq!(gone["kind"], "WidgetList");
    assert_eq!(names(&gone), ["a", "b"]);
    assert_eq!(names(&t.get(&t.widgets()).await.ok()), ["c"]);
}

/// Everything in a collection of a core kind goes, and nothing in another namespace.
pub(crate) async fn of_a_collection_stays_in_its_namespace(t: &Bench) {
    let other = crate::bench::unique("other");
    t.new_namespace(&other).await;
    let elsewhere = format!("/api/v1/namespaces/{other}/configmaps");
    for path in [&t.core("configmaps"), &elsewhere] {
        t.post(path, &config_map("a")).await.created();
    }
    t.delete(&t.core("configmaps")).await.ok();
    assert_eq!(
        names(&t.get(&t.core("configmaps")).await.ok()),
        Vec::<String>::new()
    );
    assert_eq!(names(&t.get(&elsewhere).await.ok()), ["a"]);
}

/// A finalizer's name is qualified, or it is refused.
pub(crate) async fn finalizer_of_a_bad_name_is_refused(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["finalizers"] = json!(["not a name"]);
    let told = t
        .post(&t.widgets(), &body)
        .await
        .refused(422, "Invalid")
        .mentioning("metadata.finalizers: Invalid value: \"not a name\"");
    assert_ne!(told.message(), Value::Null);
}
