//! The embedded API through an ordinary `kube::Client`.

mod durable;
mod power;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{ConfigMap, Event, Namespace, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResourceExt, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
        Preconditions, WatchEvent, WatchParams,
    },
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use zen_fabric::{
    api::{Ingestor, Observation},
    embedded::{
        Handle, Server,
        faults::{Fault, On, Verb},
    },
    ops::{tasks::Tasks, time::SystemClock},
};

/// What a loaded machine may take for a step that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

fn server() -> Handle {
    Server::in_memory(Arc::new(SystemClock), &Tasks::new())
}

fn widget_crd() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.test.zen.io"},
        "spec": {
            "group": "test.zen.io",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["zen"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
                    {"name": "Ready", "type": "string",
                     "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "required": ["size"],
                            "properties": {
                                "size": {"type": "integer", "minimum": 1, "maximum": 9},
                                "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                            "x-kubernetes-validations": [
                                {"rule": "self.size != 7", "message": "seven is taken"},
                                {"rule": "self.size >= oldSelf.size", "message": "size never falls"}]},
                        "status": {"type": "object", "properties": {
                            "seen": {"type": "integer"},
                            "conditions": {"type": "array", "items": {
                                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}
                }}}],
        }
    })
}

async fn with_widgets(server: &Handle) -> Api<DynamicObject> {
    let client = server.client();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = serde_json::from_value(widget_crd()).unwrap();
    crds.create(&PostParams::default(), &crd).await.unwrap();
    widgets(client, "default")
}

fn widgets(client: Client, namespace: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("test.zen.io", "v1", "Widget");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "widgets");
    Api::namespaced_with(client, namespace, &resource)
}

fn widget(name: &str, spec: impl Into<Value>) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "test.zen.io/v1", "kind": "Widget",
        "metadata": {"name": name}, "spec": spec.into(),
    }))
    .unwrap()
}

async fn create_strict<T: serde::Serialize + Sync>(
    client: &Client,
    path: &str,
    object: &T,
) -> Result<Value, kube::Error> {
    let request = http::Request::post(format!("{path}?fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
    client.request(request).await
}

fn status_of<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> kube::core::Status {
    let error = result.unwrap_err();
    let kube::Error::Api(status) = error else {
        panic!("{error:?}");
    };
    *status
}

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let server = server();
    let api = with_widgets(&server).await;
    let created = api
        .create(
            &PostParams::default(),
            &widget("a", json!({"size": 1, "unknown": true})),
        )
        .await
        .unwrap();
    assert_eq!(created.data["spec"], json!({"size": 1, "color": "red"}));
    assert_eq!(created.metadata.generation, Some(1));
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());

    let mut changed = created.clone();
    changed.data["spec"]["size"] = json!(2);
    changed.data["status"] = json!({"seen": 9});
    let changed = api
        .replace("a", &PostParams::default(), &changed)
        .await
        .unwrap();
    assert_eq!(changed.metadata.generation, Some(2));
    assert_eq!(
        changed.data.get("status"),
        None,
        "the main endpoint leaves status alone"
    );

    let stale = api.replace("a", &PostParams::default(), &created).await;
    let status = status_of(stale);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));

    let patch = Patch::Merge(json!({"status": {"seen": 3}, "spec": {"size": 5}}));
    let patched = api
        .patch_status("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(patched.data["status"]["seen"], 3);
    assert_eq!(
        patched.data["spec"]["size"], 2,
        "the status endpoint leaves spec alone"
    );
    assert_eq!(patched.metadata.generation, Some(2));

    assert!(
        api.delete("a", &DeleteParams::default())
            .await
            .unwrap()
            .is_right()
    );
    let status = status_of(api.get("a").await);
    assert_eq!(status.message, "widgets.test.zen.io \"a\" not found");
}

