//! What the derived schemas lack to be good CRDs: rules, and a form that every API server takes.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::limits::{COUNTING, HOLDER};

/// RFC 1123 label: names of Ingestors, paths, sources.
pub(super) const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// RFC 1123 subdomain: names of Secrets and Pods; [`super::names::is_subdomain`] is the same as code.
pub(super) const DNS_SUBDOMAIN: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// RFC 9110 token: names of header fields.
pub(super) const TOKEN: &str = r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$";
/// Value of a label, which may be empty.
pub(super) const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
/// RFC 3339 between the years 1000 and 2999. The format `date-time` alone lets through what no
/// RFC 3339 parser reads, such as any character in place of the decimal point, and the years beyond
/// are outside of what every parser can add a zone to.
const TIMESTAMP: &str = r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";
/// Longest text that [`TIMESTAMP`] matches.
const TIMESTAMP_LENGTH: usize = 35;

/// One CEL rule of `x-kubernetes-validations`.
pub(super) fn rule(expression: &str, message: &str) -> Value {
    json!({ "rule": expression, "message": message })
}

/// A CEL rule whose message is shown at a field below the one that has the rule.
pub(super) fn rule_at(field_path: &str, expression: &str, message: &str) -> Value {
    json!({ "rule": expression, "message": message, "fieldPath": field_path })
}

/// A field that never changes once it is set.
pub(super) fn immutable() -> Value {
    rule("self == oldSelf", "is immutable")
}

/// An optional field that neither changes nor comes nor goes. The rule stands at its object:
/// a rule at the field itself is not evaluated where the field is absent.
pub(super) fn immutable_optional(field: &str) -> Value {
    let expression = format!(
        "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    );
    rule_at(&format!(".{field}"), &expression, "is immutable")
}

/// Schema of a point in time.
pub(super) fn timestamp(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "date-time",
        "pattern": TIMESTAMP,
        "maxLength": TIMESTAMP_LENGTH,
    })
}

/// Schema of the list of conditions, with the bounds that Kubernetes documents for the type.
pub(super) fn conditions(generate: &mut SchemaGenerator) -> Schema {
    let time = timestamp(generate);
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the state.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string",
                    "description": "Which aspect: Accepted, Ready, Degraded or Unauthenticated.",
                    "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
                "status": {
                    "type": "string",
                    "description": "Whether it holds.",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "The generation of the spec that this is about.",
                },
                "lastTransitionTime": with_description(time, "When `status` last changed."),
                "reason": {
                    "type": "string",
                    "description": "Why, in one word for programs.",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "type": "string",
                    "description": "Why, in words for people.",
                    "maxLength": 32768,
                },
            },
        },
    })
}

fn with_description(mut schema: Schema, description: &str) -> Schema {
    schema.insert("description".to_owned(), description.into());
    schema
}

/// The status codes that a provider may insist on.
pub(super) fn response_status(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "enum": [200, 202, 204] })
}

/// `pod#incarnation`.
const HOLDER_PATTERN: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*#[1-9][0-9]*$";

/// Schema of `pod#incarnation`.
pub(super) fn holder(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 3, "maxLength": HOLDER, "pattern": HOLDER_PATTERN })
}

/// Schema of terms, versions and epochs.
pub(super) fn counting(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0, "maximum": COUNTING })
}

/// Schema of incarnations.
pub(super) fn counting_from_one(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 1, "maximum": COUNTING })
}

/// Makes a derived schema what an API server likes to see, in place and at every depth:
/// - no `nullable`: then the server drops a `null` before it defaults, and neither a rule nor a
///   reader meets one;
/// - no format that it warns about (`int64`, `uint32`, …); bounds stand beside.
pub(super) fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            // A property may be named like a keyword; keywords have values of other types.
            if object.get("nullable").is_some_and(Value::is_boolean) {
                object.remove("nullable");
            }
            let format = object.get("format").and_then(Value::as_str);
            if format.is_some_and(|format| format != "date-time") {
                object.remove("format");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
