//! Adds the defaults that a schema prescribes.

use serde_json::Value;

use super::{Additional, Schema};

impl Schema {
    fn takes_null(&self) -> bool {
        self.nullable || (self.kind.is_none() && !self.int_or_string)
    }

    /// Adds defaults below objects that are there. A null that is not allowed stands for "not
    /// given": it becomes the default, or goes.
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
                map.retain(|name, child| {
                    let schema = match (self.properties.get(name), &self.additional) {
                        (Some(schema), _) => Some(schema),
                        (None, Additional::Each(each)) => Some(&**each),
                        (None, Additional::None | Additional::Any) => None,
                    };
                    !child.is_null() || schema.is_none_or(Self::takes_null)
                });
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
