//! Namespaces: what they are born with, and how they go.

use serde_json::json;

use crate::bench::{Bench, names, unique, widget};

/// A namespace is active, waits for its finalizer, and can be selected by its name.
pub(crate) async fn is_born_active(t: &Bench) {
    let found = t
        .get(&format!("/api/v1/namespaces/{}", t.namespace))
        .await
        .ok();
    assert_eq!(found["status"], json!({ "phase": "Active" }));
    assert_eq!(found["spec"], json!({ "finalizers": ["kubernetes"] }));
    assert_eq!(
        found["metadata"]["labels"],
        json!({ "kubernetes.io/metadata.name": t.namespace })
    );
}

/// The namespaces that every cluster has.
pub(crate) async fn default_is_there(t: &Bench) {
    let found = names(&t.get("/api/v1/namespaces").await.ok());
    for name in ["default", "kube-system"] {
        assert!(found.iter().any(|found| found == name), "{found:?}");
    }
}

/// A deleted namespace goes with what lies in it.
pub(crate) async fn goes_with_its_contents(t: &Bench) {
    let name = unique("going");
    t.new_namespace(&name).await;
    let path = format!("/apis/conformance.test/v1/namespaces/{name}/widgets");
    t.post(&path, &widget("a", json!({ "size": 1 })))
        .await
        .created();
    t.delete_namespace(&name).await;
    assert_eq!(names(&t.get(&path).await.ok()), Vec::<String>::new());
    t.post(&path, &widget("b", json!({ "size": 1 })))
        .await
        .refused(404, "NotFound")
        .about("namespaces", "", &name);
}

/// While something in it waits for a finalizer a namespace is Terminating and takes nothing new.
pub(crate) async fn takes_nothing_while_it_goes(t: &Bench) {
    let name = unique("going");
    t.new_namespace(&name).await;
    let path = format!("/apis/conformance.test/v1/namespaces/{name}/widgets");
    let mut body = widget("held", json!({ "size": 1 }));
    body["metadata"]["finalizers"] = json!(["conformance.test/hold"]);
    t.post(&path, &body).await.created();
    t.delete(&format!("/api/v1/namespaces/{name}"))
        .await
        .accepted();

    t.eventually("the namespace is Terminating", async || {
        let found = t.get(&format!("/api/v1/namespaces/{name}")).await.ok();
        (found["status"]["phase"] == "Terminating").then_some(())
    })
    .await;
    t.post(&path, &widget("b", json!({ "size": 1 })))
        .await
        .refused(403, "Forbidden")
        .saying(&format!(
            "widgets.conformance.test \"b\" is forbidden: unable to create new content in \
             namespace {name} because it is being terminated"
        ))
        .caused_by(&[&format!(
            "NamespaceTerminating metadata.namespace: namespace {name} is being terminated"
        )]);
    let free = json!({ "metadata": { "finalizers": null } });
    t.patch(&format!("{path}/held"), crate::bench::Patch::Merge, &free)
        .await
        .ok();
}

/// Names are DNS labels.
pub(crate) async fn of_a_bad_name_is_refused(t: &Bench) {
    let body = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "a.b" },
    });
    t.post("/api/v1/namespaces", &body)
        .await
        .refused(422, "Invalid")
        .mentioning("metadata.name: Invalid value: \"a.b\"");
}
