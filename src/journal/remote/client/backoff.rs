//! How long to wait between attempts: from the start of one to the start of the next.

use std::time::Duration;

/// The first wait: a gateway that restarts takes longer, a connection that broke doesn't.
const FIRST: Duration = Duration::from_millis(20);

/// No wait is longer, so that a gateway that is back is noticed within a second.
const LONGEST: Duration = Duration::from_secs(1);

/// See the module; `default` is the first wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait; `chance` is uniform in 0..1, so that many don't come back at one moment.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        doubled
            .min(LONGEST)
            .mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 1000]);
        assert_eq!(Backoff::default().next(0.0), FIRST / 2);
        let mut worn = Backoff { failures: u32::MAX };
        assert_eq!(worn.next(2.0), LONGEST);
    }
}
