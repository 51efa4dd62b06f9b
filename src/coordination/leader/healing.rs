//! A map that is lost is made again, above everything that anybody remembers.
//!
//! *Guarantee:* the new version, and every epoch in it, is above the highest that any journal,
//! status, member Lease or peer that answered in time has seen, by more than a fleet writes while it
//! is being lost.
//!
//! *Still possible:* what answers too late remembers more. Then it refuses the new owner, says what
//! it holds, and the bucket is issued again above that. Two leaders that both make the map again
//! (one's create arriving when the other's map was deleted in turn) choose the same version with a
//! probability of 1 in 1,024; what stores effects then takes the first holder and refuses the other,
//! whose bucket is issued again.

use std::{collections::BTreeMap, sync::Arc};

use super::super::{
    chance::Chance,
    event::Event,
    message::Body,
    names::REACHABLE,
    out::Out,
    port::{Action, Moment},
    protocol::planted,
    records::{Grant, ShardMapSpec},
    view::View,
};
use crate::journal::Epoch;

/// Versions between what is remembered and what is made. A fleet writes a few a second at the very
/// most; what nobody who answered remembers is younger than some seconds.
const LEAP: u64 = 1024;

/// A map that is being made again.
#[derive(Clone, Debug)]
pub(super) struct Healing {
    number: u64,
    until: Moment,
    highest: u64,
    /// The highest term under which a map was written that anybody remembers.
    term: u64,
    newest: Option<Arc<ShardMapSpec>>,
}

// === impl Healing ===

impl Healing {
    /// Asks everybody.
    pub(super) fn begin(now: Moment, view: &View, chance: &mut Chance, out: &mut Out) -> Self {
        let number = chance.next();
        for (peer, _) in view.peers() {
            out.send(peer, Body::Recall { number });
        }
        out.push(Action::Survey);
        let highest = view.highest_anywhere();
        out.tell(Event::Healing { highest });
        Self {
            number,
            until: now.after(view.timing.recall),
            highest,
            term: 0,
            newest: view.map.clone(),
        }
    }

    /// Until when answers are awaited.
    pub(super) fn waits(&self, now: Moment) -> Option<Moment> {
        (now < self.until).then_some(self.until)
    }

    /// Somebody remembers; `None`: a journal or the statuses, whose answers bear no number.
    pub(super) fn remembered(
        &mut self,
        number: Option<u64>,
        highest: u64,
        map: Option<&Arc<ShardMapSpec>>,
    ) {
        if number.is_some_and(|number| number != self.number) || highest >= REACHABLE {
            return;
        }
        self.highest = self.highest.max(highest);
        let term = map.map_or(0, |map| map.term);
        if term < REACHABLE {
            self.term = self.term.max(term);
        }
        let newer = map.filter(|map| {
            map.version <= highest
                && self
                    .newest
                    .as_ref()
                    .is_none_or(|newest| newest.version < map.version)
        });
        if let Some(map) = newer {
            self.newest = Some(Arc::clone(map));
        }
    }

    /// The highest term of a map that anybody who answered remembers.
    pub(super) const fn term(&self) -> u64 {
        self.term
    }

    /// The map from which the first version is planned: everything in it is issued anew.
    pub(super) fn map(&self, view: &View, chance: &mut Chance) -> Option<ShardMapSpec> {
        let leader = view.holder.clone()?;
        // A map of its own may have been seen since it asked.
        let highest = self.highest.max(view.highest_anywhere());
        let version = if highest == 0 || planted!(view.protocol, VersionRestarts) {
            0
        } else {
            highest + LEAP + chance.next() % LEAP
        };
        let newest = self.newest.as_ref();
        let grants = newest.map_or_else(BTreeMap::new, |map| {
            let issued = map.grants.iter().map(|(bucket, grant)| {
                let grant = Grant {
                    owner: grant.owner.clone(),
                    epoch: Epoch(version + 1),
                };
                (*bucket, grant)
            });
            issued.collect()
        });
        Some(ShardMapSpec {
            // Below every term: so that the plan differs and is written.
            term: 0,
            version,
            leader,
            buckets: view.me.buckets,
            members: newest.map_or_else(BTreeMap::new, |map| map.members.clone()),
            grants,
            moves: BTreeMap::new(),
        })
    }
}
