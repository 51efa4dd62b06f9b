//! The three kinds of patch: JSON, merge and, for built-in kinds, strategic merge.

use serde_json::{Map, Value, json};

use super::{
    kind::{BuiltIn, Kind, Traits},
    refusal::{FieldError, Refusal},
};

/// How deep a patch may nest: as deep as a JSON document that is read at all.
const MAX_DEPTH: usize = 128;

/// A change to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own: lists are merged by key.
    Strategic(Value),
}

impl Patch {
    /// Reads a patch by its media type.
    ///
    /// # Errors
    /// 415 for server-side apply and unknown types, 400 for a body that is not a patch.
    pub fn read(media_type: &str, body: &[u8]) -> Result<Self, Refusal> {
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let object = || -> Result<Value, Refusal> {
            let value: Value = serde_json::from_slice(body)
                .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
            if value.is_object() {
                Ok(value)
            } else {
                Err(Refusal::bad_request(
                    "error decoding patch: json: cannot unmarshal a value that is not an object into Go value of type map[string]interface {}",
                ))
            }
        };
        match media_type {
            "application/json-patch+json" => serde_json::from_slice(body)
                .map(Self::Json)
                .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}"))),
            "application/merge-patch+json" => object().map(Self::Merge),
            "application/strategic-merge-patch+json" => object().map(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Err(unsupported(
                "server-side apply is not served by the embedded API: apply without --server-side, or send application/merge-patch+json",
            )),
            other => Err(unsupported(&format!(
                "the body of the request was in an unknown format ({other:?}) - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
            ))),
        }
    }

    /// Changes `object`.
    ///
    /// # Errors
    /// 415 for a strategic merge of a custom resource, 422 for an operation that can't be done.
    pub fn apply(&self, kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
        match self {
            Self::Json(patch) => json_patch::patch(object, patch).map_err(|error| {
                let mut refusal = Refusal::plain(
                    422,
                    "Invalid",
                    "the server rejected our request due to an error in our request",
                );
                refusal.details = Some(Box::new(json!({
                    "causes": [{"reason": "UnexpectedServerResponse", "message": error.to_string()}],
                })));
                refusal
            }),
            Self::Merge(patch) => {
                json_patch::merge(object, patch);
                Ok(())
            }
            Self::Strategic(patch) => {
                let Traits::BuiltIn(built_in) = kind.traits else {
                    return Err(unsupported(
                        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json",
                    ));
                };
                merge(built_in, "", object, patch, 0).map_err(|why| {
                    Refusal::invalid(kind, "", &[FieldError::invalid("patch", patch, why)])
                })
            }
        }
    }
}

fn unsupported(message: &str) -> Refusal {
    Refusal::plain(415, "UnsupportedMediaType", message)
}

/// How a list is merged.
enum Lists {
    Replace,
    Values,
    By(&'static str),
}

/// The `patchStrategy` and `patchMergeKey` tags of the types that are served.
fn strategy(built_in: BuiltIn, path: &str) -> Lists {
    match (built_in, path) {
        (_, "metadata.ownerReferences") => Lists::By("uid"),
        (_, "metadata.finalizers") => Lists::Values,
        (BuiltIn::ServiceAccount, "secrets" | "imagePullSecrets") => Lists::By("name"),
        (BuiltIn::Namespace, "status.conditions") => Lists::By("type"),
        _ => Lists::Replace,
    }
}

fn merge(
    built_in: BuiltIn,
    at: &str,
    target: &mut Value,
    patch: &Value,
    depth: usize,
) -> Result<(), String> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if depth > MAX_DEPTH {
        return Err("nests too deep".to_owned());
    }
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            let mut whole = patch.clone();
            whole.remove("$patch");
            *target = Value::Object(whole);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(format!("unknown directive {other:?}")),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else {
        return Ok(());
    };
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|name, _| keep.iter().any(|kept| kept == name));
    }
    for (name, change) in patch {
        merge_field(built_in, at, map, name, change, depth)?;
    }
    Ok(())
}

fn merge_field(
    built_in: BuiltIn,
    at: &str,
    map: &mut Map<String, Value>,
    name: &str,
    change: &Value,
    depth: usize,
) -> Result<(), String> {
    if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
        if let (Some(found), Some(gone)) = (
            map.get_mut(list).and_then(Value::as_array_mut),
            change.as_array(),
        ) {
            found.retain(|item| !gone.contains(item));
        }
        return Ok(());
    }
    if name.starts_with('$') {
        return Ok(());
    }
    let below = if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    };
    match change {
        Value::Null => {
            map.remove(name);
        }
        Value::Array(items) => {
            let target = map.entry(name).or_insert_with(|| json!([]));
            merge_list(built_in, &below, target, items, depth)?;
        }
        Value::Object(_) => {
            let target = map.entry(name).or_insert_with(|| json!({}));
            merge(built_in, &below, target, change, depth.saturating_add(1))?;
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            map.insert(name.to_owned(), change.clone());
        }
    }
    Ok(())
}

fn merge_list(
    built_in: BuiltIn,
    path: &str,
    target: &mut Value,
    items: &[Value],
    depth: usize,
) -> Result<(), String> {
    let Some(list) = target.as_array_mut() else {
        *target = Value::Array(items.to_vec());
        return Ok(());
    };
    match strategy(built_in, path) {
        Lists::Replace => *list = items.to_vec(),
        Lists::Values => {
            for item in items {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        }
        Lists::By(key) => {
            if items
                .iter()
                .any(|item| item.get("$patch") == Some(&json!("replace")))
            {
                list.clear();
            }
            for item in items {
                let directive = item.get("$patch").and_then(Value::as_str);
                if directive == Some("replace") {
                    continue;
                }
                let wanted = item.get(key).ok_or_else(|| {
                    format!("map: {item} does not contain declared merge key: {key}")
                })?;
                let at = list.iter().position(|found| found.get(key) == Some(wanted));
                match (at, directive) {
                    (Some(at), Some("delete")) => {
                        list.remove(at);
                    }
                    (None, Some("delete")) => {}
                    (Some(at), _) => {
                        if let Some(found) = list.get_mut(at) {
                            merge(built_in, path, found, item, depth.saturating_add(1))?;
                        }
                    }
                    (None, _) => list.push(item.clone()),
                }
            }
        }
    }
    Ok(())
}
