//! Reads a schema.

use serde_json::Value;

use super::{Additional, Bounds, Json, Limit, List, MAX_DEPTH, Range, Schema, join, rules};
use crate::embedded::refusal::FieldError;

/// Where a node lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) depth: usize,
    pub(super) form: Form,
}

/// How strict the rules for a node are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Part of the structure: names its type, may have defaults and rules.
    Structural,
    /// Inside of `allOf` and the like, or generated.
    Loose,
}

impl Place {
    fn below(self) -> Self {
        Self {
            depth: self.depth.saturating_add(1),
            ..self
        }
    }

    fn branch(self) -> Self {
        Self {
            form: Form::Loose,
            ..self
        }
    }
}

/// Reads a node and all below it.
pub(super) fn node(raw: &Value, path: &str, place: Place, errors: &mut Vec<FieldError>) -> Schema {
    if place.depth > MAX_DEPTH {
        errors.push(FieldError::invalid_shown(
            path,
            "\"\"",
            format!("must not nest more than {MAX_DEPTH} levels"),
        ));
        return Schema::default();
    }
    if raw.get("$ref").is_some() {
        // Only generated schemas of built-in kinds refer, where they contain themselves.
        return Schema::anything();
    }
    let flag = |name: &str| flag(raw, name);
    let kind = node_type(raw, path, place.form, errors);
    let below = place.below();
    let properties = raw
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, child)| {
            let at = format!("{path}.properties[{name}]");
            (name.clone(), node(child, &at, below, errors))
        })
        .collect();
    let additional = additional(raw, path, below, errors);
    let items = items(raw, path, (kind, below), errors);
    let mut schema = Schema {
        kind,
        nullable: flag("nullable"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        preserve: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        properties,
        additional,
        items,
        default: raw.get("default").map(|value| Box::new(value.clone())),
        bounds: node_bounds(raw, path, below, errors).map(Box::new),
        list: node_list(raw, path, errors),
        rules: rules::parse(raw, path, errors),
        ruled: false,
    };
    schema.ruled = !schema.rules.is_empty()
        || schema.properties.values().any(Schema::has_rules)
        || schema.items.as_ref().is_some_and(|items| items.has_rules())
        || matches!(&schema.additional, Additional::Each(each) if each.has_rules());
    rules::verify(&schema, place.depth == 0, path, errors);
    check_default(&schema, path, errors);
    schema
}

fn flag(raw: &Value, name: &str) -> bool {
    raw.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn additional(raw: &Value, path: &str, below: Place, errors: &mut Vec<FieldError>) -> Additional {
    match raw.get("additionalProperties") {
        None | Some(Value::Bool(false)) => Additional::None,
        Some(each) if each.as_object().is_some_and(|map| !map.is_empty()) => {
            let path = format!("{path}.additionalProperties");
            Additional::Each(Box::new(node(each, &path, below, errors)))
        }
        Some(_) => Additional::Any,
    }
}

fn items(
    raw: &Value,
    path: &str,
    (kind, below): (Option<Json>, Place),
    errors: &mut Vec<FieldError>,
) -> Option<Box<Schema>> {
    let items = raw.get("items").filter(|items| items.is_object());
    if kind == Some(Json::Array) && items.is_none() {
        errors.push(FieldError::required(
            format!("{path}.items"),
            "must be specified",
        ));
    }
    items.map(|items| Box::new(node(items, &format!("{path}.items"), below, errors)))
}

/// A default that its own schema would refuse would make every object invalid.
fn check_default(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let Some(default) = &schema.default else {
        return;
    };
    let path = format!("{path}.default");
    let mut pruned = (**default).clone();
    for field in schema.prune_below(&mut pruned) {
        let at = join(&path, &field);
        errors.push(FieldError::invalid(
            at,
            default,
            "must not have unknown fields",
        ));
    }
    schema.check_node(default, None, &path, errors);
}

fn node_type(raw: &Value, path: &str, form: Form, errors: &mut Vec<FieldError>) -> Option<Json> {
    let name = raw.get("type").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        let free = flag(raw, "x-kubernetes-int-or-string")
            || flag(raw, "x-kubernetes-preserve-unknown-fields");
        if !free && form == Form::Structural {
            errors.push(FieldError::required(
                format!("{path}.type"),
                "must not be empty for specified object fields",
            ));
        }
        return None;
    }
    let kind = Json::parse(name);
    if kind.is_none() {
        let allowed: Vec<String> = Json::ALL
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        errors.push(FieldError::not_supported(
            format!("{path}.type"),
            &Value::from(name),
            &allowed,
        ));
    }
    kind
}

