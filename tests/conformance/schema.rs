//! What a definition's schema does: defaults, pruning, validation, CEL.

use serde_json::{Value, json};

use crate::bench::{Bench, Patch, UNCHECKED, widget};

/// Defaults are filled in, also inside of list items, and stay out where their parent is absent.
pub(crate) async fn fills_in_defaults(t: &Bench) {
    let made = t
        .post(
            &t.widgets(),
            &widget(
                "a",
                json!({ "size": 1, "parts": [{ "name": "p" }, { "name": "q", "count": 3 }] }),
            ),
        )
        .await
        .created();
    assert_eq!(
        made["spec"],
        json!({
            "size": 1, "color": "blue",
            "parts": [{ "name": "p", "count": 1 }, { "name": "q", "count": 3 }],
        })
    );
    let bare = t.make("b", 1).await;
    assert_eq!(bare["spec"], json!({ "size": 1, "color": "blue" }));
}

/// A null becomes the default where there is one, stays where null is allowed, and is left out
/// elsewhere.
pub(crate) async fn nulls(t: &Bench) {
    let made = t
        .post(
            &t.widgets(),
            &widget(
                "a",
                json!({ "size": 1, "color": null, "remark": null, "note": null }),
            ),
        )
        .await
        .created();
    assert_eq!(
        made["spec"],
        json!({ "size": 1, "color": "blue", "remark": null })
    );
}

/// Fields that the schema doesn't know are left out; the caller is warned.
pub(crate) async fn prunes_unknown_fields_with_a_warning(t: &Bench) {
    let body = widget(
        "a",
        json!({ "size": 1, "bogus": 1, "parts": [{ "name": "p", "wrong": true }] }),
    );
    let answer = t.post(&t.widgets(), &body).await;
    let mut warnings = answer.warnings();
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "299 - \"unknown field \\\"spec.bogus\\\"\"",
            "299 - \"unknown field \\\"spec.parts[0].wrong\\\"\""
        ]
    );
    let made = answer.created();
    assert_eq!(
        made["spec"],
        json!({ "size": 1, "color": "blue", "parts": [{ "name": "p", "count": 1 }] })
    );
}

/// Who doesn't want to hear of it isn't told.
pub(crate) async fn prunes_in_silence_when_asked(t: &Bench) {
    let path = format!("{}?fieldValidation=Ignore", t.widgets());
    let answer = t
        .post(&path, &widget("a", json!({ "size": 1, "bogus": 1 })))
        .await;
    assert_eq!(answer.warnings(), Vec::<String>::new());
    assert_eq!(answer.created()["spec"].get("bogus"), None);
}

/// Who wants to be strict is refused, with every unknown field named.
pub(crate) async fn strict_refuses_unknown_fields(t: &Bench) {
    let path = format!("{}?fieldValidation=Strict", t.widgets());
    t.post(
        &path,
        &widget("a", json!({ "size": 1, "bogus": 1, "other": {} })),
    )
    .await
    .refused(400, "BadRequest")
    .saying(
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown \
         field \"spec.bogus\", unknown field \"spec.other\"",
    );
    t.get(&t.widget("a")).await.refused(404, "NotFound");
}

/// Unknown fields beside spec and in the metadata are unknown, too.
pub(crate) async fn strict_looks_everywhere(t: &Bench) {
    let path = format!("{}?fieldValidation=Strict", t.widgets());
    let mut body = widget("a", json!({ "size": 1 }));
    body["extra"] = 1.into();
    t.post(&path, &body)
        .await
        .refused(400, "BadRequest")
        .mentioning("unknown field \"extra\"");
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["nickname"] = "b".into();
    t.post(&path, &body)
        .await
        .refused(400, "BadRequest")
        .mentioning("unknown field \"metadata.nickname\"");
}

/// A field given twice is as wrong as an unknown one.
pub(crate) async fn strict_refuses_duplicate_fields(t: &Bench) {
    let path = format!("{}?fieldValidation=Strict", t.widgets());
    let body = r#"{"apiVersion":"conformance.test/v1","kind":"Widget","metadata":{"name":"a"},
        "spec":{"size":1,"size":2}}"#;
    let headers = [("content-type", "application/json")];
    t.send(http::Method::POST, &path, &headers, Some(body.to_owned()))
        .await
        .refused(400, "BadRequest")
        .mentioning("duplicate field \"spec.size\"");
}

/// Strictness holds for updates and for what a patch brings.
pub(crate) async fn strict_holds_for_updates_and_patches(t: &Bench) {
    let mut object = t.make("a", 1).await;
    let path = format!("{}?fieldValidation=Strict", t.widget("a"));
    let patch = json!({ "spec": { "bogus": 1 } });
    t.patch(&path, Patch::Merge, &patch)
        .await
        .refused(422, "Invalid")
        .mentioning("strict decoding error: unknown field \"spec.bogus\"");
    object["spec"]["bogus"] = 1.into();
    t.put(&path, &object)
        .await
        .refused(400, "BadRequest")
        .mentioning("unknown field \"spec.bogus\"");
}

