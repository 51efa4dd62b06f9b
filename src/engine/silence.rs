//! How long a log has left questions unanswered: pure.
//!
//! A gateway that hangs, or whose packets are dropped, gives no error: only that nothing comes back
//! tells it from one that has nothing to say.

use std::time::{Duration, Instant};

/// Questions to one log that wait for their answers.
#[derive(Debug, Default)]
pub(super) struct Silence {
    waiting: usize,
    /// When the oldest stretch without any answer began: at its first question, or the last answer.
    since: Option<Instant>,
}

impl Silence {
    /// A question is asked; [`Silence::over`] follows once, whether it is answered or given up.
    pub(super) fn asked(&mut self, now: Instant) {
        if self.waiting == 0 {
            self.since = Some(now);
        }
        self.waiting += 1;
    }

    /// A question waits no longer.
    pub(super) const fn over(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Some question was answered: who answers one is there for the others.
    pub(super) const fn answered(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// How long nothing has been answered; nothing where nothing is asked.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        let since = self.since.filter(|_| self.waiting > 0);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_what_is_asked_and_not_answered_is_silence() {
        let start = crate::testing::clock::ManualClock::at(crate::journal::Millis(0));
        let start = crate::ops::time::Clock::instant(&start);
        let at = |seconds| start + SECOND * seconds;
        let mut silence = Silence::default();
        assert_eq!(silence.lasts(at(9)), Duration::ZERO, "nothing was asked");
        silence.asked(at(10));
        silence.asked(at(12));
        assert_eq!(silence.lasts(at(13)), SECOND * 3);
        silence.answered(at(13));
        silence.over();
        assert_eq!(silence.lasts(at(14)), SECOND, "one waits still");
        silence.over();
        assert_eq!(silence.lasts(at(99)), Duration::ZERO, "given up");
        silence.asked(at(100));
        assert_eq!(silence.lasts(at(101)), SECOND, "it begins anew");
    }
}
