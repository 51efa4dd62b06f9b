//! Label and field selectors, as queries carry them.

use serde_json::Value;

use super::{
    jsonpath::JsonPath,
    kind::{BuiltIn, Kind, Traits},
    refusal::Refusal,
};

/// Which objects a list, a watch or a collection's deletion concerns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selector {
    labels: Vec<LabelRule>,
    fields: Vec<FieldRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Clone, Debug, PartialEq)]
struct FieldRule {
    path: JsonPath,
    equal: bool,
    value: String,
}

// === impl Selector ===

impl Selector {
    /// Parses both selectors for a kind; empty texts select everything.
    ///
    /// # Errors
    /// 400 with the part that can't be understood, or the field that the kind can't be selected by.
    pub(super) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Refusal> {
        let labels = label_rules(labels)
            .map_err(|why| Refusal::bad_request(format!("unable to parse requirement: {why}")))?;
        let fields = split_escaped(fields)
            .into_iter()
            .map(|term| field_rule(kind, &term))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether it selects everything.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is selected.
    #[must_use]
    pub(super) fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| {
            object
                .get("metadata")
                .and_then(|metadata| metadata.get("labels"))
                .and_then(|labels| labels.get(key))
                .and_then(Value::as_str)
        };
        let labels = self.labels.iter().all(|rule| match rule {
            LabelRule::In(key, values) => {
                label(key).is_some_and(|found| values.iter().any(|value| value == found))
            }
            LabelRule::NotIn(key, values) => {
                !label(key).is_some_and(|found| values.iter().any(|value| value == found))
            }
            LabelRule::Exists(key) => label(key).is_some(),
            LabelRule::Absent(key) => label(key).is_none(),
        });
        labels && self.fields.iter().all(|rule| rule.matches(object))
    }

    /// The same, of objects of one name alone.
    #[must_use]
    pub(super) fn and_name(mut self, name: &str) -> Self {
        self.fields.push(FieldRule {
            path: JsonPath::fields("metadata.name"),
            equal: true,
            value: name.to_owned(),
        });
        self
    }
}

impl FieldRule {
    fn matches(&self, object: &Value) -> bool {
        let found = match self.path.first(object) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        (found == self.value) == self.equal
    }
}

fn field_rule(kind: &Kind, term: &str) -> Result<FieldRule, Refusal> {
    let (label, equal, value) = term
        .split_once("!=")
        .map(|(label, value)| (label, false, value))
        .or_else(|| {
            term.split_once("==")
                .map(|(label, value)| (label, true, value))
        })
        .or_else(|| {
            term.split_once('=')
                .map(|(label, value)| (label, true, value))
        })
        .ok_or_else(|| {
            Refusal::bad_request(format!(
                "invalid selector: '{term}'; can't understand '{term}'"
            ))
        })?;
    let label = label.trim();
    let path = field_path(kind, label)
        .ok_or_else(|| Refusal::bad_request(format!("field label not supported: {label}")))?;
    Ok(FieldRule {
        path,
        equal,
        value: value.to_owned(),
    })
}

/// Where the value of a field label lies in the stored object.
fn field_path(kind: &Kind, label: &str) -> Option<JsonPath> {
    if matches!(label, "metadata.name" | "metadata.namespace") {
        return Some(JsonPath::fields(label));
    }
    if kind
        .selectable
        .iter()
        .any(|path| path.trim_start_matches('.') == label)
    {
        return JsonPath::parse(label).ok();
    }
    let Traits::BuiltIn(built_in) = kind.traits else {
        return None;
    };
    let path = match (built_in, label) {
        (BuiltIn::Namespace, "status.phase") => "status.phase",
        (BuiltIn::Namespace, "name") => "metadata.name",
        (BuiltIn::Secret, "type") => "type",
        (BuiltIn::CoreEvent | BuiltIn::Event, label) => event_path(label)?,
        _ => return None,
    };
    Some(JsonPath::fields(path))
}

/// Events are stored in the form of the core group.
fn event_path(label: &str) -> Option<&'static str> {
    Some(match label {
        "involvedObject.kind" | "regarding.kind" => "involvedObject.kind",
        "involvedObject.namespace" | "regarding.namespace" => "involvedObject.namespace",
        "involvedObject.name" | "regarding.name" => "involvedObject.name",
        "involvedObject.uid" | "regarding.uid" => "involvedObject.uid",
        "involvedObject.apiVersion" | "regarding.apiVersion" => "involvedObject.apiVersion",
        "involvedObject.resourceVersion" | "regarding.resourceVersion" => {
            "involvedObject.resourceVersion"
        }
        "involvedObject.fieldPath" | "regarding.fieldPath" => "involvedObject.fieldPath",
        "reason" => "reason",
        "type" => "type",
        "reportingComponent" | "reportingController" => "reportingComponent",
        "source" => "source.component",
        _ => return None,
    })
}

/// Splits at commas that are not escaped by a backslash.
fn split_escaped(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                if let (Some(term), Some(next)) = (terms.last_mut(), chars.next()) {
                    term.push(next);
                }
            }
            ',' => terms.push(String::new()),
            other => {
                if let Some(term) = terms.last_mut() {
                    term.push(other);
                }
            }
        }
    }
    terms.retain(|term| !term.trim().is_empty());
    terms
}

fn label_rules(text: &str) -> Result<Vec<LabelRule>, String> {
    let mut rules = Vec::new();
    for term in split_outside_parens(text) {
        let term = term.trim();
        if !term.is_empty() {
            rules.push(label_rule(term)?);
        }
    }
    Ok(rules)
}

fn split_outside_parens(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|char| {
        match char {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        char == ',' && depth == 0
    })
    .collect()
}

fn label_rule(term: &str) -> Result<LabelRule, String> {
    if let Some(key) = term.strip_prefix('!') {
        return Ok(LabelRule::Absent(label_key(key)?));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(LabelRule::NotIn(label_key(key)?, vec![label_value(value)?]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(LabelRule::In(label_key(key)?, vec![label_value(value)?]));
    }
    if let Some((head, list)) = term.split_once('(') {
        let list = list
            .strip_suffix(')')
            .ok_or_else(|| format!("found '{term}', expected: ')'"))?;
        let values = list
            .split(',')
            .map(label_value)
            .collect::<Result<Vec<_>, _>>()?;
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok(LabelRule::In(label_key(key)?, values)),
            (Some(key), Some("notin"), None) => Ok(LabelRule::NotIn(label_key(key)?, values)),
            _ => Err(format!("found '{head}', expected: in, notin")),
        };
    }
    Ok(LabelRule::Exists(label_key(term)?))
}

fn label_key(text: &str) -> Result<String, String> {
    let key = text.trim();
    match super::names::qualified_name(key).first() {
        None => Ok(key.to_owned()),
        Some(why) => Err(format!("key: Invalid value: {key:?}: {why}")),
    }
}

fn label_value(text: &str) -> Result<String, String> {
    let value = text.trim();
    match super::names::label_value(value) {
        None => Ok(value.to_owned()),
        Some(why) => Err(format!("values[0]: Invalid value: {value:?}: {why}")),
    }
}
