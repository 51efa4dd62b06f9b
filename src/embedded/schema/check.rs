//! Finds the faults of structure, in the words of the API server's `OpenAPI` validation.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Additional, Bounds, Json, List, Schema, formats, join};
use crate::embedded::refusal::FieldError;

/// How many faults of one object are reported; an object with more has the rest left out, so that
/// a hostile one can't make a large answer.
const MAX_ERRORS: usize = 100;

impl Schema {
    /// The faults of `value`. What is the same in `old` was accepted before and is let pass
    /// (ratcheting, as since Kubernetes 1.33).
    pub(in crate::embedded) fn check(&self, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.check_node(value, old, "", &mut errors);
        errors.truncate(MAX_ERRORS);
        errors
    }

    pub(super) fn check_node(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        if errors.len() >= MAX_ERRORS || old == Some(value) {
            return;
        }
        if value.is_null() && self.nullable {
            return;
        }
        if !self.check_type(value, path, errors) {
            return;
        }
        if let Some(bounds) = self.bounds() {
            bounds.check(value, path, errors);
            bounds.check_branches(value, path, errors);
        }
        match value {
            Value::Object(map) => self.check_object(map, old, path, errors),
            Value::Array(list) => self.check_array(list, old, path, errors),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn check_type(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) -> bool {
        let found = type_name(value);
        let wanted = if self.int_or_string {
            if matches!(found, "integer" | "string") {
                return true;
            }
            "integer,string".to_owned()
        } else {
            let Some(kind) = self.kind else {
                return true;
            };
            if kind.name() == found || (kind == Json::Number && found == "integer") {
                return true;
            }
            kind.name().to_owned()
        };
        errors.push(FieldError::type_invalid(
            path,
            found,
            format!("{path} in body must be of type {wanted}: {found:?}"),
        ));
        false
    }

    fn check_object(
        &self,
        map: &Map<String, Value>,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        for (name, child) in map {
            let schema = match (self.properties.get(name), &self.additional) {
                (Some(schema), _) => schema,
                (None, Additional::Each(each)) => each,
                (None, Additional::None | Additional::Any) => continue,
            };
            let old = old.and_then(|old| old.get(name));
            schema.check_node(child, old, &join(path, name), errors);
        }
    }

    fn check_array(
        &self,
        list: &[Value],
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        self.check_unique(list, path, errors);
        let Some(items) = &self.items else {
            return;
        };
        for (at, item) in list.iter().enumerate() {
            let old = self.correlate(item, at, old);
            items.check_node(item, old, &format!("{path}[{at}]"), errors);
        }
    }

    fn check_unique(&self, list: &[Value], path: &str, errors: &mut Vec<FieldError>) {
        let mut seen = BTreeSet::new();
        for (at, item) in list.iter().enumerate() {
            let (key, shown) = match &self.list {
                List::Atomic => return,
                List::Set => (item.to_string(), super::super::refusal::go_value(item)),
                List::Map(_) => {
                    let key = self.list_key(item).to_string();
                    (key.clone(), key)
                }
            };
            if !seen.insert(key) {
                errors.push(FieldError::duplicate(format!("{path}[{at}]"), &shown));
            }
        }
    }

    /// The fields by which an entry of a list of type map is told apart.
    fn list_key(&self, item: &Value) -> Value {
        let List::Map(keys) = &self.list else {
            return Value::Null;
        };
        keys.iter()
            .filter_map(|key| {
                let default = || self.items.as_ref()?.properties.get(key)?.default.as_deref();
                Some((key.clone(), item.get(key).or_else(default)?.clone()))
            })
            .collect::<Map<_, _>>()
            .into()
    }

    /// The old entry that `item` continues: by key in a list of type map, else none, since a
    /// position in a list says nothing about identity.
    pub(super) fn correlate<'v>(
        &self,
        item: &Value,
        _at: usize,
        old: Option<&'v Value>,
    ) -> Option<&'v Value> {
        let old = old?.as_array()?;
        match &self.list {
            List::Atomic | List::Set => None,
            List::Map(_) => {
                let key = self.list_key(item);
                old.iter().find(|entry| self.list_key(entry) == key)
            }
        }
    }
}