fn node_list(raw: &Value, path: &str, errors: &mut Vec<FieldError>) -> List {
    match raw.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => List::Set,
        Some("map") => {
            let keys: Vec<String> = texts(raw, "x-kubernetes-list-map-keys");
            if keys.is_empty() {
                errors.push(FieldError::required(
                    format!("{path}.x-kubernetes-list-map-keys"),
                    "must not be empty if x-kubernetes-list-type is map",
                ));
            }
            List::Map(keys)
        }
        Some(_) | None => List::Atomic,
    }
}

/// What makes a node have bounds.
const NAMES: [&str; 18] = [
    "required",
    "enum",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "uniqueItems",
];

fn node_bounds(
    raw: &Value,
    path: &str,
    place: Place,
    errors: &mut Vec<FieldError>,
) -> Option<Bounds> {
    if !NAMES.iter().any(|name| raw.get(name).is_some()) {
        return None;
    }
    let mut branches = |name: &str| -> Vec<Schema> {
        raw.get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(at, child)| {
                let path = format!("{path}.{name}[{at}]");
                node(child, &path, place.branch(), errors)
            })
            .collect()
    };
    let (all_of, any_of, one_of) = (branches("allOf"), branches("anyOf"), branches("oneOf"));
    let not = raw
        .get("not")
        .filter(|not| not.is_object())
        .map(|not| Box::new(node(not, &format!("{path}.not"), place.branch(), errors)));
    Some(Bounds {
        required: texts(raw, "required"),
        enumeration: raw
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        pattern: pattern(raw, path, errors),
        format: raw.get("format").and_then(Value::as_str).map(str::to_owned),
        minimum: limit(raw, "minimum", "exclusiveMinimum"),
        maximum: limit(raw, "maximum", "exclusiveMaximum"),
        multiple_of: raw.get("multipleOf").and_then(Value::as_f64),
        length: range(raw, "minLength", "maxLength"),
        items: range(raw, "minItems", "maxItems"),
        properties: range(raw, "minProperties", "maxProperties"),
        all_of,
        any_of,
        one_of,
        not,
    })
}

fn pattern(raw: &Value, path: &str, errors: &mut Vec<FieldError>) -> Option<regex::Regex> {
    let text = raw.get("pattern")?.as_str()?;
    regex::Regex::new(text)
        .map_err(|error| {
            errors.push(FieldError::invalid(
                format!("{path}.pattern"),
                &Value::from(text),
                format!("must be a valid regular expression, but isn't: {error}"),
            ));
        })
        .ok()
}

fn texts(raw: &Value, name: &str) -> Vec<String> {
    raw.get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

fn limit(raw: &Value, name: &str, exclusive: &str) -> Option<Limit> {
    let value = raw.get(name)?;
    let number = value.as_f64()?;
    // Go prints a float without its fraction where there is none.
    let shown = value
        .as_i64()
        .map_or_else(|| number.to_string(), |whole| whole.to_string());
    Some(Limit {
        value: number,
        shown,
        exclusive: raw.get(exclusive).and_then(Value::as_bool).unwrap_or(false),
    })
}

fn range(raw: &Value, min: &str, max: &str) -> Range {
    let number = |name: &str| {
        let value = raw.get(name)?;
        value.as_u64().or_else(|| {
            // schemars writes some bounds as floats.
            let text = value.as_f64()?.to_string();
            text.parse().ok()
        })
    };
    Range {
        min: number(min),
        max: number(max),
    }
}
