//! `+`, `-`, `*`, `/`, `%`: an overflow is an error, as in CEL, never a wrong number.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::engine::cel::{
    budget::{Budget, Fault},
    tree::Operator,
    value::Value,
};

type Outcome = Result<Value, Fault>;

pub(in crate::engine::cel) fn negate(value: &Value) -> Outcome {
    match value {
        Value::Int(int) => checked(int.checked_neg().map(Value::Int)),
        Value::Double(double) => Ok(Value::Double(-double)),
        Value::Duration(duration) => span(duration.checked_neg()),
        other => Fault::new(format!("- needs a number, not a {}", other.type_name())),
    }
}

fn checked(result: Option<Value>) -> Outcome {
    result.map_or_else(|| Fault::new("the result is too large"), Ok)
}

/// Whether CEL has this time: the years 1 to 9999.
pub(super) fn storable_time(at: Timestamp) -> bool {
    // 0001-01-01T00:00:00Z; the library ends with the year 9999.
    at.as_nanosecond() >= -62_135_596_800_000_000_000
}

/// Whether CEL has this duration: up to 10,000 years.
pub(super) fn storable_span(span: SignedDuration) -> bool {
    span.as_secs().unsigned_abs() <= 315_576_000_000
}

fn time(at: Option<Timestamp>) -> Outcome {
    checked(at.filter(|at| storable_time(*at)).map(Value::Timestamp))
}

pub(super) fn span(span: Option<SignedDuration>) -> Outcome {
    checked(
        span.filter(|span| storable_span(*span))
            .map(Value::Duration),
    )
}

pub(in crate::engine::cel) fn binary(
    operator: Operator,
    left: Value,
    right: &Value,
    budget: &mut Budget,
) -> Outcome {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => int(operator, a, *b),
        (Value::Uint(a), Value::Uint(b)) => uint(operator, a, *b),
        (Value::Double(a), Value::Double(b)) => double(operator, a, *b),
        (Value::Timestamp(a), b) => timestamp(operator, a, b),
        (Value::Duration(a), Value::Timestamp(b)) if operator == Operator::Add => {
            time(b.checked_add(a).ok())
        }
        (Value::Duration(a), Value::Duration(b)) => match operator {
            Operator::Add => span(a.checked_add(*b)),
            Operator::Subtract => span(a.checked_sub(*b)),
            _ => mismatch(operator, &Value::Duration(a), right),
        },
        (left, right) if operator == Operator::Add => concatenate(left, right, budget),
        (left, right) => mismatch(operator, &left, right),
    }
}

fn mismatch(operator: Operator, left: &Value, right: &Value) -> Outcome {
    let hint = match (left, right) {
        (Value::String(_), _) | (_, Value::String(_)) => "; string(x) makes a text",
        (Value::Double(_), _) | (_, Value::Double(_)) => "; double(x) makes a double",
        (Value::Uint(_), _) | (_, Value::Uint(_)) => "; int(x) makes an int",
        _ => "",
    };
    Fault::new(format!(
        "{} can't take a {} and a {}{hint}",
        operator.symbol(),
        left.type_name(),
        right.type_name()
    ))
}

fn int(operator: Operator, a: i64, b: i64) -> Outcome {
    if b == 0 && matches!(operator, Operator::Divide | Operator::Modulo) {
        return Fault::new("division by zero");
    }
    let result = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => a.checked_div(b),
        _ => a.checked_rem(b),
    };
    checked(result.map(Value::Int))
}

fn uint(operator: Operator, a: u64, b: u64) -> Outcome {
    if b == 0 && matches!(operator, Operator::Divide | Operator::Modulo) {
        return Fault::new("division by zero");
    }
    let result = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => a.checked_div(b),
        _ => a.checked_rem(b),
    };
    checked(result.map(Value::Uint))
}

fn double(operator: Operator, a: f64, b: f64) -> Outcome {
    Ok(Value::Double(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        _ => return mismatch(operator, &Value::Double(a), &Value::Double(b)),
    }))
}

fn timestamp(operator: Operator, a: Timestamp, b: &Value) -> Outcome {
    match (operator, b) {
        (Operator::Add, Value::Duration(b)) => time(a.checked_add(*b).ok()),
        (Operator::Subtract, Value::Duration(b)) => time(a.checked_sub(*b).ok()),
        (Operator::Subtract, Value::Timestamp(b)) => Ok(Value::Duration(a.duration_since(*b))),
        _ => mismatch(operator, &Value::Timestamp(a), b),
    }
}

fn concatenate(left: Value, right: &Value, budget: &mut Budget) -> Outcome {
    match (left, right) {
        (Value::String(a), Value::String(b)) => {
            budget.charge_bytes(a.len() + b.len())?;
            Ok(Value::String(Arc::from([a.as_ref(), b.as_ref()].concat())))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget.charge_bytes(a.len() + b.len())?;
            Ok(Value::Bytes(Arc::from([a.as_ref(), b.as_ref()].concat())))
        }
        (Value::List(a), Value::List(b)) => {
            budget.charge(a.len() + b.len())?;
            Ok(Value::list(a.iter().chain(b.iter()).cloned().collect()))
        }
        (left, right) => mismatch(Operator::Add, &left, right),
    }
}
