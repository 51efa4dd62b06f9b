//! What is to be made durable, and how a store comes back from it.

use std::sync::Arc;

use serde_json::Value;

use super::{
    At, Change, DEFINITIONS, Store, encode,
    shelf::{Shelf, Stored},
    storage_form,
};

impl Store {
    /// What changed since the last call, in order: to be made durable before anyone is told.
    #[must_use]
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// All objects as changes, definitions first: what a snapshot holds.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.count());
        let first: Arc<str> = DEFINITIONS.into();
        let others = self.shelves.keys().filter(|shelf| **shelf != first);
        for shelf in std::iter::once(&first).chain(others) {
            let kind = self
                .registry
                .iter()
                .find(|kind| kind.shelf == *shelf && kind.version == kind.storage_version);
            let Some(found) = self.shelves.get(shelf) else {
                continue;
            };
            for (key, stored) in found.range("", "") {
                let object = kind.map_or_else(
                    || stored.bytes.clone(),
                    |kind| {
                        if kind.epoch == stored.epoch {
                            stored.bytes.clone()
                        } else {
                            encode(&storage_form(kind, stored))
                        }
                    },
                );
                changes.push(Change {
                    revision: self.revision,
                    shelf: Arc::clone(shelf),
                    key: key.into(),
                    object: Some(object),
                });
            }
        }
        changes
    }

    /// Takes in a change that was made durable before this store was opened.
    pub fn restore(&mut self, change: Change) {
        self.revision = self.revision.max(change.revision);
        self.opened = self.revision;
        if &*change.shelf == DEFINITIONS {
            let object = change
                .object
                .as_ref()
                .and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
            match object {
                Some(object) => self.define(&object),
                None => self.forget_definition(&change.key),
            }
        }
        let epoch = self
            .registry
            .iter()
            .find(|kind| kind.shelf == change.shelf)
            .map_or(0, |kind| kind.epoch);
        let opened = self.opened;
        let objects = self
            .shelves
            .entry(change.shelf)
            .or_insert_with(|| Shelf::new(opened));
        let stored = change.object.map(|bytes| Stored { bytes, epoch });
        objects.restore(change.key, stored);
    }

    fn forget_definition(&mut self, key: &str) {
        self.registry.replace(key, Vec::new());
    }

    /// Ends the restoring: from here on changes are remembered, and objects that were on their way
    /// out go on.
    pub fn opened(&mut self, at: &At, revision: u64) {
        self.revision = self.revision.max(revision);
        self.opened = self.revision;
        for shelf in self.shelves.values_mut() {
            shelf.cut(self.opened);
        }
        self.restore_events(at);
        self.resume_leaving(at);
    }
}
