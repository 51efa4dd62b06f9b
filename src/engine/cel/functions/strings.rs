//! Texts. Positions count characters, as in CEL, not bytes.

use std::sync::Arc;

use super::{Entry, Outcome, arg, global, int, length, list, lists, method, text};
use crate::engine::cel::{
    budget::{Budget, Fault},
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    method("contains", 2, 2, contains),
    method("startsWith", 2, 2, |args, budget| {
        let (whole, part) = pair("startsWith", args, budget)?;
        Ok(Value::Bool(whole.starts_with(part)))
    }),
    method("endsWith", 2, 2, |args, budget| {
        let (whole, part) = pair("endsWith", args, budget)?;
        Ok(Value::Bool(whole.ends_with(part)))
    }),
    method("charAt", 2, 2, char_at),
    method("indexOf", 2, 3, index_of),
    method("lastIndexOf", 2, 3, last_index_of),
    method("lowerAscii", 1, 1, |args, budget| {
        let text = charged("lowerAscii", args, budget)?;
        Ok(Value::text(&text.to_ascii_lowercase()))
    }),
    method("upperAscii", 1, 1, |args, budget| {
        let text = charged("upperAscii", args, budget)?;
        Ok(Value::text(&text.to_ascii_uppercase()))
    }),
    method("trim", 1, 1, |args, budget| {
        Ok(Value::text(charged("trim", args, budget)?.trim()))
    }),
    method("replace", 3, 4, replace),
    method("split", 2, 3, split),
    method("substring", 2, 3, substring),
    method("join", 1, 2, join),
    method("reverse", 1, 1, reverse),
    global("strings.quote", 1, 1, quote),
];

fn charged<'a>(function: &str, args: &'a [Value], budget: &mut Budget) -> Result<&'a str, Fault> {
    let text = text(function, args, 0)?;
    budget.charge_bytes(text.len())?;
    Ok(text)
}

fn pair<'a>(
    function: &str,
    args: &'a [Value],
    budget: &mut Budget,
) -> Result<(&'a str, &'a str), Fault> {
    let whole = text(function, args, 0)?;
    let part = text(function, args, 1)?;
    budget.charge_bytes(part.len())?;
    Ok((whole, part))
}

/// The search is linear in both lengths.
fn contains(args: &[Value], budget: &mut Budget) -> Outcome {
    let (whole, part) = pair("contains", args, budget)?;
    budget.charge_bytes(whole.len())?;
    Ok(Value::Bool(whole.contains(part)))
}

/// The byte at which the character `index` begins; the length for the one behind the last.
fn offset(function: &str, text: &str, index: i64) -> Result<usize, Fault> {
    let found = usize::try_from(index).ok().and_then(|index| {
        let ends = text.char_indices().map(|(at, _)| at);
        ends.chain([text.len()]).nth(index)
    });
    match found {
        Some(at) => Ok(at),
        None => Fault::new(format!("{function}(): {index} is outside of the text")),
    }
}

fn characters(text: &str) -> Value {
    length(text.chars().count())
}

fn char_at(args: &[Value], budget: &mut Budget) -> Outcome {
    let text = charged("charAt", args, budget)?;
    let at = offset("charAt", text, int("charAt", args, 1)?)?;
    let rest = text.get(at..).unwrap_or_default();
    Ok(Value::text(rest.chars().next().map_or("", |c| {
        rest.get(..c.len_utf8()).unwrap_or_default()
    })))
}

fn index_of(args: &[Value], budget: &mut Budget) -> Outcome {
    if let Value::List(_) = arg(args, 0) {
        return lists::index_of(args, budget);
    }
    let whole = charged("indexOf", args, budget)?;
    let part = text("indexOf", args, 1)?;
    let from = match args.len() {
        3 => offset("indexOf", whole, int("indexOf", args, 2)?)?,
        _ => 0,
    };
    let behind = whole.get(from..).unwrap_or_default();
    Ok(match behind.find(part.as_ref()) {
        Some(at) => characters(whole.get(..from + at).unwrap_or_default()),
        None => Value::Int(-1),
    })
}

fn last_index_of(args: &[Value], budget: &mut Budget) -> Outcome {
    if let Value::List(_) = arg(args, 0) {
        return lists::last_index_of(args, budget);
    }
    let whole = charged("lastIndexOf", args, budget)?;
    let part = text("lastIndexOf", args, 1)?;
    // A match may begin at the position, and reach behind it.
    let until = match args.len() {
        3 => {
            let begin = offset("lastIndexOf", whole, int("lastIndexOf", args, 2)?)?;
            floor_char(whole, begin.saturating_add(part.len()))
        }
        _ => whole.len(),
    };
    let searched = whole.get(..until).unwrap_or(whole);
    Ok(match searched.rfind(part.as_ref()) {
        Some(at) => characters(whole.get(..at).unwrap_or_default()),
        None => Value::Int(-1),
    })
}

