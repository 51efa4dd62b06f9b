//! Starts the writes of one Ingestor, and says what their outcomes mean for the rest of it.

use std::{sync::Arc, time::Instant};

use futures::FutureExt as _;
use tracing::{info, warn};

use super::{BATCH_ITEMS, COALESCE, MOST_WRITES, Queue, is_full, tenant};
use crate::{
    engine::{
        account::Account,
        hold::Failed,
        pace::Permission,
        pipeline::DedupKind,
        queue::Batch,
        writer::{Scope, Trouble, Written},
    },
    journal::Position,
};

impl Queue {
    pub(super) fn start_writes(&mut self, now: Instant) {
        self.paced_until = None;
        let account = Arc::clone(&self.account);
        while self.may_write(now, &account) {
            let Some(permit) = self.permit.take() else {
                if self.asking.is_none() {
                    let limiter = Arc::clone(&self.shared.limiter);
                    self.asking = Some(if account.lock().holds.holds_all() {
                        limiter.probe().boxed()
                    } else {
                        limiter.acquire().boxed()
                    });
                }
                return;
            };
            let mut ledger = account.lock();
            let holds = &ledger.holds;
            let batch = self
                .window
                .take(now, BATCH_ITEMS, |name| holds.attempts(name));
            let Some(batch) = batch else {
                return;
            };
            if let Some(until) = holds.wait(now, &batch.name) {
                self.window.put_back(batch, until);
                self.permit = Some(permit);
                continue;
            }
            ledger.pace.spend(now);
            drop(ledger);
            let (shared, counted) = (Arc::clone(&self.shared), account.writes());
            let write = async move {
                let writer = if permit.is_probe() {
                    // One Ingestor's troubles, which are known; the server's width stays.
                    &shared.writer.probing()
                } else {
                    &shared.writer
                };
                let written = tenant::write(&shared, writer, &batch).await;
                drop((permit, counted));
                (batch, written)
            };
            self.writing.push(write.boxed());
        }
        self.permit = None;
    }

    /// Whether a write may be tried: something waits, its pace allows it, a held Ingestor has no probe
    /// under way, others find a place beside those of this one, and the gate is open.
    fn may_write(&mut self, now: Instant, account: &Account) -> bool {
        // The first of each log always, so that none waits for another's end, which it isn't told of.
        let beside = if self.writing.is_empty() {
            0
        } else {
            account.writing()
        };
        let ledger = account.lock();
        let idle = !self.shared.may_start()
            || !self.window.has_ready(now)
            || self.writing.len() >= ledger.holds.width(MOST_WRITES)
            || self.parked.is_some()
            || !self.shared.limiter.has_room_for(beside);
        if idle {
            return false;
        }
        match ledger.pace.check(now) {
            Permission::Now => true,
            Permission::At(at) => {
                self.paced_until = Some(at);
                false
            }
            Permission::Paused => false,
        }
    }

    pub(super) fn wrote(&mut self, batch: Batch, written: Written) {
        let now = self.shared.clock.instant();
        let counts = batch
            .items
            .first()
            .is_some_and(|work| matches!(work.item.dedup, DedupKind::Aggregate { .. }));
        if written.singly {
            self.window.singly(&batch.name);
        }
        if !written.ends.is_empty() {
            let freed = {
                let mut ledger = self.account.lock();
                let freed = ledger.holds.succeeded(&batch.name);
                ledger.freed += u64::from(freed);
                freed
            };
            if freed {
                info!(ingestor = %self.uid, "writes go on");
                self.window.wake_all();
                self.shared.slots.wake_others(&self.uid, self.stint.log.id);
            }
            if let Some(first) = self.window.let_in(&batch.name) {
                // A fetch that is under way began behind them.
                self.fetching = None;
                self.cursor = first.0.checked_sub(1).map(Position);
                self.exhausted = false;
            }
        }
        if let Some(trouble) = &written.trouble {
            self.held(&batch.name, trouble);
        }
        let whole = self.window.waiting(&batch.name) >= BATCH_ITEMS;
        let coalesce = counts && !written.ends.is_empty() && !self.flushed && !whole;
        let until = coalesce.then(|| now + COALESCE);
        self.window.finished(batch, written.ends, until);
    }

    /// What waits to be written together doesn't wait for what can't come.
    pub(super) fn wake_gathered(&mut self) {
        let full = is_full(&self.window);
        self.window
            .wake_gathered(|waiting| full || waiting >= BATCH_ITEMS);
    }

    pub(super) fn held(&self, name: &str, trouble: &Trouble) {
        let now = self.shared.clock.instant();
        let jitter = self.shared.jitter();
        let failed = Failed {
            reason: trouble.reason,
            message: &trouble.message,
            retry_after: trouble.retry_after,
        };
        let mut ledger = self.account.lock();
        let began = match trouble.scope {
            Scope::Name => ledger.holds.name_failed(now, name, failed, jitter),
            Scope::Ingestor => ledger.holds.ingestor_failed(now, failed, jitter),
        };
        if let Some(hold) = began {
            self.shared.metrics.holding(hold.reason);
            warn!(
                ingestor = %self.uid, reason = hold.reason.as_str(), message = %hold.message,
                "writes are held and will be tried again"
            );
        }
    }
}
