//! Drops the fields that a schema doesn't know.

use serde_json::Value;

use super::{Additional, Schema, join};

impl Schema {
    /// Drops unknown fields below the root's own `apiVersion`, `kind` and `metadata`, and gives
    /// their paths.
    pub(in crate::embedded) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        self.prune_node(object, "", true, &mut dropped);
        dropped
    }

    /// The same of a part of an object.
    pub(super) fn prune_below(&self, value: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        self.prune_node(value, "", false, &mut dropped);
        dropped
    }

    fn prune_node(&self, value: &mut Value, path: &str, root: bool, dropped: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let keep = |name: &str| {
                    (root || self.embedded) && matches!(name, "apiVersion" | "kind" | "metadata")
                };
                if !self.preserve && matches!(self.additional, Additional::None) {
                    map.retain(|name, _| {
                        let known = keep(name) || self.properties.contains_key(name);
                        if !known {
                            dropped.push(join(path, name));
                        }
                        known
                    });
                }
                for (name, child) in map.iter_mut() {
                    if keep(name) {
                        continue;
                    }
                    let schema = match (self.properties.get(name), &self.additional) {
                        (Some(schema), _) => Some(schema),
                        (None, Additional::Each(each)) => Some(&**each),
                        (None, Additional::None | Additional::Any) => None,
                    };
                    if let Some(schema) = schema {
                        schema.prune_node(child, &join(path, name), false, dropped);
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = &self.items {
                    for (at, item) in list.iter_mut().enumerate() {
                        items.prune_node(item, &format!("{path}[{at}]"), false, dropped);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
