//! Two candidates, one Lease whose holder is gone, a real API server: how many win?
//!
//! Once with the crate `kube-leader-election` (two processes, `chaos/rival`), once with this project's
//! elector, each from the same state: a Lease that has expired. Either is tried with its two writes
//! held until both have read: the moment in which a check and a write that are not one operation come
//! apart. A control takes the compare-and-swap out of this project's elector and must be caught.

pub mod ours;
pub mod rival;

use std::fmt;

use serde::{Deserialize, Serialize};

/// What became of many rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Rounds.
    pub rounds: u32,
    /// Rounds in which both took themselves for the leader.
    pub both: u32,
    /// Rounds in which one did.
    pub one: u32,
    /// Rounds in which none did.
    pub none: u32,
}

// === impl Score ===

impl Score {
    /// One more round, with so many winners.
    pub fn round(&mut self, winners: usize) {
        self.rounds += 1;
        match winners {
            0 => self.none += 1,
            1 => self.one += 1,
            _ => self.both += 1,
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rounds,
            both,
            one,
            none,
        } = self;
        write!(
            f,
            "{rounds} rounds: both won in {both}, one in {one}, none in {none}"
        )
    }
}

/// What all contests gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reproduction {
    /// `kube-leader-election`, both writes held until both have read.
    pub rival_held: Score,
    /// `kube-leader-election`, both started at the same moment and then left alone.
    pub rival_raced: Score,
    /// One round of the former, line by line.
    pub transcript: Vec<String>,
    /// This project's elector, both writes held until both have read.
    pub ours_held: Score,
    /// The same elector without its compare-and-swap: that it would be seen.
    pub control: Score,
}

// === impl Reproduction ===

impl Reproduction {
    /// The other one's fault was seen, ours never, and it would have been.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.rival_held.both > 0
            && self.ours_held.both == 0
            && self.ours_held.one > 0
            && self.control.both > 0
    }
}
