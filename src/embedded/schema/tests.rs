use serde_json::json;

use super::*;

fn schema(raw: &Value) -> Schema {
    Schema::parse(raw, "schema").unwrap()
}

fn shown(errors: &[FieldError]) -> Vec<String> {
    errors
        .iter()
        .map(|error| format!("{}: {}", error.path, error.body))
        .collect()
}

fn widget() -> Schema {
    schema(&json!({
        "type": "object",
        "properties": {"spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 9},
                "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4},
                "port": {"x-kubernetes-int-or-string": true},
                "when": {"type": "string", "format": "date-time"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "tags": {"type": "array", "items": {"type": "string"},
                         "x-kubernetes-list-type": "set", "maxItems": 3},
                "list": {"type": "array", "x-kubernetes-list-type": "map",
                         "x-kubernetes-list-map-keys": ["id"],
                         "items": {"type": "object", "properties": {
                             "id": {"type": "string"}, "n": {"type": "integer",
                             "x-kubernetes-validations": [
                                {"rule": "self >= oldSelf", "message": "n never falls"}]}}}},
            },
            "x-kubernetes-validations": [
                {"rule": "!has(self.name) || self.name != 'bad'", "message": "bad name"},
                {"rule": "self.size != 7"},
            ],
        }}
    }))
}

#[test]
fn unknown_fields_are_pruned_and_named() {
    let mut object = json!({"apiVersion": "v1", "kind": "W", "metadata": {"x": 1}, "y": 2,
        "spec": {"size": 1, "z": 3, "free": {"anything": 1}}});
    assert_eq!(widget().prune(&mut object), ["y", "spec.z"]);
    assert_eq!(object["spec"], json!({"size": 1, "free": {"anything": 1}}));
    assert_eq!(object["metadata"], json!({"x": 1}));
}

#[test]
fn defaults_come_where_the_parent_is_and_replace_null() {
    let mut object = json!({"spec": {"size": 1, "color": null}});
    widget().fill_defaults(&mut object);
    assert_eq!(object["spec"]["color"], "red");
    let mut empty = json!({});
    widget().fill_defaults(&mut empty);
    assert_eq!(empty, json!({}));
}

#[test]
fn faults_of_structure_in_kubernetes_words() {
    let object = json!({"spec": {
        "size": "x", "color": "blue", "name": "UPPER", "port": 1.5, "when": "today",
        "tags": ["a", "a"], "list": [{"id": "1"}, {"id": "1"}]}});
    let errors = shown(&widget().check(&object, None));
    let expected = [
        r#"spec.color: Unsupported value: "blue": supported values: "red", "green""#,
        r#"spec.list[1]: Duplicate value: {"id":"1"}"#,
        "spec.name: Too long: may not be more than 4 bytes",
        r#"spec.port: Invalid value: "number": spec.port in body must be of type integer,string: "number""#,
        r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#,
        r#"spec.tags[1]: Duplicate value: "a""#,
        r#"spec.when: Invalid value: "today": spec.when in body must be of type date-time: "today""#,
    ];
    assert_eq!(errors, expected);
    assert_eq!(
        shown(&widget().check(&json!({"spec": {}}), None)),
        ["spec.size: Required value"]
    );
    assert_eq!(
        shown(&widget().check(&json!({"spec": {"size": 10}}), None)),
        ["spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"]
    );
}

#[test]
fn what_an_update_does_not_touch_is_let_pass() {
    let old = json!({"spec": {"size": 1, "name": "UPPER"}});
    let new = json!({"spec": {"size": 2, "name": "UPPER"}});
    assert!(widget().check(&new, Some(&old)).is_empty());
    assert_eq!(widget().check(&new, None).len(), 1);
}

#[test]
fn rules_speak_on_create_and_transition_rules_on_update() {
    let bad = json!({"spec": {"size": 7, "name": "bad"}});
    assert_eq!(
        shown(&widget().check_rules(&bad, None)),
        [
            r#"spec: Invalid value: "object": bad name"#,
            r#"spec: Invalid value: "object": failed rule: self.size != 7"#
        ]
    );
    let old = json!({"spec": {"size": 1, "list": [{"id": "a", "n": 5}, {"id": "b", "n": 9}]}});
    let new = json!({"spec": {"size": 1, "list": [{"id": "b", "n": 8}, {"id": "a", "n": 6}]}});
    assert!(widget().check_rules(&new, None).is_empty());
    assert_eq!(
        shown(&widget().check_rules(&new, Some(&old))),
        [r#"spec.list[0].n: Invalid value: "integer": n never falls"#]
    );
}

#[test]
fn optional_old_self_and_message_expressions() {
    let schema = schema(
        &json!({"type": "object", "properties": {"a": {"type": "integer",
        "x-kubernetes-validations": [{
            "rule": "!oldSelf.hasValue() || self > oldSelf.value()",
            "optionalOldSelf": true,
            "messageExpression": "'must rise above ' + string(oldSelf.value())",
            "reason": "FieldValueForbidden"}]}}}),
    );
    assert!(schema.check_rules(&json!({"a": 1}), None).is_empty());
    assert_eq!(
        shown(&schema.check_rules(&json!({"a": 1}), Some(&json!({"a": 2})))),
        ["a: Forbidden: must rise above 2"]
    );
}

#[test]
fn a_broken_schema_is_refused_with_its_place() {
    let errors = Schema::parse(
        &json!({"type": "object", "properties": {
            "a": {"type": "strnig"}, "b": {"type": "array"},
            "c": {"type": "string", "pattern": "("},
            "d": {"type": "string", "x-kubernetes-validations": [{"rule": "self ==="}]}}}),
        "schema",
    )
    .unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "schema.properties[a].type",
            "schema.properties[b].items",
            "schema.properties[c].pattern",
            "schema.properties[d].x-kubernetes-validations[0].rule"
        ]
    );
}

#[test]
fn go_durations() {
    assert_eq!(convert::go_duration("1h30m"), Some(5_400_000_000_000));
    assert_eq!(convert::go_duration("-1.5s"), Some(-1_500_000_000));
    assert_eq!(convert::go_duration("10ms"), Some(10_000_000));
    for bad in ["", "1", "1x", "s", "1d", "--1s"] {
        assert_eq!(convert::go_duration(bad), None, "{bad}");
    }
}
