//! One field of `normalize`: a constant, or an expression with its replacements and default.

use std::{collections::BTreeMap, sync::Arc};

use crate::api::ingestor;

use super::{
    cel::{self, Budget, Inputs, Program, Scope, Value, Variable},
    pipeline::{CompileError, ExpressionError},
};

/// Longest message of an error that is kept: a screen line or two; the expression is in the spec.
const MESSAGE: usize = 512;

/// A field, compiled.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// Its path below `spec`, with `.value` or `.expression`.
    pub(super) path: Arc<str>,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Constant(Arc<str>),
    Expression {
        text: Box<str>,
        program: Box<Program>,
        map: BTreeMap<String, Arc<str>>,
        default: Option<Arc<str>>,
    },
}

/// What a constant of a field must be; the message says why one is not.
pub(super) type Check = fn(&str) -> Result<(), String>;

/// Any constant.
#[expect(clippy::unnecessary_wraps, reason = "a check, one of several")]
pub(super) fn any(_: &str) -> Result<(), String> {
    Ok(())
}

impl Field {
    /// Compiles the field at `path` below `spec`; its constants must pass `check`.
    pub(super) fn new(
        path: &str,
        field: &ingestor::Field,
        scope: Scope,
        check: Check,
        errors: &mut Vec<CompileError>,
    ) -> Option<Self> {
        let mut constant = |part: &str, text: &str| {
            if let Err(message) = check(text) {
                errors.push(CompileError::at(&format!("{path}.{part}"), message));
            }
        };
        if let Some(value) = &field.value {
            constant("value", value);
        }
        if let Some(default) = &field.default {
            constant("default", default);
        }
        for (key, value) in &field.map {
            constant(&format!("map[{key:?}]"), value);
        }
        let (part, source) = match (&field.value, &field.expression) {
            (Some(value), None) => ("value", Source::Constant(value.as_str().into())),
            (None, Some(text)) => {
                let path = format!("{path}.expression");
                let program = CompileError::collect(Program::compile(text, scope), &path, errors)?;
                let replacements = field.map.iter();
                let source = Source::Expression {
                    text: text.as_str().into(),
                    program: Box::new(program),
                    map: replacements
                        .map(|(key, value)| (key.clone(), value.as_str().into()))
                        .collect(),
                    default: field.default.as_deref().map(Arc::from),
                };
                ("expression", source)
            }
            _ => {
                errors.push(CompileError::at(
                    path,
                    "exactly one of value and expression must be set",
                ));
                return None;
            }
        };
        Some(Self {
            path: format!("{path}.{part}").into(),
            source,
        })
    }

    /// The variables that it names.
    pub(super) fn uses(&self) -> Scope {
        match &self.source {
            Source::Constant(_) => Scope::default(),
            Source::Expression { program, .. } => program.uses(),
        }
    }

    /// Its expression, for messages; empty for a constant.
    pub(super) fn expression(&self) -> &str {
        match &self.source {
            Source::Constant(_) => "",
            Source::Expression { text, .. } => text,
        }
    }

    /// The value, replaced where `map` has it; `None` where it is null, absent or failed.
    pub(super) fn value(&self, reading: &mut Reading<'_>) -> Option<Value> {
        match &self.source {
            Source::Constant(text) => Some(Value::String(Arc::clone(text))),
            Source::Expression { program, map, .. } => {
                let value = reading.evaluate(&self.path, program)?;
                if map.is_empty() {
                    return Some(value);
                }
                let replaced = cel::plain(&value).and_then(|text| map.get(&text).cloned());
                Some(replaced.map_or(value, Value::String))
            }
        }
    }

    /// What counts where there is no value, or none that can be used.
    pub(super) fn default(&self) -> Option<Value> {
        match &self.source {
            Source::Constant(_) => None,
            Source::Expression { default, .. } => default.clone().map(Value::String),
        }
    }

    /// The value, or else the default, as `make` reads it; what it can't read is an error, and
    /// counts as absent.
    pub(super) fn read<T>(
        &self,
        reading: &mut Reading<'_>,
        make: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if let Some(value) = self.value(reading) {
            match make(&value) {
                Ok(made) => return Some(made),
                Err(message) => reading.failed(&self.path, message),
            }
        }
        make(&self.default()?).ok()
    }
}

/// The evaluations of one item: what the variables are, what work is left, what has failed.
#[derive(Debug)]
pub(super) struct Reading<'r> {
    pub(super) inputs: &'r mut Inputs,
    pub(super) budget: &'r mut Budget,
    pub(super) errors: &'r mut Vec<ExpressionError>,
    /// Why each field of this item is absent; the first reason counts.
    pub(super) reasons: Vec<ExpressionError>,
}

impl Reading<'_> {
    /// The value of an expression; `None` where it fails, or is null or an absent optional.
    pub(super) fn evaluate(&mut self, path: &Arc<str>, program: &Program) -> Option<Value> {
        match program.evaluate(self.inputs, self.budget) {
            Ok(Value::Null | Value::Optional(None)) => None,
            Ok(Value::Optional(Some(inner))) => Some(inner.as_ref().clone()),
            Ok(value) => Some(value),
            Err(fault) => {
                self.failed(path, fault.to_string());
                None
            }
        }
    }

    /// Notes that a field is absent, and why.
    pub(super) fn failed(&mut self, path: &Arc<str>, mut message: String) {
        if message.len() > MESSAGE {
            let mut end = MESSAGE;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            message.push('…');
        }
        let error = ExpressionError {
            field: Arc::clone(path),
            message,
        };
        if !self.errors.iter().any(|known| known.field == error.field) {
            self.errors.push(error.clone());
        }
        self.reasons.push(error);
    }

    /// The normalised Observation, if an expression or fingerprint asks for it.
    pub(super) fn event(&self) -> Option<&Value> {
        self.inputs.get(Variable::Event)
    }
}
