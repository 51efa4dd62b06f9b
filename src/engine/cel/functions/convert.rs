//! `size`, `type`, `dyn`, and from one type to another.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Entry, Outcome, arg, arithmetic, global, int as int_arg, length, method, wrong};
use crate::engine::{
    cel::{
        budget::{Budget, Fault},
        value::{Value, nearest, whole},
    },
    times,
};

pub(super) const TABLE: &[Entry] = &[
    global("size", 1, 1, size),
    method("size", 1, 1, size),
    global("type", 1, 1, |args, _| {
        Ok(Value::Type(arg(args, 0).type_name()))
    }),
    global("dyn", 1, 1, |args, _| Ok(arg(args, 0).clone())),
    global("string", 1, 1, string),
    global("int", 1, 1, int),
    global("uint", 1, 1, uint),
    global("double", 1, 1, double),
    global("bool", 1, 1, bool),
    global("bytes", 1, 1, bytes),
    global("timestamp", 1, 1, timestamp),
    global("duration", 1, 1, duration),
];

/// Characters of a text, not bytes.
fn size(args: &[Value], budget: &mut Budget) -> Outcome {
    match arg(args, 0) {
        Value::String(text) => {
            budget.charge_bytes(text.len())?;
            Ok(length(text.chars().count()))
        }
        Value::Bytes(bytes) => Ok(length(bytes.len())),
        Value::List(items) => Ok(length(items.len())),
        Value::Map(map) => Ok(length(map.len())),
        other => wrong("size", "a text, bytes, list or map", other),
    }
}

fn string(args: &[Value], budget: &mut Budget) -> Outcome {
    match arg(args, 0) {
        Value::String(text) => Ok(Value::String(Arc::clone(text))),
        Value::Bytes(bytes) => {
            budget.charge_bytes(bytes.len())?;
            std::str::from_utf8(bytes)
                .map(Value::text)
                .or_else(|_not_utf8| Fault::new("string(): the bytes are not UTF-8"))
        }
        other => match plain(other) {
            Some(text) => Ok(Value::text(&text)),
            None => wrong("string", "a text, number, bool, time or bytes", other),
        },
    }
}

/// The text of a value that has one: numbers as JSON writes them, times in RFC 3339.
pub(in crate::engine) fn plain(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.to_string(),
        Value::Bool(bool) => bool.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Uint(uint) => uint.to_string(),
        Value::Double(double) => double_text(*double),
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(span) => duration_text(*span),
        Value::Null
        | Value::Bytes(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Optional(_)
        | Value::Type(_) => return None,
    })
}

/// Plain digits up to 10^21, as JavaScript has it; beyond, with an exponent.
fn double_text(double: f64) -> String {
    let magnitude = double.abs();
    if double.is_nan() {
        "NaN".to_owned()
    } else if double.is_infinite() {
        if double > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned()
    } else if magnitude >= 1e21 || (magnitude < 1e-6 && magnitude > 0.0) {
        let text = format!("{double:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                format!("{digits}e+{exponent}")
            }
            _ => text,
        }
    } else {
        double.to_string()
    }
}

/// Seconds with their fraction, such as `5400s` and `0.25s`.
fn duration_text(span: SignedDuration) -> String {
    let sign = if span.is_negative() { "-" } else { "" };
    let magnitude = span.unsigned_abs();
    let nanos = format!("{:09}", magnitude.subsec_nanos());
    let fraction = nanos.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{dot}{fraction}s", magnitude.as_secs())
}

fn int(args: &[Value], budget: &mut Budget) -> Outcome {
    match arg(args, 0) {
        Value::Int(int) => Ok(Value::Int(*int)),
        Value::Uint(_) => int_arg("int", args, 0).map(Value::Int),
        // −2^63 is no result: it may be what a smaller number was rounded to.
        Value::Double(double) => match whole(double.trunc()) {
            Some(int) if int != i64::MIN => Ok(Value::Int(int)),
            Some(_) | None => Fault::new("int(): the double is too large"),
        },
        Value::Timestamp(at) => Ok(Value::Int(at.as_second())),
        Value::String(text) => {
            budget.charge_bytes(text.len())?;
            let parsed = text.parse().map(Value::Int);
            parsed.or_else(|_| Fault::new("int(): the text is no integer of 64 bits"))
        }
        other => wrong("int", "a number, text or timestamp", other),
    }
}

