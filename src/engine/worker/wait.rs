//! When a queue has nothing to do: whether it ends, waits, or lets go of what it has.

use std::time::{Duration, Instant};

use super::Queue;
use crate::engine::pace::Permission;

/// A queue that passes over records keeps so much while it can only wait, so that it needn't pass
/// over them again.
const KEPT_BYTES: usize = 128 * 1_024;
/// A queue that has to wait longer lets go of what it has in memory. Longer than [`COALESCE`].
const LONG_WAIT: Duration = Duration::from_millis(1_500);
/// The same for one that is held.
const LONG_HELD_WAIT: Duration = Duration::from_millis(250);

impl Queue {
    /// Records came, or a hold has ended that another log's queue has of the same Ingestor. One that
    /// waits for a name alone has work again.
    pub(super) fn more_came(&mut self) {
        self.exhausted = false;
        let now = self.shared.clock.instant();
        let ledger = self.account.lock();
        let others = !ledger.holds.holds_all() && ledger.pace.check(now) == Permission::Now;
        let freed = ledger.freed;
        drop(ledger);
        if std::mem::replace(&mut self.freed, freed) != freed {
            self.window.wake_all();
        }
        if others && self.parked.is_some_and(|until| until.is_some()) {
            self.parked = None;
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.writing.is_empty()
            || self.committing.is_some()
            || !self.ends.is_empty()
            || self.fetching.is_some()
    }

    /// Whether the queue may end: all is done, or it drains and what is left has to wait.
    pub(super) fn is_over(&mut self) -> bool {
        if self.flushed && !self.shared.may_start() {
            // What can't be started isn't waited for; what is under way is.
            return self.writing.is_empty() && self.committing.is_none();
        }
        if self.is_busy() || self.asking.is_some() {
            return false;
        }
        if self.flushed {
            let now = self.shared.clock.instant();
            let can_go_on = self.window.has_ready(now) && self.paced_until.is_none();
            if can_go_on && !self.account.lock().pace.is_paused() {
                return false;
            }
            return true;
        }
        let done = self.window.is_empty() && self.exhausted && self.parked.is_none();
        if !done {
            return false;
        }
        if self.shared.slots.leave(&self.uid, self.stint.log.id) {
            let runs = self.shared.slots.runs(&self.uid);
            if !runs && self.shared.ingestors.get(&self.uid).is_none() {
                self.shared.accounts.close(&self.uid);
            }
            return true;
        }
        self.exhausted = false;
        // Records came at this very moment: around again, without waiting for a second notice.
        self.more.notify_one();
        false
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        if let Some(parked) = self.parked {
            return parked;
        }
        let times = [self.window.next_wake(), self.paced_until, self.not_before];
        times.into_iter().flatten().min()
    }

    /// One that can only wait lets go of what it has: the journal gives it again.
    pub(super) fn park_if_idle(&mut self, now: Instant) {
        if self.is_busy() || self.parked.is_some() || self.flushed {
            return;
        }
        let (paused, held) = {
            let ledger = self.account.lock();
            (ledger.pace.is_paused(), !ledger.holds.is_free())
        };
        let can_go_on = self.window.has_ready(now) && self.paced_until.is_none();
        let long = if held { LONG_HELD_WAIT } else { LONG_WAIT };
        let wake = self.next_wake();
        let far = wake.is_some_and(|at| at > now + long);
        let passing = self.window.passed_over() > 0 && self.window.bytes() <= KEPT_BYTES;
        if paused || (!can_go_on && far && !passing) {
            self.window.clear();
            self.room = None;
            self.asking = None;
            self.permit = None;
            self.cursor = None;
            self.exhausted = false;
            self.parked = Some(if paused { None } else { wake });
        }
    }
}
