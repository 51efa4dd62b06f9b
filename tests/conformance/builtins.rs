//! The core kinds that this project uses: ConfigMap, Secret, Lease, Event.

use k8s_openapi::api::{coordination::v1::Lease, events::v1::Event};
use kube::{
    Api,
    api::ListParams,
    runtime::events::{EventType, Recorder, Reporter},
};
use serde_json::json;

use crate::bench::{Bench, Patch, config_map};

fn secret(name: &str) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } })
}

/// Text and bytes, by valid keys.
pub(crate) async fn config_map_holds_text_and_bytes(t: &Bench) {
    let mut body = config_map("a");
    body["binaryData"] = json!({ "raw": "/w==" });
    let made = t.post(&t.core("configmaps"), &body).await.created();
    assert_eq!(made["data"], json!({ "a": "1" }));
    assert_eq!(made["binaryData"], json!({ "raw": "/w==" }));

    let mut body = config_map("b");
    body["data"] = json!({ "not a key": "1" });
    t.post(&t.core("configmaps"), &body)
        .await
        .refused(422, "Invalid")
        .mentioning("data[not a key]: Invalid value: \"not a key\"");
    let mut body = config_map("b");
    body["data"] = json!({ "n": 1 });
    t.post(&t.core("configmaps"), &body)
        .await
        .refused(400, "BadRequest");
}

/// An immutable ConfigMap keeps its data, and stays immutable.
pub(crate) async fn config_map_may_be_immutable(t: &Bench) {
    let mut body = config_map("a");
    body["immutable"] = true.into();
    let path = format!("{}/a", t.core("configmaps"));
    t.post(&t.core("configmaps"), &body).await.created();
    t.patch(&path, Patch::Merge, &json!({ "data": { "a": "2" } }))
        .await
        .refused(422, "Invalid")
        .caused_by(&[
            "FieldValueForbidden data: Forbidden: field is immutable when `immutable` is set",
        ]);
    t.patch(&path, Patch::Merge, &json!({ "immutable": false }))
        .await
        .refused(422, "Invalid")
        .caused_by(&[
            "FieldValueForbidden immutable: Forbidden: field is immutable when `immutable` is set",
        ]);
    let label = json!({ "metadata": { "labels": { "x": "y" } } });
    t.patch(&path, Patch::Merge, &label).await.ok();
}

/// Text is stored as base64, over what `data` says, and is Opaque unless it says otherwise.
pub(crate) async fn secret_encodes_string_data(t: &Bench) {
    let mut body = secret("a");
    body["data"] = json!({ "k": "b2xk", "other": "AAE=" });
    body["stringData"] = json!({ "k": "new" });
    let made = t.post(&t.core("secrets"), &body).await.created();
    assert_eq!(made["data"], json!({ "k": "bmV3", "other": "AAE=" }));
    assert_eq!(made.get("stringData"), None);
    assert_eq!(made["type"], "Opaque");
    let path = format!("{}/a", t.core("secrets"));
    let patch = json!({ "stringData": { "k": "third" } });
    let after = t.patch(&path, Patch::Merge, &patch).await.ok();
    assert_eq!(after["data"]["k"], "dGhpcmQ=");
}

/// A Secret's type is for life.
pub(crate) async fn secret_type_is_immutable(t: &Bench) {
    t.post(&t.core("secrets"), &secret("a")).await.created();
    let path = format!("{}/a", t.core("secrets"));
    t.patch(
        &path,
        Patch::Merge,
        &json!({ "type": "example.test/other" }),
    )
    .await
    .refused(422, "Invalid")
    .caused_by(&[
        "FieldValueInvalid type: Invalid value: \"example.test/other\": field is immutable",
    ]);
}

/// What is no base64 is refused.
pub(crate) async fn secret_data_is_base64(t: &Bench) {
    let mut body = secret("a");
    body["data"] = json!({ "k": "not base64!" });
    t.post(&t.core("secrets"), &body)
        .await
        .refused(400, "BadRequest")
        .mentioning("illegal base64 data at input byte 3");
}

/// A Secret holds at most a mebibyte.
pub(crate) async fn secret_has_a_bound(t: &Bench) {
    let mut body = secret("a");
    body["stringData"] = json!({ "k": "x".repeat(1024 * 1024 + 1) });
    t.post(&t.core("secrets"), &body)
        .await
        .refused(422, "Invalid")
        .caused_by(&["FieldValueTooLong data: Too long: may not be more than 1048576 bytes"]);
}

