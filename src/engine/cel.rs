//! CEL, the expression language of Kubernetes, with a bound on the work of every evaluation.
//!
//! ```text
//!  text ──lexer──▶ tokens ──parser──▶ tree (names resolved, patterns compiled) ──eval──▶ value
//!                                                                               └ budget: counts work
//! ```
//!
//! `docs/adr/0002-cel.md` says why this is not the crate `cel`, and what the bound is;
//! `docs/expressions.md` is what users read. Evaluation is a function of its inputs alone: maps
//! iterate in the order of their keys, nothing reads a clock or a time zone database, and work is
//! counted, not timed.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a dynamic language: whatever is not named is a mismatch, also what is added later"
)]

mod budget;
mod escapes;
mod eval;
mod functions;
mod json;
mod lexer;
mod macros;
mod parser;
mod pattern;
mod tree;
mod value;

use std::sync::Arc;

pub use budget::{Budget, Fault};
pub(in crate::engine) use functions::plain;
pub(in crate::engine) use json::check_json;
pub use json::{from_json, to_json};
pub use value::{Key, Map, Value, whole};

/// Longest expression in bytes: see [`crate::api`]'s bound of the same name; the longest in the
/// samples has some 200.
pub const MAX_LENGTH: usize = 4_096;

/// A variable that expressions may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Header names in lower case with their values joined by ", ".
    Headers,
    /// Header names in lower case with the list of their values.
    HeaderValues,
    /// Query parameters, repeated ones joined by ", ".
    Query,
    /// Query parameters with the list of their values.
    QueryValues,
    /// The body.
    Body,
    /// The element of the explosion.
    Item,
    /// The Ingestor's name.
    Source,
    /// When the event was accepted.
    Now,
    /// The normalised Observation.
    Event,
}

impl Variable {
    /// All variables.
    pub const ALL: [Self; 9] = [
        Self::Headers,
        Self::HeaderValues,
        Self::Query,
        Self::QueryValues,
        Self::Body,
        Self::Item,
        Self::Source,
        Self::Now,
        Self::Event,
    ];

    /// Its name in expressions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::HeaderValues => "headerValues",
            Self::Query => "query",
            Self::QueryValues => "queryValues",
            Self::Body => "body",
            Self::Item => "item",
            Self::Source => "source",
            Self::Now => "now",
            Self::Event => "event",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of variables: those that an expression may name, or does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope(u16);

impl Scope {
    /// What every expression sees.
    pub const REQUEST: Self = Self(
        Variable::Headers.bit()
            | Variable::HeaderValues.bit()
            | Variable::Query.bit()
            | Variable::QueryValues.bit()
            | Variable::Body.bit()
            | Variable::Source.bit()
            | Variable::Now.bit(),
    );

    /// These and one more.
    #[must_use]
    pub const fn with(self, variable: Variable) -> Self {
        Self(self.0 | variable.bit())
    }

    /// The variables of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `variable` is among them.
    #[must_use]
    pub const fn has(self, variable: Variable) -> bool {
        self.0 & variable.bit() != 0
    }

    fn unknown(self, name: &str, locals: &[Arc<str>]) -> String {
        let mut names: Vec<&str> = Vec::new();
        for variable in Variable::ALL {
            if self.has(variable) {
                names.push(variable.name());
            }
        }
        names.extend(locals.iter().map(AsRef::as_ref));
        format!("{name:?} is not declared; there are {}", names.join(", "))
    }

    fn absent(self, variable: Variable) -> String {
        match variable {
            Variable::Item => "\"item\" is only there where `explode` is set, and not in it".into(),
            Variable::Event => "\"event\" is only there in filters and dedup.fields".into(),
            _ => self.unknown(variable.name(), &[]),
        }
    }
}

/// An expression, compiled.
#[derive(Clone, Debug)]
pub struct Program {
    tree: tree::Node,
    uses: Scope,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// The values of the variables, for one evaluation or many.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    values: [Option<Value>; Variable::ALL.len()],
}

impl Inputs {
    /// Sets a variable.
    pub fn set(&mut self, variable: Variable, value: Value) {
        if let Some(slot) = self.values.get_mut(variable as usize) {
            *slot = Some(value);
        }
    }

    pub(in crate::engine) fn get(&self, variable: Variable) -> Option<&Value> {
        self.values.get(variable as usize)?.as_ref()
    }
}

impl Program {
    /// Compiles `text`, which may name the variables of `scope`.
    ///
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn compile(text: &str, scope: Scope) -> Result<Self, SyntaxError> {
        if text.len() > MAX_LENGTH {
            return Err(SyntaxError {
                line: 1,
                column: 1,
                message: format!("longer than {MAX_LENGTH} bytes"),
            });
        }
        let tree = parser::parse(text, scope, Vec::new()).map_err(|error| locate(text, error))?;
        let mut uses = Scope::default();
        tree.roots(&mut |variable| uses = uses.with(variable));
        Ok(Self { tree, uses })
    }

    /// The variables that it names.
    #[must_use]
    pub const fn uses(&self) -> Scope {
        self.uses
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// What failed, or that the budget is spent.
    pub fn evaluate(&self, inputs: &Inputs, budget: &mut Budget) -> Result<Value, Fault> {
        budget.begin();
        eval::evaluate(&self.tree, inputs, Vec::new(), budget)
    }
}

fn locate(text: &str, error: lexer::SyntaxError) -> SyntaxError {
    let before = text.get(..error.at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    SyntaxError {
        line: before.matches('\n').count() + 1,
        column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        message: error.message,
    }
}

#[cfg(test)]
mod tests;
