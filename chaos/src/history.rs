//! What the API server told through its watches, in its own order: the fleet's side, as it was stored.
//!
//! Pure: `watch` fills it in, `check` reads it. The order is that of resource versions, which one etcd
//! hands out for all kinds; the moments are when the watch was read here, a few milliseconds after the
//! write.

pub mod read;
pub mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use zen_fabric::{
    coordination::{
        names::Holder,
        records::{Life, ShardMapSpec},
    },
    journal::{Bucket, Epoch},
};

use crate::clock::At;

/// One change of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it was read here.
    pub at: At,
    /// The object's resource version.
    pub version: u64,
    /// What it says now.
    pub what: What,
}

/// What an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An Ingestor's `status.owner`.
    Owner {
        /// The Ingestor's UID.
        uid: String,
        /// Who, if anybody, and since which epoch.
        owner: Option<(Holder, Epoch)>,
    },
    /// The map.
    Map(Arc<ShardMapSpec>),
    /// The map is there and can't be read.
    MapUnreadable(String),
    /// The map is gone.
    MapGone,
    /// The leader Lease.
    Leader {
        /// Who leads, if anybody.
        holder: Option<Holder>,
        /// The term.
        term: u64,
    },
    /// The leader Lease is gone.
    LeaderGone,
    /// A member Lease.
    Member {
        /// Whom it is about.
        holder: Holder,
        /// Whether it lives.
        life: Life,
        /// Whether its caches are filled.
        ready: bool,
    },
    /// A member Lease is gone.
    MemberGone {
        /// Its pod.
        pod: String,
    },
}

/// An Observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its UID: one that was made anew under the same name is another.
    pub uid: String,
    /// Which Ingestor made it: its `spec.source`.
    pub source: String,
    /// Which event, where it is of this run.
    pub number: Option<u64>,
    /// When it was first seen.
    pub first: At,
    /// How many events it stands for.
    pub count: u64,
}

/// Everything that was told.
#[derive(Clone, Debug, Default)]
pub struct History {
    told: Vec<Told>,
    observations: BTreeMap<String, Vec<Made>>,
    by_number: BTreeMap<u64, At>,
    /// When the newest Observation of each Ingestor was made.
    newest: BTreeMap<String, At>,
    /// Versions of maps that an operator wrote: no leader's.
    foreign: BTreeSet<u64>,
    /// Watches that had to begin anew: what happened between is not known. By kind, and when.
    pub gaps: Vec<(String, At)>,
}

/// Who owns a bucket, from when to when, as the maps say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// From.
    pub from: At,
    /// To; `None`: still.
    pub to: Option<At>,
    /// Who.
    pub owner: Holder,
    /// Under which epoch.
    pub epoch: Epoch,
}

// === impl History ===

impl History {
    /// One change of anything but an Observation.
    pub fn tell(&mut self, told: Told) {
        self.told.push(told);
    }

    /// An Observation was made or changed.
    pub fn observe(&mut self, name: &str, made: Made) {
        if let Some(number) = made.number {
            self.by_number.entry(number).or_insert(made.first);
        }
        let of_name = self.observations.entry(name.to_owned()).or_default();
        if let Some(known) = of_name.iter_mut().find(|known| known.uid == made.uid) {
            known.count = known.count.max(made.count);
        } else {
            self.newest.insert(made.source.clone(), made.first);
            of_name.push(made);
        }
    }

