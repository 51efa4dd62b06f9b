//! Adds the defaults that a schema prescribes.

use serde_json::Value;

use super::{Additional, Schema};

impl Schema {
    /// Adds defaults below objects that are there, and drops nulls that stand for one.
    pub(in crate::embedded) fn fill_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (name, schema) in &self.properties {
                    let Some(default) = &schema.default else {
                        continue;
                    };
                    // A null that the schema doesn't allow stands for "not given".
                    let absent = match map.get(name) {
                        None => true,
                        Some(found) => found.is_null() && !schema.nullable,
                    };
                    if absent {
                        map.insert(name.clone(), (**default).clone());
                    }
                }
                for (name, child) in map.iter_mut() {
                    if let Some(schema) = self.properties.get(name) {
                        schema.fill_defaults(child);
                    } else if let Additional::Each(each) = &self.additional {
                        each.fill_defaults(child);
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = &self.items {
                    for item in list {
                        items.fill_defaults(item);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