#[tokio::test]
async fn bad_objects_are_refused_with_causes() {
    let server = server();
    let api = with_widgets(&server).await;
    let status = status_of(
        api.create(
            &PostParams::default(),
            &widget("a", json!({"color": "blue"})),
        )
        .await,
    );
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let fields: Vec<_> = status
        .details
        .unwrap()
        .causes
        .iter()
        .map(|cause| cause.field.clone())
        .collect();
    assert_eq!(fields, ["spec.size", "spec.color", "<nil>"]);

    let status = status_of(
        api.create(&PostParams::default(), &widget("a", json!({"size": 7})))
            .await,
    );
    assert_eq!(
        status.message,
        "Widget.test.zen.io \"a\" is invalid: spec: Invalid value: \"object\": seven is taken"
    );
    let status = status_of(
        create_strict(
            &server.client(),
            "/apis/test.zen.io/v1/namespaces/default/widgets",
            &widget("a", json!({"size": 1, "x": 1})),
        )
        .await,
    );
    assert_eq!(status.code, 400);
    assert!(
        status
            .message
            .contains("strict decoding error: unknown field \"spec.x\""),
        "{}",
        status.message
    );

    api.create(&PostParams::default(), &widget("a", json!({"size": 5})))
        .await
        .unwrap();
    let shrink = Patch::Merge(json!({"spec": {"size": 4}}));
    let status = status_of(api.patch("a", &PatchParams::default(), &shrink).await);
    assert!(
        status.message.contains("size never falls"),
        "{}",
        status.message
    );
    let twice = status_of(
        api.create(&PostParams::default(), &widget("a", json!({"size": 5})))
            .await,
    );
    assert_eq!((twice.code, twice.reason.as_str()), (409, "AlreadyExists"));
    let absent = widgets(server.client(), "nowhere");
    let status = status_of(
        absent
            .create(&PostParams::default(), &widget("a", json!({"size": 5})))
            .await,
    );
    assert_eq!(
        (status.code, status.message.as_str()),
        (404, "namespaces \"nowhere\" not found")
    );
    assert_eq!(status.details.unwrap().kind, "namespaces");
}

#[tokio::test]
async fn a_watch_shows_every_change_in_order_from_any_known_version() {
    let server = server();
    let api = with_widgets(&server).await;
    let start = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    for size in 1..=3 {
        api.create(
            &PostParams::default(),
            &widget(&format!("w{size}"), json!({"size": size})),
        )
        .await
        .unwrap();
    }
    let green = Patch::Merge(json!({"spec": {"color": "green"}}));
    api.patch("w2", &PatchParams::default(), &green)
        .await
        .unwrap();
    api.delete("w1", &DeleteParams::default()).await.unwrap();

    let params = WatchParams::default().timeout(200);
    let seen = take(&api, &params, &start, 5).await;
    assert_eq!(
        seen,
        [
            "ADDED w1",
            "ADDED w2",
            "ADDED w3",
            "MODIFIED w2",
            "DELETED w1"
        ]
    );
    let params = WatchParams::default()
        .fields("spec.color=green")
        .timeout(200);
    assert_eq!(take(&api, &params, &start, 1).await, ["ADDED w2"]);
    let red = WatchParams::default().fields("spec.color=red").timeout(200);
    let seen = take(&api, &red, &start, 5).await;
    assert_eq!(
        seen,
        [
            "ADDED w1",
            "ADDED w2",
            "ADDED w3",
            "DELETED w2",
            "DELETED w1"
        ]
    );
}

