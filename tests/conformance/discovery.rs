//! What a client can find out about a server.

use serde_json::{Value, json};

use crate::bench::{Bench, text};

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["name"] == name || entry["resource"] == name)
        .unwrap_or_else(|| panic!("{name} is not in {list}"))
}

fn sorted(list: &Value) -> Vec<String> {
    let mut texts: Vec<String> = list.as_array().unwrap().iter().map(text).collect();
    texts.sort();
    texts
}

/// A group lists its kinds with everything kubectl needs to know of them.
pub(crate) async fn of_a_custom_group(t: &Bench) {
    let list = t.get("/apis/conformance.test/v1").await.ok();
    assert_eq!(list["kind"], "APIResourceList");
    assert_eq!(list["groupVersion"], "conformance.test/v1");
    let widgets = named(&list["resources"], "widgets");
    assert_eq!(widgets["kind"], "Widget");
    assert_eq!(widgets["singularName"], "widget");
    assert_eq!(widgets["namespaced"], true);
    assert_eq!(widgets["shortNames"], json!(["wg"]));
    assert_eq!(widgets["categories"], json!(["workshop"]));
    assert_eq!(
        sorted(&widgets["verbs"]),
        [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch"
        ]
    );
    let status = named(&list["resources"], "widgets/status");
    assert_eq!(sorted(&status["verbs"]), ["get", "patch", "update"]);
    assert_eq!(named(&list["resources"], "gadgets")["namespaced"], false);
}

/// The groups, their versions and which one is preferred.
pub(crate) async fn of_groups(t: &Bench) {
    let groups = t.get("/apis").await.ok();
    assert_eq!(groups["kind"], "APIGroupList");
    let group = named(&groups["groups"], "conformance.test");
    assert_eq!(
        group["preferredVersion"],
        json!({ "groupVersion": "conformance.test/v1", "version": "v1" })
    );
    let versions: Vec<String> = group["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| text(&version["version"]))
        .collect();
    assert_eq!(versions, ["v1", "v1beta1"]);
    for name in [
        "apiextensions.k8s.io",
        "coordination.k8s.io",
        "events.k8s.io",
    ] {
        named(&groups["groups"], name);
    }
    let one = t.get("/apis/conformance.test").await.ok();
    assert_eq!(one["kind"], "APIGroup");
    assert_eq!(one["name"], "conformance.test");
    let core = t.get("/api").await.ok();
    assert_eq!(core["kind"], "APIVersions");
    assert_eq!(core["versions"], json!(["v1"]));
}

/// The kinds of the core group that this project uses.
pub(crate) async fn of_the_core_group(t: &Bench) {
    let list = t.get("/api/v1").await.ok();
    for (plural, kind, short, namespaced) in [
        ("namespaces", "Namespace", json!(["ns"]), false),
        ("configmaps", "ConfigMap", json!(["cm"]), true),
        ("secrets", "Secret", Value::Null, true),
        ("events", "Event", json!(["ev"]), true),
    ] {
        let found = named(&list["resources"], plural);
        assert_eq!(found["kind"], kind);
        assert_eq!(found["shortNames"], short, "{plural}");
        assert_eq!(found["namespaced"], namespaced, "{plural}");
    }
}

/// Everything in two requests, as kubectl asks.
pub(crate) async fn aggregated(t: &Bench) {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let list = t.get_as("/apis", accept).await.ok();
    assert_eq!(list["kind"], "APIGroupDiscoveryList");
    assert_eq!(list["apiVersion"], "apidiscovery.k8s.io/v2");
    let group = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["metadata"]["name"] == "conformance.test")
        .expect("the group");
    let version = &group["versions"][0];
    assert_eq!(version["version"], "v1");
    let widgets = named(&version["resources"], "widgets");
    assert_eq!(
        widgets["responseKind"],
        json!({ "group": "conformance.test", "version": "v1", "kind": "Widget" })
    );
    assert_eq!(widgets["scope"], "Namespaced");
    assert_eq!(widgets["singularResource"], "widget");
    assert_eq!(widgets["shortNames"], json!(["wg"]));
    assert_eq!(widgets["categories"], json!(["workshop"]));
    assert_eq!(widgets["subresources"][0]["subresource"], "status");
    let core = t.get_as("/api", accept).await.ok();
    assert_eq!(core["items"][0]["versions"][0]["version"], "v1");
}

/// The version that the server claims.
pub(crate) async fn of_the_version(t: &Bench) {
    let version = t.get("/version").await.ok();
    assert_eq!(version["major"], "1");
    assert_eq!(text(&version["minor"]).trim_end_matches('+'), "34");
    assert!(
        text(&version["gitVersion"]).starts_with("v1.34."),
        "{version}"
    );
}

/// The schemas by group, from which `kubectl explain` reads.
pub(crate) async fn openapi_v3(t: &Bench) {
    let path = t
        .eventually("the group is in the index", async || {
            let index = t.get("/openapi/v3").await.ok();
            let url = text(&index["paths"]["apis/conformance.test/v1"]["serverRelativeURL"]);
            (!url.is_empty()).then_some(url)
        })
        .await;
    let document = t.get(&path).await.ok();
    assert!(text(&document["openapi"]).starts_with("3.0"));
    let schema = &document["components"]["schemas"]["test.conformance.v1.Widget"];
    assert_eq!(schema["description"], "A thing that is made.");
    assert_eq!(
        schema["x-kubernetes-group-version-kind"],
        json!([{ "group": "conformance.test", "kind": "Widget", "version": "v1" }])
    );
    let size = &schema["properties"]["spec"]["properties"]["size"];
    assert_eq!(size["description"], "How large it is.");
    assert_eq!(size["type"], "integer");
    let operation = &document["paths"]["/apis/conformance.test/v1/namespaces/{namespace}/widgets"]
        ["post"]["x-kubernetes-group-version-kind"];
    assert_eq!(operation["kind"], "Widget");
}

/// Whether the server lives and is ready.
pub(crate) async fn of_health(t: &Bench) {
    for path in ["/livez", "/readyz", "/healthz"] {
        let answer = t.get(path).await;
        assert_eq!((answer.code, answer.text.as_str()), (200, "ok"), "{path}");
    }
}
