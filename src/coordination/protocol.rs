//! Mutants: planted at the very line where a rule is kept, so that the simulator proves that it
//! would notice.
//!
//! Outside tests there are none, and `planted!` is `false` at compile time.

/// One rule, broken.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// The leader Lease is renewed without a version: whoever holds it now is overwritten.
    RenewWithoutCas,
    /// The leader Lease is taken without a version, as `kube-leader-election` patches it.
    TakeByPatch,
    /// Leases expire by comparing the writer's clock with one's own.
    WallClocks,
    /// The leader commits a planned move without waiting for the owner.
    SkipAcknowledgement,
    /// The next owner starts when the owner says that it has stopped.
    StartOnAcknowledgement,
    /// A mark is written at whatever version the Lease has.
    MarkWithoutVersion,
    /// A marked holder goes on.
    MarkedGoesOn,
    /// Terms look at nothing but the Lease: not at the map, nor at what this process had before.
    TermFromLeaseAlone,
    /// A map that is made again begins at 1.
    VersionRestarts,
    /// A new process goes on under the incarnation that it finds.
    IncarnationReused,
    /// One vote is enough to mark.
    MinorityMarks,
    /// Clocks on Leases run also while nothing is confirmed.
    ClocksRunThroughOutage,
    /// Messages of a former incarnation count.
    OldMessageAccepted,
    /// The gate never shuts.
    GateStaysOpen,
    /// An owner that has stopped starts again although the move is still listed.
    ResumesWhileMoving,
    /// A map older than one seen before is followed.
    OlderMapFollowed,
    /// A lost answer counts as success.
    UnknownIsDone,
    /// An answered challenge is marked all the same.
    AnswerIgnored,
    /// A drained pod says goodbye before its buckets are taken.
    EarlyGoodbye,
    /// A leader that was deposed takes over early again at once.
    NoDamping,
    /// What a store refused is not told to the leader.
    FencedUntold,
    /// A bucket changes its owner under the epoch that it had.
    EpochKept,
}

#[cfg(any(test, feature = "testing"))]
impl Mutation {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::RenewWithoutCas,
        Self::TakeByPatch,
        Self::WallClocks,
        Self::SkipAcknowledgement,
        Self::StartOnAcknowledgement,
        Self::MarkWithoutVersion,
        Self::MarkedGoesOn,
        Self::TermFromLeaseAlone,
        Self::VersionRestarts,
        Self::IncarnationReused,
        Self::MinorityMarks,
        Self::ClocksRunThroughOutage,
        Self::OldMessageAccepted,
        Self::GateStaysOpen,
        Self::ResumesWhileMoving,
        Self::OlderMapFollowed,
        Self::UnknownIsDone,
        Self::AnswerIgnored,
        Self::EarlyGoodbye,
        Self::NoDamping,
        Self::FencedUntold,
        Self::EpochKept,
    ];
}

/// The protocol as it is, or with one rule broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    #[cfg(any(test, feature = "testing"))]
    broken: Option<Mutation>,
}

#[cfg(any(test, feature = "testing"))]
impl Protocol {
    /// With this rule broken.
    #[must_use]
    pub const fn with(broken: Mutation) -> Self {
        Self {
            broken: Some(broken),
        }
    }

    pub(super) fn has(self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }
}

/// Whether this rule is broken: `planted!(protocol, Name)`.
macro_rules! planted {
    ($protocol:expr, $name:ident) => {{
        #[cfg(any(test, feature = "testing"))]
        let planted = $protocol.has($crate::coordination::protocol::Mutation::$name);
        #[cfg(not(any(test, feature = "testing")))]
        let planted = {
            let _: $crate::coordination::protocol::Protocol = $protocol;
            false
        };
        planted
    }};
}
pub(super) use planted;
