//! Object metadata: what clients may say of it, and what the server adds.

use serde_json::{Map, Value, json};

use super::{
    kind::{BuiltIn, Kind, Traits},
    names,
    refusal::{FieldError, Refusal},
};

/// The fields of `metav1.ObjectMeta`.
const KNOWN: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What only the server writes.
pub(super) const SYSTEM: [&str; 5] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];

/// `validation.TotalAnnotationSizeLimitB`.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// A text field of an object's metadata; empty when absent.
#[must_use]
pub(super) fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// An object's metadata, made where it is absent.
pub(super) fn of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object
        .as_object_mut()?
        .entry("metadata")
        .or_insert_with(|| json!({}))
        .as_object_mut()
}

/// Sets a field of an object's metadata.
pub(super) fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(metadata) = of(object) {
        metadata.insert(field.to_owned(), value);
    }
}

/// Removes a field of an object's metadata.
pub(super) fn clear(object: &mut Value, field: &str) {
    if let Some(metadata) = of(object) {
        metadata.remove(field);
    }
}

/// The finalizers of an object.
pub(super) fn finalizers(object: &Value) -> Vec<String> {
    object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

/// Whether an object waits to be gone.
pub(super) fn is_terminating(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Brings metadata into its canonical form: no unknown fields, no nulls, no empty maps and lists.
/// Gives the paths of the unknown fields.
///
/// # Errors
/// 400 where a field has the wrong type.
pub(super) fn normalize(kind: &Kind, object: &mut Value) -> Result<Vec<String>, Refusal> {
    let Some(metadata) = of(object) else {
        return Err(Refusal::bad_request("metadata must be an object"));
    };
    let mut unknown = Vec::new();
    metadata.retain(|name, _| {
        let known = KNOWN.contains(&name.as_str());
        if !known {
            unknown.push(format!("metadata.{name}"));
        }
        known
    });
    // Nobody but a server with server-side apply has a use for it.
    metadata.remove("managedFields");
    metadata.remove("selfLink");
    metadata.retain(|_, value| match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    });
    for (name, value) in metadata.iter() {
        let fine = match name.as_str() {
            "labels" | "annotations" => value
                .as_object()
                .is_some_and(|map| map.values().all(Value::is_string)),
            "finalizers" => value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_string)),
            "ownerReferences" => value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_object)),
            "generation" | "deletionGracePeriodSeconds" => value.is_i64(),
            _ => value.is_string(),
        };
        if !fine {
            return Err(Refusal::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: json: cannot unmarshal metadata.{name}: wrong type",
                kind.kind, kind.version, kind.kind
            )));
        }
    }
    Ok(unknown)
}

/// The faults of an object's metadata.
pub(super) fn check(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = text(object, "name");
    if name.is_empty() {
        let detail = "name or generateName is required";
        errors.push(FieldError::required("metadata.name", detail));
    } else if let Some(why) = check_name(kind, name) {
        errors.push(FieldError::invalid("metadata.name", &json!(name), why));
    }
    check_maps(object, &mut errors);
    check_owners(object, &mut errors);
    for finalizer in finalizers(object) {
        for why in names::qualified_name(&finalizer) {
            errors.push(FieldError::invalid(
                "metadata.finalizers",
                &json!(finalizer),
                why,
            ));
        }
    }
    if let Some(old) = old.filter(|old| is_terminating(old)) {
        let before = finalizers(old);
        let added: Vec<String> = finalizers(object)
            .into_iter()
            .filter(|one| !before.contains(one))
            .collect();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|one| format!("{one:?}")).collect();
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    shown.join(", ")
                ),
            ));
        }
    }
    errors
}

fn check_name(kind: &Kind, name: &str) -> Option<String> {
    match kind.traits {
        Traits::BuiltIn(BuiltIn::Namespace) => names::dns_label(name),
        Traits::BuiltIn(
            BuiltIn::Role
            | BuiltIn::RoleBinding
            | BuiltIn::ClusterRole
            | BuiltIn::ClusterRoleBinding,
        ) => names::path_segment(name),
        Traits::BuiltIn(_) | Traits::Custom => names::dns_subdomain(name),
    }
}

fn check_maps(object: &Value, errors: &mut Vec<FieldError>) {
    let map = |name: &str| {
        object
            .get("metadata")
            .and_then(|metadata| metadata.get(name))
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    for (key, value) in map("labels") {
        for why in names::qualified_name(key) {
            errors.push(FieldError::invalid("metadata.labels", &json!(key), why));
        }
        let value = value.as_str().unwrap_or_default();
        if let Some(why) = names::label_value(value) {
            errors.push(FieldError::invalid("metadata.labels", &json!(value), why));
        }
    }
    let mut size = 0_usize;
    for (key, value) in map("annotations") {
        for why in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(
                "metadata.annotations",
                &json!(key),
                why,
            ));
        }
        size = size
            .saturating_add(key.len())
            .saturating_add(value.as_str().unwrap_or_default().len());
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long("metadata.annotations", 262_144));
    }
}

fn check_owners(object: &Value, errors: &mut Vec<FieldError>) {
    let owners = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    for owner in owners.into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            let value = owner.get(field).and_then(Value::as_str).unwrap_or_default();
            if value.is_empty() {
                errors.push(FieldError::invalid(
                    format!("metadata.ownerReferences.{field}"),
                    &json!(value),
                    "must not be empty",
                ));
            }
        }
    }
}
