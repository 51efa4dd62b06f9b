//! What a record becomes: a pure function of the record and its decision spec.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    api::{DecisionSpec, ObservationSpec},
    journal::{Letter, Millis, Record},
};

use super::{cel, decide};

/// The index of a dead letter that is about the whole event: its body or list can't be read, or has
/// too many items. A replay of it processes every item.
pub const WHOLE: u32 = u32::MAX;

/// A decision spec with its expressions compiled; compiled once, shared by every event it decides.
#[derive(Clone)]
pub struct Compiled {
    inner: Arc<decide::Compiled>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compiled").field(self.spec()).finish()
    }
}

/// An expression that does not compile, or costs too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct CompileError {
    /// The field's path below `spec`, such as `normalize.severity.expression`.
    pub field: String,
    /// What is wrong with it, and where.
    pub message: String,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// One verdict per item of the explosion, by index.
    pub items: Vec<Verdict>,
    /// Expressions that failed, each with its first error; for counters and the condition.
    pub errors: Vec<ExpressionError>,
}

/// An expression that failed on an event; its field stayed absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// The field's path below `spec`.
    pub field: Arc<str>,
    /// The error.
    pub message: String,
}

/// What becomes of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A filter dropped it.
    Filtered {
        /// The filter's name.
        filter: Arc<str>,
    },
    /// Retrying cannot mend it.
    Dead(Letter),
    /// It is to be written.
    Write(Box<Item>),
}

/// An item that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The item's index in the explosion.
    pub index: u32,
    /// The Observation's name, derived; equal names are one object.
    pub name: String,
    /// Labels, complete.
    pub labels: BTreeMap<String, String>,
    /// Annotations, complete.
    pub annotations: BTreeMap<String, String>,
    /// The Observation, as the item alone would create it.
    pub spec: ObservationSpec,
    /// How it meets an object of the same name.
    pub dedup: DedupKind,
}

/// How an item meets an object of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupKind {
    /// Strategy `event`.
    Event,
    /// Strategy `fingerprint`; the window's end.
    Fingerprint {
        /// When the window ends.
        window_end: Millis,
    },
    /// Strategy `aggregate`; the window's end.
    Aggregate {
        /// When the window ends.
        window_end: Millis,
    },
}

/// What an item takes in memory beside its labels and details: its names, annotations and times, each
/// a string of its own.
const ITEM: usize = 1_024;

impl Decision {
    /// What it takes in memory, about.
    #[must_use]
    pub fn size(&self) -> usize {
        self.items.iter().map(Verdict::size).sum()
    }
}

impl Verdict {
    fn size(&self) -> usize {
        match self {
            Self::Filtered { .. } => size_of::<Self>(),
            Self::Dead(letter) => size_of::<Self>() + letter.message.len(),
            Self::Write(item) => {
                let labels = item.labels.iter();
                let labels: usize = labels.map(|(name, value)| name.len() + value.len()).sum();
                let details = item.spec.details.iter();
                let details: usize = details.map(|(name, value)| name.len() + heap(value)).sum();
                ITEM + labels + details
            }
        }
    }
}

/// What a value takes in memory, about.
fn heap(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(heap).sum(),
        Value::Object(entries) => {
            let entries = entries.iter();
            entries.map(|(name, value)| name.len() + heap(value)).sum()
        }
    };
    size_of::<Value>() + inner
}

impl CompileError {
    pub(super) fn at(field: &str, message: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            message: message.into(),
        }
    }

    /// The program, or its error among `errors`.
    pub(super) fn collect(
        compiled: Result<cel::Program, cel::SyntaxError>,
        field: &str,
        errors: &mut Vec<Self>,
    ) -> Option<cel::Program> {
        compiled
            .map_err(|error| errors.push(Self::at(field, error.to_string())))
            .ok()
    }
}

impl Compiled {
    /// Compiles every expression of `spec`.
    ///
    /// # Errors
    /// All expressions that don't compile, not only the first; and what else would make the spec
    /// decide wrongly, such as a constant that is no severity.
    pub fn new(spec: DecisionSpec) -> Result<Self, Vec<CompileError>> {
        let inner = Arc::new(decide::Compiled::new(spec)?);
        Ok(Self { inner })
    }

    /// The spec that was compiled.
    #[must_use]
    pub fn spec(&self) -> &DecisionSpec {
        self.inner.spec()
    }

    /// Decides what `record` becomes; total: never panics, bounded in time and memory.
    #[must_use]
    pub fn decide(&self, record: &Record) -> Decision {
        self.inner.decide(record)
    }
}

#[cfg(test)]
mod tests;
