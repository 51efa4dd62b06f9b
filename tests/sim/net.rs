//! Links between pods, gateways and API servers: one way each.

use std::collections::BTreeMap;

use zen_fabric::testing::seeded::Seeded;

use crate::time::{MS, Time, between};

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A pod of the fleet, by number.
    Pod(usize),
    /// A gateway with its log.
    Log(usize),
    /// An API server.
    Front(usize),
}

/// What a link does to what is sent over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing arrives, and nobody is told.
    Drop,
    /// The sender is told at once.
    Reject,
}

/// How messages travel where nothing is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// The span of delays.
    pub(crate) delay: (Time, Time),
    /// How many in a hundred are lost.
    pub(crate) lost: u64,
    /// How many in a hundred arrive twice.
    pub(crate) doubled: u64,
    /// How many in a hundred are late by up to some seconds, behind younger ones.
    pub(crate) late: u64,
}

impl Weather {
    /// A rack on a good day.
    pub(crate) const FINE: Self = Self {
        delay: (200, 2 * MS),
        lost: 0,
        doubled: 0,
        late: 0,
    };
}

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    cuts: BTreeMap<(Place, Place), Cut>,
    /// How messages travel.
    pub(crate) weather: Weather,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self {
            cuts: BTreeMap::new(),
            weather: Weather::FINE,
        }
    }

    /// Cuts the way from one place to another.
    pub(crate) fn cut(&mut self, from: Place, to: Place, how: Cut) {
        self.cuts.insert((from, to), how);
    }

    /// Mends everything.
    pub(crate) fn mend(&mut self) {
        self.cuts.clear();
        self.weather = Weather::FINE;
    }

    /// Mends one way.
    pub(crate) fn mend_link(&mut self, from: Place, to: Place) {
        self.cuts.remove(&(from, to));
    }

    /// What cuts the way.
    pub(crate) fn is_cut(&self, from: Place, to: Place) -> Option<Cut> {
        self.cuts.get(&(from, to)).copied()
    }

    /// Whether a call and its answer pass.
    pub(crate) fn both(&self, one: Place, other: Place) -> bool {
        self.is_cut(one, other).is_none() && self.is_cut(other, one).is_none()
    }

    /// After how long a message arrives: never, once, or twice.
    pub(crate) fn travel(&self, from: Place, to: Place, rng: &mut Seeded) -> [Option<Time>; 2] {
        if self.is_cut(from, to).is_some() || rng.chance(self.weather.lost) {
            return [None, None];
        }
        let mut delay = || {
            let late = rng.chance(self.weather.late);
            let extra = if late { rng.below(4_000) * MS } else { 0 };
            between(rng, self.weather.delay) + extra
        };
        let first = delay();
        let second = delay();
        let twice = rng.chance(self.weather.doubled);
        [Some(first), twice.then_some(second)]
    }
}
