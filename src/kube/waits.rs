//! How long a watch waits after an error before it asks again.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// Between attempts after an error, at first and at most. A changed Secret must be live, and work
/// must resume, within two seconds, also when the API server was away: there may be one wait until
/// it is asked again, one more where it has forgotten the version from which to go on, and three
/// answers.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(750));

/// Doubling waits, with jitter. kube's own go up to a minute: so long after an outage a replica would
/// not know what has changed.
#[derive(Clone, Debug)]
pub struct Waits {
    next: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { next: BACKOFF.0 }
    }
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.next;
        self.next = (wait * 2).min(BACKOFF.1);
        // A quarter of jitter, so that many processes don't come back at one moment.
        Some(wait.mul_f64(0.75 + 0.25 * rand::random::<f64>()))
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_most_and_begin_anew() {
        let mut waits = Waits::default();
        let first = waits.next().unwrap();
        assert!(first <= BACKOFF.0 && first >= BACKOFF.0.mul_f64(0.75));
        let later: Vec<_> = waits.by_ref().take(10).collect();
        assert!(later.iter().all(|wait| *wait <= BACKOFF.1), "{later:?}");
        assert!(later.last() >= Some(&BACKOFF.1.mul_f64(0.75)), "{later:?}");
        waits.reset();
        assert!(waits.next().unwrap() <= BACKOFF.0);
    }
}
