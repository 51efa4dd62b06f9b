//! Values that may be absent.

use std::sync::Arc;

use super::{Entry, Outcome, arg, global, method, wrong};
use crate::engine::cel::{budget::Fault, value::Value};

pub(super) const TABLE: &[Entry] = &[
    global("optional.none", 0, 0, |_, _| Ok(Value::Optional(None))),
    global("optional.of", 1, 1, |args, _| Ok(some(arg(args, 0)))),
    global("optional.ofNonZeroValue", 1, 1, |args, _| {
        let value = arg(args, 0);
        Ok(if is_zero(value) {
            Value::Optional(None)
        } else {
            some(value)
        })
    }),
    method("hasValue", 1, 1, |args, _| {
        Ok(Value::Bool(optional("hasValue", arg(args, 0))?.is_some()))
    }),
    method("value", 1, 1, |args, _| {
        match optional("value", arg(args, 0))? {
            Some(inner) => Ok(inner.as_ref().clone()),
            None => Fault::new("value(): there is none"),
        }
    }),
    method("orValue", 2, 2, |args, _| {
        Ok(match optional("orValue", arg(args, 0))? {
            Some(inner) => inner.as_ref().clone(),
            None => arg(args, 1).clone(),
        })
    }),
    method("or", 2, 2, |args, _| {
        optional("or", arg(args, 1))?;
        let chosen = usize::from(optional("or", arg(args, 0))?.is_none());
        Ok(arg(args, chosen).clone())
    }),
];

fn some(value: &Value) -> Value {
    Value::Optional(Some(Arc::new(value.clone())))
}

fn optional<'a>(function: &str, value: &'a Value) -> Result<&'a Option<Arc<Value>>, Fault> {
    match value {
        Value::Optional(inner) => Ok(inner),
        other => wrong(function, "an optional value, such as body.?name", other),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the outcome of a function of the language"
)]
pub(super) fn unwrap_or_none(value: Option<&Value>) -> Outcome {
    Ok(value.map_or(Value::Optional(None), some))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(bool) => !bool,
        Value::Int(int) => *int == 0,
        Value::Uint(uint) => *uint == 0,
        Value::Double(double) => *double == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Duration(span) => span.is_zero(),
        Value::Timestamp(at) => at.as_nanosecond() == 0,
        Value::Optional(inner) => inner.is_none(),
        Value::Type(_) => false,
    }
}
