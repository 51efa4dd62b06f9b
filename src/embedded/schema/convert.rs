//! JSON as CEL sees it.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cel::{
    Value as Cel,
    objects::{Key, Map as CelMap},
};
use serde_json::Value;

use super::{Additional, Json, Schema};

/// A JSON value as CEL sees it under a schema: `date-time` is a timestamp, `duration` a duration,
/// `byte` bytes, `number` a double.
pub(super) fn to_cel(value: &Value, schema: &Schema, root: bool) -> Cel {
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
    match format {
        "date-time" => chrono::DateTime::parse_from_rfc3339(text)
            .ok()
            .map(Cel::Timestamp),
        "duration" => {
            let nanos = i64::try_from(go_duration(text)?).ok()?;
            Some(Cel::Duration(chrono::Duration::nanoseconds(nanos)))
        }
        "byte" => STANDARD
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
pub(super) fn escape(name: &str) -> String {
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
