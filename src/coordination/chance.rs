//! Chance from a seed, and pauses that grow.

use std::time::Duration;

use super::port::Moment;

/// `SplitMix64` (Steele, Lea, Flood 2014): enough for jitter and for names that must differ.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

// === impl Chance ===

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// Between half of it and the whole.
    pub(super) fn jitter(&mut self, whole: Duration) -> Duration {
        let half = whole / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.next() % micros.saturating_add(1))
    }
}

/// The finalizer of `SplitMix64`: each bit of the input moves half of the output's.
pub(super) const fn mixed(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A pause before the next attempt, which doubles up to a bound.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    pause: Duration,
    until: Moment,
}

// === impl Backoff ===

impl Backoff {
    pub(super) const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            pause: first,
            until: Moment(0),
        }
    }

    /// An attempt was in vain.
    pub(super) fn failed(&mut self, now: Moment, chance: &mut Chance) {
        self.until = now.after(chance.jitter(self.pause));
        self.pause = (self.pause * 2).min(self.most);
    }

    /// It went well.
    pub(super) const fn reset(&mut self) {
        self.pause = self.first;
        self.until = Moment(0);
    }

    /// When the next attempt may begin, if not yet.
    pub(super) fn waits(&self, now: Moment) -> Option<Moment> {
        (now < self.until).then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew() {
        let mut chance = Chance::new(1);
        let (first, most) = (Duration::from_millis(50), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, most);
        assert_eq!(backoff.waits(Moment(0)), None);
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            backoff.failed(Moment(0), &mut chance);
            let until = backoff.waits(Moment(0)).unwrap();
            assert!(until >= Moment(0).after(first / 2) && until <= Moment(0).after(most));
            assert_eq!(backoff.waits(until), None);
            longest = longest.max(until.since(Moment(0)));
        }
        assert!(longest > most / 2, "{longest:?}");
        backoff.reset();
        backoff.failed(Moment(0), &mut chance);
        assert!(backoff.waits(Moment(0)).unwrap() <= Moment(0).after(first));
    }
}
