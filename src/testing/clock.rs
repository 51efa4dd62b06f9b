//! Clocks that a test moves.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{journal::Millis, ops::time::Clock};

/// Stands still until it is told to move. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    wall: Millis,
    instant: Instant,
}

impl ManualClock {
    /// A clock whose wall shows `wall`.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other origin; only differences to it are ever seen"
    )]
    pub fn at(wall: Millis) -> Self {
        let instant = Instant::now();
        Self {
            state: Arc::new(Mutex::new(State { wall, instant })),
        }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.instant += by;
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        state.wall = Millis(state.wall.0.saturating_add(millis));
    }

    /// Sets the wall clock alone, also backwards, as an administrator does.
    pub fn set_wall(&self, wall: Millis) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.wall = wall;
    }

    fn read(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        self.read().wall
    }

    fn instant(&self) -> Instant {
        self.read().instant
    }
}

/// Follows the runtime's clock: with the runtime's time paused, it moves when the runtime jumps to
/// the next timer, so that a test of hours runs in milliseconds and always the same way.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeClock {
    wall: Millis,
    start: tokio::time::Instant,
}

impl RuntimeClock {
    /// A clock whose wall shows `wall` now. To be called inside the runtime.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the runtime's clock is the source"
    )]
    pub fn at(wall: Millis) -> Self {
        Self {
            wall,
            start: tokio::time::Instant::now(),
        }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Millis {
        let since = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        Millis(self.wall.0.saturating_add(since))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the runtime's clock is the source"
    )]
    fn instant(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_when_told_and_its_clones_with_it() {
        let clock = ManualClock::at(Millis(1_000));
        let (other, before) = (clock.clone(), clock.instant());
        clock.advance(Duration::from_millis(250));
        assert_eq!(other.now(), Millis(1_250));
        assert_eq!(other.instant() - before, Duration::from_millis(250));
        clock.set_wall(Millis(7));
        assert_eq!(other.now(), Millis(7));
        assert_eq!(other.instant() - before, Duration::from_millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_clock_follows_paused_time() {
        let clock = RuntimeClock::at(Millis(0));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(clock.now(), Millis(3_600_000));
    }
}
