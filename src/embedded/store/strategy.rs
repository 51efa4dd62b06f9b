//! In what the kinds differ when they are written.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::Part;
use crate::{
    embedded::{
        kind::{BuiltIn, Kind, Traits},
        meta, names,
        refusal::FieldError,
    },
    journal::Millis,
};

/// The field names of an Event in the core group and in `events.k8s.io`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A time as metadata has it: RFC 3339 in whole seconds.
#[must_use]
pub(super) fn timestamp(now: Millis) -> String {
    jiff::Timestamp::from_millisecond(now.0)
        .map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// Whether a PUT of an object that is not there makes it.
pub(super) fn creates_on_update(kind: &Kind) -> bool {
    matches!(
        kind.traits,
        Traits::BuiltIn(
            BuiltIn::Lease
                | BuiltIn::CoreEvent
                | BuiltIn::Event
                | BuiltIn::Role
                | BuiltIn::RoleBinding
                | BuiltIn::ClusterRole
                | BuiltIn::ClusterRoleBinding
        )
    )
}

/// Whether a PUT must say which version it replaces.
pub(super) fn needs_version(kind: &Kind) -> bool {
    matches!(
        kind.traits,
        Traits::Custom | Traits::BuiltIn(BuiltIn::Lease | BuiltIn::Definition)
    )
}

pub(super) fn drop_status(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
}

/// What a kind adds to a new object.
pub(super) fn prepare_create(kind: &Kind, object: &mut Value) {
    match kind.traits {
        Traits::BuiltIn(BuiltIn::Namespace) => {
            label_namespace(object);
            if let Some(map) = object.as_object_mut() {
                map.insert("spec".to_owned(), json!({"finalizers": ["kubernetes"]}));
                map.insert("status".to_owned(), json!({"phase": "Active"}));
            }
        }
        Traits::BuiltIn(BuiltIn::Secret) => prepare_secret(object),
        Traits::BuiltIn(_) | Traits::Custom => {}
    }
    drop_nulls(kind, object);
}

/// What a kind adds to a changed object.
pub(super) fn prepare_update(kind: &Kind, object: &mut Value, old: &Value) {
    match kind.traits {
        Traits::BuiltIn(BuiltIn::Namespace) => label_namespace(object),
        Traits::BuiltIn(BuiltIn::Secret) => {
            prepare_secret(object);
            // A type that is left out is the type that it has.
            let kept = old.get("type").cloned();
            if let (Some(map), Some(kept)) = (object.as_object_mut(), kept)
                && map.get("type") == Some(&json!(""))
            {
                map.insert("type".to_owned(), kept);
            }
        }
        Traits::BuiltIn(_) | Traits::Custom => {}
    }
    drop_nulls(kind, object);
}

/// Built-in kinds are decoded into structures, in which null is the same as absent.
fn drop_nulls(kind: &Kind, object: &mut Value) {
    if let (Traits::BuiltIn(_), Some(map)) = (kind.traits, object.as_object_mut()) {
        map.retain(|_, value| !value.is_null());
        for field in ["data", "binaryData", "spec", "status"] {
            if let Some(inner) = map.get_mut(field).and_then(Value::as_object_mut) {
                inner.retain(|_, value| !value.is_null());
            }
        }
    }
}

fn label_namespace(object: &mut Value) {
    let name = meta::text(object, "name").to_owned();
    if let Some(metadata) = meta::of(object) {
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
        }
    }
}

fn prepare_secret(object: &mut Value) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    let plain = map.remove("stringData");
    if let Some(plain) = plain
        .as_ref()
        .and_then(Value::as_object)
        .filter(|plain| !plain.is_empty())
    {
        let data = map.entry("data").or_insert_with(|| json!({}));
        if let Some(data) = data.as_object_mut() {
            for (key, value) in plain {
                let text = value.as_str().unwrap_or_default();
                data.insert(key.clone(), json!(STANDARD.encode(text)));
            }
        }
    }
    let type_ = map.entry("type").or_insert_with(|| json!("Opaque"));
    if type_ == "" {
        *type_ = json!("Opaque");
    }
}

/// Brings back from the old object what this request doesn't concern.
pub(super) fn keep_what_is_not_meant(kind: &Kind, part: Part, object: &mut Value, old: &Value) {
    let keep = |object: &mut Map<String, Value>, field: &str| match old.get(field) {
        Some(value) => {
            object.insert(field.to_owned(), value.clone());
        }
        None => {
            object.remove(field);
        }
    };
    match part {
        Part::Whole => {
            if let Some(map) = object.as_object_mut().filter(|_| kind.status) {
                keep(map, "status");
            }
        }
        Part::Status => {
            let status = object.get("status").cloned();
            *object = old.clone();
            if let Some(map) = object.as_object_mut() {
                match status {
                    Some(status) => map.insert("status".to_owned(), status),
                    None => map.remove("status"),
                };
            }
        }
        Part::Finalize => {
            let finalizers = object.pointer("/spec/finalizers").cloned();
            *object = old.clone();
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
                spec.insert(
                    "finalizers".to_owned(),
                    finalizers.unwrap_or_else(|| json!([])),
                );
            }
        }
    }
    for field in meta::SYSTEM {
        match old.get("metadata").and_then(|metadata| metadata.get(field)) {
            Some(value) => meta::set(object, field, value.clone()),
            None => meta::clear(object, field),
        }
    }
    if kind.is(BuiltIn::Namespace)
        && part == Part::Whole
        && let Some(map) = object.as_object_mut()
    {
        keep(map, "spec");
    }
}

