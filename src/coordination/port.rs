//! What a replica's coordination core takes in and gives out: the whole seam between the protocol
//! and the world.
//!
//! ```text
//!            Input ──▶ ┌─────────┐ ──▶ Action::Request ──▶ API server (Lease, Lease, ShardMap)
//!  watch, answer,      │ Replica │ ──▶ Action::Send ─────▶ other replicas (gossip, gRPC)
//!  link, message,      │ (pure)  │ ──▶ Action::Own / Release / Drop / Gate ──▶ this pod's workers
//!  worker, operator    └─────────┘ ──▶ Action::Tell ─────▶ logs, metrics, status
//! ```
//!
//! Time, randomness and identity are parameters. `Replica::handle(now, input)` takes one input,
//! `handle_timeout(now)` may be called at any time (a spurious call does nothing),
//! `poll_action()` is drained after each of both, `poll_timeout()` says when to call next.
//! Production and the simulator drive the same code through these types.

use std::{sync::Arc, time::Duration};

use super::names::{Holder, PodName};
use crate::{
    coordination::records::{LeaderRecord, MemberRecord, ShardMapSpec},
    journal::{Bucket, Epoch},
};

/// A moment on this process's monotonic clock, in microseconds since an origin of its own.
///
/// Moments of two processes are never compared: their clocks start anywhere and may drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// This much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// This much earlier; not before the clock's origin.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// How long ago `earlier` was; nothing where it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Names a request until its answer comes; never used twice by one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// `metadata.resourceVersion`, opaque: only equality means something.
pub type ResourceVersion = Arc<str>;

/// Which object of the API server. Each holds one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The leader Lease.
    Leader,
    /// The member Lease of a pod.
    Member(PodName),
    /// The ShardMap.
    Map,
}

/// What an object says, as the core reads and writes it; the edge translates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Of [`Object::Leader`].
    Leader(LeaderRecord),
    /// Of [`Object::Member`].
    Member(MemberRecord),
    /// Of [`Object::Map`].
    Map(Arc<ShardMapSpec>),
    /// The object is there and can't be read as what it should be (edited by hand, from a foreign
    /// program): it can be replaced at its version, and means nothing.
    Malformed(Arc<str>),
}

/// An object as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it says.
    pub record: Record,
    /// At which version.
    pub resource_version: ResourceVersion,
    /// `metadata.uid`: an object made anew under the same name is another one.
    pub uid: Arc<str>,
}

/// What is asked of the API server. Every change names the version it is made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A quorum read.
    Read,
    /// Only where there is none.
    Create(Record),
    /// Only at this version.
    Replace {
        /// The new record.
        record: Record,
        /// The version that was read.
        resource_version: ResourceVersion,
    },
    /// Only this very object at this version.
    Delete {
        /// `metadata.uid`.
        uid: Arc<str>,
        /// The version that was read.
        resource_version: ResourceVersion,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Read, created or replaced: what is stored now.
    Done(Stored),
    /// Deleted, or not there.
    Absent,
    /// A create found one; nothing was changed.
    Exists,
    /// The version was not the one named; nothing was changed.
    Conflict,
    /// The API server will not have it (a CRD rule, a policy, RBAC); nothing was changed.
    Refused(Arc<str>),
    /// No answer, or one that says nothing (time-out, 5xx, 429): it may have been done, may still
    /// be done later, or never.
    Unknown,
}

/// What this pod's own connections to another holder say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// It answers.
    Reached,
    /// Its listeners refuse: the process is gone while its node lives.
    Refused,
    /// Probes, direct and indirect, time out.
    Silent,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The answer to a request of this core.
    Answer {
        /// Which.
        request: RequestId,
        /// What.
        answer: Answer,
    },
    /// A watch shows an object; `None`: it is gone. In the watch's own order.
    Seen {
        /// Which.
        object: Object,
        /// As it is stored.
        stored: Option<Stored>,
    },
    /// A watch of all three kinds is known to be current as of now (an event, a bookmark, a
    /// consistent list).
    Current,
    /// What a probe of another holder says: the first one, whenever it changes, and again at least
    /// every 500 ms while it is not [`Link::Reached`] (votes count for 1 s).
    Link {
        /// Whom.
        holder: Holder,
        /// What.
        link: Link,
    },
    /// A message of another replica. It may be late, doubled, reordered, or of a dead one.
    Message {
        /// Who says to have sent it; authenticated as its pod, not as its incarnation.
        from: Holder,
        /// What.
        message: super::message::Message,
    },
    /// The measured load of buckets that this pod owns: what the assignment weighs.
    Load(Vec<(Bucket, u32)>),
    /// This pod's workers have stopped work on the bucket: nothing is in flight, everything that
    /// was finished is committed to the journal.
    Released {
        /// Which.
        bucket: Bucket,
        /// Under which epoch it was worked on.
        epoch: Epoch,
    },
    /// A write of this pod was refused by what stores its effect, which names whom it has accepted.
    Fenced {
        /// Which.
        bucket: Bucket,
        /// The stored epoch.
        epoch: Epoch,
        /// The stored holder.
        holder: Holder,
    },
    /// An answer to [`Action::Survey`], of one journal or of the statuses: the highest epoch stored
    /// there. Any number of them.
    Surveyed(Epoch),
    /// Caches are filled; from now on this pod may get buckets and lead.
    Ready,
    /// SIGTERM: give everything away, then [`Action::Ended`].
    Drain,
    /// The operator asks: give everything away, and stay without any until [`Input::Undrain`].
    Vacate,
    /// The operator takes back a drain.
    Undrain,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the API server; exactly one [`Input::Answer`] comes back, [`Answer::Unknown`] after
    /// [`super::timing::Timing::request`] at the latest. About one object no second request is made
    /// before the answer to the first.
    Request {
        /// Its name.
        id: RequestId,
        /// On which object.
        object: Object,
        /// What.
        op: Op,
    },
    /// The map is lost: ask every journal and the statuses for the highest epoch that they hold.
    Survey,
    /// Tell another replica, best effort.
    Send {
        /// Whom.
        to: Holder,
        /// What.
        message: super::message::Message,
    },
    /// Work on the bucket under this epoch: subscribe, claim, write. Where it is worked on already,
    /// the epoch rises without a pause.
    Own {
        /// Which.
        bucket: Bucket,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// Start nothing new on the bucket, finish what is in flight, commit, then say
    /// [`Input::Released`].
    Release {
        /// Which.
        bucket: Bucket,
        /// The epoch under which it is worked on.
        epoch: Epoch,
    },
    /// Another has it: abandon the bucket now, without finishing anything.
    Drop {
        /// Which.
        bucket: Bucket,
    },
    /// Whether this pod may start effects at all.
    Gate {
        /// Open or shut.
        open: bool,
    },
    /// The buckets of which this pod is the second choice: caches are kept warm for them.
    Standby(Vec<Bucket>),
    /// This pod goes on as another holder: gossip leaves as the old and joins as the new one.
    Became(Holder),
    /// All is given away and the goodbye is written: the process may end.
    Ended,
    /// For logs, metrics and the operator; nothing depends on it.
    Tell(super::event::Event),
}
