//! What is remembered of each Ingestor, over all logs and while it has no work: its pace, its holds,
//! and what its status tells of recent events.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::journal::{IngestorUid, Millis};

use super::{hold::Holds, pace::Pace};

/// The accounts of all Ingestors; one costs about 300 bytes and leaves with its Ingestor.
#[derive(Debug, Default)]
pub struct Accounts {
    by_uid: Mutex<HashMap<IngestorUid, Arc<Account>>>,
}

/// The account of one Ingestor.
#[derive(Debug, Default)]
pub struct Account {
    ledger: Mutex<Ledger>,
    writing: AtomicUsize,
}

/// A write of an Ingestor that is under way, in any log; over when dropped.
#[derive(Debug)]
pub struct Writing {
    account: Arc<Account>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.account.writing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See [`Account`].
#[derive(Debug, Default)]
pub struct Ledger {
    /// `maxPerMinute`.
    pub pace: Pace,
    /// Who has to wait after failures.
    pub holds: Holds,
    /// How often a hold of all names has ended: what waits for it in other logs goes on then.
    pub freed: u64,
    /// So many records wait behind held names that no other name goes on.
    pub crowded: bool,
    /// The last expression that failed, and when.
    pub expression: Option<(Millis, String)>,
    /// The last dead letter, and when.
    pub letter: Option<(Millis, String)>,
}

impl Accounts {
    /// The account of an Ingestor; opened if there is none.
    #[must_use]
    pub fn of(&self, uid: &IngestorUid) -> Arc<Account> {
        Arc::clone(self.lock().entry(uid.clone()).or_default())
    }

    /// The account of an Ingestor, if there is one.
    #[must_use]
    pub fn find(&self, uid: &IngestorUid) -> Option<Arc<Account>> {
        self.lock().get(uid).cloned()
    }

    /// Closes the account of an Ingestor that is gone and has no work.
    pub fn close(&self, uid: &IngestorUid) {
        self.lock().remove(uid);
    }

    /// How many Ingestors have a hold.
    #[must_use]
    pub fn held(&self) -> usize {
        let accounts: Vec<_> = self.lock().values().cloned().collect();
        accounts
            .iter()
            .filter(|one| !one.lock().holds.is_free())
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IngestorUid, Arc<Account>>> {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// A write begins.
    #[must_use]
    pub fn writes(self: &Arc<Self>) -> Writing {
        self.writing.fetch_add(1, Ordering::Relaxed);
        Writing {
            account: Arc::clone(self),
        }
    }

    /// How many writes are under way, over all logs.
    #[must_use]
    pub fn writing(&self) -> usize {
        self.writing.load(Ordering::Relaxed)
    }

    /// The ledger; never held across an await.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
