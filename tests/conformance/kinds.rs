//! This project's own kinds: what they admit and refuse, how they are found and shown.
//!
//! The tables are `tests/data/kinds`; their form is described there.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};
use zen_fabric::testing::samples;

use crate::bench::{Answer, Bench, DEFINITIONS, Patch, from_yaml, names, text, unique};

const INGESTORS: &str = include_str!("../../crds/zen.watcher.io_ingestors.yaml");
const OBSERVATIONS: &str = include_str!("../../crds/zen.watcher.io_observations.yaml");
const SHARD_MAPS: &str = include_str!("../../crds/zen.watcher.io_shardmaps.yaml");
const INGESTOR_TABLE: &str = include_str!("../data/kinds/ingestor.yaml");
const OBSERVATION_TABLE: &str = include_str!("../data/kinds/observation.yaml");
const SHARD_MAP_TABLE: &str = include_str!("../data/kinds/shardmap.yaml");

/// All kinds are served from now on.
pub(crate) async fn install(t: &Bench) {
    for file in [INGESTORS, OBSERVATIONS, SHARD_MAPS] {
        t.install(&from_yaml(file)).await;
    }
}

async fn create(t: &Bench, plural: &str, object: &Value) -> Answer {
    let path = format!("{}?fieldValidation=Strict", t.zen(plural));
    t.post(&path, object).await
}

/// A row's object: the patch onto the base, texts written out, and a name of its own unless the row
/// is about the name.
fn object(base: &Value, patch: &Value) -> Value {
    let mut object = base.clone();
    object["metadata"]["name"] = unique("row").into();
    if !patch.is_null() {
        json_patch::merge(&mut object, patch);
    }
    write_out(&mut object);
    object
}

