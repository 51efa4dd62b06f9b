//! Lists and sets.

use super::{Entry, Outcome, arg, global, int, length, list, method, optional, wrong};
use crate::engine::cel::{
    budget::{Budget, Fault},
    eval::{Compared, contains, equal, order},
    functions::arithmetic,
    tree::Operator,
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    method("isSorted", 1, 1, is_sorted),
    method("sum", 1, 1, sum),
    method("min", 1, 1, |args, budget| {
        extreme("min", args, budget, false)
    }),
    method("max", 1, 1, |args, budget| {
        extreme("max", args, budget, true)
    }),
    method("slice", 3, 3, slice),
    method("sort", 1, 1, sort),
    method("distinct", 1, 1, distinct),
    method("flatten", 1, 2, flatten),
    method("first", 1, 1, |args, _| {
        optional::unwrap_or_none(list("first", args, 0)?.first())
    }),
    method("last", 1, 1, |args, _| {
        optional::unwrap_or_none(list("last", args, 0)?.last())
    }),
    global("lists.range", 1, 1, range),
    global("sets.contains", 2, 2, |args, budget| {
        within("sets.contains", args, 1, 0, budget).map(Value::Bool)
    }),
    global("sets.equivalent", 2, 2, |args, budget| {
        let both = within("sets.equivalent", args, 0, 1, budget)?
            && within("sets.equivalent", args, 1, 0, budget)?;
        Ok(Value::Bool(both))
    }),
    global("sets.intersects", 2, 2, |args, budget| {
        for item in list("sets.intersects", args, 0)?.iter() {
            if contains(arg(args, 1), item, budget)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
];

/// Whether every element of one list is in another.
fn within(
    function: &str,
    args: &[Value],
    part: usize,
    whole: usize,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    list(function, args, whole)?;
    for item in list(function, args, part)?.iter() {
        if !contains(arg(args, whole), item, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn ordered(a: &Value, b: &Value, budget: &mut Budget) -> Result<std::cmp::Ordering, Fault> {
    budget.charge(1)?;
    match order(a, b, budget)? {
        Compared::Order(order) => Ok(order),
        Compared::Unordered => Fault::new("NaN has no order"),
        Compared::Different => Fault::new(format!(
            "a {} and a {} have no order",
            a.type_name(),
            b.type_name()
        )),
    }
}

fn is_sorted(args: &[Value], budget: &mut Budget) -> Outcome {
    for pair in list("isSorted", args, 0)?.windows(2) {
        if let [a, b] = pair
            && ordered(a, b, budget)?.is_gt()
        {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum(args: &[Value], budget: &mut Budget) -> Outcome {
    let items = list("sum", args, 0)?;
    let Some((first, rest)) = items.split_first() else {
        return Ok(Value::Int(0));
    };
    if !matches!(
        first,
        Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)
    ) {
        return wrong("sum", "a list of numbers or durations", first);
    }
    let mut total = first.clone();
    for item in rest {
        budget.charge(1)?;
        total = arithmetic::binary(Operator::Add, total, item, budget)?;
    }
    Ok(total)
}

fn extreme(function: &str, args: &[Value], budget: &mut Budget, largest: bool) -> Outcome {
    let items = list(function, args, 0)?;
    let Some((mut chosen, rest)) = items.split_first() else {
        return Fault::new(format!("{function}() of an empty list"));
    };
    for item in rest {
        let order = ordered(item, chosen, budget)?;
        if (largest && order.is_gt()) || (!largest && order.is_lt()) {
            chosen = item;
        }
    }
    Ok(chosen.clone())
}

pub(super) fn index_of(args: &[Value], budget: &mut Budget) -> Outcome {
    let items = list("indexOf", args, 0)?;
    for (index, item) in items.iter().enumerate() {
        if equal(item, arg(args, 1), budget)? {
            return Ok(length(index));
        }
    }
    Ok(Value::Int(-1))
}

pub(super) fn last_index_of(args: &[Value], budget: &mut Budget) -> Outcome {
    let items = list("lastIndexOf", args, 0)?;
    for (index, item) in items.iter().enumerate().rev() {
        if equal(item, arg(args, 1), budget)? {
            return Ok(length(index));
        }
    }
    Ok(Value::Int(-1))
}

fn slice(args: &[Value], budget: &mut Budget) -> Outcome {
    let items = list("slice", args, 0)?;
    let (begin, end) = (int("slice", args, 1)?, int("slice", args, 2)?);
    let range = usize::try_from(begin).ok().zip(usize::try_from(end).ok());
    match range.and_then(|(begin, end)| items.get(begin..end)) {
        Some(part) => {
            budget.charge(part.len())?;
            Ok(Value::list(part.to_vec()))
        }
        None => Fault::new("slice(): outside of the list"),
    }
}

/// Merge sort, so that an element that can't be compared, or the end of the budget, ends it.
fn sort(args: &[Value], budget: &mut Budget) -> Outcome {
    let items = list("sort", args, 0)?;
    if let Some(first) = items.first() {
        // One that can't be compared with itself can't be sorted, even alone.
        ordered(first, first, budget)?;
    }
    let mut runs: Vec<Vec<Value>> = items.iter().map(|item| vec![item.clone()]).collect();
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(left) = pairs.next() {
            merged.push(match pairs.next() {
                Some(right) => merge(left, right, budget)?,
                None => left,
            });
        }
        runs = merged;
    }
    Ok(Value::list(runs.pop().unwrap_or_default()))
}

fn merge(left: Vec<Value>, right: Vec<Value>, budget: &mut Budget) -> Result<Vec<Value>, Fault> {
    let mut made = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if ordered(a, b, budget)?.is_gt() {
            right.next()
        } else {
            left.next()
        };
        made.extend(next);
    }
    budget.charge(left.len() + right.len())?;
    made.extend(left);
    made.extend(right);
    Ok(made)
}

fn distinct(args: &[Value], budget: &mut Budget) -> Outcome {
    let mut kept: Vec<Value> = Vec::new();
    for item in list("distinct", args, 0)?.iter() {
        let mut known = false;
        for other in &kept {
            if equal(item, other, budget)? {
                known = true;
                break;
            }
        }
        if !known {
            budget.charge(1)?;
            kept.push(item.clone());
        }
    }
    Ok(Value::list(kept))
}

fn flatten(args: &[Value], budget: &mut Budget) -> Outcome {
    let items = list("flatten", args, 0)?;
    let depth = match args.len() {
        2 => int("flatten", args, 1)?,
        _ => 1,
    };
    // More levels than a body can have, and what an expression may add to them.
    let Some(depth) = u8::try_from(depth).ok().filter(|depth| *depth <= 128) else {
        return Fault::new("flatten(): the depth is 0 to 128");
    };
    let mut flat = items.to_vec();
    for _ in 0..depth {
        let mut next = Vec::new();
        let mut changed = false;
        for item in flat {
            budget.charge(1)?;
            match item {
                Value::List(inner) => {
                    changed = true;
                    budget.charge(inner.len())?;
                    next.extend(inner.iter().cloned());
                }
                other => next.push(other),
            }
        }
        flat = next;
        if !changed {
            break;
        }
    }
    Ok(Value::list(flat))
}

fn range(args: &[Value], budget: &mut Budget) -> Outcome {
    let until = int("lists.range", args, 0)?;
    let Ok(count) = usize::try_from(until) else {
        return Fault::new("lists.range(): the number is negative");
    };
    budget.charge(count)?;
    Ok(Value::list((0..until).map(Value::Int).collect()))
}
