//! What the three kinds of object say, as the cores read and write it.
//!
//! The edge translates: a Lease is `spec` and annotations, the ShardMap its textual form. What
//! can't be translated is [`super::port::Record::Malformed`].

use std::{collections::BTreeMap, sync::Arc};

use super::{
    names::{Holder, PodName, REACHABLE},
    port::Moment,
};
use crate::{
    api::limits::WEIGHT,
    journal::{Bucket, Epoch},
};

/// The leader Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderRecord {
    /// Who leads; `None`: released.
    pub holder: Option<Holder>,
    /// UID of the Pod that wrote this.
    pub pod_uid: Arc<str>,
    /// Number of this leadership (`leaseTransitions`; the edge keeps what exceeds 32 bits in an
    /// annotation). Below 2^52.
    pub term: u64,
    /// Rises with each renewal, so that each changes the record whatever clocks say.
    pub renewals: u64,
    /// When it was written, by the writer's clock: for people (`renewTime`). Never compared.
    pub renewed: Moment,
    /// Of a released one: who should take it.
    pub heir: Option<Holder>,
}

/// What a member Lease says about its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// It lives.
    Live,
    /// Another has declared it dead: it never acts as this holder again.
    Marked,
    /// It said goodbye.
    Gone,
}

/// A question to a holder whether it lives; a renewal answers it by taking it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Who asks.
    pub by: Holder,
}

/// A member Lease: the register of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Whom it is about.
    pub holder: Holder,
    /// Made at random by the process that claimed this incarnation: two processes can't take each
    /// other for themselves, even where a deleted Lease made an incarnation begin anew.
    pub claim: u64,
    /// UID of its Pod.
    pub pod_uid: Arc<str>,
    /// Where peers reach it.
    pub address: Arc<str>,
    /// Its region.
    pub region: Arc<str>,
    /// Its zone.
    pub zone: Arc<str>,
    /// Its share of the work relative to others; 100 is usual.
    pub weight: u32,
    /// Its build; greater is newer.
    pub build: Arc<str>,
    /// The protocol that it speaks.
    pub protocol: u32,
    /// Caches are filled: it may get buckets and lead.
    pub ready: bool,
    /// It wants to give everything away.
    pub draining: bool,
    /// The highest version of the ShardMap that it has seen.
    pub seen: u64,
    /// Rises with each renewal, so that each changes the record whatever clocks say.
    pub renewals: u64,
    /// When it was written, by the writer's clock: for people (`renewTime`). Never compared.
    pub renewed: Moment,
    /// Whether its holder lives.
    pub life: Life,
    /// Somebody asks.
    pub challenge: Option<Challenge>,
}

/// What the leader thinks of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It gets buckets.
    Active,
    /// It keeps what it has until others take it; it gets none.
    Draining,
    /// It lives, and most others can't reach it: its buckets leave in planned moves, it gets none.
    Unreachable,
    /// Dead: it owns nothing, never again as this holder.
    Down,
}

/// A member of the fleet in the ShardMap; its pod is the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// With the pod, the holder.
    pub incarnation: u64,
    /// Its zone.
    pub zone: Arc<str>,
    /// Its weight.
    pub weight: u32,
    /// Its state.
    pub state: MemberState,
}

impl Member {
    /// As a member Lease tells of it when it joins. A weight that the map has no place for, which
    /// only an editor can have written, becomes the nearest that it has: the whole map would else be
    /// refused.
    #[must_use]
    pub fn joined(lease: &MemberRecord) -> Self {
        Self {
            incarnation: lease.holder.incarnation,
            zone: Arc::clone(&lease.zone),
            weight: lease.weight.clamp(*WEIGHT.start(), *WEIGHT.end()),
            state: MemberState::Active,
        }
    }
}

/// A bucket as it is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub owner: Holder,
    /// The version of the map at which it was last issued.
    pub epoch: Epoch,
}

/// How urgently the owner of a moving bucket is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// It has until the first deadline.
    Ask,
    /// It has until the last deadline.
    Warn,
    /// It is taken without its acknowledgement; what still comes is refused.
    Fence,
}

/// A bucket that is to change its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its owner.
    pub from: Holder,
    /// Its next owner.
    pub to: Holder,
    /// The version of the map that first listed this move.
    pub since: u64,
    /// How far it has come.
    pub stage: Stage,
}

/// The ShardMap, decoded: the text has one entry per owner, its buckets grouped by epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMapSpec {
    /// The leadership that wrote it.
    pub term: u64,
    /// Orders maps: rises with every write, across terms.
    pub version: u64,
    /// Who wrote it.
    pub leader: Holder,
    /// How many buckets there are.
    pub buckets: u16,
    /// The fleet, one incarnation of each pod.
    pub members: BTreeMap<PodName, Member>,
    /// Who owns what. A bucket without a live owner waits for the next version.
    pub grants: BTreeMap<Bucket, Grant>,
    /// What moves.
    pub moves: BTreeMap<Bucket, Move>,
}

// === impl MemberState ===

impl MemberState {
    /// Counts in majorities: a member that is Down or Unreachable doesn't.
    #[must_use]
    pub const fn votes(self) -> bool {
        matches!(self, Self::Active | Self::Draining)
    }

    /// May own, for now: all but the dead.
    #[must_use]
    pub const fn lives(self) -> bool {
        !matches!(self, Self::Down)
    }
}

// === impl ShardMapSpec ===

impl ShardMapSpec {
    /// The state of this very holder; `None` where the map doesn't have it, or has another
    /// incarnation of its pod.
    #[must_use]
    pub fn state(&self, holder: &Holder) -> Option<MemberState> {
        self.members
            .get(&holder.pod)
            .filter(|member| member.incarnation == holder.incarnation)
            .map(|member| member.state)
    }

    /// Whether it says only what can be, of so many buckets.
    #[must_use]
    pub fn is_sound(&self, buckets: u16) -> bool {
        let known = |bucket: &Bucket| bucket.0 < self.buckets;
        // Above that there is no room to heal: the next leader could not pass it.
        self.version < REACHABLE
            && self.term < REACHABLE
            && self.buckets == buckets
            && self.grants.keys().all(known)
            && self.moves.keys().all(known)
            && self
                .grants
                .values()
                .all(|grant| grant.epoch.0 <= self.version)
    }

    /// Every member as a holder, in order of pods.
    pub fn holders(&self) -> impl Iterator<Item = (Holder, &Member)> {
        self.members.iter().map(|(pod, member)| {
            let holder = Holder {
                pod: pod.clone(),
                incarnation: member.incarnation,
            };
            (holder, member)
        })
    }

    /// Those who count in a majority.
    pub fn voters(&self) -> impl Iterator<Item = Holder> {
        self.holders()
            .filter(|(_, member)| member.state.votes())
            .map(|(holder, _)| holder)
    }

    /// The highest incarnation of a pod that the map names anywhere.
    #[must_use]
    pub fn incarnation(&self, pod: &PodName) -> u64 {
        let member = self.members.get(pod).map_or(0, |member| member.incarnation);
        let named = self.grants.values().map(|grant| &grant.owner);
        let moving = self.moves.values().flat_map(|of| [&of.from, &of.to]);
        named
            .chain(moving)
            .chain([&self.leader])
            .filter(|holder| holder.pod == *pod)
            .map(|holder| holder.incarnation)
            .fold(member, u64::max)
    }
}
