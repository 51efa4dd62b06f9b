//! What the assignment is asked, and what it answers: the seam between the leader and the ring.

use std::{collections::BTreeMap, sync::Arc};

use super::names::Holder;
use crate::journal::Bucket;

/// A pod that may own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its zone: where it may fail together with others. Empty where nobody knows.
    pub zone: Arc<str>,
    /// Its region: room for fleets that span some. Buckets are dealt out within one region, so
    /// candidates of one [`Wanted`] have the same.
    pub region: Arc<str>,
    /// Its weight; 0 gets nothing.
    pub weight: u32,
    /// Its build: among equals the newest comes first ([`super::names::newer`]).
    pub build: Arc<str>,
}

/// Whether pods over their bounds give away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Balance {
    /// They do.
    #[default]
    Free,
    /// They wait: only what has to go goes. While an update is rolling
    /// ([`super::assign::rolling`]), a bucket that moves for balance from one old pod to another
    /// moves once too often. Not for ever: an update may get stuck half-way.
    Held,
}

/// Everything on which the assignment depends: equal inputs give byte-equal answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How many buckets there are.
    pub buckets: u16,
    /// Who may own: Active members that are Ready.
    pub candidates: BTreeMap<Holder, Candidate>,
    /// Who owns today: what stays, stays. May name holders that are no candidates. A bucket that is
    /// under way counts as where it goes.
    pub current: BTreeMap<Bucket, Holder>,
    /// Zones of those in `current` that are no candidates, as far as they are known: what they had
    /// goes to the very standbys that were kept warm for it.
    pub zones: BTreeMap<Holder, Arc<str>>,
    /// Loads: what was measured, at least the number of the bucket's Ingestors. Buckets that aren't
    /// there, or weigh 0, are dealt out by number, apart from the others.
    pub loads: BTreeMap<Bucket, u32>,
    /// Whether pods over their bounds give away.
    pub balance: Balance,
    /// A bucket moves for balance only if the two pods are then still apart by this many percent of
    /// the mean load, the one that gave being the heavier: a load that wavers by less moves nothing.
    pub gain_percent: u32,
}

/// A bucket's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who should own it.
    pub owner: Holder,
    /// Who takes it when the owner dies; `None` where there is no other candidate.
    pub standby: Option<Holder>,
}

/// Every bucket's place; empty where there is no candidate.
pub type Layout = BTreeMap<Bucket, Place>;

/// The assignment: a pure function.
pub type Assign = fn(&Wanted) -> Layout;
