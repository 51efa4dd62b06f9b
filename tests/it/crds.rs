//! The files in `crds/` are what the code says.

use std::{collections::BTreeSet, env, fs, path::Path};

use serde_json::Value;
use zen_fabric::api::{crd_files, crds};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")
}

#[test]
fn the_files_are_what_the_code_generates() {
    for file in crd_files().unwrap() {
        let path = folder().join(&file.name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            text == file.text,
            "{} is out of date: run `zen-fabric crd --out crds`",
            path.display()
        );
    }
}

#[test]
fn no_file_is_left_over() {
    let expected: BTreeSet<String> = crd_files().unwrap().into_iter().map(|f| f.name).collect();
    let found: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_file_reads_as_the_definition_it_was_written_from() {
    for (crd, file) in crds().iter().zip(crd_files().unwrap()) {
        let read: Value = serde_saphyr::from_str(&file.text).unwrap();
        let written = serde_json::to_value(crd).unwrap();
        assert_eq!(numbers_as_floats(read), numbers_as_floats(written));
    }
}

/// Bounds are written as floats; YAML readers give `60.0` as the integer that it is.
fn numbers_as_floats(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(numbers_as_floats).collect(),
        Value::Object(object) => object
            .into_iter()
            .map(|(name, value)| (name, numbers_as_floats(value)))
            .collect(),
        other => other,
    }
}

/// Walks every node of a schema.
fn nodes<'a>(path: &str, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    found.push((path.to_owned(), schema));
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        nodes(&format!("{path}.{name}"), below, found);
    }
    for keyword in ["items", "additionalProperties"] {
        if schema[keyword].is_object() {
            nodes(&format!("{path}[]"), &schema[keyword], found);
        }
    }
}

fn schemas() -> Vec<(String, Value)> {
    crds()
        .into_iter()
        .map(|crd| {
            let value = serde_json::to_value(&crd).unwrap();
            (
                crd.spec.names.kind,
                value["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone(),
            )
        })
        .collect()
}

#[test]
fn every_field_is_explained_and_bounded() {
    let mut complaints = Vec::new();
    for (kind, schema) in schemas() {
        let mut found = Vec::new();
        nodes(&kind, &schema, &mut found);
        for (path, node) in found {
            let has = |keyword: &str| node.get(keyword).is_some();
            let bounded = match node["type"].as_str() {
                Some("string") => has("maxLength") || has("enum"),
                Some("array") => has("maxItems"),
                Some("integer") => (has("minimum") && has("maximum")) || has("enum"),
                Some("object") => {
                    has("properties") || has("maxProperties") || path.ends_with(".none")
                }
                Some("boolean") => true,
                _ => false,
            };
            if !bounded && !path.ends_with("observedGeneration") {
                complaints.push(format!("{path} has no bound"));
            }
            if !has("description") && !path.ends_with("[]") && path.contains('.') {
                complaints.push(format!("{path} has no description"));
            }
            for keyword in ["nullable", "$ref", "anyOf", "oneOf", "allOf", "not"] {
                if has(keyword) {
                    complaints.push(format!("{path} has {keyword}"));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_rule_says_what_to_do_in_a_message() {
    for (kind, schema) in schemas() {
        let mut found = Vec::new();
        nodes(&kind, &schema, &mut found);
        for (path, node) in found {
            for rule in node["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
            {
                assert!(rule["message"].is_string(), "{path}: {rule}");
            }
        }
    }
}

#[test]
fn what_a_later_issue_makes_work_is_not_there_yet() {
    let text: String = crd_files().unwrap().into_iter().map(|f| f.text).collect();
    for later in ["handshake:", "informer:", "configMap:", "placement:"] {
        assert!(!text.contains(later), "{later}");
    }
}

#[test]
fn every_kind_is_found_by_category_and_short_name() {
    let names: Vec<_> = crds().into_iter().map(|crd| crd.spec.names).collect();
    assert!(
        names
            .iter()
            .all(|n| n.categories == Some(vec!["zen".to_owned()]))
    );
    let short: Vec<_> = names.iter().filter_map(|n| n.short_names.clone()).collect();
    assert_eq!(short, [["igr"], ["obs"], ["smap"]]);
    let all = crds();
    assert!(all.iter().all(|crd| {
        crd.spec.versions.iter().all(|v| {
            // A ShardMap is written whole, and reports nothing beside.
            let status = v.subresources.as_ref().is_some_and(|s| s.status.is_some());
            status == (crd.spec.names.kind != "ShardMap")
                && v.additional_printer_columns
                    .as_ref()
                    .is_some_and(|c| !c.is_empty())
        })
    }));
}