/// Another word for how to validate is refused.
pub(crate) async fn unknown_field_validation_is_refused(t: &Bench) {
    let path = format!("{}?fieldValidation=Maybe", t.widgets());
    t.post(&path, &widget("a", json!({ "size": 1 })))
        .await
        .refused(422, "Invalid")
        .mentioning("fieldValidation: Unsupported value: \"Maybe\"");
}

/// Core kinds are strict, too.
pub(crate) async fn strict_holds_for_core_kinds(t: &Bench) {
    let path = format!("{}?fieldValidation=Strict", t.core("configmaps"));
    let mut body = crate::bench::config_map("a");
    body["dta"] = json!({});
    t.post(&path, &body)
        .await
        .refused(400, "BadRequest")
        .mentioning("strict decoding error: unknown field \"dta\"");
}

/// Free-form parts keep everything, nulls included.
pub(crate) async fn keeps_what_is_free_form(t: &Bench) {
    let free = json!({
        "a": null, "b": [1, "x", { "c": 1.5 }], "big": 9_007_199_254_740_993_i64, "e": {}, "f": [],
    });
    let made = t
        .post(
            &t.widgets(),
            &widget("a", json!({ "size": 1, "free": free })),
        )
        .await
        .created();
    assert_eq!(made["spec"]["free"], free);
    assert_eq!(t.get(&t.widget("a")).await.ok()["spec"]["free"], free);
}

/// Every wrong field is a cause, in the words that users see.
pub(crate) async fn names_every_wrong_field(t: &Bench) {
    let told = t
        .post(
            &t.widgets(),
            &widget(
                "a",
                json!({
                    "size": 101, "color": "pink", "note": "TOO LONG A NOTE",
                    "parts": [{}], "tags": { "a": "", "b": "", "c": "", "d": "", "e": "" },
                    "colors": ["a", "b", "c", "d"],
                }),
            ),
        )
        .await
        .refused(422, "Invalid")
        .about("Widget", "conformance.test", "a")
        .caused_by(&[
            "FieldValueInvalid spec.size: Invalid value: 101: spec.size in body should be less \
             than or equal to 100",
            "FieldValueNotSupported spec.color: Unsupported value: \"pink\": supported values: \
             \"blue\", \"green\", \"red\"",
            "FieldValueTooLong spec.note: Too long: may not be more than 10 bytes",
            "FieldValueRequired spec.parts[0].name: Required value",
            "FieldValueTooMany spec.tags: Too many: 5: must have at most 4 items",
            "FieldValueTooMany spec.colors: Too many: 4: must have at most 3 items",
            UNCHECKED,
        ]);
    let message = told.message();
    assert!(
        message.starts_with("Widget.conformance.test \"a\" is invalid: ["),
        "{message}"
    );
}

/// A text that doesn't match is named with the pattern that it should match; such a fault keeps no
/// rule from being looked at.
pub(crate) async fn names_the_pattern(t: &Bench) {
    t.post(
        &t.widgets(),
        &widget("a", json!({ "size": 1, "note": "LOUD" })),
    )
    .await
    .refused(422, "Invalid")
    .caused_by(&[
        "FieldValueInvalid spec.note: Invalid value: \"LOUD\": spec.note in body should match \
             '^[a-z ]*$'",
    ]);
}

/// A value of another type is named with the type that it should have.
pub(crate) async fn names_the_type_that_was_expected(t: &Bench) {
    t.post(&t.widgets(), &widget("a", json!({ "size": "1" })))
        .await
        .refused(422, "Invalid")
        .caused_by(&[
            "FieldValueTypeInvalid spec.size: Invalid value: \"string\": spec.size in body must be of \
             type integer: \"string\"",
            UNCHECKED,
        ]);
    t.post(&t.widgets(), &widget("a", json!({ "size": 1.5 })))
        .await
        .refused(422, "Invalid")
        .mentioning("spec.size in body must be of type integer: \"number\"");
    t.post(&t.widgets(), &widget("a", json!({ "size": 1, "tags": [] })))
        .await
        .refused(422, "Invalid")
        .mentioning("spec.tags in body must be of type object: \"array\"");
}

/// What is required is missed by name.
pub(crate) async fn names_what_is_missing(t: &Bench) {
    t.post(&t.widgets(), &widget("a", json!({})))
        .await
        .refused(422, "Invalid")
        .saying(
            "Widget.conformance.test \"a\" is invalid: [spec.size: Required value, <nil>: Invalid \
             value: null: some validation rules were not checked because the object was invalid; \
             correct the existing errors to complete validation]",
        );
    let mut body = widget("a", Value::Null);
    body.as_object_mut().unwrap().remove("spec");
    t.post(&t.widgets(), &body)
        .await
        .refused(422, "Invalid")
        .caused_by(&["FieldValueRequired spec: Required value", UNCHECKED]);
}

