//! Readiness: a set of named gates, all of which must be open.
//!
//! Each component makes its gates when it is built and opens them when its caches are filled, so
//! `/readyz` can say what is still waited for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The gates of a process.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

/// One gate; shut when made.
#[derive(Clone, Debug)]
#[must_use = "a gate that is never opened keeps the process from being ready"]
pub struct Gate {
    name: &'static str,
    all: Readiness,
}

impl Readiness {
    /// No gates: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a gate, shut for the reason "starting".
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate {
            name,
            all: self.clone(),
        };
        gate.shut("starting");
        gate
    }

    /// The gates that are shut, with the reason; empty: ready.
    #[must_use]
    pub fn waiting(&self) -> Vec<(&'static str, String)> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates
            .iter()
            .filter_map(|(name, why)| Some((*name, why.clone()?)))
            .collect()
    }
}

impl Gate {
    /// What this gate waits for has come.
    pub fn open(&self) {
        self.set(None);
    }

    /// What this gate waits for is missing, and why.
    pub fn shut(&self, why: impl Into<String>) {
        self.set(Some(why.into()));
    }

    fn set(&self, why: Option<String>) {
        let mut gates = self
            .all
            .gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        gates.insert(self.name, why);
    }
}
