//! `math.*`.

use super::{Entry, Outcome, arg, global, wrong};
use crate::engine::cel::{
    budget::{Budget, Fault},
    value::{Value, compare_numbers},
};

pub(super) const TABLE: &[Entry] = &[
    global("math.greatest", 1, usize::MAX, |args, budget| {
        extreme("math.greatest", args, budget, true)
    }),
    global("math.least", 1, usize::MAX, |args, budget| {
        extreme("math.least", args, budget, false)
    }),
    global("math.ceil", 1, 1, |args, _| {
        rounded("math.ceil", args, f64::ceil)
    }),
    global("math.floor", 1, 1, |args, _| {
        rounded("math.floor", args, f64::floor)
    }),
    global("math.round", 1, 1, |args, _| {
        rounded("math.round", args, f64::round)
    }),
    global("math.trunc", 1, 1, |args, _| {
        rounded("math.trunc", args, f64::trunc)
    }),
    global("math.isNaN", 1, 1, |args, _| {
        tested("math.isNaN", args, f64::is_nan)
    }),
    global("math.isInf", 1, 1, |args, _| {
        tested("math.isInf", args, f64::is_infinite)
    }),
    global("math.isFinite", 1, 1, |args, _| {
        tested("math.isFinite", args, f64::is_finite)
    }),
    global("math.abs", 1, 1, abs),
    global("math.sign", 1, 1, sign),
    global("math.bitAnd", 2, 2, |args, _| {
        bits("math.bitAnd", args, |a, b| a & b)
    }),
    global("math.bitOr", 2, 2, |args, _| {
        bits("math.bitOr", args, |a, b| a | b)
    }),
    global("math.bitXor", 2, 2, |args, _| {
        bits("math.bitXor", args, |a, b| a ^ b)
    }),
    global("math.bitNot", 1, 1, |args, _| match arg(args, 0) {
        Value::Int(int) => Ok(Value::Int(!int)),
        Value::Uint(uint) => Ok(Value::Uint(!uint)),
        other => wrong("math.bitNot", "an integer", other),
    }),
    global("math.bitShiftLeft", 2, 2, |args, _| {
        shifted("math.bitShiftLeft", args, u64::checked_shl)
    }),
    global("math.bitShiftRight", 2, 2, |args, _| {
        shifted("math.bitShiftRight", args, u64::checked_shr)
    }),
];

fn double(function: &str, args: &[Value]) -> Result<f64, Fault> {
    match arg(args, 0) {
        Value::Double(double) => Ok(*double),
        other => wrong(function, "a double", other),
    }
}

fn rounded(function: &str, args: &[Value], round: fn(f64) -> f64) -> Outcome {
    Ok(Value::Double(round(double(function, args)?)))
}

fn tested(function: &str, args: &[Value], test: fn(f64) -> bool) -> Outcome {
    Ok(Value::Bool(test(double(function, args)?)))
}

/// Of its arguments, or of the one list that it is given.
fn extreme(function: &str, args: &[Value], budget: &mut Budget, largest: bool) -> Outcome {
    let items = match args {
        [Value::List(items)] => items.as_slice(),
        args => args,
    };
    budget.charge(items.len())?;
    let Some((mut chosen, rest)) = items.split_first() else {
        return Fault::new(format!("{function}() of an empty list"));
    };
    if !matches!(chosen, Value::Int(_) | Value::Uint(_) | Value::Double(_)) {
        return wrong(function, "numbers", chosen);
    }
    for item in rest {
        let Some(order) = compare_numbers(item, chosen) else {
            return wrong(function, "numbers", item);
        };
        if (largest && order.is_gt()) || (!largest && order.is_lt()) {
            chosen = item;
        }
    }
    Ok(chosen.clone())
}

fn abs(args: &[Value], _: &mut Budget) -> Outcome {
    match arg(args, 0) {
        Value::Int(int) => match int.checked_abs() {
            Some(int) => Ok(Value::Int(int)),
            None => Fault::new("math.abs(): the result is too large"),
        },
        Value::Uint(uint) => Ok(Value::Uint(*uint)),
        Value::Double(double) => Ok(Value::Double(double.abs())),
        other => wrong("math.abs", "a number", other),
    }
}

fn sign(args: &[Value], _: &mut Budget) -> Outcome {
    match arg(args, 0) {
        Value::Int(int) => Ok(Value::Int(int.signum())),
        Value::Uint(uint) => Ok(Value::Uint(u64::from(*uint > 0))),
        Value::Double(double) if *double == 0.0 => Ok(Value::Double(0.0)),
        Value::Double(double) => Ok(Value::Double(double.signum())),
        other => wrong("math.sign", "a number", other),
    }
}

fn bits(function: &str, args: &[Value], combine: fn(u64, u64) -> u64) -> Outcome {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Int(a), Value::Int(b)) => Ok(Value::Int(
            combine(a.cast_unsigned(), b.cast_unsigned()).cast_signed(),
        )),
        (Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(combine(*a, *b))),
        (other, _) => wrong(function, "two integers of one type", other),
    }
}

/// Logical shifts: the sign is a bit like any other, and beyond 63 nothing is left.
fn shifted(function: &str, args: &[Value], shift: fn(u64, u32) -> Option<u64>) -> Outcome {
    let by = match arg(args, 1) {
        Value::Int(by) if *by < 0 => {
            return Fault::new(format!("{function}() by a negative number"));
        }
        Value::Int(by) => u32::try_from(*by).unwrap_or(u32::MAX),
        other => return wrong(function, "an int to shift by", other),
    };
    match arg(args, 0) {
        Value::Int(int) => {
            let bits = shift(int.cast_unsigned(), by).unwrap_or_default();
            Ok(Value::Int(bits.cast_signed()))
        }
        Value::Uint(uint) => Ok(Value::Uint(shift(*uint, by).unwrap_or_default())),
        other => wrong(function, "an integer", other),
    }
}
