//! From one event to its items.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "values of expressions: whatever is not named is a mismatch, also what is added later"
)]

use std::sync::Arc;

use crate::api::limits::EXPLODED_ITEMS;

use super::{
    cel::{Budget, Inputs, Program, Scope, Value},
    pipeline::CompileError,
};

/// The list of items, compiled.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    text: String,
    program: Program,
}

/// Why an event has no items; retrying can't mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExplodeError {
    /// The expression failed, or gave no list.
    #[error("`explode` is `{expression}`, which must give a list on this event: {why}")]
    Failed { expression: String, why: String },
    /// It gave too many.
    #[error(
        "`explode` gave {count} items, more than {EXPLODED_ITEMS}; let the sender send less at \
         once, or let the expression choose"
    )]
    TooMany { count: usize },
}

impl ExplodeError {
    /// The stable word for it.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "ExplodeFailed",
            Self::TooMany { .. } => "TooManyItems",
        }
    }
}

impl Compiled {
    pub(super) fn new(text: &str, errors: &mut Vec<CompileError>) -> Option<Self> {
        let program = Program::compile(text, Scope::REQUEST);
        Some(Self {
            text: text.to_owned(),
            program: CompileError::collect(program, "explode", errors)?,
        })
    }

    /// The variables that it names.
    pub(super) fn uses(&self) -> Scope {
        self.program.uses()
    }

    /// The items, in order. Null and an absent optional value are an empty list.
    pub(super) fn items(
        &self,
        inputs: &Inputs,
        budget: &mut Budget,
    ) -> Result<Arc<Vec<Value>>, ExplodeError> {
        let failed = |why: String| ExplodeError::Failed {
            expression: self.text.clone(),
            why,
        };
        let value = self.program.evaluate(inputs, budget);
        let value = match value.map_err(|fault| failed(fault.to_string()))? {
            Value::Optional(Some(inner)) => inner.as_ref().clone(),
            other => other,
        };
        match value {
            Value::List(items) if items.len() > EXPLODED_ITEMS => {
                Err(ExplodeError::TooMany { count: items.len() })
            }
            Value::List(items) => Ok(items),
            Value::Null | Value::Optional(_) => Ok(Arc::default()),
            other => Err(failed(format!("it gave a {}", other.type_name()))),
        }
    }
}
