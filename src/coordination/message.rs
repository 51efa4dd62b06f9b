//! What replicas tell each other. Nothing here is needed for safety: a message may be late, doubled,
//! reordered, lost, or come from a process that is no longer what it says.

use std::{sync::Arc, time::Duration};

use super::{names::Holder, port::Link, records::ShardMapSpec};
use crate::journal::{Bucket, Epoch};

/// The protocol of this build. Raised when a replica of the version before could misread a message
/// or a record; neighbours differ by at most one.
pub const PROTOCOL: u32 = 1;

/// A message in its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Of which fleet: another's is refused.
    pub fleet: Arc<str>,
    /// The sender's protocol: one more than one apart is refused.
    pub protocol: u32,
    /// The version of the newest map that the sender has seen: who has an older one reads.
    pub version: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing but the envelope: there is a new version of the map.
    Hint,
    /// What the sender's own probes of a holder say.
    Vote(Vote),
    /// The owner has stopped; sent to the next owner and to the leader, again at each new version
    /// that lists the moves, and now and then until the map changes.
    Released {
        /// What it worked on, and under which epoch.
        buckets: Vec<(Bucket, Epoch)>,
        /// Version of the map that lists the moves.
        version: u64,
    },
    /// To the leader: what stores an effect has accepted this.
    Fenced {
        /// Which bucket.
        bucket: Bucket,
        /// The stored epoch.
        epoch: Epoch,
        /// The stored holder.
        holder: Holder,
    },
    /// To the leader: the measured load of the sender's buckets.
    Load(Vec<(Bucket, u32)>),
    /// A leader makes the map again: what does the receiver remember?
    Recall {
        /// Comes back in the answer.
        number: u64,
    },
    /// The answer: the newest map that the sender has ever seen.
    Remember {
        /// Of the question.
        number: u64,
        /// The highest version or epoch that it has ever seen.
        highest: u64,
        /// The map, where it remembers one.
        map: Option<Arc<ShardMapSpec>>,
    },
}

/// What the sender's own probes of a holder say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Whom: this incarnation and no other.
    pub suspect: Holder,
    /// What they say. `Reached` takes an earlier vote back.
    pub link: Link,
    /// How old that is at the moment of sending.
    pub age: Duration,
}
