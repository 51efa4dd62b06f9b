//! How much work an evaluation may be.
//!
//! One unit is one operation on a number or a reference, one element of a list or map that is
//! looked at or copied, or 16 bytes of text: some 10 to 50 ns. The count depends on the expression
//! and its inputs alone, so that every process comes to the same end.

use std::borrow::Cow;

/// One expression: the limit of a Kubernetes API server for one (`PerCallLimit`), some 30 ms.
pub(super) const PER_EXPRESSION: u64 = 1_000_000;

/// All expressions of one event: the limit of a Kubernetes API server for one object
/// (`RuntimeCELCostBudget`), some 300 ms. A thousand items with ten expressions of a hundred
/// operations each are a tenth of it.
pub(super) const PER_EVENT: u64 = 10_000_000;

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The budget is spent. No operator makes up for it.
    #[error("it needs more than {} operations on this event; simplify it", .0)]
    Budget(u64),
    /// Something failed; `||`, `&&` and the ternary may make up for it.
    #[error("{0}")]
    Error(Cow<'static, str>),
}

impl Fault {
    pub(super) fn new<T>(message: impl Into<Cow<'static, str>>) -> Result<T, Self> {
        Err(Self::Error(message.into()))
    }
}

/// What is left of the work that may be done for one event.
#[derive(Clone, Debug)]
pub struct Budget {
    event: u64,
    expression: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(PER_EVENT)
    }
}

impl Budget {
    /// A budget for one event.
    #[must_use]
    pub const fn new(event: u64) -> Self {
        Self {
            event,
            expression: 0,
        }
    }

    /// A budget for making JSON of one value.
    #[must_use]
    pub const fn for_output() -> Self {
        Self {
            event: PER_EVENT,
            expression: PER_EXPRESSION,
        }
    }

    /// An expression begins.
    pub(in crate::engine) fn begin(&mut self) {
        self.expression = PER_EXPRESSION;
    }

    /// Spends `units`, which the caller is about to do.
    pub(in crate::engine) fn charge(&mut self, units: usize) -> Result<(), Fault> {
        let units = u64::try_from(units).unwrap_or(u64::MAX);
        if units > self.expression {
            self.expression = 0;
            return Err(Fault::Budget(PER_EXPRESSION));
        }
        if units > self.event {
            self.event = 0;
            return Err(Fault::Budget(PER_EVENT));
        }
        self.expression -= units;
        self.event -= units;
        Ok(())
    }

    /// Spends what copying or reading `bytes` of text is.
    pub(super) fn charge_bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.charge(1 + bytes / 16)
    }
}
