//! `"%s is %d".format([a, b])`.

use super::{Entry, Outcome, convert, list, method, text};
use crate::engine::cel::{
    budget::{Budget, Fault},
    value::{Value, nearest},
};

pub(super) const TABLE: &[Entry] = &[method("format", 2, 2, format)];

/// Most digits behind the point: a double has no more than 17 that mean something.
const MAX_PRECISION: usize = 40;

fn format(args: &[Value], budget: &mut Budget) -> Outcome {
    let template = text("format", args, 0)?;
    let mut values = list("format", args, 1)?.iter();
    budget.charge_bytes(template.len())?;
    let mut made = String::new();
    let mut rest = template.as_ref();
    while let Some((before, clause)) = rest.split_once('%') {
        made.push_str(before);
        let (precision, clause) = precision(clause)?;
        let Some(verb) = clause.chars().next() else {
            return Fault::new("format(): a % at the end; %% writes one");
        };
        rest = clause.get(verb.len_utf8()..).unwrap_or_default();
        if verb == '%' {
            made.push('%');
            continue;
        }
        let Some(value) = values.next() else {
            return Fault::new("format(): more % than values");
        };
        let length = made.len();
        write(verb, precision, value, budget, &mut made)?;
        budget.charge_bytes(made.len() - length)?;
    }
    if values.next().is_some() {
        return Fault::new("format(): more values than %");
    }
    made.push_str(rest);
    Ok(Value::text(&made))
}

fn precision(clause: &str) -> Result<(usize, &str), Fault> {
    let Some(digits) = clause.strip_prefix('.') else {
        return Ok((6, clause));
    };
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let (number, rest) = digits.split_at_checked(end).unwrap_or((digits, ""));
    match number.parse::<usize>() {
        Ok(precision) if precision <= MAX_PRECISION => Ok((precision, rest)),
        Ok(_) | Err(_) => Fault::new(format!("format(): a precision is 0 to {MAX_PRECISION}")),
    }
}

fn write(
    verb: char,
    precision: usize,
    value: &Value,
    budget: &mut Budget,
    made: &mut String,
) -> Result<(), Fault> {
    use std::fmt::Write as _;
    let written = match (verb, value) {
        ('s', value) => {
            display(value, budget, made)?;
            Ok(())
        }
        ('d', Value::Int(int)) => write!(made, "{int}"),
        ('d', Value::Uint(uint)) => write!(made, "{uint}"),
        ('f' | 'e' | 'd', Value::Double(double)) if !double.is_finite() => {
            display(value, budget, made)?;
            Ok(())
        }
        ('f' | 'e', number @ (Value::Int(_) | Value::Uint(_) | Value::Double(_))) => {
            let double = nearest(number).unwrap_or_default();
            if verb == 'f' {
                write!(made, "{double:.precision$}")
            } else {
                made.push_str(&scientific(double, precision));
                Ok(())
            }
        }
        ('b', Value::Int(int)) => write!(made, "{}{:b}", sign(*int), int.unsigned_abs()),
        ('b', Value::Uint(uint)) => write!(made, "{uint:b}"),
        ('b', Value::Bool(bool)) => write!(made, "{}", u8::from(*bool)),
        ('o', Value::Int(int)) => write!(made, "{}{:o}", sign(*int), int.unsigned_abs()),
        ('o', Value::Uint(uint)) => write!(made, "{uint:o}"),
        ('x', Value::Int(int)) => write!(made, "{}{:x}", sign(*int), int.unsigned_abs()),
        ('x', Value::Uint(uint)) => write!(made, "{uint:x}"),
        ('X', Value::Int(int)) => write!(made, "{}{:X}", sign(*int), int.unsigned_abs()),
        ('X', Value::Uint(uint)) => write!(made, "{uint:X}"),
        ('x' | 'X', Value::String(text)) => hex(verb, text.as_bytes(), budget, made),
        ('x' | 'X', Value::Bytes(bytes)) => hex(verb, bytes, budget, made),
        (verb, value) => {
            return Fault::new(format!(
                "format(): %{verb} can't write a {}",
                value.type_name()
            ));
        }
    };
    written.or_else(|_| Fault::new("format(): failed"))
}

/// With the sign of the exponent, and at least two digits of it.
fn scientific(double: f64, precision: usize) -> String {
    let text = format!("{double:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

const fn sign(int: i64) -> &'static str {
    if int < 0 { "-" } else { "" }
}

fn hex(verb: char, bytes: &[u8], budget: &mut Budget, made: &mut String) -> std::fmt::Result {
    use std::fmt::Write as _;
    budget
        .charge_bytes(bytes.len())
        .map_err(|_spent| std::fmt::Error)?;
    bytes.iter().try_for_each(|byte| match verb {
        'x' => write!(made, "{byte:02x}"),
        _ => write!(made, "{byte:02X}"),
    })
}

/// Any value as a text; charged per element, since a list may hold one value many times.
fn display(value: &Value, budget: &mut Budget, made: &mut String) -> Result<(), Fault> {
    budget.charge(1 + value.weight())?;
    if let Some(text) = convert::plain(value) {
        made.push_str(&text);
        return Ok(());
    }
    match value {
        Value::Null => made.push_str("null"),
        Value::Type(name) => made.push_str(name),
        Value::Bytes(bytes) => made.push_str(&String::from_utf8_lossy(bytes)),
        Value::Optional(None) => made.push_str("optional.none()"),
        Value::Optional(Some(inner)) => {
            made.push_str("optional.of(");
            display(inner, budget, made)?;
            made.push(')');
        }
        Value::List(items) => {
            made.push('[');
            for (index, item) in items.iter().enumerate() {
                made.push_str(if index > 0 { ", " } else { "" });
                display(item, budget, made)?;
            }
            made.push(']');
        }
        Value::Map(map) => {
            made.push('{');
            let mut sorted: Vec<_> = map
                .iter()
                .map(|(key, item)| (key.to_string(), item))
                .collect();
            sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (index, (key, item)) in sorted.into_iter().enumerate() {
                made.push_str(if index > 0 { ", " } else { "" });
                budget.charge_bytes(key.len())?;
                made.push_str(&key);
                made.push_str(": ");
                display(item, budget, made)?;
            }
            made.push('}');
        }
        _ => {}
    }
    Ok(())
}
