//! What a replica knows, for people, metrics and whoever connects to the others. Nothing here decides.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        event::Refused,
        names::Holder,
        port::{Link, Moment},
        records::{MemberRecord, ShardMapSpec},
    },
    Replica,
};
use crate::journal::{Bucket, Epoch};

/// How far a pod is with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its workers work on it.
    Working,
    /// They were told to stop.
    Stopping,
    /// They have.
    Stopped,
}

// === impl Replica ===

impl Replica {
    /// The readable member Leases, this replica's own too, and since when each is unchanged.
    pub fn members(&self) -> impl Iterator<Item = (&MemberRecord, Moment)> {
        let observed = self.view.roster.values();
        observed.filter_map(|observed| Some((observed.record.as_ref()?, observed.changed)))
    }

    /// The map that is followed.
    #[must_use]
    pub const fn map(&self) -> Option<&Arc<ShardMapSpec>> {
        self.view.map.as_ref()
    }

    /// Whom the leader Lease names.
    #[must_use]
    pub fn leader(&self) -> Option<&Holder> {
        self.view.leading()
    }

    /// The term of the leadership that the leader Lease names.
    #[must_use]
    pub fn leader_term(&self) -> Option<u64> {
        let lease = self.view.leader.as_ref()?;
        lease.record.as_ref().map(|record| record.term)
    }

    /// What the links to others say.
    #[must_use]
    pub const fn links(&self) -> &BTreeMap<Holder, Link> {
        &self.view.links
    }

    /// What this pod has not let go of.
    pub fn work(&self) -> impl Iterator<Item = (Bucket, Epoch, Progress)> {
        self.owner.all()
    }

    /// Whether this replica makes the map again.
    #[must_use]
    pub const fn is_healing(&self) -> bool {
        self.leader.is_healing()
    }

    /// How many messages changed nothing, by reason.
    #[must_use]
    pub const fn ignored(&self) -> &BTreeMap<Refused, u64> {
        &self.ignored
    }
}
