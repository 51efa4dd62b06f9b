//! The kinds that are served: built-in ones, and those that `CustomResourceDefinitions` add.

use std::{collections::BTreeMap, sync::Arc};

use super::{builtin, kind::Kind};

/// All served kinds by group, version and plural name.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    kinds: BTreeMap<(String, String, String), Arc<Kind>>,
    epoch: u64,
}

// === impl Registry ===

impl Registry {
    /// The built-in kinds.
    #[must_use]
    pub(super) fn new() -> Self {
        let mut registry = Self {
            kinds: BTreeMap::new(),
            epoch: 0,
        };
        for kind in builtin::kinds() {
            registry.insert(kind);
        }
        registry
    }

    fn insert(&mut self, kind: Kind) {
        let key = (
            kind.group.clone(),
            kind.version.clone(),
            kind.plural.clone(),
        );
        self.kinds.insert(key, Arc::new(kind));
    }

    /// A number for the next definition.
    pub(super) fn next_epoch(&mut self) -> u64 {
        self.epoch = self.epoch.saturating_add(1);
        self.epoch
    }

    /// Replaces all kinds of one resource.
    pub(super) fn replace(&mut self, resource: &str, kinds: Vec<Kind>) {
        self.kinds
            .retain(|_, kind| &*kind.shelf != resource || !kind.is_custom());
        for kind in kinds {
            self.insert(kind);
        }
    }

    /// One version of one resource.
    #[must_use]
    pub(super) fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.kinds.get(&key)
    }

    /// All kinds, in order of group, version and name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }

    /// One kind of each shelf.
    #[must_use]
    pub(super) fn shelves(&self) -> Vec<Arc<Kind>> {
        let mut seen = BTreeMap::new();
        for kind in self.iter() {
            // Events have two faces; either will do.
            seen.entry(Arc::clone(&kind.shelf))
                .or_insert_with(|| Arc::clone(kind));
        }
        seen.into_values().collect()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}
