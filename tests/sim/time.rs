//! One global time, which nobody inside sees, and the clocks of the processes, which do.

use zen_fabric::{coordination::port::Moment, testing::seeded::Seeded};

/// Microseconds of the simulated world.
pub(crate) type Time = u64;

/// A millisecond.
pub(crate) const MS: Time = 1_000;
/// A second.
pub(crate) const SECOND: Time = 1_000_000;

/// The wall clock when the world begins: 2026-01-01, in microseconds since the Unix epoch.
pub(crate) const WALL: u64 = 1_767_225_600_000_000;

/// The monotonic clock of one process: an origin of its own and a rate of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalClock {
    born: Time,
    origin: u64,
    /// How many microseconds it gains in a second.
    drift: i64,
}

impl LocalClock {
    /// A clock of a process born at `born`, that is up to `skew` off, and gains or loses up to `drift`
    /// microseconds a second.
    pub(crate) fn new(born: Time, skew: Time, drift: u64, rng: &mut Seeded) -> Self {
        let gained = i64::try_from(rng.below(drift * 2 + 1)).unwrap();
        Self {
            born,
            // As production has it: the wall clock when the process began, and monotonic since.
            origin: WALL + born + rng.below(skew * 2 + 1) - skew,
            drift: gained - i64::try_from(drift).unwrap(),
        }
    }

    /// What it shows at a moment of the world.
    pub(crate) fn local(&self, at: Time) -> Moment {
        let passed = i128::from(at - self.born);
        let shown = passed + passed * i128::from(self.drift) / 1_000_000;
        Moment(self.origin + u64::try_from(shown).unwrap())
    }

    /// When in the world it first shows at least `moment`.
    pub(crate) fn world(&self, moment: Moment) -> Time {
        let shown = i128::from(moment.0.saturating_sub(self.origin));
        let passed = shown * 1_000_000 / (1_000_000 + i128::from(self.drift));
        let mut at = self.born + u64::try_from(passed).unwrap();
        while self.local(at) < moment {
            at += 1;
        }
        at
    }
}

/// A span in microseconds, drawn from `from..=to`.
pub(crate) fn between(rng: &mut Seeded, (from, to): (Time, Time)) -> Time {
    from + rng.below(to - from + 1)
}

#[test]
fn a_local_clock_and_the_world_agree_on_when_a_moment_comes() {
    let mut rng = Seeded::new(7);
    for drift in [0, 500, 100_000] {
        let clock = LocalClock::new(3 * SECOND, 77 * SECOND, drift, &mut rng);
        for after in [0, 1, 999, SECOND, 77 * SECOND + 13] {
            let moment = Moment(clock.local(3 * SECOND).0 + after);
            let at = clock.world(moment);
            assert!(clock.local(at) >= moment);
            assert!(at == 3 * SECOND || clock.local(at - 1) < moment);
        }
    }
}