    /// Sorts what was told by the API server's own order. Watches of two kinds are read by two tasks.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Told> {
        let mut sorted: Vec<&Told> = self.told.iter().collect();
        sorted.sort_by_key(|told| told.version);
        sorted
    }

    /// What was told from a moment on.
    pub fn since(&self, moment: At) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(move |told| told.at >= moment)
    }

    /// How many changes were told.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether nothing was told.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// When the Observation of an event was first seen.
    #[must_use]
    pub fn seen(&self, number: u64) -> Option<At> {
        self.by_number.get(&number).copied()
    }

    /// When the newest Observation of an Ingestor was first seen.
    #[must_use]
    pub fn newest(&self, ingestor: &str) -> Option<At> {
        self.newest.get(ingestor).copied()
    }

    /// Every Observation, by name; more than one where it was made again.
    #[must_use]
    pub const fn observations(&self) -> &BTreeMap<String, Vec<Made>> {
        &self.observations
    }

    /// A map that is stored at this version is an operator's work.
    pub fn disown(&mut self, version: u64) {
        self.foreign.insert(version);
    }

    /// The fleet's own maps in order, with when each was seen.
    pub fn maps(&self) -> impl Iterator<Item = (At, Arc<ShardMapSpec>)> + '_ {
        self.all_maps()
            .filter(|(version, _, _)| !self.foreign.contains(version))
            .map(|(_, at, map)| (at, map))
    }

    /// All maps in order, also those that an operator wrote, with the version and when each was seen.
    pub fn all_maps(&self) -> impl Iterator<Item = (u64, At, Arc<ShardMapSpec>)> + '_ {
        let in_order = self.in_order().into_iter();
        in_order.filter_map(|told| match &told.what {
            What::Map(map) => Some((told.version, told.at, Arc::clone(map))),
            What::Owner { .. }
            | What::MapUnreadable(_)
            | What::MapGone
            | What::Leader { .. }
            | What::LeaderGone
            | What::Member { .. }
            | What::MemberGone { .. } => None,
        })
    }

    /// The newest map.
    #[must_use]
    pub fn map(&self) -> Option<Arc<ShardMapSpec>> {
        self.told.iter().rev().find_map(|told| match &told.what {
            What::Map(map) => Some(Some(Arc::clone(map))),
            What::MapGone => Some(None),
            What::Owner { .. }
            | What::MapUnreadable(_)
            | What::Leader { .. }
            | What::LeaderGone
            | What::Member { .. }
            | What::MemberGone { .. } => None,
        })?
    }

    /// Who leads by the Lease, as last told.
    #[must_use]
    pub fn leader(&self) -> Option<Holder> {
        self.told.iter().rev().find_map(|told| match &told.what {
            What::Leader { holder, .. } => Some(holder.clone()),
            What::LeaderGone => Some(None),
            What::Owner { .. }
            | What::Map(_)
            | What::MapUnreadable(_)
            | What::MapGone
            | What::Member { .. }
            | What::MemberGone { .. } => None,
        })?
    }

    /// Who owned a bucket when, by the maps.
    #[must_use]
    pub fn spans(&self, bucket: Bucket) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (at, map) in self.maps() {
            let grant = map.grants.get(&bucket);
            let same = spans.last().is_some_and(|last| {
                last.to.is_none() && grant.is_some_and(|grant| grant.owner == last.owner)
            });
            if same {
                continue;
            }
            if let Some(last) = spans.last_mut().filter(|last| last.to.is_none()) {
                last.to = Some(at);
            }
            if let Some(grant) = grant {
                spans.push(Span {
                    from: at,
                    to: None,
                    owner: grant.owner.clone(),
                    epoch: grant.epoch,
                });
            }
        }
        spans
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use zen_fabric::coordination::{
        names::PodName,
        records::{Grant, Member, MemberState},
    };

    use super::*;

    pub(crate) fn holder(text: &str) -> Holder {
        text.parse().unwrap()
    }

    /// A map in which each of the named owners has the buckets that are listed, at these epochs.
    pub(crate) fn map(term: u64, version: u64, leader: &str, grants: &[(u16, &str, u64)]) -> What {
        let members: BTreeMap<PodName, Member> = grants
            .iter()
            .map(|(_, owner, _)| {
                let owner = holder(owner);
                let member = Member {
                    incarnation: owner.incarnation,
                    zone: "z".into(),
                    weight: 100,
                    state: MemberState::Active,
                };
                (owner.pod, member)
            })
            .collect();
        let grants = grants
            .iter()
            .map(|(bucket, owner, epoch)| {
                let grant = Grant {
                    owner: holder(owner),
                    epoch: Epoch(*epoch),
                };
                (Bucket(*bucket), grant)
            })
            .collect();
        What::Map(Arc::new(ShardMapSpec {
            term,
            version,
            leader: holder(leader),
            buckets: 1024,
            members,
            grants,
            moves: BTreeMap::new(),
        }))
    }

    pub(crate) fn told(at: u64, version: u64, what: What) -> Told {
        Told {
            at: At(at),
            version,
            what,
        }
    }

    #[test]
    fn spans_follow_the_maps_in_the_servers_order() {
        let mut history = History::default();
        // Told out of order: by two tasks.
        history.tell(told(30, 12, map(1, 3, "a#1", &[(7, "b#1", 3)])));
        history.tell(told(10, 10, map(1, 1, "a#1", &[(7, "a#1", 1)])));
        history.tell(told(20, 11, map(1, 2, "a#1", &[(7, "a#1", 2)])));
        history.tell(told(40, 13, map(1, 4, "a#1", &[])));
        let spans = history.spans(Bucket(7));
        assert_eq!(
            spans,
            [
                Span {
                    from: At(10),
                    to: Some(At(30)),
                    owner: holder("a#1"),
                    epoch: Epoch(1),
                },
                Span {
                    from: At(30),
                    to: Some(At(40)),
                    owner: holder("b#1"),
                    epoch: Epoch(3),
                },
            ],
            "a bucket that is issued anew to its owner stays one span"
        );
        assert!(history.spans(Bucket(8)).is_empty());
    }

    #[test]
    fn an_operators_map_is_not_the_fleets() {
        let mut history = History::default();
        history.tell(told(10, 10, map(1, 1, "a#1", &[(7, "a#1", 1)])));
        history.tell(told(20, 11, map(1, 2, "a#1", &[(7, "x#1", 2)])));
        history.disown(11);
        assert_eq!(history.maps().count(), 1);
        assert_eq!(history.all_maps().count(), 2);
        assert_eq!(
            history.map().unwrap().version,
            2,
            "what is stored is stored"
        );
    }

    #[test]
    fn an_observation_that_is_made_again_is_another() {
        let mut history = History::default();
        let made = |uid: &str, count| Made {
            uid: uid.to_owned(),
            source: "a".to_owned(),
            number: Some(4),
            first: At(count),
            count,
        };
        history.observe("x", made("1", 1));
        history.observe("x", made("1", 5));
        history.observe("x", made("2", 2));
        let of_x = &history.observations()["x"];
        assert_eq!(of_x.len(), 2);
        assert_eq!(of_x[0].count, 5);
        assert_eq!(history.seen(4), Some(At(1)));
        assert_eq!(history.newest("a"), Some(At(2)), "a changed one is not new");
    }
}
