//! What the fleet does in the world: Observations, aggregates, callbacks.
//!
//! None of these is fenced. Observations have one object per name, whoever writes; an aggregate is
//! written by compare-and-swap together with the positions that it covers; who receives callbacks
//! does each idempotency key once.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::{Accepted, Verdict};

/// What identifies an event: log and position.
pub(crate) type EventId = (usize, u64);

/// The state of one aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aggregate {
    /// Rises with each write.
    pub(crate) version: u64,
    /// How many events it says it counts.
    pub(crate) count: u64,
    /// Per log the position up to which its events are in the count.
    pub(crate) applied: BTreeMap<usize, u64>,
}

/// All effects.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    observations: BTreeMap<EventId, BTreeSet<u64>>,
    aggregates: BTreeMap<usize, Aggregate>,
    added: BTreeMap<EventId, u32>,
    callbacks: BTreeMap<EventId, BTreeSet<u64>>,
    /// How many events had an effect more than once.
    pub(crate) doubled: u64,
}

impl Effects {
    /// Creates the Observation of an event, whose name contains `name` beside the event. Nothing
    /// happens where it is there.
    pub(crate) fn observe(&mut self, event: EventId, name: u64) {
        let names = self.observations.entry(event).or_default();
        if names.insert(name) && names.len() > 1 {
            self.doubled += 1;
        }
    }

    /// A callback arrives under a key.
    pub(crate) fn call_back(&mut self, event: EventId, key: u64) {
        let keys = self.callbacks.entry(event).or_default();
        if keys.insert(key) && keys.len() > 1 {
            self.doubled += 1;
        }
    }

    /// The aggregate of an Ingestor.
    pub(crate) fn aggregate(&self, key: usize) -> Aggregate {
        self.aggregates.get(&key).cloned().unwrap_or_default()
    }

    /// Writes an aggregate that adds `events` to the state of version `version`; whether it was
    /// that version.
    pub(crate) fn add(
        &mut self,
        key: usize,
        version: u64,
        mut next: Aggregate,
        events: &[EventId],
    ) -> bool {
        if self.aggregate(key).version != version {
            return false;
        }
        next.version = version + 1;
        self.aggregates.insert(key, next);
        for event in events {
            let added = self.added.entry(*event).or_default();
            *added += 1;
            if *added > 1 {
                self.doubled += 1;
            }
        }
        true
    }

    /// Why an event has not had exactly the effect that was decided, if it hasn't.
    pub(crate) fn fault(&self, event: &Accepted) -> Option<String> {
        let id = (event.log, event.position);
        let names = self.observations.get(&id);
        let observed = names.map_or(0, BTreeSet::len);
        if names.is_some_and(|names| !names.contains(&event.spec)) {
            return Some(format!(
                "event {}/{} of key {} was not decided by the spec recorded with it",
                event.log, event.position, event.key
            ));
        }
        let called = self.callbacks.get(&id).map_or(0, BTreeSet::len);
        let added = self.added.get(&id).copied().unwrap_or_default();
        let right = match event.verdict {
            Verdict::Observe => (observed, called, added) == (1, 1, 0),
            Verdict::Add => (observed, called, added) == (0, 0, 1),
            Verdict::Filter => (observed, called, added) == (0, 0, 0),
        };
        (!right).then(|| {
            format!(
                "event {}/{} of key {} ({:?}): {observed} Observations, {called} callbacks, added {added} times",
                event.log, event.position, event.key, event.verdict
            )
        })
    }
}
