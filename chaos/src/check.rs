//! The invariants, checked against what the API server stored and what the senders were told.
//!
//! Pure. Each check says how many things it looked at: a check that looked at nothing proves nothing,
//! and the report shows it.

mod books;
mod fence;
mod maps;

use serde::{Deserialize, Serialize};

pub use books::{Counted, books};
pub use fence::{fence, granted, stale_writes};
pub use maps::{Moved, deaths, maps, moved, spread};

/// At most this many violations are told of one check; their number is told always.
const TOLD: usize = 10;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The rule, in a few words.
    pub rule: String,
    /// How many things were looked at.
    pub looked_at: usize,
    /// How many break it.
    pub violations: usize,
    /// The first of them.
    pub examples: Vec<String>,
}

// === impl Checked ===

impl Checked {
    /// A check that has looked at nothing yet.
    #[must_use]
    pub fn new(rule: impl Into<String>) -> Self {
        Self {
            rule: rule.into(),
            ..Self::default()
        }
    }

    /// One thing was looked at, and this is wrong about it, if anything is.
    pub fn look(&mut self, wrong: Option<String>) {
        self.looked_at += 1;
        if let Some(wrong) = wrong {
            self.violations += 1;
            if self.examples.len() < TOLD {
                self.examples.push(wrong);
            }
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.violations == 0
    }
}