/// A lease is taken by compare-and-swap: of two who saw it free, one has it.
pub(crate) async fn lease_is_taken_once(t: &Bench) {
    let leases: Api<Lease> = Api::namespaced(t.client.clone(), &t.namespace);
    let free: Lease = serde_json::from_value(json!({
        "metadata": { "name": "leader" },
        "spec": { "leaseDurationSeconds": 15, "leaseTransitions": 0 },
    }))
    .unwrap();
    let seen = leases.create(&Default::default(), &free).await.unwrap();
    let taken_by = |holder: &str| {
        let mut lease = seen.clone();
        let spec = lease.spec.as_mut().unwrap();
        spec.holder_identity = Some(holder.to_owned());
        spec.renew_time = serde_json::from_value(json!("2026-01-02T03:04:05.678901Z")).ok();
        lease
    };
    let first = leases
        .replace("leader", &Default::default(), &taken_by("one"))
        .await
        .unwrap();
    let late = leases
        .replace("leader", &Default::default(), &taken_by("two"))
        .await
        .unwrap_err();
    assert!(
        matches!(&late, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"),
        "{late:?}"
    );
    let held = serde_json::to_value(leases.get("leader").await.unwrap()).unwrap();
    assert_eq!(held["spec"]["holderIdentity"], "one");
    assert_eq!(held["spec"]["renewTime"], "2026-01-02T03:04:05.678901Z");
    assert_eq!(serde_json::to_value(first).unwrap(), held);
}

/// A lease's numbers are positive.
pub(crate) async fn lease_is_validated(t: &Bench) {
    let path = format!(
        "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
        t.namespace
    );
    let body = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "a" }, "spec": { "leaseDurationSeconds": 0 },
    });
    t.post(&path, &body)
        .await
        .refused(422, "Invalid")
        .mentioning("spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0");
}

/// What kube-rs publishes is one event, and a repetition becomes a series.
pub(crate) async fn events_become_a_series(t: &Bench) {
    let about = t.make("a", 1).await;
    let reference = serde_json::from_value(json!({
        "apiVersion": "conformance.test/v1", "kind": "Widget", "name": "a",
        "namespace": t.namespace, "uid": about["metadata"]["uid"],
    }))
    .unwrap();
    let recorder = Recorder::new(
        t.client.clone(),
        Reporter {
            controller: "conformance.test/suite".into(),
            instance: Some("one".into()),
        },
    );
    for _ in 0..3 {
        let event = kube::runtime::events::Event {
            type_: EventType::Warning,
            reason: "Broken".into(),
            note: Some("it broke".into()),
            action: "Making".into(),
            secondary: None,
        };
        recorder.publish(&event, &reference).await.unwrap();
    }
    let events: Api<Event> = Api::namespaced(t.client.clone(), &t.namespace);
    let found = events.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].reason.as_deref(), Some("Broken"));
    assert_eq!(found[0].series.as_ref().map(|series| series.count), Some(3));
}

/// The two groups of events show the same objects, each in its own words.
pub(crate) async fn events_are_in_two_groups(t: &Bench) {
    let body = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": { "name": "a.1" }, "type": "Normal", "reason": "Made", "action": "Making",
        "note": "it is made", "eventTime": "2026-01-02T03:04:05.678901Z",
        "reportingController": "conformance.test/suite", "reportingInstance": "one",
        "regarding": { "kind": "Widget", "name": "a", "namespace": t.namespace },
    });
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", t.namespace);
    t.post(&path, &body).await.created();
    let core = t.get(&format!("{}/a.1", t.core("events"))).await.ok();
    assert_eq!(core["apiVersion"], "v1");
    assert_eq!(core["message"], "it is made");
    assert_eq!(core["involvedObject"]["name"], "a");
    let about = format!("{}?fieldSelector=involvedObject.name%3Da", t.core("events"));
    assert_eq!(crate::bench::names(&t.get(&about).await.ok()), ["a.1"]);
}

/// An event is about something in its own namespace, and says who reports it.
pub(crate) async fn events_are_validated(t: &Bench) {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", t.namespace);
    let body = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "a.1" },
        "type": "Normal", "reason": "Made", "action": "Making",
        "eventTime": "2026-01-02T03:04:05.678901Z",
        "regarding": { "kind": "Widget", "name": "a", "namespace": t.namespace },
    });
    t.post(&path, &body)
        .await
        .refused(422, "Invalid")
        .mentioning("reportingController");
}
