//! One bucket that is owned: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::journal::{Bucket, Epoch, Holder, LogId};

use super::Act;

/// Stored owners that are told of one bucket, at most: an editor may write any number into statuses.
pub(super) const MOST_TOLD: usize = 8;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) epoch: Epoch,
    pub(super) releasing: Option<Releasing>,
    pub(super) claims: BTreeMap<LogId, Claimed>,
    told: BTreeSet<(Epoch, Holder)>,
}

/// It is on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Releasing {
    /// As the release named it.
    pub(super) epoch: Epoch,
    pub(super) since: Instant,
}

/// How far a bucket is in one log; not named there: it is still to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// A claim is under way; `before` is the epoch under which it is worked on meanwhile.
    Asked {
        epoch: Epoch,
        before: Option<Epoch>,
    },
    At(Epoch),
    /// The log has accepted another.
    Refused,
}

impl Claimed {
    /// Whether queues may be running.
    pub(super) const fn is_worked_on(self) -> bool {
        match self {
            Self::At(_) => true,
            Self::Asked { before, .. } => before.is_some(),
            Self::Refused => false,
        }
    }
}

impl Work {
    pub(super) const fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            releasing: None,
            claims: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// Epochs only rise. Whom a log or a status has accepted is asked, and told, anew.
    pub(super) fn rise(&mut self, epoch: Epoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.told.clear();
            self.claims.retain(|_, it| *it != Claimed::Refused);
        }
    }

    /// Whether a stored owner is to be told; the next time it isn't.
    pub(super) fn is_news(&mut self, epoch: Epoch, holder: &Holder) -> bool {
        self.told.len() < MOST_TOLD && self.told.insert((epoch, holder.clone()))
    }

    /// The epoch under which effects may be started; none where it is being released, or a log has
    /// said that another is above us.
    pub(super) fn effective(&self) -> Option<Epoch> {
        let refused = self.claims.values().any(|it| *it == Claimed::Refused);
        (self.releasing.is_none() && !refused).then_some(self.epoch)
    }

    pub(super) fn stops(self, bucket: Bucket) -> impl Iterator<Item = Act> {
        self.claims
            .into_keys()
            .map(move |log| Act::Stop(log, bucket))
    }
}
