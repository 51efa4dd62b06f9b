//! Creating, and names.

use http::Method;
use serde_json::{Value, json};

use crate::bench::{Bench, UNCHECKED, config_map, text, version, widget};

/// The server adds what identifies an object, and its first generation.
pub(crate) async fn fills_in_metadata(t: &Bench) {
    let made = t.make("a", 1).await;
    let metadata = &made["metadata"];
    assert_eq!(made["apiVersion"], "conformance.test/v1");
    assert_eq!(made["kind"], "Widget");
    assert_eq!(metadata["namespace"], t.namespace.as_str());
    assert_eq!(metadata["generation"], 1);
    assert_eq!(text(&metadata["uid"]).len(), 36);
    assert!(version(&made) > 0);
    let created: jiff::Timestamp = text(&metadata["creationTimestamp"]).parse().unwrap();
    assert_eq!(created.subsec_nanosecond(), 0, "whole seconds");
}

/// What was created is what a get answers.
pub(crate) async fn is_what_get_answers(t: &Bench) {
    let made = t.make("a", 1).await;
    assert_eq!(t.get(&t.widget("a")).await.ok(), made);
}

/// A caller can't choose what identifies an object.
pub(crate) async fn ignores_identity_from_the_caller(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    body["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    body["metadata"]["generation"] = 7.into();
    let made = t.post(&t.widgets(), &body).await.created();
    assert_ne!(made["metadata"]["uid"], body["metadata"]["uid"]);
    assert_ne!(
        made["metadata"]["creationTimestamp"],
        body["metadata"]["creationTimestamp"]
    );
    assert_eq!(made["metadata"]["generation"], 1);
}

/// A resource version belongs to an object that exists.
pub(crate) async fn with_a_resource_version_is_refused(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["resourceVersion"] = "5".into();
    t.post(&t.widgets(), &body)
        .await
        .refused(500, "")
        .saying("resourceVersion should not be set on objects to be created");
}

/// The second of a name is told so by a reason of its own, not by any 409.
pub(crate) async fn of_a_taken_name_is_already_exists(t: &Bench) {
    t.make("a", 1).await;
    t.post(&t.widgets(), &widget("a", json!({ "size": 2 })))
        .await
        .refused(409, "AlreadyExists")
        .saying("widgets.conformance.test \"a\" already exists")
        .about("widgets", "conformance.test", "a");
    t.post(&t.core("configmaps"), &config_map("a"))
        .await
        .created();
    t.post(&t.core("configmaps"), &config_map("a"))
        .await
        .refused(409, "AlreadyExists")
        .saying("configmaps \"a\" already exists")
        .about("configmaps", "", "a");
}

/// A name or a prefix of one is needed.
pub(crate) async fn without_a_name_is_refused(t: &Bench) {
    let body = json!({
        "apiVersion": "conformance.test/v1", "kind": "Widget", "spec": { "size": 1 },
    });
    t.post(&t.widgets(), &body)
        .await
        .refused(422, "Invalid")
        .caused_by(&[
            "FieldValueRequired metadata.name: Required value: name or generateName is required",
            UNCHECKED,
        ]);
}

/// Names are DNS subdomains.
pub(crate) async fn of_a_bad_name_is_refused(t: &Bench) {
    let told = t
        .post(&t.widgets(), &widget("Not_A_Name", json!({ "size": 1 })))
        .await
        .refused(422, "Invalid")
        .mentioning("metadata.name: Invalid value: \"Not_A_Name\"");
    assert!(
        told.message()
            .contains("a lowercase RFC 1123 subdomain must consist of"),
        "{}",
        told.message()
    );
}

/// A prefix is completed by five characters.
pub(crate) async fn generates_a_name(t: &Bench) {
    let body = json!({
        "apiVersion": "conformance.test/v1", "kind": "Widget",
        "metadata": { "generateName": "made-" }, "spec": { "size": 1 },
    });
    let first = t.post(&t.widgets(), &body).await.created();
    let second = t.post(&t.widgets(), &body).await.created();
    let names = [&first, &second].map(|made| text(&made["metadata"]["name"]));
    assert_ne!(names[0], names[1]);
    for name in names {
        assert!(name.starts_with("made-"), "{name}");
        assert_eq!(name.len(), "made-".len() + 5, "{name}");
    }
    assert_eq!(first["metadata"]["generateName"], "made-");
}

/// A namespace that isn't there is what the 404 names.
pub(crate) async fn in_an_absent_namespace_names_the_namespace(t: &Bench) {
    t.post(
        "/apis/conformance.test/v1/namespaces/nowhere/widgets",
        &widget("a", json!({ "size": 1 })),
    )
    .await
    .refused(404, "NotFound")
    .saying("namespaces \"nowhere\" not found")
    .about("namespaces", "", "nowhere");
    t.post("/api/v1/namespaces/nowhere/configmaps", &config_map("a"))
        .await
        .refused(404, "NotFound")
        .saying("namespaces \"nowhere\" not found")
        .about("namespaces", "", "nowhere");
}

/// The namespace in the body, where there is one, is that of the path.
pub(crate) async fn in_another_namespace_than_the_paths_is_refused(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["namespace"] = "default".into();
    t.post(&t.widgets(), &body)
        .await
        .refused(400, "BadRequest")
        .saying(
            "the namespace of the provided object does not match the namespace sent on the request",
        );
}

/// The kind in the body is that of the path.
pub(crate) async fn of_another_kind_is_refused(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["kind"] = "Gadget".into();
    t.post(&t.widgets(), &body)
        .await
        .refused(422, "Invalid")
        .saying(
            "Gadget.conformance.test \"a\" is invalid: kind: Invalid value: \"Gadget\": must be \
             Widget",
        );
}

/// What is no JSON is refused before anything else is looked at.
pub(crate) async fn of_no_json_is_refused(t: &Bench) {
    let headers = [("content-type", "application/json")];
    for body in ["{", "[]", "null", "\"a\"", ""] {
        let answer = t
            .send(Method::POST, &t.widgets(), &headers, Some(body.to_owned()))
            .await;
        answer.refused(400, "BadRequest");
    }
}

/// A content type that the server can't read is 415.
pub(crate) async fn of_an_unknown_content_type_is_refused(t: &Bench) {
    let headers = [("content-type", "text/plain")];
    let body = widget("a", json!({ "size": 1 })).to_string();
    t.send(Method::POST, &t.widgets(), &headers, Some(body))
        .await
        .refused(415, "UnsupportedMediaType")
        .mentioning(
            "the body of the request was in an unknown format - accepted media types include",
        );
}

/// YAML is read as JSON is.
pub(crate) async fn of_yaml_is_taken(t: &Bench) {
    let headers = [("content-type", "application/yaml")];
    let body =
        "apiVersion: conformance.test/v1\nkind: Widget\nmetadata:\n  name: a\nspec:\n  size: 3\n";
    let made = t
        .send(Method::POST, &t.widgets(), &headers, Some(body.to_owned()))
        .await
        .created();
    assert_eq!(made["spec"]["size"], 3);
}

/// A dry run answers what would be, and nothing is.
pub(crate) async fn dry_run_leaves_nothing(t: &Bench) {
    let path = format!("{}?dryRun=All", t.widgets());
    let would = t
        .post(&path, &widget("a", json!({ "size": 1 })))
        .await
        .created();
    assert_eq!(would["spec"]["color"], "blue", "defaults are filled in");
    assert_eq!(text(&would["metadata"]["uid"]).len(), 36);
    assert_eq!(would["metadata"]["resourceVersion"], Value::Null);
    t.get(&t.widget("a")).await.refused(404, "NotFound");
}

/// A dry run refuses what a real one would.
pub(crate) async fn dry_run_validates(t: &Bench) {
    t.make("a", 1).await;
    let path = format!("{}?dryRun=All", t.widgets());
    t.post(&path, &widget("a", json!({ "size": 1 })))
        .await
        .refused(409, "AlreadyExists");
    t.post(&path, &widget("b", json!({ "size": 101 })))
        .await
        .refused(422, "Invalid");
}

/// Only `All` is a dry run; a word that isn't known must not write for real.
pub(crate) async fn dry_run_of_another_word_is_refused(t: &Bench) {
    let path = format!("{}?dryRun=Some", t.widgets());
    t.post(&path, &widget("a", json!({ "size": 1 })))
        .await
        .refused(422, "Invalid")
        .caused_by(&[
            "FieldValueNotSupported dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ]);
    t.get(&t.widget("a")).await.refused(404, "NotFound");
}

/// A cluster-scoped kind has no namespace, and both of its versions show the same object.
pub(crate) async fn cluster_scoped_and_in_two_versions(t: &Bench) {
    let name = crate::bench::unique("gadget");
    let body = json!({
        "apiVersion": "conformance.test/v1beta1", "kind": "Gadget",
        "metadata": { "name": name }, "spec": { "free": [1, { "deep": null }] },
    });
    let answer = t
        .post("/apis/conformance.test/v1beta1/gadgets", &body)
        .await;
    assert_eq!(
        answer.warnings(),
        ["299 - \"conformance.test/v1beta1 Gadget is deprecated; use conformance.test/v1 Gadget\""]
    );
    let made = answer.created();
    assert_eq!(made["metadata"]["namespace"], Value::Null);
    assert_eq!(made["apiVersion"], "conformance.test/v1beta1");

    let path = format!("/apis/conformance.test/v1/gadgets/{name}");
    let mut found = t.get(&path).await.ok();
    assert_eq!(found["apiVersion"], "conformance.test/v1");
    found["apiVersion"] = made["apiVersion"].clone();
    assert_eq!(found, made);
    t.delete(&path).await.ok();
}