async fn take(
    api: &Api<DynamicObject>,
    params: &WatchParams,
    from: &str,
    count: usize,
) -> Vec<String> {
    let stream = api.watch(params, from).await.unwrap();
    let seen = stream
        .map_ok(|event| match event {
            WatchEvent::Added(object) => format!("ADDED {}", object.name_any()),
            WatchEvent::Modified(object) => format!("MODIFIED {}", object.name_any()),
            WatchEvent::Deleted(object) => format!("DELETED {}", object.name_any()),
            WatchEvent::Bookmark(mark) => format!("BOOKMARK {}", mark.metadata.resource_version),
            WatchEvent::Error(status) => format!("ERROR {}", status.code),
        })
        .take(count)
        .try_collect();
    tokio::time::timeout(PATIENCE, seen).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_list_in_pages_is_of_one_moment() {
    let server = server();
    let api = with_widgets(&server).await;
    for number in 0..5 {
        api.create(
            &PostParams::default(),
            &widget(&format!("w{number}"), json!({"size": 1})),
        )
        .await
        .unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    api.delete("w3", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &widget("w9", json!({"size": 1})))
        .await
        .unwrap();
    let mut names: Vec<_> = first.items.iter().map(ResourceExt::name_any).collect();
    let mut token = first.metadata.continue_;
    while let Some(next) = token.filter(|token| !token.is_empty()) {
        let page = api
            .list(&ListParams::default().limit(2).continue_token(&next))
            .await
            .unwrap();
        assert_eq!(
            page.metadata.resource_version,
            first.metadata.resource_version
        );
        names.extend(page.items.iter().map(ResourceExt::name_any));
        token = page.metadata.continue_;
    }
    assert_eq!(names, ["w0", "w1", "w2", "w3", "w4"]);
}

#[tokio::test]
async fn finalizers_preconditions_dry_run_and_generated_names() {
    let server = server();
    let api = with_widgets(&server).await;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&dry, &widget("a", json!({"size": 1})))
        .await
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());

    let mut held = widget("a", json!({"size": 1}));
    held.metadata.finalizers = Some(vec!["zen.io/hold".to_owned()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    let wrong = DeleteParams::default().preconditions(Preconditions {
        uid: Some("other".to_owned()),
        resource_version: None,
    });
    assert_eq!(status_of(api.delete("a", &wrong).await).code, 409);
    let leaving = api
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert!(leaving.metadata.deletion_timestamp.is_some());
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["zen.io/hold", "zen.io/more"]}}));
    assert_eq!(
        status_of(api.patch("a", &PatchParams::default(), &more).await).code,
        422
    );
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("a", &PatchParams::default(), &free)
        .await
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());

    let mut unnamed = widget("", json!({"size": 1}));
    unnamed.metadata.name = None;
    unnamed.metadata.generate_name = Some("gen-".to_owned());
    let named = api.create(&PostParams::default(), &unnamed).await.unwrap();
    assert!(named.name_any().starts_with("gen-") && named.name_any().len() == 9);
}

#[tokio::test]
async fn a_namespace_takes_its_content_with_it() {
    let server = server();
    with_widgets(&server).await;
    let client = server.client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let demo = serde_json::from_value(json!({"metadata": {"name": "demo"}})).unwrap();
    let made = namespaces
        .create(&PostParams::default(), &demo)
        .await
        .unwrap();
    assert_eq!(made.labels()["kubernetes.io/metadata.name"], "demo");
    let api = widgets(client.clone(), "demo");
    api.create(&PostParams::default(), &widget("gone", json!({"size": 1})))
        .await
        .unwrap();
    let mut held = widget("held", json!({"size": 1}));
    held.metadata.finalizers = Some(vec!["zen.io/hold".to_owned()]);
    api.create(&PostParams::default(), &held).await.unwrap();

    let leaving = namespaces
        .delete("demo", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(
        leaving.status.unwrap().phase.as_deref(),
        Some("Terminating")
    );
    assert!(api.get_opt("gone").await.unwrap().is_none());
    let status = status_of(
        api.create(&PostParams::default(), &widget("new", json!({"size": 1})))
            .await,
    );
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        status.details.unwrap().causes[0].reason,
        "NamespaceTerminating"
    );
    let free = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    api.patch("held", &PatchParams::default(), &free)
        .await
        .unwrap();
    assert!(namespaces.get_opt("demo").await.unwrap().is_none());
    let lasting = namespaces.delete("default", &DeleteParams::default()).await;
    assert_eq!(status_of(lasting).code, 403);
}

