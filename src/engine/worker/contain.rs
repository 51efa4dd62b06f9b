//! Keeps a panic in the work on one Ingestor to that Ingestor: its writes are held, which its status
//! tells, and after a wait the work begins anew from the journal.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use tokio::sync::Notify;
use tracing::error;

use super::Queue;
use crate::{
    engine::{
        hold::Failed,
        shared::{Shared, sleep_until},
        verdict::HoldReason,
    },
    journal::IngestorUid,
};

/// What a person reads in the Ingestor's status; the panic itself is in the log.
const MESSAGE: &str = "the engine failed on an event of this Ingestor and tries again; \
    its log says where (this is a bug)";

/// The place of a running queue; given back however the queue ends, so that the next can start.
struct Place {
    shared: Arc<Shared>,
    uid: IngestorUid,
    more: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.slots.release(&self.uid, &self.more);
    }
}

/// Works on one Ingestor until there is nothing left, or the engine stops.
pub(in crate::engine) async fn run(shared: Arc<Shared>, uid: IngestorUid, more: Arc<Notify>) {
    let place = Place { shared, uid, more };
    let Place { shared, uid, more } = &place;
    loop {
        let queue = Queue::new(Arc::clone(shared), uid.clone(), Arc::clone(more));
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
            () = shared.stop.cancelled() => return,
            () = shared.draining.cancelled() => return,
            () = sleep_until(&*shared.clock, until.or(Some(now))) => {}
        }
    }
}
