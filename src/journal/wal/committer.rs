//! The committer's thread: one group commit after the other, asleep when nothing is staged.
//!
//! It is the only one that answers appends and commits. If it panics, nobody may wait for it.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{
    engine::{Engine, Next, PROBE_MS},
    flight::{Failure, Flight},
    stage::{Staged, State},
};

/// From this many events in one commit on, the next one waits until its senders are back: they have
/// just been answered all at once, and the first few of them would cost a sync of their own. It is
/// `PostgreSQL`'s `commit_siblings`; a load that brings fewer per commit never waits.
const SIBLINGS: usize = 32;

/// The wait ends as soon as this long nothing came: some twenty requests' time on two cores.
const PAUSE: Duration = Duration::from_micros(400);

/// At most so many pauses: 2 ms, what a commit of several hundred events takes anyway.
const PAUSES: u32 = 5;

/// Works until the log closes, or a panic closes it, which `broken` tells.
pub(super) fn run(engine: &Engine, broken: &CancellationToken) {
    if catch_unwind(AssertUnwindSafe(|| work(engine))).is_err() {
        engine.break_off();
        broken.cancel();
    }
}

/// Those who wait for a commit that was taken. A panic on the way tells them that it failed: it may
/// be durable or not, as after a failed sync.
pub(super) struct Unanswered([Arc<Flight>; 2]);

impl Unanswered {
    pub(super) fn of(staged: &Staged) -> Self {
        Self([&staged.flight, &staged.control_flight].map(Arc::clone))
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if thread::panicking() {
            for flight in &self.0 {
                flight.land(Err(panicked()));
            }
        }
    }
}

fn panicked() -> Failure {
    Failure::Disk("the journal's committer panicked".into())
}

fn work(engine: &Engine) {
    let nap = Duration::from_millis(PROBE_MS.unsigned_abs());
    loop {
        let next = engine.cycle();
        let mut state = gathered(engine, engine.state());
        if !state.staged.is_empty() {
            continue;
        }
        if state.closing {
            return;
        }
        if next == Next::Idle {
            state.committer_idle = true;
            // Woken too early or too late, it only looks again.
            let mut woken = engine
                .work
                .wait_timeout(state, nap)
                .unwrap_or_else(PoisonError::into_inner);
            woken.0.committer_idle = false;
        }
    }
}

/// Waits, after a large commit, while more comes.
fn gathered<'a>(engine: &'a Engine, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    if state.last_events < SIBLINGS {
        return state;
    }
    let mut seen = state.staged.events.ops.len();
    for _ in 0..PAUSES {
        if state.closing {
            break;
        }
        let woken = engine.work.wait_timeout(state, PAUSE);
        state = woken.unwrap_or_else(PoisonError::into_inner).0;
        let staged = state.staged.events.ops.len();
        if staged == seen {
            break;
        }
        seen = staged;
    }
    state
}

impl Engine {
    /// The committer panicked: the log is closed, so that nothing is staged any more, and what was
    /// staged fails.
    fn break_off(&self) {
        error!("the journal's committer panicked: the journal is closed");
        let failure = panicked();
        let mut state = self.state();
        state.closing = true;
        state.refusal = Some(failure.clone());
        let mut staged = mem::take(&mut state.staged);
        state.fail(&mut staged, &failure);
        for subscriber in state.subscribers.all.values() {
            subscriber.notify.notify_waiters();
        }
        // Whoever waits for an end hears that none will come.
        state.waiters.clear();
    }
}
