//! Lets so many writes go at once as the API server bears, first come, first served.
//!
//! Each queue waits with one request at a time, so the order of arrival is a round over the
//! Ingestors that have work: a busy one can't crowd out a quiet one. One whose calls hang can't
//! either: it has at most `SHARE` times as many as it leaves free, and once it is held it tries
//! again from a pool of its own kind.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ops::time::Clock;

use super::pace::{Signal, Width};

/// So many times the places that are free may one Ingestor have: alone it has four fifths, two that
/// want all have four ninths each, and who comes then still finds a place at once.
const SHARE: usize = 4;

/// Writes of held Ingestors under way. A few that hang for as long as a call may take don't keep the
/// others' probes waiting; all of them are no load beside the [least width](Width).
const PROBES: usize = 8;

/// See the module's documentation.
#[derive(Debug)]
pub struct Limiter {
    permits: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    width: Width,
    /// The width that permits and debt add up to.
    granted: usize,
    /// Permits that are to go as soon as they come back.
    debt: usize,
    in_use: usize,
    paused_until: Option<Instant>,
}

/// Leave for one write; comes back when dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    permit: Option<OwnedSemaphorePermit>,
    probe: bool,
}

impl Permit {
    /// Whether it is leave to see if a held Ingestor's writes go on.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe
    }
}

impl Limiter {
    /// Begins with [`Width::new`].
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let width = Width::new();
        let granted = width.get();
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(granted)),
            probes: Arc::new(Semaphore::new(PROBES)),
            clock,
            state: Mutex::new(State {
                width,
                granted,
                debt: 0,
                in_use: 0,
                paused_until: None,
            }),
        })
    }

    /// Waits for leave. Cancel-safe; who comes back waits at the end.
    pub async fn acquire(self: Arc<Self>) -> Permit {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        self.pause_is_over().await;
        self.lock().in_use += 1;
        Permit {
            limiter: self,
            permit,
            probe: false,
        }
    }

    /// Waits for leave to see whether a held Ingestor's writes go on: it takes no place from those
    /// that do. Cancel-safe.
    pub async fn probe(self: Arc<Self>) -> Permit {
        let permit = Arc::clone(&self.probes).acquire_owned().await.ok();
        self.pause_is_over().await;
        Permit {
            limiter: self,
            permit,
            probe: true,
        }
    }

    /// Whether who has `own` writes under way may begin another: the first always, more as long as
    /// others find a place.
    #[must_use]
    pub fn has_room_for(&self, own: usize) -> bool {
        if own == 0 {
            return true;
        }
        let state = self.lock();
        let free = state.granted.saturating_sub(state.in_use);
        free > 1 && own < SHARE * free
    }

    async fn pause_is_over(&self) {
        while let Some(wait) = self.pause_left() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Nothing starts before this time: the server has asked all of us to wait.
    pub fn pause(&self, until: Instant) {
        let mut state = self.lock();
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// Learns from one call.
    pub fn learn(&self, signal: Signal) {
        let now = self.clock.instant();
        let mut state = self.lock();
        let in_use = state.in_use;
        let width = state.width.learn(now, in_use, signal);
        let grow = width.saturating_sub(state.granted);
        let shrink = state.granted.saturating_sub(width);
        state.granted = width;
        let forgiven = grow.min(state.debt);
        state.debt -= forgiven;
        self.permits.add_permits(grow - forgiven);
        state.debt += shrink;
        state.debt -= self.permits.forget_permits(state.debt);
    }

    /// How many writes may be under way.
    #[must_use]
    pub fn width(&self) -> usize {
        self.lock().granted
    }

    /// How many are under way.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.lock().in_use
    }

    fn pause_left(&self) -> Option<Duration> {
        let until = self.lock().paused_until?;
        let left = until.saturating_duration_since(self.clock.instant());
        (left > Duration::ZERO).then_some(left)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe {
            return;
        }
        let mut state = self.limiter.lock();
        state.in_use = state.in_use.saturating_sub(1);
        if state.debt > 0
            && let Some(permit) = self.permit.take()
        {
            state.debt -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::Millis, testing::clock::RuntimeClock};

    fn limiter() -> Arc<Limiter> {
        Limiter::new(Arc::new(RuntimeClock::at(Millis(0))))
    }

    #[tokio::test(start_paused = true)]
    async fn what_shrinks_while_in_use_shrinks_when_it_comes_back() {
        let limiter = limiter();
        let mut held = Vec::new();
        for _ in 0..limiter.width() {
            held.push(Arc::clone(&limiter).acquire().await);
        }
        limiter.learn(Signal::Overloaded);
        let width = limiter.width();
        assert!(width < held.len());
        held.truncate(width);
        assert_eq!(limiter.in_use(), width);
        assert_eq!(limiter.permits.available_permits(), 0);
        held.pop();
        assert_eq!(limiter.permits.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everything_until_its_end() {
        let limiter = limiter();
        let clock = Arc::clone(&limiter.clock);
        let until = clock.instant() + Duration::from_secs(5);
        limiter.pause(until);
        let permit = Arc::clone(&limiter).acquire().await;
        assert!(clock.instant() >= until);
        drop(permit);
        assert_eq!(limiter.in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn permits_and_debt_add_up_through_any_signals() {
        let limiter = limiter();
        let mut held = std::collections::VecDeque::new();
        for turn in 0_u64..2_000 {
            match turn % 7 {
                0 | 1 if limiter.permits.available_permits() > 0 => {
                    held.push_back(Arc::clone(&limiter).acquire().await);
                }
                2 => drop(held.pop_front()),
                3 if turn % 91 == 3 => limiter.learn(Signal::Overloaded),
                _ => limiter.learn(Signal::Answered(Duration::from_millis(turn % 30))),
            }
            tokio::time::advance(Duration::from_millis(20)).await;
            let state = limiter.lock();
            let sum = limiter.permits.available_permits() + held.len();
            assert_eq!(sum, state.granted + state.debt);
        }
    }
}
