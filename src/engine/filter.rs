//! Which items are kept.

use std::sync::Arc;

use crate::api::ingestor;

use super::{
    cel::{Program, Scope, Value, Variable},
    field::Reading,
    pipeline::CompileError,
};

/// A filter, compiled.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    name: Arc<str>,
    path: Arc<str>,
    program: Program,
}

impl Compiled {
    pub(super) fn new(
        index: usize,
        filter: &ingestor::Filter,
        scope: Scope,
        errors: &mut Vec<CompileError>,
    ) -> Option<Self> {
        let path = format!("filters[{index}].keepIf");
        let program = Program::compile(&filter.keep_if, scope.with(Variable::Event));
        Some(Self {
            name: filter.name.as_str().into(),
            program: CompileError::collect(program, &path, errors)?,
            path: path.into(),
        })
    }

    /// The variables that it names.
    pub(super) fn uses(&self) -> Scope {
        self.program.uses()
    }
}

/// The first filter that drops the item. Only `false` drops: an item on which a filter fails, or
/// gives no bool, is kept and the failure is counted, so that no event vanishes by a mistake in an
/// expression.
pub(super) fn dropped_by(filters: &[Compiled], reading: &mut Reading<'_>) -> Option<Arc<str>> {
    filters.iter().find_map(|filter| {
        match filter.program.evaluate(reading.inputs, reading.budget) {
            Ok(Value::Bool(true)) => None,
            Ok(Value::Bool(false)) => Some(Arc::clone(&filter.name)),
            Ok(other) => {
                let message = format!("it gave a {}, not true or false", other.type_name());
                reading.failed(&filter.path, message);
                None
            }
            Err(fault) => {
                reading.failed(&filter.path, fault.to_string());
                None
            }
        }
    })
}
