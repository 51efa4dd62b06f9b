//! The status of a definition: whether its names are free, and its kind is served.

use serde_json::{Map, Value, json};

use super::shelf;
use crate::embedded::registry::Registry;

/// Writes the status that a real server's controllers would: names accepted, established.
pub(in crate::embedded) fn settle(definition: &mut Value, taken: Option<&str>, now: &str) {
    let names = definition
        .pointer("/spec/names")
        .cloned()
        .unwrap_or_default();
    let storage: Vec<Value> = definition
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|version| version.get("storage") == Some(&json!(true)))
        .filter_map(|version| version.get("name").cloned())
        .collect();
    let Some(object) = definition.as_object_mut() else {
        return;
    };
    let status = object.entry("status").or_insert_with(|| json!({}));
    let Some(status) = status.as_object_mut() else {
        return;
    };
    let accepted = taken.is_none();
    let mut stored = status
        .get("storedVersions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for version in storage {
        if !stored.contains(&version) {
            stored.push(version);
        }
    }
    status.insert("storedVersions".to_owned(), Value::Array(stored));
    status.insert(
        "acceptedNames".to_owned(),
        if accepted {
            names
        } else {
            json!({"plural": "", "kind": ""})
        },
    );
    let (why, message) = match taken {
        None => ("NoConflicts", "no conflicts found".to_owned()),
        Some(name) => ("NameConflict", format!("{name:?} is already in use")),
    };
    set_condition(status, "NamesAccepted", accepted, (why, &message), now);
    let (why, message) = if accepted {
        (
            "InitialNamesAccepted",
            "the initial names have been accepted",
        )
    } else {
        ("NotAccepted", "not all names are accepted")
    };
    set_condition(status, "Established", accepted, (why, message), now);
}

/// Says in the status that the definition waits for its objects to go.
pub(in crate::embedded) fn terminating(definition: &mut Value, now: &str) {
    if let Some(status) = definition.get_mut("status").and_then(Value::as_object_mut) {
        let why = (
            "InstanceDeletionInProgress",
            "CustomResource deletion is in progress",
        );
        set_condition(status, "Terminating", true, why, now);
    }
}

fn set_condition(
    status: &mut Map<String, Value>,
    name: &str,
    on: bool,
    (reason, message): (&str, &str),
    now: &str,
) {
    let state = if on { "True" } else { "False" };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let since = conditions
        .iter()
        .find(|one| {
            one.get("type") == Some(&json!(name)) && one.get("status") == Some(&json!(state))
        })
        .and_then(|one| one.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| json!(now));
    let condition = json!({"type": name, "status": state, "reason": reason, "message": message,
                           "lastTransitionTime": since});
    match conditions
        .iter_mut()
        .find(|one| one.get("type") == Some(&json!(name)))
    {
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}

/// The name of this definition that another resource of the group has already.
pub(in crate::embedded) fn taken(definition: &Value, registry: &Registry) -> Option<String> {
    let group = definition.pointer("/spec/group")?.as_str()?;
    let own = shelf(definition)?;
    let names = definition.pointer("/spec/names")?;
    let text = |name: &str| names.get(name).and_then(Value::as_str).unwrap_or_default();
    registry
        .iter()
        .filter(|kind| kind.group == group && kind.shelf != own)
        .find_map(|kind| {
            [
                (text("kind"), &kind.kind),
                (text("listKind"), &kind.list_kind),
                (text("plural"), &kind.plural),
                (text("singular"), &kind.singular),
            ]
            .into_iter()
            .find_map(|(wanted, used)| (wanted == used).then(|| wanted.to_owned()))
        })
}