/// `{x*N}` stands for `x`, N times.
fn write_out(value: &mut Value) {
    static TIMES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{(.)\*(\d+)\}").unwrap());
    match value {
        Value::String(text) => {
            *text = TIMES
                .replace_all(text, |found: &regex::Captures<'_>| {
                    found[1].repeat(found[2].parse().unwrap())
                })
                .into_owned();
        }
        Value::Array(items) => items.iter_mut().for_each(write_out),
        Value::Object(fields) => {
            *fields = std::mem::take(fields)
                .into_iter()
                .map(|(name, mut field)| {
                    let mut name = Value::String(name);
                    write_out(&mut name);
                    write_out(&mut field);
                    (text(&name), field)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What is wrong about an answer, given what the row expects.
fn wrong(row: &Value, answer: &Answer) -> Option<String> {
    let complaint = match (&row["refused"], &row["unknown"]) {
        (Value::String(field), _) => {
            let status = answer.json();
            let fields: Vec<String> = status["details"]["causes"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|cause| text(&cause["field"]))
                .collect();
            let message = text(&status["message"]);
            (answer.code != 422
                || !fields.iter().any(|found| found.starts_with(field))
                || !message.contains(&text(&row["says"])))
            .then(|| format!("refusal of {field:?} saying {:?}", text(&row["says"])))
        }
        (_, Value::String(field)) => (answer.code != 400
            || !answer
                .text
                .contains(&format!("unknown field \\\"{field}\\\"")))
        .then(|| format!("strict refusal of {field:?}")),
        _ => (!matches!(answer.code, 200 | 201)).then(|| "acceptance".to_owned()),
    };
    complaint.map(|expected| format!("{}: expected {expected}: {answer}", row["name"]))
}

async fn check_table(t: &Bench, plural: &str, table: &str) {
    install(t).await;
    let table: Value = from_yaml(table);
    let mut faults = Vec::new();
    let mut rows = 0;
    for row in table["creates"].as_array().unwrap() {
        rows += 1;
        let body = object(&table["base"], &row["set"]);
        faults.extend(wrong(row, &create(t, plural, &body).await));
    }
    for row in table["updates"].as_array().unwrap() {
        rows += 1;
        let old = object(&table["base"], &row["from"]);
        let old = create(t, plural, &old).await.created();
        let mut new = object(&table["base"], &row["to"]);
        for field in ["name", "resourceVersion"] {
            new["metadata"][field] = old["metadata"][field].clone();
        }
        let path = format!("{}/{}", t.zen(plural), text(&new["metadata"]["name"]));
        faults.extend(wrong(row, &t.put(&path, &new).await));
    }
    for row in table["statuses"].as_array().into_iter().flatten() {
        rows += 1;
        let mut made = create(t, plural, &object(&table["base"], &Value::Null))
            .await
            .created();
        let path = format!(
            "{}/{}/status",
            t.zen(plural),
            text(&made["metadata"]["name"])
        );
        made["status"] = row["from"].clone();
        let mut held = t.put(&path, &made).await.ok();
        match &row["to"] {
            Value::Null => drop(held.as_object_mut().unwrap().remove("status")),
            status => held["status"] = status.clone(),
        }
        faults.extend(wrong(row, &t.put(&path, &held).await));
    }
    assert!(rows > 40, "the table is read: {rows} rows");
    assert!(
        faults.is_empty(),
        "{} of {rows}:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Ingestors: sources, verification, durations, networks, labels.
pub(crate) async fn ingestor_table(t: &Bench) {
    check_table(t, "ingestors", INGESTOR_TABLE).await;
}

/// Observations: bounds, immutability, the rules of an aggregate.
pub(crate) async fn observation_table(t: &Bench) {
    check_table(t, "observations", OBSERVATION_TABLE).await;
}

/// Maps: their form, and what may follow on what.
pub(crate) async fn shard_map_table(t: &Bench) {
    check_table(t, "shardmaps", SHARD_MAP_TABLE).await;
}

pub(crate) fn observation(details: &Value) -> Value {
    json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "Observation",
        "metadata": { "name": unique("obs") },
        "spec": {
            "source": "github", "category": "security", "severity": "high",
            "eventType": "github_push", "detectedAt": "2026-11-23T10:00:00Z", "details": details,
        },
    })
}

/// Creates an Observation with some details and replaces them by others.
pub(crate) async fn change_details(t: &Bench, from: &Value, to: &Value) -> Answer {
    install(t).await;
    let mut object = create(t, "observations", &observation(from))
        .await
        .created();
    assert_eq!(
        object["spec"]["details"], *from,
        "stored as they were given"
    );
    object["spec"]["details"] = to.clone();
    let name = text(&object["metadata"]["name"]);
    t.put(&format!("{}/{name}", t.zen("observations")), &object)
        .await
}

/// Equality over the free-form details is deep: of these pairs of different values none passes for
/// the same, whatever their types. (For the pairs that do on a real server see
/// `details_at_the_top_may_be_renamed`.)
pub(crate) async fn details_are_compared_deeply(t: &Bench) {
    let changes = [
        (json!({ "a": "x" }), json!({ "a": "y" })),
        (json!({ "a": 1 }), json!({ "a": "1" })),
        (json!({ "a": true }), json!({ "a": "true" })),
        (json!({ "a": true }), json!({ "a": false })),
        (json!({ "a": 0 }), json!({ "a": false })),
        (json!({ "a": 1 }), json!({ "a": 1.5 })),
        (json!({ "a": [] }), json!({ "a": {} })),
        (json!({ "a": [1, 2] }), json!({ "a": [2, 1] })),
        (json!({ "a": [1] }), json!({ "a": [1, 1] })),
        (json!({ "a": { "b": 1 } }), json!({ "a": { "c": 1 } })),
        (json!({ "a": null }), json!({ "a": 0 })),
        (json!({ "a": null }), json!({ "a": "" })),
        (json!({ "a": null }), json!({})),
        (json!({ "a": { "b": null } }), json!({ "a": {} })),
        (json!({ "a": [null] }), json!({ "a": [] })),
        (json!({ "a": "" }), json!({})),
        (
            json!({ "a": 9_007_199_254_740_992_i64 }),
            json!({ "a": 9_007_199_254_740_993_i64 }),
        ),
    ];
    let mut leaks = Vec::new();
    for (from, to) in changes {
        let answer = change_details(t, &from, &to).await;
        if answer.code != 422 {
            leaks.push(format!("{from} → {to}: {}", answer.code));
        }
    }
    assert_eq!(leaks, Vec::<String>::new());
}

/// What counts as equal although it is written differently.
pub(crate) async fn details_in_another_order_are_the_same(t: &Bench) {
    install(t).await;
    let made = create(
        t,
        "observations",
        &observation(&json!({ "a": 1, "b": { "c": [1], "d": null } })),
    )
    .await
    .created();
    let mut same = made.clone();
    same["spec"]["details"] = json!({ "b": { "d": null, "c": [1] }, "a": 1 });
    let path = format!(
        "{}/{}",
        t.zen("observations"),
        text(&made["metadata"]["name"])
    );
    assert_eq!(t.put(&path, &same).await.ok(), made);
}

/// The status of an Observation is its consumers' to write; its spec stays as it is.
pub(crate) async fn observation_status_is_free(t: &Bench) {
    install(t).await;
    let made = create(t, "observations", &observation(&json!({})))
        .await
        .created();
    let path = format!(
        "{}/{}/status",
        t.zen("observations"),
        text(&made["metadata"]["name"])
    );
    for processed in [true, false] {
        let patch = json!({ "status": { "processed": processed } });
        let after = t.patch(&path, Patch::Merge, &patch).await.ok();
        assert_eq!(after["status"]["processed"], processed);
        assert_eq!(after["spec"], made["spec"]);
    }
}

/// Severity, category and event type can be selected by, together.
pub(crate) async fn observations_are_selectable(t: &Bench) {
    install(t).await;
    for (name, severity, event) in [
        ("a", "high", "push"),
        ("b", "low", "push"),
        ("c", "high", "fork"),
    ] {
        let mut body = observation(&json!({}));
        body["metadata"]["name"] = name.into();
        body["spec"]["severity"] = severity.into();
        body["spec"]["eventType"] = event.into();
        create(t, "observations", &body).await.created();
    }
    for (selector, expected) in [
        ("spec.severity%3Dhigh", vec!["a", "c"]),
        ("spec.eventType%3Dpush", vec!["a", "b"]),
        (
            "spec.category%3Dsecurity%2Cspec.severity%3Dhigh%2Cspec.eventType%3Dpush",
            vec!["a"],
        ),
    ] {
        let path = format!("{}?fieldSelector={selector}", t.zen("observations"));
        assert_eq!(names(&t.get(&path).await.ok()), expected, "{selector}");
    }
}

/// Defaults are written out, so that a reader sees what holds.
pub(crate) async fn ingestor_defaults(t: &Bench) {
    install(t).await;
    let table: Value = from_yaml(INGESTOR_TABLE);
    let made = create(t, "ingestors", &object(&table["base"], &json!({})))
        .await
        .created();
    let spec = &made["spec"];
    assert_eq!(spec["enabled"], true);
    let webhook = &spec["source"]["webhook"];
    assert_eq!(webhook["methods"], json!(["POST"]));
    assert_eq!(webhook["contentTypes"], json!(["application/json"]));
    assert_eq!(webhook["maxBodyBytes"], 1_048_576);
}

/// Short names and the category by which kubectl finds the kinds.
pub(crate) async fn are_found_by_short_names(t: &Bench) {
    install(t).await;
    let list = t.get("/apis/zen.watcher.io/v1").await.ok();
    for resource in list["resources"].as_array().unwrap() {
        if !text(&resource["name"]).contains('/') {
            assert_eq!(resource["categories"], json!(["zen"]), "{resource}");
            assert!(resource["shortNames"].is_array(), "{resource}");
        }
    }
}

/// The definitions are taken without a warning, and their rules within the server's cost limits.
pub(crate) async fn definitions_bring_no_warnings(t: &Bench) {
    install(t).await;
    for file in [INGESTORS, OBSERVATIONS, SHARD_MAPS] {
        let mut definition: Value = from_yaml(file);
        let path = format!("{DEFINITIONS}/{}", text(&definition["metadata"]["name"]));
        let found = t.get(&path).await.ok();
        definition["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
        let asked = format!("{path}?dryRun=All&fieldValidation=Strict");
        let answer = t.put(&asked, &definition).await;
        assert_eq!(answer.warnings(), Vec::<String>::new());
        answer.ok();
    }
}

/// A namespace that is gone is what the 404 names: by that the writer knows it from a missing kind.
pub(crate) async fn observation_in_an_absent_namespace(t: &Bench) {
    install(t).await;
    t.post(
        "/apis/zen.watcher.io/v1/namespaces/nowhere/observations?fieldValidation=Strict",
        &observation(&json!({})),
    )
    .await
    .refused(404, "NotFound")
    .about("namespaces", "", "nowhere");
}

/// Every sample of `examples/` can be applied, without a warning.
pub(crate) async fn samples_are_taken(t: &Bench) {
    install(t).await;
    for name in samples::SAMPLES.iter().chain(&["quickstart"]) {
        let mut sample = samples::manifest(name);
        sample["metadata"]["namespace"] = t.namespace.clone().into();
        sample["metadata"]["name"] = unique("sample").into();
        let answer = create(t, "ingestors", &sample).await;
        assert_eq!(answer.warnings(), Vec::<String>::new(), "{name}");
        answer.created();
    }
}
