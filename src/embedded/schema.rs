//! Structural schemas: what an object of a kind may look like.
//!
//! An object passes through in this order, as on a real API server: [`Schema::prune`] drops what
//! the schema doesn't know, [`Schema::fill_defaults`] adds what it prescribes, [`Schema::check`]
//! finds the faults of structure, and [`Schema::check_rules`] those that CEL rules find.

mod check;
mod default;
mod formats;
mod prune;
mod rules;
mod types;

use std::collections::BTreeMap;

use serde_json::Value;

use self::rules::Rule;
use super::refusal::FieldError;

/// How deep a schema may nest; deeper ones are refused, so that every walk over one is bounded.
const MAX_DEPTH: usize = 64;

/// One node of a structural schema.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "OpenAPI's own flags, each independent of the others"
)]
pub(super) struct Schema {
    /// The JSON type; absent where anything goes.
    kind: Option<Json>,
    nullable: bool,
    int_or_string: bool,
    preserve: bool,
    embedded: bool,
    properties: BTreeMap<String, Self>,
    additional: Additional,
    items: Option<Box<Self>>,
    default: Option<Box<Value>>,
    /// Absent for most nodes: kept apart so that a node without them is small.
    bounds: Option<Box<Bounds>>,
    list: List,
    rules: Vec<Rule>,
}

/// What `additionalProperties` says.
#[derive(Debug, Default)]
enum Additional {
    #[default]
    None,
    Any,
    Each(Box<Schema>),
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Default, PartialEq, Eq)]
enum List {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// The JSON types of `OpenAPI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Json {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

#[derive(Debug, Default)]
struct Bounds {
    required: Vec<String>,
    enumeration: Vec<Value>,
    pattern: Option<regex::Regex>,
    format: Option<String>,
    minimum: Option<Limit>,
    maximum: Option<Limit>,
    multiple_of: Option<f64>,
    length: Range,
    items: Range,
    properties: Range,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Box<Schema>>,
}

#[derive(Debug)]
struct Limit {
    value: f64,
    /// As it was written, for messages.
    shown: String,
    exclusive: bool,
}

#[derive(Debug, Default)]
struct Range {
    min: Option<u64>,
    max: Option<u64>,
}

// === impl Json ===

impl Json {
    const ALL: [(&'static str, Self); 6] = [
        ("object", Self::Object),
        ("array", Self::Array),
        ("string", Self::String),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find_map(|(text, kind)| (*text == name).then_some(*kind))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

// === impl Schema ===

impl Schema {
    /// A schema that lets anything pass.
    #[must_use]
    pub(super) fn anything() -> Self {
        Self {
            preserve: true,
            ..Self::default()
        }
    }

    /// Reads the `OpenAPI` schema found at `path`.
    ///
    /// # Errors
    /// Every fault that makes it unusable, with the path of the field.
    pub(super) fn parse(raw: &Value, path: &str) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let place = Place {
            depth: 0,
            form: Form::Structural,
        };
        let schema = parse_node(raw, path, place, &mut errors);
        if errors.is_empty() {
            Ok(schema)
        } else {
            Err(errors)
        }
    }

    /// Reads a schema that a generator made of the published types: there is nothing to refuse in
    /// it, and not all of its nodes name their type.
    #[must_use]
    pub(super) fn generated(raw: &Value) -> Self {
        let place = Place {
            depth: 0,
            form: Form::Loose,
        };
        parse_node(raw, "", place, &mut Vec::new())
    }

    /// The schema of a field, where it is declared.
    #[must_use]
    pub(super) fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name)
    }

    /// Whether any rule of this schema looks at the old value.
    #[must_use]
    pub(super) fn has_rules(&self) -> bool {
        !self.rules.is_empty()
            || self.properties.values().any(Self::has_rules)
            || self.items.as_ref().is_some_and(|items| items.has_rules())
            || matches!(&self.additional, Additional::Each(each) if each.has_rules())
    }

    fn bounds(&self) -> Option<&Bounds> {
        self.bounds.as_deref()
    }
}

/// Where a node lies.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
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

fn parse_node(raw: &Value, path: &str, place: Place, errors: &mut Vec<FieldError>) -> Schema {
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
    let flag = |name: &str| raw.get(name).and_then(Value::as_bool).unwrap_or(false);
    let kind = parse_type(raw, path, errors);
    let below = place.below();
    let free = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
    if raw.get("type").is_none() && !free && place.form == Form::Structural {
        errors.push(FieldError::required(
            format!("{path}.type"),
            "must not be empty for specified object fields",
        ));
    }
    let properties = raw
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, node)| {
            let at = format!("{path}.properties[{name}]");
            (name.clone(), parse_node(node, &at, below, errors))
        })
        .collect();
    let additional = match raw.get("additionalProperties") {
        None | Some(Value::Bool(false)) => Additional::None,
        Some(Value::Object(map)) if !map.is_empty() => Additional::Each(Box::new(parse_node(
            &Value::Object(map.clone()),
            &format!("{path}.additionalProperties"),
            below,
            errors,
        ))),
        Some(_) => Additional::Any,
    };
    let items = raw
        .get("items")
        .filter(|items| items.is_object())
        .map(|items| Box::new(parse_node(items, &format!("{path}.items"), below, errors)));
    if kind == Some(Json::Array) && items.is_none() {
        errors.push(FieldError::required(
            format!("{path}.items"),
            "must be specified",
        ));
    }
    let schema = Schema {
        kind,
        nullable: flag("nullable"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        preserve: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        properties,
        additional,
        items,
        default: raw.get("default").map(|value| Box::new(value.clone())),
        bounds: parse_bounds(raw, path, below, errors).map(Box::new),
        list: parse_list(raw, path, errors),
        rules: rules::parse(raw, path, errors),
    };
    rules::verify(&schema, place.depth == 0, path, errors);
    check_default(&schema, path, errors);
    schema
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

fn parse_type(raw: &Value, path: &str, errors: &mut Vec<FieldError>) -> Option<Json> {
    let name = raw.get("type").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
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

fn parse_list(raw: &Value, path: &str, errors: &mut Vec<FieldError>) -> List {
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

fn parse_bounds(
    raw: &Value,
    path: &str,
    place: Place,
    errors: &mut Vec<FieldError>,
) -> Option<Bounds> {
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
    if !NAMES.iter().any(|name| raw.get(name).is_some()) {
        return None;
    }
    let pattern = raw.get("pattern").and_then(Value::as_str).and_then(|text| {
        regex::Regex::new(text)
            .map_err(|error| {
                errors.push(FieldError::invalid(
                    format!("{path}.pattern"),
                    &Value::from(text),
                    format!("must be a valid regular expression, but isn't: {error}"),
                ));
            })
            .ok()
    });
    let mut branches = |name: &str| -> Vec<Schema> {
        raw.get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(at, node)| {
                parse_node(
                    node,
                    &format!("{path}.{name}[{at}]"),
                    place.branch(),
                    errors,
                )
            })
            .collect()
    };
    let (all_of, any_of, one_of) = (branches("allOf"), branches("anyOf"), branches("oneOf"));
    let not = raw.get("not").filter(|not| not.is_object()).map(|not| {
        Box::new(parse_node(
            not,
            &format!("{path}.not"),
            place.branch(),
            errors,
        ))
    });
    Some(Bounds {
        required: texts(raw, "required"),
        enumeration: raw
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        pattern,
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

/// The path of a field below `path`.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests;
