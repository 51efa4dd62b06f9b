//! The functions of the language: CEL's own, and Kubernetes' extensions for strings, lists, sets,
//! regular expressions, optional values and encoders.

pub(super) mod arithmetic;
mod convert;
mod encode;
mod format;
mod lists;
mod math;
mod optional;
mod strings;
mod time;

use std::{fmt, sync::Arc};

use super::{
    budget::{Budget, Fault},
    pattern::Pattern,
    tree::{Kind, Node, RegexOperation},
    value::Value,
};

pub(in crate::engine) use convert::plain;

type Outcome = Result<Value, Fault>;
type Run = fn(&[Value], &mut Budget) -> Outcome;

/// How a function is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `size(x)`.
    Global,
    /// `x.size()`.
    Method,
}

/// A function: its arguments are counted with the receiver.
struct Entry {
    name: &'static str,
    global: bool,
    method: bool,
    least: usize,
    most: usize,
    run: Run,
}

const fn global(name: &'static str, least: usize, most: usize, run: Run) -> Entry {
    Entry {
        name,
        global: true,
        method: false,
        least,
        most,
        run,
    }
}

/// A method; `least` and `most` count the receiver.
const fn method(name: &'static str, least: usize, most: usize, run: Run) -> Entry {
    Entry {
        name,
        global: false,
        method: true,
        least,
        most,
        run,
    }
}

const TABLES: [&[Entry]; 8] = [
    convert::TABLE,
    encode::TABLE,
    format::TABLE,
    lists::TABLE,
    math::TABLE,
    optional::TABLE,
    strings::TABLE,
    time::TABLE,
];

/// A function that is known to exist and to take as many arguments as it is given.
#[derive(Clone, Copy)]
pub(super) struct Function {
    name: &'static str,
    run: Run,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    pub(super) fn call(self, args: &[Value], budget: &mut Budget) -> Outcome {
        (self.run)(args, budget)
    }
}

fn entries(style: Style, name: &str) -> impl Iterator<Item = &'static Entry> {
    TABLES
        .into_iter()
        .flatten()
        .filter(move |entry| entry.name == name)
        .filter(move |entry| match style {
            Style::Global => entry.global,
            Style::Method => entry.method,
        })
}

/// Whether there is a function of this name.
pub(super) fn exists(style: Style, name: &str) -> bool {
    entries(style, name).next().is_some()
}

/// A call of the function `name`, or what is wrong with it.
pub(super) fn resolve(style: Style, name: &str, args: Vec<Node>) -> Result<Kind, String> {
    if style == Style::Method {
        let operation = match name {
            "matches" => Some((RegexOperation::Matches, 2)),
            "find" => Some((RegexOperation::Find, 2)),
            "findAll" => Some((RegexOperation::FindAll, 3)),
            _ => None,
        };
        if let Some((operation, most)) = operation {
            return regex(operation, name, most, args);
        }
    } else if name == "matches" {
        return regex(RegexOperation::Matches, name, 2, args);
    }
    let mut found = entries(style, name).peekable();
    let Some(first) = found.peek().copied() else {
        return Err(unknown(style, name));
    };
    if let Some(entry) = found.find(|entry| (entry.least..=entry.most).contains(&args.len())) {
        let function = Function {
            name: entry.name,
            run: entry.run,
        };
        return Ok(Kind::Call { function, args });
    }
    let receiver = usize::from(style == Style::Method);
    let (least, most) = (first.least - receiver, first.most - receiver);
    let wanted = if most == usize::MAX - receiver {
        format!("at least {least}")
    } else if least == most {
        least.to_string()
    } else {
        format!("{least} to {most}")
    };
    Err(format!(
        "{name}() takes {wanted} arguments, not {}",
        args.len() - receiver
    ))
}

fn unknown(style: Style, name: &str) -> String {
    let other = match style {
        Style::Global => Style::Method,
        Style::Method => Style::Global,
    };
    if exists(other, name) || matches!(name, "find" | "findAll") {
        return match style {
            Style::Global => format!("{name}() is a method: write value.{name}()"),
            Style::Method => format!("{name}() is no method: write {name}(value)"),
        };
    }
    if super::macros::named(name).is_some() {
        return format!("{name}() is a method: write list.{name}(x, …)");
    }
    let close = TABLES
        .into_iter()
        .flatten()
        .map(|entry| entry.name)
        .find(|known| known.eq_ignore_ascii_case(name));
    match close {
        Some(known) => format!("there is no function {name}(); did you mean {known}()?"),
        None => format!("there is no function {name}()"),
    }
}

fn regex(
    operation: RegexOperation,
    name: &str,
    most: usize,
    mut args: Vec<Node>,
) -> Result<Kind, String> {
    if args.len() < 2 || args.len() > most {
        return Err(format!("{name}() takes a text and a pattern"));
    }
    let Kind::Const(Value::String(text)) = args.remove(1).kind else {
        return Err(format!(
            "the pattern of {name}() must be a text written out, so that it is compiled once"
        ));
    };
    Ok(Kind::Regex {
        operation,
        args,
        pattern: Arc::new(Pattern::compile(&text)?),
    })
}

/// The type of this name, as `type(x) == string` has it.
pub(super) fn type_named(name: &str) -> Option<&'static str> {
    const TYPES: [&str; 13] = [
        "null_type",
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
        "optional_type",
        "type",
    ];
    TYPES.into_iter().find(|known| *known == name)
}

// === arguments ===

fn arg(args: &[Value], index: usize) -> &Value {
    args.get(index).unwrap_or(&Value::Null)
}

fn wrong<T>(function: &str, wanted: &str, got: &Value) -> Result<T, Fault> {
    Fault::new(format!(
        "{function}() takes {wanted}, not a {}",
        got.type_name()
    ))
}

fn text<'a>(function: &str, args: &'a [Value], index: usize) -> Result<&'a Arc<str>, Fault> {
    match arg(args, index) {
        Value::String(text) => Ok(text),
        other => wrong(function, "a text", other),
    }
}

fn int(function: &str, args: &[Value], index: usize) -> Result<i64, Fault> {
    match arg(args, index) {
        Value::Int(int) => Ok(*int),
        Value::Uint(uint) => i64::try_from(*uint)
            .or_else(|_too_large| Fault::new(format!("{function}(): {uint} is too large"))),
        other => wrong(function, "an integer", other),
    }
}

fn list<'a>(function: &str, args: &'a [Value], index: usize) -> Result<&'a Arc<Vec<Value>>, Fault> {
    match arg(args, index) {
        Value::List(items) => Ok(items),
        other => wrong(function, "a list", other),
    }
}

fn length(of: usize) -> Value {
    Value::Int(i64::try_from(of).unwrap_or(i64::MAX))
}
