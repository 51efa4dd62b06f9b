//! `x-kubernetes-validations`: rules in CEL.

use std::{collections::HashMap, sync::Arc};

use cel::{
    Context, Value as Cel,
    objects::{Key, Map as CelMap, OptionalValue},
    parser::{Expression, Parser},
};
use kube_cel::KubeCelExt as _;
use serde_json::Value;

use super::{Additional, Json, Schema, join};
use crate::embedded::refusal::{Fault, FieldError};

/// One rule of a schema node.
#[derive(Debug)]
pub(super) struct Rule {
    text: String,
    program: Expression,
    message: Option<String>,
    message_program: Option<Expression>,
    reason: Fault,
    field_path: Option<String>,
    transition: bool,
    optional_old_self: bool,
}

thread_local! {
    /// Kubernetes' CEL functions; registering some hundred of them for each object would cost more
    /// than the rules.
    static FUNCTIONS: Context<'static> = Context::default().with_all();
}

/// Reads and compiles the rules of a node.
pub(super) fn parse(raw: &Value, path: &str, errors: &mut Vec<FieldError>) -> Vec<Rule> {
    let mut rules = Vec::new();
    let found = raw
        .get("x-kubernetes-validations")
        .and_then(Value::as_array);
    for (at, raw) in found.into_iter().flatten().enumerate() {
        let path = format!("{path}.x-kubernetes-validations[{at}]");
        match rule(raw, &path) {
            Ok(rule) => rules.push(rule),
            Err(error) => errors.push(error),
        }
    }
    rules
}

fn rule(raw: &Value, path: &str) -> Result<Rule, FieldError> {
    let text = |name: &str| raw.get(name).and_then(Value::as_str).map(str::to_owned);
    let source = text("rule").unwrap_or_default();
    if source.trim().is_empty() {
        return Err(FieldError::required(
            format!("{path}.rule"),
            "rule is not specified",
        ));
    }
    let program = compile(&source, &format!("{path}.rule"))?;
    let message_program = text("messageExpression")
        .map(|source| compile(&source, &format!("{path}.messageExpression")))
        .transpose()?;
    let reason = match text("reason").as_deref() {
        Some("FieldValueForbidden") => Fault::Forbidden,
        Some("FieldValueRequired") => Fault::Required,
        Some("FieldValueDuplicate") => Fault::Duplicate,
        Some(_) | None => Fault::Invalid,
    };
    Ok(Rule {
        transition: program.references().has_variable("oldSelf"),
        text: source,
        program,
        message: text("message"),
        message_program,
        reason,
        field_path: text("fieldPath"),
        optional_old_self: raw
            .get("optionalOldSelf")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    })
}

fn compile(source: &str, path: &str) -> Result<Expression, FieldError> {
    Parser::new()
        .enable_optional_syntax(true)
        .parse(source)
        .map_err(|error| {
            FieldError::invalid(
                path,
                &Value::from(source),
                format!("compilation failed: {error}"),
            )
        })
}

impl Schema {
    /// What the rules find wrong; `old` is the object that an update replaces.
    pub(in crate::embedded) fn check_rules(
        &self,
        value: &Value,
        old: Option<&Value>,
    ) -> Vec<FieldError> {
        if !self.has_rules() {
            return Vec::new();
        }
        let mut errors = Vec::new();
        FUNCTIONS.with(|functions| {
            let mut walk = Walk {
                functions,
                errors: &mut errors,
            };
            walk.node(self, value, old, "");
        });
        errors
    }
}

struct Walk<'w> {
    functions: &'w Context<'static>,
    errors: &'w mut Vec<FieldError>,
}

