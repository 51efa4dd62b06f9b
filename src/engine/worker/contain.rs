//! Keeps a panic in the work on one Ingestor to that Ingestor: its writes are held, which its status
//! tells, and after a wait the work begins anew from the journal.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use tokio::sync::Notify;
use tracing::error;

use super::Queue;
use crate::{
    engine::{
        hold::{Failed, Holds},
        shared::{Shared, sleep_until},
        stint::{Stint, Turn},
        verdict::HoldReason,
    },
    journal::{IngestorUid, LogId},
};

/// What a person reads in the Ingestor's status; the panic itself is in the log.
const MESSAGE: &str = "the engine failed on an event of this Ingestor and tries again; \
    its log says where (this is a bug)";

/// The place of a running queue; given back however the queue ends, so that the next can start.
struct Place {
    shared: Arc<Shared>,
    uid: IngestorUid,
    log: LogId,
    more: Arc<Notify>,
}

impl Place {
    fn go_on(&self) -> Option<Turn> {
        self.shared.slots.go_on(&self.uid, self.log, &self.more)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.go_on());
    }
}

/// Works on one Ingestor in one log until there is nothing left, or the bucket is taken away; where
/// it is claimed again meanwhile, begins anew.
pub(in crate::engine) async fn run(
    shared: Arc<Shared>,
    uid: IngestorUid,
    turn: Turn,
    more: Arc<Notify>,
) {
    let log = turn.stint().log.id;
    let place = Place {
        shared,
        uid,
        log,
        more,
    };
    let mut turn = Some(turn);
    while let Some(now) = turn {
        work(&place, now.stint()).await;
        forget_holds(&place);
        // The place is free, or the next one's, before the bucket is told to be idle.
        turn = place.go_on();
    }
}

async fn work(place: &Place, stint: &Arc<Stint>) {
    let Place { shared, uid, .. } = place;
    loop {
        let more = Arc::clone(&place.more);
        let queue = Queue::new(Arc::clone(shared), Arc::clone(stint), uid.clone(), more);
        // Nothing of the queue is used again; what it shares is behind locks that outlive a panic.
        if AssertUnwindSafe(queue.run()).catch_unwind().await.is_ok() {
            return;
        }
        error!(ingestor = %uid, "the work on an Ingestor panicked");
        let now = shared.clock.instant();
        let failed = Failed {
            reason: HoldReason::Unexpected,
            message: MESSAGE,
            retry_after: None,
        };
        let jitter = shared.jitter();
        let until = {
            let account = shared.accounts.of(uid);
            let mut ledger = account.lock();
            if ledger.holds.ingestor_failed(now, failed, jitter).is_some() {
                shared.metrics.holding(failed.reason);
            }
            ledger.holds.wait(now, "")
        };
        tokio::select! {
            () = stint.stop.cancelled() => return,
            () = stint.draining.cancelled() => return,
            () = sleep_until(&*shared.clock, until.or(Some(now))) => {}
        }
    }
}

/// What has failed here is the next owner's affair: coming back, this one tries anew.
fn forget_holds(place: &Place) {
    let Place {
        shared, uid, log, ..
    } = place;
    if !shared.slots.runs_beside(uid, *log)
        && let Some(account) = shared.accounts.find(uid)
    {
        let mut ledger = account.lock();
        ledger.holds = Holds::default();
        ledger.crowded = false;
    }
}