/// A number or a string, and nothing else.
pub(crate) async fn int_or_string(t: &Bench) {
    for (name, port) in [("a", json!(80)), ("b", json!("http"))] {
        let made = t
            .post(
                &t.widgets(),
                &widget(name, json!({ "size": 1, "port": port })),
            )
            .await
            .created();
        assert_eq!(made["spec"]["port"], port);
    }
    t.post(
        &t.widgets(),
        &widget("c", json!({ "size": 1, "port": true })),
    )
    .await
    .refused(422, "Invalid")
    .mentioning("spec.port");
}

/// Sets and maps have no duplicates.
pub(crate) async fn list_types_refuse_duplicates(t: &Bench) {
    t.post(
        &t.widgets(),
        &widget("a", json!({ "size": 1, "colors": ["x", "x"] })),
    )
    .await
    .refused(422, "Invalid")
    .caused_by(&["FieldValueDuplicate spec.colors[1]: Duplicate value: \"x\""]);
    t.post(
        &t.widgets(),
        &widget(
            "a",
            json!({ "size": 1, "parts": [{ "name": "p" }, { "name": "p" }] }),
        ),
    )
    .await
    .refused(422, "Invalid")
    .caused_by(&["FieldValueDuplicate spec.parts[1]: Duplicate value: {\"name\":\"p\"}"]);
}

/// A rule over several fields, in the rule's own words.
pub(crate) async fn cel_rule(t: &Bench) {
    t.post(
        &t.widgets(),
        &widget("a", json!({ "size": 1, "min": 3, "max": 2 })),
    )
    .await
    .refused(422, "Invalid")
    .saying(
        "Widget.conformance.test \"a\" is invalid: spec: Invalid value: \"object\": min must not exceed max",
    )
    .caused_by(&["FieldValueInvalid spec: Invalid value: \"object\": min must not exceed max"]);
    t.post(
        &t.widgets(),
        &widget("a", json!({ "size": 1, "min": 2, "max": 2 })),
    )
    .await
    .created();
}

/// A rule may say its message, its field and its reason.
pub(crate) async fn cel_message_field_and_reason(t: &Bench) {
    t.post(
        &t.widgets(),
        &widget("a", json!({ "size": 1, "owner": "bob" })),
    )
    .await
    .refused(422, "Invalid")
    .caused_by(&["FieldValueForbidden spec.owner: Forbidden: owner bob is no team"]);
}

/// A rule inside of a map or a list is broken at its key or index.
pub(crate) async fn cel_rule_names_the_entry(t: &Bench) {
    t.post(
        &t.widgets(),
        &widget(
            "a",
            json!({ "size": 1, "quotas": { "x.y": 13, "z": 1 }, "parts": [{ "name": "p" }, { "name": "q", "count": 13 }] }),
        ),
    )
    .await
    .refused(422, "Invalid")
    .caused_by(&[
        "FieldValueInvalid spec.quotas[x.y]: Invalid value: \"integer\": must not be 13",
        "FieldValueInvalid spec.parts[1].count: Invalid value: \"integer\": must not be 13",
    ]);
}

/// A rule about the change holds for changes only.
pub(crate) async fn cel_transition_rule(t: &Bench) {
    let mut object = t
        .post(
            &t.widgets(),
            &widget("a", json!({ "size": 1, "serial": "x" })),
        )
        .await
        .created();
    object["spec"]["size"] = 2.into();
    let mut object = t.put(&t.widget("a"), &object).await.ok();
    object["spec"]["serial"] = "y".into();
    t.put(&t.widget("a"), &object)
        .await
        .refused(422, "Invalid")
        .saying(
            "Widget.conformance.test \"a\" is invalid: spec.serial: Invalid value: \"string\": serial is \
             immutable",
        );
    let patch = json!({ "spec": { "serial": "y" } });
    t.patch(&t.widget("a"), Patch::Merge, &patch)
        .await
        .refused(422, "Invalid");
}

/// A rule about the change of a field doesn't hold when the field comes or goes.
pub(crate) async fn cel_transition_rule_needs_both_values(t: &Bench) {
    t.make("a", 1).await;
    let serial = |value: Value| json!({ "spec": { "serial": value } });
    for value in [json!("x"), Value::Null, json!("y")] {
        t.patch(&t.widget("a"), Patch::Merge, &serial(value))
            .await
            .ok();
    }
}

/// Labels and annotations have a form of their own.
pub(crate) async fn metadata_is_validated(t: &Bench) {
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["labels"] = json!({ "x": "not a value" });
    t.post(&t.widgets(), &body)
        .await
        .refused(422, "Invalid")
        .mentioning("metadata.labels: Invalid value: \"not a value\"");
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["annotations"] = json!({ "no key": "" });
    t.post(&t.widgets(), &body)
        .await
        .refused(422, "Invalid")
        .mentioning("metadata.annotations: Invalid value: \"no key\"");
    let mut body = widget("a", json!({ "size": 1 }));
    body["metadata"]["labels"] = json!({ "x": 3 });
    t.post(&t.widgets(), &body).await.refused(400, "BadRequest");
}