impl Walk<'_> {
    fn node(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        if value.is_null() {
            return;
        }
        if !schema.rules.is_empty() {
            self.rules(schema, value, old, path);
        }
        match value {
            Value::Object(map) => {
                for (name, child) in map {
                    let below = match (schema.properties.get(name), &schema.additional) {
                        (Some(below), _) => below,
                        (None, Additional::Each(each)) => each,
                        (None, Additional::None | Additional::Any) => continue,
                    };
                    if below.has_rules() {
                        let old = old.and_then(|old| old.get(name));
                        self.node(below, child, old, &join(path, name));
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = schema.items.as_ref().filter(|items| items.has_rules()) else {
                    return;
                };
                for (at, item) in list.iter().enumerate() {
                    let old = schema.correlate(item, at, old);
                    self.node(items, item, old, &format!("{path}[{at}]"));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn rules(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        let unchanged = old == Some(value);
        let mut context = self.functions.new_inner_scope();
        let root = path.is_empty();
        context.add_variable_from_value("self", to_cel(value, schema, root));
        let old_self = old.map(|old| to_cel(old, schema, root));
        if let Some(old_self) = old_self.clone() {
            context.add_variable_from_value("oldSelf", old_self);
        }
        for rule in &schema.rules {
            // What did not change was accepted before; only transition rules look at it again.
            if unchanged && !rule.transition {
                continue;
            }
            if rule.transition && rule.optional_old_self {
                let mut inner = context.new_inner_scope();
                let optional = old_self
                    .clone()
                    .map_or_else(OptionalValue::none, OptionalValue::of);
                inner.add_variable_from_value("oldSelf", Cel::Opaque(Arc::new(optional)));
                self.rule(rule, schema, &inner, path);
            } else if !rule.transition || old_self.is_some() {
                self.rule(rule, schema, &context, path);
            }
        }
    }

    fn rule(&mut self, rule: &Rule, schema: &Schema, context: &Context<'_>, path: &str) {
        let path = match &rule.field_path {
            Some(below) => format!("{path}{below}").trim_start_matches('.').to_owned(),
            None => path.to_owned(),
        };
        let shown = format!("{:?}", schema.kind.map_or("object", Json::name));
        let message = match Cel::resolve(&rule.program, context) {
            Ok(Cel::Bool(true)) => return,
            Ok(Cel::Bool(false)) => rule.message(context),
            Ok(_) => format!("rule must evaluate to a bool: {}", rule.text),
            Err(error) => {
                let message = format!("{error} evaluating rule: {}", rule.static_message());
                self.errors
                    .push(FieldError::invalid_shown(path, &shown, message));
                return;
            }
        };
        self.errors.push(match rule.reason {
            Fault::Forbidden => FieldError::forbidden(path, message),
            Fault::Required => FieldError::required(path, &message),
            Fault::Duplicate => FieldError::duplicate(path, &shown),
            Fault::Invalid
            | Fault::TypeInvalid
            | Fault::NotSupported
            | Fault::TooLong
            | Fault::TooMany => FieldError::invalid_shown(path, &shown, message),
        });
    }
}

impl Rule {
    fn static_message(&self) -> String {
        self.message.as_deref().map_or_else(
            || format!("failed rule: {}", self.text),
            |text| text.trim().to_owned(),
        )
    }

    fn message(&self, context: &Context<'_>) -> String {
        let told = self
            .message_program
            .as_ref()
            .and_then(|program| match Cel::resolve(program, context) {
                Ok(Cel::String(text)) => Some(text.trim().to_owned()),
                Ok(_) | Err(_) => None,
            })
            .filter(|text| !text.is_empty() && !text.contains('\n'));
        told.unwrap_or_else(|| self.static_message())
    }
}

/// A JSON value as CEL sees it under a schema: `date-time` is a timestamp, `duration` a duration,
/// `byte` bytes, `number` a double.
fn to_cel(value: &Value, schema: &Schema, root: bool) -> Cel {
    match value {
        Value::Object(map) => {
            let is_map = !matches!(schema.additional, Additional::None);
            let mut cel = HashMap::with_capacity(map.len());
            for (name, child) in map {
                let child = match (schema.properties.get(name), &schema.additional) {
                    // Of an object's metadata, rules see the name alone.
                    (_, Additional::None) if root && name == "metadata" => named(child),
                    (Some(below), _) => to_cel(child, below, false),
                    (None, Additional::Each(each)) => to_cel(child, each, false),
                    (None, Additional::None | Additional::Any) => free(child),
                };
                let key = if is_map { name.clone() } else { escape(name) };
                cel.insert(Key::String(Arc::new(key)), child);
            }
            Cel::Map(CelMap { map: Arc::new(cel) })
        }
        Value::Array(list) => Cel::List(Arc::new(
            list.iter()
                .map(|item| match &schema.items {
                    Some(items) => to_cel(item, items, false),
                    None => free(item),
                })
                .collect(),
        )),
        Value::String(text) => {
            let format = schema.bounds().and_then(|bounds| bounds.format.as_deref());
            format
                .and_then(|format| formatted(format, text))
                .unwrap_or_else(|| free(value))
        }
        Value::Number(number) if schema.kind == Some(Json::Number) => {
            Cel::Float(number.as_f64().unwrap_or(f64::NAN))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => free(value),
    }
}

fn named(metadata: &Value) -> Cel {
    let map = ["name", "generateName"]
        .iter()
        .filter_map(|name| {
            let key = Key::String(Arc::new((*name).to_owned()));
            Some((key, free(metadata.get(name)?)))
        })
        .collect();
    Cel::Map(CelMap { map: Arc::new(map) })
}

fn formatted(format: &str, text: &str) -> Option<Cel> {
    use base64::Engine as _;
    match format {
        "date-time" => chrono::DateTime::parse_from_rfc3339(text)
            .ok()
            .map(Cel::Timestamp),
        "duration" => {
            let nanos = i64::try_from(go_duration(text)?).ok()?;
            Some(Cel::Duration(chrono::Duration::nanoseconds(nanos)))
        }
        "byte" => base64::engine::general_purpose::STANDARD
            .decode(text)
            .ok()
            .map(|bytes| Cel::Bytes(Arc::new(bytes))),
        _ => None,
    }
}

/// A JSON value without a schema.
fn free(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => number
            .as_i64()
            .map(Cel::Int)
            .or_else(|| number.as_u64().map(Cel::UInt))
            .unwrap_or_else(|| Cel::Float(number.as_f64().unwrap_or(f64::NAN))),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(list) => Cel::List(Arc::new(list.iter().map(free).collect())),
        Value::Object(map) => {
            let map = map
                .iter()
                .map(|(name, child)| (Key::String(Arc::new(name.clone())), free(child)))
                .collect();
            Cel::Map(CelMap { map: Arc::new(map) })
        }
    }
}

/// A property's name as an identifier of CEL, by Kubernetes' rules.
fn escape(name: &str) -> String {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

/// Nanoseconds of a duration in Go's notation, for example `1h30m`.
pub(super) fn go_duration(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    let mut rest = unsigned;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, behind) = rest.split_at_checked(end)?;
        let units = [
            ("ns", 1_i128),
            ("us", 1_000),
            ("µs", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
        ];
        let (after, unit) = units
            .iter()
            .find_map(|(name, unit)| Some((behind.strip_prefix(name)?, *unit)))
            .filter(|(after, _)| !after.starts_with(|char: char| char.is_alphabetic()))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let digits = u32::try_from(fraction.len())
            .ok()
            .filter(|digits| *digits <= 18)?;
        let part: i128 = if fraction.is_empty() {
            0
        } else {
            fraction.parse().ok()?
        };
        let part = part
            .checked_mul(unit)?
            .checked_div(10_i128.checked_pow(digits)?)?;
        total = total.checked_add(whole.checked_mul(unit)?.checked_add(part)?)?;
        rest = after;
    }
    // Go's durations are 64 bits of nanoseconds.
    i64::try_from(total).ok()?;
    Some(if negative { -total } else { total })
}
