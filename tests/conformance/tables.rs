//! Tables: what `kubectl get` shows.

use serde_json::{Value, json};

use crate::bench::{Bench, Patch, config_map, text, widget};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn columns(table: &Value) -> Vec<String> {
    table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            format!(
                "{} {} {}",
                text(&column["name"]),
                text(&column["type"]),
                column["priority"]
            )
        })
        .collect()
}

/// A definition's printer columns, after the name.
pub(crate) async fn of_a_custom_resource(t: &Bench) {
    t.post(
        &t.widgets(),
        &widget("a", json!({ "size": 7, "note": "hi" })),
    )
    .await
    .created();
    t.make("b", 1).await;
    let ready = json!({ "status": { "conditions": [
        { "type": "Other", "status": "False" }, { "type": "Ready", "status": "True" },
    ]}});
    t.patch(&format!("{}/status", t.widget("a")), Patch::Merge, &ready)
        .await
        .ok();

    let table = t.get_as(&t.widgets(), TABLE).await.ok();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(
        columns(&table),
        [
            "Name string 0",
            "Color string 0",
            "Size integer 0",
            "Ready string 0",
            "Note string 1",
            "Age date 0",
        ]
    );
    let definitions = &table["columnDefinitions"];
    assert_eq!(definitions[0]["format"], "name");
    assert_eq!(definitions[1]["description"], "What it looks like");
    let rows = table["rows"].as_array().unwrap();
    let cells = rows[0]["cells"].as_array().unwrap();
    assert_eq!(
        cells[..5],
        [
            json!("a"),
            json!("blue"),
            json!(7),
            json!("True"),
            json!("hi")
        ]
    );
    assert!(age_like(&cells[5]), "{}", cells[5]);
    assert_eq!(
        rows[1]["cells"].as_array().unwrap()[..5],
        [
            json!("b"),
            json!("blue"),
            json!(1),
            Value::Null,
            Value::Null
        ],
        "what is absent is null"
    );
    assert_eq!(rows[0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(rows[0]["object"]["metadata"]["name"], "a");
    assert!(table["metadata"]["resourceVersion"].is_string());
}

/// An age in the notation of kubectl: `0s`, `12m`, `3d4h`.
fn age_like(cell: &Value) -> bool {
    let age = text(cell);
    !age.is_empty()
        && age
            .chars()
            .all(|c| c.is_ascii_digit() || "smhdy".contains(c))
        && age.starts_with(|c: char| c.is_ascii_digit())
}

/// One object is a table of one row.
pub(crate) async fn of_one_object(t: &Bench) {
    t.make("a", 7).await;
    let table = t.get_as(&t.widget("a"), TABLE).await.ok();
    assert_eq!(table["rows"].as_array().unwrap().len(), 1);
    assert_eq!(table["rows"][0]["cells"][0], "a");
}

/// The rows hold as much of the objects as was asked for.
pub(crate) async fn with_as_much_of_the_object_as_asked(t: &Bench) {
    t.make("a", 7).await;
    let with = async |what: &str| {
        let path = format!("{}?includeObject={what}", t.widgets());
        t.get_as(&path, TABLE).await.ok()["rows"][0]["object"].clone()
    };
    assert_eq!(with("None").await, Value::Null);
    assert_eq!(with("Metadata").await["kind"], "PartialObjectMetadata");
    assert_eq!(with("Object").await["spec"]["size"], 7);
}

/// A watch comes in tables, too.
pub(crate) async fn of_a_watch(t: &Bench) {
    t.make("a", 7).await;
    let mut watch = t.watch_as(&t.widgets(), "", TABLE).await;
    let first = watch.next().await;
    assert_eq!(first["type"], "ADDED");
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(columns(&first["object"]).len(), 6);
    assert_eq!(first["object"]["rows"][0]["cells"][2], 7);
    t.make("b", 8).await;
    let second = watch.next().await;
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert_eq!(
        second["object"]["columnDefinitions"],
        Value::Null,
        "the columns come once"
    );
}

/// The columns that core kinds have of their own.
pub(crate) async fn of_core_kinds(t: &Bench) {
    t.post(&t.core("configmaps"), &config_map("a"))
        .await
        .created();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" }, "stringData": { "k": "v" },
    });
    t.post(&t.core("secrets"), &secret).await.created();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "a" }, "spec": { "holderIdentity": "me" },
    });
    let leases = format!(
        "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
        t.namespace
    );
    t.post(&leases, &lease).await.created();
    let namespace = format!("/api/v1/namespaces/{}", t.namespace);
    for (path, expected, cells) in [
        (
            t.core("configmaps"),
            vec!["Name string 0", "Data string 0", "Age string 0"],
            vec![json!("a"), json!(1)],
        ),
        (
            t.core("secrets"),
            vec![
                "Name string 0",
                "Type string 0",
                "Data string 0",
                "Age string 0",
            ],
            vec![json!("a"), json!("Opaque"), json!(1)],
        ),
        (
            leases,
            vec!["Name string 0", "Holder string 0", "Age string 0"],
            vec![json!("a"), json!("me")],
        ),
        (
            namespace,
            vec!["Name string 0", "Status string 0", "Age string 0"],
            vec![json!(t.namespace), json!("Active")],
        ),
    ] {
        let table = t.get_as(&path, TABLE).await.ok();
        assert_eq!(columns(&table), expected, "{path}");
        let row = table["rows"][0]["cells"].as_array().unwrap();
        assert_eq!(row[..cells.len()], cells, "{path}");
        assert!(age_like(row.last().unwrap()), "{path}");
    }
}