#[tokio::test]
async fn built_in_kinds_behave() {
    let server = server();
    let client = server.client();
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let plain =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}}))
            .unwrap();
    let secret = secrets
        .create(&PostParams::default(), &plain)
        .await
        .unwrap();
    assert_eq!(secret.data.unwrap()["k"].0, b"v");
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    let typed = secrets
        .list(&ListParams::default().fields("type=Opaque"))
        .await
        .unwrap();
    assert_eq!(typed.items.len(), 1);

    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map =
        serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}}))
            .unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let strategic = Patch::Strategic(json!({"data": {"a": null, "c": "3"}}));
    let map = maps
        .patch("m", &PatchParams::default(), &strategic)
        .await
        .unwrap();
    assert_eq!(json!(map.data), json!({"b": "2", "c": "3"}));

    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let lease = serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {
        "holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 0,
        "acquireTime": "2026-11-23T10:00:00.000000Z", "renewTime": "2026-11-23T10:00:00.000000Z"}}))
    .unwrap();
    let lease = leases.create(&PostParams::default(), &lease).await.unwrap();
    assert_eq!(lease.metadata.generation, None);
    let bad = Patch::Merge(json!({"spec": {"leaseDurationSeconds": 0}}));
    assert_eq!(
        status_of(leases.patch("l", &PatchParams::default(), &bad).await).code,
        422
    );

    let events: Api<k8s_openapi::api::events::v1::Event> = Api::default_namespaced(client.clone());
    let event = serde_json::from_value(json!({"metadata": {"name": "e"},
        "eventTime": "2026-11-23T10:00:00.000000Z", "action": "Test", "reason": "Tested", "type": "Normal",
        "note": "a note", "reportingController": "zen.io/test", "reportingInstance": "one",
        "regarding": {"kind": "Widget", "name": "w", "namespace": "default"}})).unwrap();
    events.create(&PostParams::default(), &event).await.unwrap();
    let core: Api<Event> = Api::default_namespaced(client);
    let found = core
        .list(&ListParams::default().fields("involvedObject.name=w,reason=Tested"))
        .await
        .unwrap();
    assert_eq!(found.items[0].message.as_deref(), Some("a note"));
    assert_eq!(
        events.get("e").await.unwrap().note.as_deref(),
        Some("a note")
    );
}

#[tokio::test]
async fn the_project_s_own_kinds_are_taken() {
    let server = server();
    let client = server.client();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in [Ingestor::crd(), Observation::crd()] {
        let made = crds.create(&PostParams::default(), &crd).await.unwrap();
        let status = serde_json::to_value(made.status).unwrap();
        let conditions = status["conditions"].as_array().unwrap();
        assert!(
            conditions.iter().all(|one| one["status"] == "True"),
            "{conditions:?}"
        );
    }
    let observations: Api<Observation> = Api::default_namespaced(client.clone());
    let object: Observation = serde_json::from_value(json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "Observation", "metadata": {"name": "o"},
        "spec": {"source": "github", "category": "security", "severity": "high",
                 "eventType": "github_push", "detectedAt": "2026-11-23T10:00:00Z"}}))
    .unwrap();
    let path = "/apis/zen.watcher.io/v1/namespaces/default/observations";
    create_strict(&client, path, &object).await.unwrap();
    let found = observations
        .list(&ListParams::default().fields("spec.severity=high"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 1);
}

#[tokio::test]
async fn planned_faults_meet_the_requests_they_are_meant_for() {
    let server = server();
    let api = with_widgets(&server).await;
    let creates = || On::verb(Verb::Create).resource("widgets");
    let make = |name: &str| widget(name, json!({"size": 1}));
    let faults = server.faults();
    faults.plan(1, creates().name("b"), Fault::Conflict);
    faults.plan(1, creates(), Fault::TooManyRequests(Duration::from_secs(3)));
    faults.plan(1, creates(), Fault::InternalError);
    let status = status_of(api.create(&PostParams::default(), &make("a")).await);
    assert_eq!(
        (status.code, status.details.unwrap().retry_after_seconds),
        (429, 3)
    );
    let status = status_of(api.create(&PostParams::default(), &make("b")).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        status_of(api.create(&PostParams::default(), &make("a")).await).code,
        500
    );
    assert!(
        api.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );

    faults.plan(1, creates(), Fault::AnswerLost);
    assert!(matches!(
        api.create(&PostParams::default(), &make("a")).await,
        Err(kube::Error::Service(_))
    ));
    assert!(
        api.get_opt("a").await.unwrap().is_some(),
        "done, though the answer was lost"
    );
    faults.plan(1, On::verb(Verb::Get), Fault::Silence);
    let silent = tokio::time::timeout(Duration::from_millis(50), api.get("a")).await;
    assert!(silent.is_err());
    assert_eq!(faults.pending(), 0);
}

#[tokio::test]
async fn a_deleted_definition_takes_its_objects_with_it() {
    let server = server();
    let api = with_widgets(&server).await;
    api.create(&PostParams::default(), &widget("a", json!({"size": 1})))
        .await
        .unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(server.client());
    crds.delete("widgets.test.zen.io", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(status_of(api.list(&ListParams::default()).await).code, 404);
    let api = with_widgets(&server).await;
    assert!(
        api.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}
