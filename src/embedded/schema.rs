//! Structural schemas: what an object of a kind may look like.
//!
//! An object passes through in this order, as on a real API server: [`Schema::prune`] drops what
//! the schema doesn't know, [`Schema::fill_defaults`] adds what it prescribes, [`Schema::check`]
//! finds the faults of structure, and [`Schema::check_rules`] those that CEL rules find.

mod check;
mod convert;
mod default;
mod formats;
mod parse;
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
    /// Whether there is a rule here or anywhere below: where there is none, nobody need look.
    ruled: bool,
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
        let place = parse::Place {
            depth: 0,
            form: parse::Form::Structural,
        };
        let schema = parse::node(raw, path, place, &mut errors);
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
        let place = parse::Place {
            depth: 0,
            form: parse::Form::Loose,
        };
        parse::node(raw, "", place, &mut Vec::new())
    }

    /// The schema of a field, where it is declared.
    #[must_use]
    pub(super) fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name)
    }

    /// Whether there is a rule here or anywhere below.
    #[must_use]
    pub(super) const fn has_rules(&self) -> bool {
        self.ruled
    }

    fn bounds(&self) -> Option<&Bounds> {
        self.bounds.as_deref()
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