fn floor_char(text: &str, at: usize) -> usize {
    let boundary = |at: &usize| text.is_char_boundary(*at);
    (0..=at.min(text.len()))
        .rev()
        .find(boundary)
        .unwrap_or_default()
}

/// How much longer `times` replacements make a text is charged before it is made.
fn replace(args: &[Value], budget: &mut Budget) -> Outcome {
    let whole = charged("replace", args, budget)?;
    let (from, to) = (text("replace", args, 1)?, text("replace", args, 2)?);
    let limit = match args.len() {
        4 => usize::try_from(int("replace", args, 3)?).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let times = whole.matches(from.as_ref()).take(limit).count();
    budget.charge_bytes(whole.len().saturating_add(times.saturating_mul(to.len())))?;
    let made = whole.replacen(from.as_ref(), to, limit);
    Ok(Value::text(&made))
}

fn split(args: &[Value], budget: &mut Budget) -> Outcome {
    let whole = charged("split", args, budget)?;
    let separator = text("split", args, 1)?;
    let limit = match args.len() {
        3 => int("split", args, 2)?,
        _ => -1,
    };
    let limit = match limit {
        0 => return Ok(Value::list(Vec::new())),
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let mut parts = Vec::new();
    let mut push = |part: &str| {
        budget.charge_bytes(part.len())?;
        parts.push(Value::text(part));
        Ok::<_, Fault>(())
    };
    if separator.is_empty() {
        let mut rest = whole;
        for left in (1..limit).rev() {
            let Some(first) = rest.chars().next() else {
                break;
            };
            let (head, tail) = rest
                .split_at_checked(first.len_utf8())
                .unwrap_or((rest, ""));
            push(head)?;
            rest = tail;
            if left == 0 {
                break;
            }
        }
        if !rest.is_empty() {
            push(rest)?;
        }
    } else {
        for part in whole.splitn(limit, separator.as_ref()) {
            push(part)?;
        }
    }
    Ok(Value::list(parts))
}

fn substring(args: &[Value], budget: &mut Budget) -> Outcome {
    let whole = charged("substring", args, budget)?;
    let begin = offset("substring", whole, int("substring", args, 1)?)?;
    let end = match args.len() {
        3 => offset("substring", whole, int("substring", args, 2)?)?,
        _ => whole.len(),
    };
    match whole.get(begin..end) {
        Some(part) => Ok(Value::text(part)),
        None => Fault::new("substring(): it ends before it begins"),
    }
}

fn join(args: &[Value], budget: &mut Budget) -> Outcome {
    let items = list("join", args, 0)?;
    let separator = match args.len() {
        2 => Arc::clone(text("join", args, 1)?),
        _ => Arc::from(""),
    };
    let mut made = String::new();
    for index in 0..items.len() {
        let part = text("join", items, index)?;
        budget.charge_bytes(part.len() + separator.len())?;
        if index > 0 {
            made.push_str(&separator);
        }
        made.push_str(part);
    }
    Ok(Value::text(&made))
}

fn reverse(args: &[Value], budget: &mut Budget) -> Outcome {
    if let Value::List(items) = arg(args, 0) {
        budget.charge(items.len())?;
        return Ok(Value::list(items.iter().rev().cloned().collect()));
    }
    let text = charged("reverse", args, budget)?;
    Ok(Value::text(&text.chars().rev().collect::<String>()))
}

fn quote(args: &[Value], budget: &mut Budget) -> Outcome {
    let text = charged("strings.quote", args, budget)?;
    let mut made = String::with_capacity(text.len() + 2);
    made.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => made.push_str("\\a"),
            '\u{8}' => made.push_str("\\b"),
            '\u{c}' => made.push_str("\\f"),
            '\n' => made.push_str("\\n"),
            '\r' => made.push_str("\\r"),
            '\t' => made.push_str("\\t"),
            '\u{b}' => made.push_str("\\v"),
            '\\' => made.push_str("\\\\"),
            '"' => made.push_str("\\\""),
            other => made.push(other),
        }
    }
    made.push('"');
    Ok(Value::text(&made))
}
