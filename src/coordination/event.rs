//! What a replica tells logs and metrics; nothing depends on it.

use std::sync::Arc;

use super::{names::Holder, records::Stage};
use crate::journal::{Bucket, Epoch};

/// Why a holder was declared dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// A majority, this replica included, is refused by every listener.
    Refused,
    /// It was challenged and did not renew.
    Unanswered,
    /// Its Lease was unchanged for a whole duration.
    Stale,
}

/// Why a replica stopped being what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Death {
    /// Its member Lease is marked.
    Marked,
    /// Its member Lease names a later incarnation, or another process.
    Superseded,
    /// The ShardMap says Down, or names a later incarnation.
    Down,
    /// Its member Lease was gone for longer than it could know that it lived.
    Lost,
}

/// Why a leader is no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deposed {
    /// The Lease names another.
    Lost,
    /// It gave the Lease away.
    Released,
    /// It died as a holder.
    Died,
}

/// Why a message changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// Of another fleet.
    Fleet,
    /// More than one protocol apart.
    Protocol,
    /// Of an incarnation that is over.
    Incarnation,
    /// It says what can't be: a number above the maximum, a bucket that doesn't exist.
    Malformed,
}

/// One event, one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The incarnation is claimed.
    Joined(Holder),
    /// This replica goes on as the next incarnation.
    Died(Death),
    /// It leads.
    Leads {
        /// Its term.
        term: u64,
    },
    /// It leads no longer.
    Deposed(Deposed),
    /// It would lead early and waits, because it was deposed of late.
    Damped,
    /// It asks a holder whether it lives.
    Challenged(Holder),
    /// The holder answered.
    Answered(Holder),
    /// It declared a holder dead.
    Marked(Holder, Evidence),
    /// The map was written.
    Wrote {
        /// Its version.
        version: u64,
        /// Buckets issued anew.
        issued: usize,
        /// Moves under way.
        moves: usize,
    },
    /// The API server would not have it.
    WriteRefused(Arc<str>),
    /// A bucket's owner did not stop in time.
    Slow {
        /// Which bucket.
        bucket: Bucket,
        /// Whose.
        owner: Holder,
        /// The stage that begins.
        stage: Stage,
    },
    /// The map is made again.
    Healing {
        /// The highest version known so far.
        highest: u64,
    },
    /// A bucket is issued again above what a store holds.
    Reissued(Bucket),
    /// A stored epoch can't be passed: the object must be created anew.
    EpochAtMaximum {
        /// Which bucket.
        bucket: Bucket,
        /// What is stored.
        epoch: Epoch,
    },
    /// The stored map is older than one seen before, or says what can't be; told once for a version.
    NotFollowed {
        /// Its version.
        version: u64,
    },
    /// A message changed nothing; told once per peer and reason.
    Ignored {
        /// Whose.
        from: Holder,
        /// Why.
        why: Refused,
    },
    /// A holder is set Unreachable.
    Unreachable(Holder),
    /// The drain's deadline came before everything was taken.
    DrainOverdue {
        /// What is left.
        left: usize,
    },
}
