//! Signals: the first drains, a second Ctrl-C aborts, and the outcome is a value.
//!
//! A second SIGTERM changes nothing: a process group or a cgroup that is asked as a whole asks a child
//! that its parent has asked already, and who wants an end at once has SIGKILL.
//!
//! ```text
//!  Signals ──next(), stop()──▶ Draining ──drain(future, grace)──▶ Ok(what the future gave) | Aborted
//! ```

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::time::Clock;

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: a supervisor.
    Terminate,
}

/// The signals of this process, or a test's.
#[must_use = "nobody waits for signals until `first` is called"]
pub struct Signals {
    signals: BoxStream<'static, Signal>,
    /// How often [`Signal::Interrupt`] has come.
    interrupts: usize,
}

/// The process stops: the first signal has come, or a part of it is gone.
#[must_use = "`drain` ends what is running"]
pub struct Draining {
    signals: Signals,
}

/// The process did not drain; what was running is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Aborted {
    /// A second Ctrl-C came.
    #[error("aborted by a second SIGINT")]
    Signal,
    /// The grace period was over.
    #[error("the drain did not end within {0:?}")]
    GraceOver(Duration),
}

/// The time from the signal to the supervisor's kill, divided between the stages of a stop: a slow
/// stage takes its part and leaves the rest to those behind it.
#[derive(Clone, Debug)]
pub struct Budget {
    clock: Arc<dyn Clock>,
    until: Instant,
}

impl Budget {
    /// `grace` from now on.
    #[must_use]
    pub fn of(grace: Duration, clock: Arc<dyn Clock>) -> Self {
        let now = clock.instant();
        // Too long to be added is for ever.
        let until = now.checked_add(grace);
        Self {
            until: until.unwrap_or_else(|| now + FOR_EVER),
            clock,
        }
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(self.clock.instant())
    }

    /// Half of what is left: a stage may take it, and the stages behind it have as much.
    #[must_use]
    pub fn half(&self) -> Duration {
        self.left() / 2
    }
}

const FOR_EVER: Duration = Duration::from_hours(365 * 24);

// === impl Signals ===

impl Signals {
    /// Takes over SIGINT and SIGTERM of this process.
    ///
    /// # Errors
    /// When the handlers can't be installed.
    pub fn of_process() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let of = |signal, kind| {
            futures::stream::unfold(
                signal,
                move |mut signal: tokio::signal::unix::Signal| async move {
                    signal.recv().await.map(|()| (kind, signal))
                },
            )
        };
        let both = futures::stream::select(
            of(interrupt, Signal::Interrupt),
            of(terminate, Signal::Terminate),
        );
        Ok(Self::from_stream(both.boxed()))
    }

    /// Signals from elsewhere: a test, or a process that holds several replicas.
    pub fn from_stream(signals: BoxStream<'static, Signal>) -> Self {
        Self {
            signals,
            interrupts: 0,
        }
    }

    /// Waits for a signal; for ever when there are none.
    pub async fn next(&mut self) -> Signal {
        let Some(signal) = self.signals.next().await else {
            return std::future::pending().await;
        };
        self.interrupts += usize::from(signal == Signal::Interrupt);
        signal
    }

    /// Waits until Ctrl-C was pressed twice, from the beginning on.
    async fn insistent(&mut self) {
        while self.interrupts < 2 {
            self.next().await;
        }
    }

    /// The process stops now; a person who presses Ctrl-C twice aborts that.
    pub fn stop(self) -> Draining {
        info!("draining; a second Ctrl-C aborts");
        Draining { signals: self }
    }
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signals")
    }
}

// === impl Draining ===

impl Draining {
    /// Runs `drain` to its end, unless a second SIGINT comes or `grace` is over.
    ///
    /// # Errors
    /// [`Aborted`]: `drain` was dropped before its end.
    pub async fn drain<T>(
        mut self,
        grace: Duration,
        drain: impl Future<Output = T>,
    ) -> Result<T, Aborted> {
        let outcome = tokio::select! {
            // A drain that has ended has ended, whatever comes at the same moment.
            biased;
            done = drain => Ok(done),
            () = self.signals.insistent() => Err(Aborted::Signal),
            () = tokio::time::sleep(grace) => Err(Aborted::GraceOver(grace)),
        };
        if let Err(aborted) = &outcome {
            warn!(%aborted, "stopping at once");
        }
        outcome
    }
}

impl std::fmt::Debug for Draining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Draining")
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::stream;

    use super::*;
    use crate::{journal::Millis, testing::clock::ManualClock};

    const LONG: Duration = Duration::from_hours(1);

    fn signals(of: Vec<Signal>) -> Signals {
        Signals::from_stream(stream::iter(of).chain(stream::pending()).boxed())
    }

    async fn first(mut signals: Signals) -> Draining {
        signals.next().await;
        signals.stop()
    }

    #[tokio::test]
    async fn the_first_signal_drains_and_gives_the_result() {
        let draining = first(signals(vec![Signal::Terminate])).await;
        assert_eq!(draining.drain(LONG, ready(7)).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_second_interrupt_aborts() {
        const INT: Signal = Signal::Interrupt;
        const TERM: Signal = Signal::Terminate;
        let over = Aborted::GraceOver(LONG);
        let rows = [
            (vec![INT, INT], Aborted::Signal),
            (vec![TERM, INT, TERM, INT], Aborted::Signal),
            // A child of `dev` is asked by its parent, and perhaps as one of a group.
            (vec![TERM, TERM, TERM], over),
            (vec![INT, TERM], over),
            (vec![TERM, INT], over),
        ];
        for (came, outcome) in rows {
            let draining = first(signals(came.clone())).await;
            let drained = draining.drain(LONG, pending::<()>()).await;
            assert_eq!(drained, Err(outcome), "{came:?}");
        }
    }

    #[tokio::test]
    async fn a_finished_drain_wins_over_a_second_signal() {
        let draining = first(signals(vec![Signal::Interrupt; 2])).await;
        assert_eq!(draining.drain(LONG, ready(())).await, Ok(()));
    }

    #[test]
    fn stages_that_take_all_that_they_may_leave_something_to_the_next() {
        let clock = ManualClock::at(Millis(0));
        let budget = |grace| Budget::of(grace, Arc::new(clock.clone()));
        let short = budget(Duration::from_secs(16));
        for seconds in [8, 4, 2] {
            assert_eq!(short.half(), Duration::from_secs(seconds));
            clock.advance(short.half());
        }
        assert_eq!(short.left(), Duration::from_secs(2));
        clock.advance(LONG);
        assert_eq!(short.half(), Duration::ZERO);
        assert!(budget(Duration::MAX).half() > LONG);
    }

    #[tokio::test]
    async fn a_drain_that_never_ends_is_cut_off() {
        let grace = Duration::from_millis(1);
        let draining = first(signals(vec![Signal::Terminate])).await;
        let outcome = draining.drain(grace, pending::<()>()).await;
        assert_eq!(outcome, Err(Aborted::GraceOver(grace)));
    }
}
