//! What others see of the gateway: the routes that are served, and the facts about each Ingestor.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::routes::Table;
use crate::journal::{
    IngestorUid, Journal,
    facts::{FactSource, Facts},
};

/// Routes and facts, written by the registry, read by everybody.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The routes; a reader sees one whole version.
    pub routes: ArcSwap<Table>,
    facts: RwLock<HashMap<IngestorUid, Facts>>,
    changes: watch::Sender<u64>,
    journal: Arc<dyn Journal>,
}

impl Shared {
    pub(super) fn new(journal: Arc<dyn Journal>) -> Arc<Self> {
        Arc::new(Self {
            routes: ArcSwap::default(),
            facts: RwLock::default(),
            changes: watch::channel(0).0,
            journal,
        })
    }

    /// Replaces what is known of some Ingestors; `None` forgets one.
    pub(super) fn publish(&self, entries: Vec<(IngestorUid, Option<Facts>)>) {
        let mut changed = false;
        {
            let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
            for (uid, entry) in entries {
                changed |= match entry {
                    Some(new) => facts.insert(uid, new.clone()) != Some(new),
                    None => facts.remove(&uid).is_some(),
                };
            }
        }
        if changed {
            self.changes.send_modify(|version| *version += 1);
        }
    }
}

impl FactSource for Shared {
    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts> {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        let mut facts = facts.get(ingestor)?.clone();
        let share = self.journal.share(ingestor);
        facts.share_full = share.used >= share.limit;
        Some(facts)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
