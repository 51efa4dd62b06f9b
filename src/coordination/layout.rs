//! What the assignment is asked, and what it answers: the seam between the leader and the ring.

use std::{collections::BTreeMap, sync::Arc};

use super::names::Holder;
use crate::journal::Bucket;

/// A pod that may own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its zone.
    pub zone: Arc<str>,
    /// Its region: room for fleets that span some.
    pub region: Arc<str>,
    /// Its weight; 0 gets nothing.
    pub weight: u32,
    /// Its build: among equals the newest comes first.
    pub build: Arc<str>,
}

/// Everything on which the assignment depends: equal inputs give byte-equal answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How many buckets there are.
    pub buckets: u16,
    /// Who may own: Active members that are Ready.
    pub candidates: BTreeMap<Holder, Candidate>,
    /// Who owns today: what stays, stays. May name holders that are no candidates.
    pub current: BTreeMap<Bucket, Holder>,
    /// Measured loads; a bucket that isn't there weighs 1.
    pub loads: BTreeMap<Bucket, u32>,
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
