//! Calm after a leader was deposed while its process lived: under a lasting one-way partition it
//! would otherwise take over again and again.

use std::time::Duration;

use super::port::Moment;

/// How long this process doesn't take over early.
#[derive(Clone, Debug)]
pub(super) struct Damping {
    first: Duration,
    most: Duration,
    /// Steps: each doubles the pause.
    level: u32,
    until: Moment,
    /// Since when it is quiet; each `first` of quiet takes a step away.
    quiet: Moment,
}

// === impl Damping ===

impl Damping {
    pub(super) const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            level: 0,
            until: Moment(0),
            quiet: Moment(0),
        }
    }

    /// Deposed, and alive.
    pub(super) fn deposed(&mut self, now: Moment) {
        self.decay(now);
        let pause = self
            .first
            .saturating_mul(1 << self.level.min(20))
            .min(self.most);
        self.until = now.after(pause);
        self.quiet = self.until;
        self.level = (self.level + 1).min(20);
    }

    /// Until when it doesn't take over early, if now is before that.
    pub(super) fn until(&self, now: Moment) -> Option<Moment> {
        (now < self.until).then_some(self.until)
    }

    fn decay(&mut self, now: Moment) {
        let first = self.first.as_micros().max(1);
        let steps = now.since(self.quiet).as_micros() / first;
        self.level = self
            .level
            .saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_its_bound_and_decays_in_quiet() {
        let (first, most) = (Duration::from_secs(15), Duration::from_secs(600));
        let mut damping = Damping::new(first, most);
        let mut now = Moment(1);
        assert_eq!(damping.until(now), None);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            damping.deposed(now);
            let until = damping.until(now).unwrap();
            pauses.push(until.since(now).as_secs());
            now = until;
            assert_eq!(damping.until(now), None);
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 600, 600]);
        now = now.after(first * 7);
        damping.deposed(now);
        assert_eq!(
            damping.until(now),
            Some(now.after(first * 2)),
            "seven quiet steps of eight"
        );
    }
}