impl Bounds {
    fn check(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        if !self.enumeration.is_empty() && !self.enumeration.contains(value) {
            let allowed: Vec<String> = self
                .enumeration
                .iter()
                .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
                .collect();
            errors.push(FieldError::not_supported(path, value, &allowed));
        }
        match value {
            Value::String(text) => self.check_text(text, value, path, errors),
            Value::Number(_) => self.check_number(value, path, errors),
            Value::Array(list) => self.check_list(list, value, path, errors),
            Value::Object(map) => self.check_map(map, value, path, errors),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn check_text(&self, text: &str, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        let characters = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        if let Some(max) = self.length.max
            && characters > max
        {
            // The first fault of a text is the only one that is told.
            errors.push(FieldError::too_long(path, max));
        } else if let Some(min) = self.length.min
            && characters < min
        {
            let detail = format!("{path} in body should be at least {min} chars long");
            errors.push(FieldError::invalid(path, value, detail));
        } else if let Some(pattern) = &self.pattern
            && !pattern.is_match(text)
        {
            let detail = format!("{path} in body should match '{pattern}'");
            errors.push(FieldError::invalid(path, value, detail));
        }
        if let Some(format) = &self.format
            && !formats::valid(format, text)
        {
            errors.push(FieldError::type_invalid(
                path,
                text,
                format!("{path} in body must be of type {format}: {text:?}"),
            ));
        }
    }

    fn check_number(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        let Some(number) = value.as_f64() else {
            return;
        };
        let mut invalid = |detail: String| {
            errors.push(FieldError::invalid(
                path,
                value,
                format!("{path} in body {detail}"),
            ));
        };
        if let Some(min) = &self.minimum {
            if min.exclusive && number <= min.value {
                invalid(format!("should be greater than {}", min.shown));
            } else if number < min.value {
                invalid(format!("should be greater than or equal to {}", min.shown));
            }
        }
        if let Some(max) = &self.maximum {
            if max.exclusive && number >= max.value {
                invalid(format!("should be less than {}", max.shown));
            } else if number > max.value {
                invalid(format!("should be less than or equal to {}", max.shown));
            }
        }
        if let Some(factor) = self.multiple_of
            && factor > 0.0
            && (number / factor).fract() != 0.0
        {
            invalid(format!("should be a multiple of {factor}"));
        }
        if let Some(format) = &self.format
            && !formats::in_range(format, value)
        {
            invalid(format!("must be of type {format}: {value}"));
        }
    }

    fn check_list(&self, list: &[Value], value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        let count = u64::try_from(list.len()).unwrap_or(u64::MAX);
        if let Some(max) = self.items.max
            && count > max
        {
            errors.push(FieldError::too_many(path, list.len(), max));
        }
        if let Some(min) = self.items.min
            && count < min
        {
            let detail = format!("{path} in body should have at least {min} items");
            errors.push(FieldError::invalid(path, value, detail));
        }
    }

    fn check_map(
        &self,
        map: &Map<String, Value>,
        value: &Value,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        for name in &self.required {
            if !map.contains_key(name) {
                errors.push(FieldError::required(join(path, name), ""));
            }
        }
        let count = u64::try_from(map.len()).unwrap_or(u64::MAX);
        if let Some(max) = self.properties.max
            && count > max
        {
            errors.push(FieldError::too_many(path, map.len(), max));
        }
        if let Some(min) = self.properties.min
            && count < min
        {
            let detail = format!("{path} in body should have at least {min} properties");
            errors.push(FieldError::invalid(path, value, detail));
        }
    }

    fn check_branches(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        let passes = |schema: &Schema| {
            let mut found = Vec::new();
            schema.check_node(value, None, path, &mut found);
            found.is_empty()
        };
        let mut invalid = |detail: String| {
            errors.push(FieldError::invalid(path, value, detail));
        };
        if !self.any_of.is_empty() && !self.any_of.iter().any(passes) {
            invalid(format!(
                "{path:?} must validate at least one schema (anyOf)"
            ));
        }
        if !self.one_of.is_empty() {
            let count = self.one_of.iter().filter(|schema| passes(schema)).count();
            if count != 1 {
                let found = if count == 0 {
                    "Found none valid".to_owned()
                } else {
                    format!("Found {count} valid alternatives")
                };
                invalid(format!(
                    "{path:?} must validate one and only one schema (oneOf). {found}"
                ));
            }
        }
        if let Some(not) = &self.not
            && passes(not)
        {
            invalid(format!("{path:?} must not validate the schema (not)"));
        }
        if !self.all_of.iter().all(passes) {
            for schema in &self.all_of {
                schema.check_node(value, None, path, errors);
            }
            errors.push(FieldError::invalid(
                path,
                value,
                format!("{path:?} must validate all the schemas (allOf)"),
            ));
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) => {
            let whole = number.is_i64()
                || number.is_u64()
                || number.as_f64().is_some_and(|number| number.fract() == 0.0);
            if whole { "integer" } else { "number" }
        }
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