fn uint(args: &[Value], budget: &mut Budget) -> Outcome {
    let too_large = |_| Fault::new("uint(): the number is negative or too large");
    match arg(args, 0) {
        Value::Uint(uint) => Ok(Value::Uint(*uint)),
        Value::Int(int) => u64::try_from(*int).map(Value::Uint).or_else(too_large),
        Value::Double(double) => {
            // 2^64 is a double; what is below fits.
            if !(0.0..18_446_744_073_709_552_000.0).contains(&double.trunc()) {
                return Fault::new("uint(): the number is negative or too large");
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked above"
            )]
            let uint = *double as u64;
            Ok(Value::Uint(uint))
        }
        Value::String(text) => {
            budget.charge_bytes(text.len())?;
            let parsed = text.parse().map(Value::Uint);
            parsed.or_else(|_| Fault::new("uint(): the text is no integer of 64 bits"))
        }
        other => wrong("uint", "a number or text", other),
    }
}

fn double(args: &[Value], budget: &mut Budget) -> Outcome {
    match arg(args, 0) {
        number @ (Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            Ok(Value::Double(nearest(number).unwrap_or_default()))
        }
        Value::String(text) => {
            budget.charge_bytes(text.len())?;
            let parsed = text.parse().map(Value::Double);
            parsed.or_else(|_| Fault::new("double(): the text is no number"))
        }
        other => wrong("double", "a number or text", other),
    }
}

fn bool(args: &[Value], _: &mut Budget) -> Outcome {
    match arg(args, 0) {
        Value::Bool(bool) => Ok(Value::Bool(*bool)),
        Value::String(text) => match text.as_ref() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Fault::new("bool(): the text is neither true nor false"),
        },
        other => wrong("bool", "a bool or text", other),
    }
}

fn bytes(args: &[Value], budget: &mut Budget) -> Outcome {
    match arg(args, 0) {
        Value::Bytes(bytes) => Ok(Value::Bytes(Arc::clone(bytes))),
        Value::String(text) => {
            budget.charge_bytes(text.len())?;
            Ok(Value::Bytes(Arc::from(text.as_bytes())))
        }
        other => wrong("bytes", "a text or bytes", other),
    }
}

fn timestamp(args: &[Value], _: &mut Budget) -> Outcome {
    let made = match arg(args, 0) {
        Value::Timestamp(at) => Some(*at),
        Value::Int(seconds) => Timestamp::from_second(*seconds).ok(),
        Value::String(text) => times::rfc3339(text),
        other => return wrong("timestamp", "an RFC 3339 text or Unix seconds", other),
    };
    match made.filter(|at| arithmetic::storable_time(*at)) {
        Some(at) => Ok(Value::Timestamp(at)),
        None => Fault::new("timestamp(): not RFC 3339, or out of range"),
    }
}

fn duration(args: &[Value], _: &mut Budget) -> Outcome {
    match arg(args, 0) {
        Value::Duration(span) => Ok(Value::Duration(*span)),
        Value::Int(seconds) => arithmetic::span(Some(SignedDuration::from_secs(*seconds))),
        Value::String(text) => match parse_duration(text) {
            Some(span) => Ok(Value::Duration(span)),
            None => Fault::new("duration(): not such as 1h30m, 1.5s or 250ms"),
        },
        other => wrong("duration", "a text such as 1h30m", other),
    }
}

/// Go's syntax: numbers with units, such as `-1h30m0.5s`.
fn parse_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    // No longer text is needed, and no longer one is read.
    if rest == "0" || rest.is_empty() || rest.len() > 64 {
        return (rest == "0").then_some(SignedDuration::ZERO);
    }
    let mut nanos = 0_i128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at_checked(number_end)?;
        let unit_end = behind
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(behind.len());
        let (unit, after) = behind.split_at_checked(unit_end)?;
        let unit_nanos: i128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let amount: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        nanos = nanos.checked_add(amount.checked_mul(unit_nanos)?)?;
        let mut scale = unit_nanos;
        for digit in fraction.chars() {
            scale /= 10;
            nanos = nanos.checked_add(scale * i128::from(digit.to_digit(10)?))?;
        }
        rest = after;
    }
    let nanos = if negative { -nanos } else { nanos };
    let seconds = i64::try_from(nanos / 1_000_000_000).ok()?;
    let subsecond = i32::try_from(nanos % 1_000_000_000).ok()?;
    Some(SignedDuration::new(seconds, subsecond)).filter(|span| arithmetic::storable_span(*span))
}