/// A new generation where something else than metadata and status differs.
pub(super) fn bump_generation(kind: &Kind, object: &mut Value, old: &Value) {
    let without = |value: &Value| -> Map<String, Value> {
        let mut map = value.as_object().cloned().unwrap_or_default();
        map.remove("metadata");
        map.remove("apiVersion");
        if kind.status {
            map.remove("status");
        }
        map
    };
    let generation = old.pointer("/metadata/generation").and_then(Value::as_i64);
    if let Some(generation) = generation
        && without(object) != without(old)
    {
        meta::set(object, "generation", json!(generation.saturating_add(1)));
    }
}

/// Whether an object that waits to go may go now.
pub(super) fn is_finished(kind: &Kind, object: &Value) -> bool {
    if !meta::is_terminating(object) || !meta::finalizers(object).is_empty() {
        return false;
    }
    // A namespace goes when its content has, which is looked at elsewhere.
    let held = object
        .pointer("/spec/finalizers")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    !(kind.is(BuiltIn::Namespace) && held)
}

/// The form in which an object lies in the store.
pub(super) fn to_storage(kind: &Kind, object: &mut Value) {
    if kind.is(BuiltIn::Event) {
        rename(object, |(core, new)| (new, core));
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".to_owned(), json!("v1"));
        }
    } else if kind.version != kind.storage_version
        && let Some(map) = object.as_object_mut()
    {
        let version = kind.api_version_of(&kind.storage_version);
        map.insert("apiVersion".to_owned(), json!(version));
    }
}

/// A stored Event as `events.k8s.io` shows it.
pub(super) fn event_to_new(object: &mut Value) {
    rename(object, |(core, new)| (core, new));
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!("events.k8s.io/v1"));
    }
}

fn rename(
    object: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for pair in EVENT_FIELDS {
        let (from, to) = direction(pair);
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

/// The faults that only some kinds know.
pub(super) fn check(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match kind.traits {
        Traits::BuiltIn(BuiltIn::ConfigMap | BuiltIn::Secret) => {
            check_data(object, old, &mut errors);
        }
        Traits::BuiltIn(BuiltIn::Lease) => check_lease(object, &mut errors),
        Traits::BuiltIn(BuiltIn::RoleBinding | BuiltIn::ClusterRoleBinding) => {
            if let Some(old) = old
                && old.get("roleRef") != object.get("roleRef")
            {
                let value = object.get("roleRef").unwrap_or(&Value::Null);
                errors.push(FieldError::invalid(
                    "roleRef",
                    value,
                    "cannot change roleRef",
                ));
            }
        }
        Traits::BuiltIn(BuiltIn::CoreEvent) => check_event(object, "involvedObject", &mut errors),
        Traits::BuiltIn(BuiltIn::Event) => {
            check_event(object, "regarding", &mut errors);
            check_new_event(object, old, &mut errors);
        }
        Traits::BuiltIn(_) | Traits::Custom => {}
    }
    errors
}

fn check_data(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    /// `core.MaxSecretSize`, which a `ConfigMap` shares.
    const MAX_SIZE: usize = 1024 * 1024;
    let mut size = 0_usize;
    for field in ["data", "binaryData"] {
        for (key, value) in object
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if let Some(why) = names::data_key(key) {
                errors.push(FieldError::invalid(
                    format!("{field}[{key}]"),
                    &json!(key),
                    why,
                ));
            }
            size = size.saturating_add(value.as_str().unwrap_or_default().len());
        }
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long("data", 1_048_576));
    }
    let Some(old) = old else {
        return;
    };
    if old.get("immutable") == Some(&json!(true)) {
        let detail = "field is immutable when `immutable` is set";
        for field in ["immutable", "data", "binaryData"] {
            if old.get(field) != object.get(field) {
                errors.push(FieldError::forbidden(field, detail));
            }
        }
    }
    if let Some(type_) = old.get("type")
        && object.get("type") != Some(type_)
    {
        let found = object.get("type").unwrap_or(&Value::Null);
        errors.push(FieldError::invalid("type", found, "field is immutable"));
    }
}

fn check_lease(object: &Value, errors: &mut Vec<FieldError>) {
    let number = |field: &str| object.get("spec")?.get(field)?.as_i64();
    if let Some(seconds) = number("leaseDurationSeconds")
        && seconds <= 0
    {
        errors.push(FieldError::invalid(
            "spec.leaseDurationSeconds",
            &json!(seconds),
            "must be greater than 0",
        ));
    }
    if let Some(transitions) = number("leaseTransitions")
        && transitions < 0
    {
        errors.push(FieldError::invalid(
            "spec.leaseTransitions",
            &json!(transitions),
            "must be greater than or equal to 0",
        ));
    }
}

fn check_event(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let about = object
        .get(field)
        .and_then(|about| about.get("namespace"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let namespace = meta::text(object, "namespace");
    let fits = if about.is_empty() {
        matches!(namespace, "default" | "kube-system")
    } else {
        about == namespace
    };
    if !fits {
        errors.push(FieldError::invalid(
            "involvedObject.namespace",
            &json!(about),
            "does not match event.namespace",
        ));
    }
}

fn check_new_event(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    if old.is_some() {
        return;
    }
    let text = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    for field in [
        "eventTime",
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
    ] {
        if text(field).is_empty() {
            errors.push(FieldError::required(field, ""));
        }
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        errors.push(FieldError::invalid(
            "type",
            &json!(text("type")),
            "has invalid value: ",
        ));
    }
}
