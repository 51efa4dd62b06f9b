//! The table of facts that the owning core projects into status.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::watch;

use crate::journal::{
    IngestorUid, Journal,
    facts::{FactSource, Facts},
};

/// The facts of every Ingestor in the gateway's cache.
#[derive(Debug)]
pub(super) struct FactTable {
    journal: Arc<dyn Journal>,
    facts: RwLock<HashMap<IngestorUid, Facts>>,
    changes: watch::Sender<u64>,
}

impl FactTable {
    pub(super) fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            facts: RwLock::default(),
            changes: watch::Sender::new(0),
        }
    }

    pub(super) fn update(&self, changed: Vec<(IngestorUid, Option<Facts>)>) {
        if changed.is_empty() {
            return;
        }
        let mut all = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        for (ingestor, facts) in changed {
            match facts {
                Some(facts) => all.insert(ingestor, facts),
                None => all.remove(&ingestor),
            };
        }
        drop(all);
        self.changed();
    }

    /// An event found no room in the Ingestor's share, or found some again.
    pub(super) fn share(&self, ingestor: &IngestorUid, full: bool) {
        let mut all = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = all.get_mut(ingestor) {
            facts.share_full = full;
        }
        drop(all);
        self.changed();
    }

    /// Full is what refused an event; no more so when an eighth is free again, also where none has
    /// come since.
    fn now(&self, ingestor: &IngestorUid, mut facts: Facts) -> Facts {
        if facts.share_full {
            let share = self.journal.share(ingestor);
            facts.share_full = share.used > share.limit / 8 * 7;
        }
        facts
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl FactSource for FactTable {
    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts> {
        let all = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        let facts = all.get(ingestor).cloned()?;
        drop(all);
        Some(self.now(ingestor, facts))
    }

    fn all(&self) -> Vec<(IngestorUid, Facts)> {
        let all = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = all
            .iter()
            .map(|(uid, facts)| (uid.clone(), facts.clone()))
            .collect();
        all.into_iter()
            .map(|(uid, facts)| {
                let facts = self.now(&uid, facts);
                (uid, facts)
            })
            .collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
