//! The queues that run: at most one for each log and Ingestor.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::journal::{IngestorUid, LogId};

use super::stint::{Stint, Turn};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Slots {
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    by_uid: HashMap<IngestorUid, Vec<Slot>>,
    count: usize,
}

#[derive(Debug)]
struct Slot {
    log: LogId,
    stint: Arc<Stint>,
    /// Records came since the queue last began to fetch.
    more: bool,
    notify: Arc<Notify>,
    /// The bucket was claimed anew while the queue still ends: it then begins again, under this.
    next: Option<Turn>,
}

impl Slots {
    /// Tells the queue that runs under `stint`, if there is one, that there are records.
    pub(super) fn wake(&self, uid: &IngestorUid, stint: &Arc<Stint>) -> bool {
        let mut running = self.lock();
        let Some(slot) = running.find(uid, stint.log.id) else {
            return false;
        };
        if !Arc::ptr_eq(&slot.stint, stint) {
            return false;
        }
        slot.more = true;
        slot.notify.notify_one();
        true
    }

    /// A queue is to run for `turn`. `Some`: it is to be started; else it follows the one that is
    /// just ending.
    pub(super) fn enter(&self, uid: &IngestorUid, turn: Turn) -> Option<(Turn, Arc<Notify>)> {
        let mut running = self.lock();
        if let Some(slot) = running.find(uid, turn.stint().log.id) {
            let before = slot.next.replace(turn);
            // Its end may be a bucket's, which is told under other locks.
            drop(running);
            drop(before);
            return None;
        }
        let notify = Arc::new(Notify::new());
        running.count += 1;
        running.by_uid.entry(uid.clone()).or_default().push(Slot {
            log: turn.stint().log.id,
            stint: Arc::clone(turn.stint()),
            more: false,
            notify: Arc::clone(&notify),
            next: None,
        });
        Some((turn, notify))
    }

    /// The queue begins to fetch: what came before is found by that.
    pub(super) fn fetching(&self, uid: &IngestorUid, log: LogId) {
        if let Some(slot) = self.lock().find(uid, log) {
            slot.more = false;
        }
    }

    /// Whether records came since the queue last began to fetch.
    pub(super) fn more(&self, uid: &IngestorUid, log: LogId) -> bool {
        self.lock().find(uid, log).is_some_and(|slot| slot.more)
    }

    /// The queue of `notify` has ended. What it is to go on with, if its bucket was claimed anew.
    pub(super) fn go_on(
        &self,
        uid: &IngestorUid,
        log: LogId,
        notify: &Arc<Notify>,
    ) -> Option<Turn> {
        let mut running = self.lock();
        let slot = running.find(uid, log)?;
        if !Arc::ptr_eq(&slot.notify, notify) {
            return None;
        }
        if let Some(next) = slot.next.take() {
            slot.stint = Arc::clone(next.stint());
            slot.more = false;
            return Some(next);
        }
        running.remove(uid, log);
        None
    }

    /// The queue has nothing left and wants to end; false: records came meanwhile.
    pub(super) fn leave(&self, uid: &IngestorUid, log: LogId) -> bool {
        let mut running = self.lock();
        match running.find(uid, log) {
            Some(slot) if slot.next.is_some() => true,
            Some(slot) if slot.more => false,
            Some(_) | None => {
                running.remove(uid, log);
                true
            }
        }
    }

    /// How many queues run.
    pub(super) fn len(&self) -> usize {
        self.lock().count
    }

    /// Whether a queue runs for the Ingestor, in any log.
    pub(super) fn runs(&self, uid: &IngestorUid) -> bool {
        self.lock().by_uid.contains_key(uid)
    }

    /// Whether one runs in another log.
    pub(super) fn runs_beside(&self, uid: &IngestorUid, log: LogId) -> bool {
        let running = self.lock();
        let mut slots = running.by_uid.get(uid).into_iter().flatten();
        slots.any(|slot| slot.log != log)
    }

    /// Tells the Ingestor's queues in other logs that something has changed for all of them.
    pub(super) fn wake_others(&self, uid: &IngestorUid, log: LogId) {
        let running = self.lock();
        let slots = running.by_uid.get(uid).into_iter().flatten();
        for slot in slots.filter(|slot| slot.log != log) {
            slot.notify.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn find(&mut self, uid: &IngestorUid, log: LogId) -> Option<&mut Slot> {
        let mut slots = self.by_uid.get_mut(uid)?.iter_mut();
        slots.find(|slot| slot.log == log)
    }

    fn remove(&mut self, uid: &IngestorUid, log: LogId) {
        let Some(slots) = self.by_uid.get_mut(uid) else {
            return;
        };
        let before = slots.len();
        slots.retain(|slot| slot.log != log);
        self.count = self.count.saturating_sub(before - slots.len());
        if slots.is_empty() {
            self.by_uid.remove(uid);
        }
    }
}
