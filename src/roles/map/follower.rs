//! Which of the maps that a watch shows is followed: pure.
//!
//! Of one object only what is newer: an API server that lags shows older versions. But another object
//! is another history, whose versions say nothing about those before. Where a map was created anew
//! while no core lived, nobody but this process remembers the old one, and it must not hold that
//! against the fleet: what fences is what is stored in the log.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    coordination::{
        port::{Record, Stored},
        records::ShardMapSpec,
    },
    journal::BUCKETS,
};

/// What is followed.
#[derive(Debug, Default)]
pub(super) struct Follower {
    newest: Option<(Arc<str>, Arc<ShardMapSpec>)>,
    /// UIDs of objects that were followed before: a server that lags may show them again.
    before: VecDeque<Arc<str>>,
    /// The last refusal that was told; a map that is followed ends it.
    told: Option<Refused>,
}

/// Former objects that are remembered: no server lags behind so many.
const FORMER: usize = 16;

/// Why a map isn't followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refused {
    /// Older than one that was seen, another at the same version, or of a former object.
    Older,
    /// It can't be read, or says what can't be.
    Unreadable,
}

/// What a map turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is followed from now on.
    Newer(Arc<ShardMapSpec>),
    /// The one that is followed.
    Same,
    /// The one that was followed stays.
    Refused {
        /// Why.
        why: Refused,
        /// In words.
        message: Arc<str>,
        /// Whether it is the first one for this reason.
        first: bool,
    },
}

// === impl Refused ===

impl Refused {
    pub(super) const ALL: [Self; 2] = [Self::Older, Self::Unreadable];

    /// As a metric's label says it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Older => "older",
            Self::Unreadable => "unreadable",
        }
    }
}

// === impl Follower ===

impl Follower {
    pub(super) fn hear(&mut self, stored: Stored) -> Heard {
        let map = match stored.record {
            Record::Map(map) => map,
            Record::Malformed(why) => return self.refuse(Refused::Unreadable, why),
            Record::Leader(_) | Record::Member(_) => {
                return self.refuse(Refused::Unreadable, "it is no map".into());
            }
        };
        if !map.is_sound(BUCKETS) {
            let why = "its version, its term or its buckets are out of bounds";
            return self.refuse(Refused::Unreadable, why.into());
        }
        if self.before.contains(&stored.uid) {
            let why = format!("version {} is of an object that was deleted", map.version);
            return self.refuse(Refused::Older, why.into());
        }
        match &self.newest {
            Some((uid, newest)) if *uid == stored.uid => {
                if *newest == map {
                    self.told = None;
                    return Heard::Same;
                }
                if map.version <= newest.version {
                    let (shown, newest) = (map.version, newest.version);
                    let why = format!("version {shown} is shown after version {newest}");
                    return self.refuse(Refused::Older, why.into());
                }
            }
            Some((uid, _)) => {
                self.before.push_back(Arc::clone(uid));
                if self.before.len() > FORMER {
                    self.before.pop_front();
                }
            }
            None => {}
        }
        self.told = None;
        self.newest = Some((stored.uid, Arc::clone(&map)));
        Heard::Newer(map)
    }

    fn refuse(&mut self, why: Refused, message: Arc<str>) -> Heard {
        let first = self.told.replace(why) != Some(why);
        Heard::Refused {
            why,
            message,
            first,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::coordination::{
        names::{Holder, PodName, REACHABLE},
        text::read,
    };

    fn map(version: u64) -> ShardMapSpec {
        read(&json!({
            "term": 1, "version": version, "leader": "core-0#1", "buckets": 1024,
            "members": [], "assignments": [{ "owner": "core-0#1", "epochs": { "1": "0-1023" } }],
        }))
        .unwrap()
    }

    fn refused(heard: Heard) -> Option<(Refused, bool)> {
        match heard {
            Heard::Refused { why, first, .. } => Some((why, first)),
            Heard::Newer(_) | Heard::Same => None,
        }
    }

    fn of(uid: &str, record: Record) -> Stored {
        Stored {
            record,
            resource_version: "1".into(),
            uid: uid.into(),
        }
    }

    #[test]
    fn of_one_object_only_what_is_newer_is_followed() {
        let mut follower = Follower::default();
        let mut hear = |map: ShardMapSpec| follower.hear(of("a", Record::Map(Arc::new(map))));
        assert_eq!(hear(map(5)), Heard::Newer(Arc::new(map(5))));
        assert_eq!(hear(map(5)), Heard::Same);
        let mut other = map(5);
        other.leader = Holder {
            pod: PodName("core-1".into()),
            incarnation: 1,
        };
        assert_eq!(refused(hear(other)), Some((Refused::Older, true)));
        assert_eq!(refused(hear(map(4))), Some((Refused::Older, false)));
        assert_eq!(hear(map(6)), Heard::Newer(Arc::new(map(6))));
        assert_eq!(refused(hear(map(5))), Some((Refused::Older, true)));
    }

    #[test]
    fn another_object_is_followed_whatever_its_version_and_a_former_one_no_more() {
        let mut follower = Follower::default();
        let mut hear =
            |uid: &str, version| follower.hear(of(uid, Record::Map(Arc::new(map(version)))));
        let newer = |version| Heard::Newer(Arc::new(map(version)));
        assert_eq!(hear("a", 900), newer(900));
        assert_eq!(hear("b", 1), newer(1));
        assert_eq!(refused(hear("a", 900)), Some((Refused::Older, true)));
        assert_eq!(refused(hear("a", 901)), Some((Refused::Older, false)));
        assert_eq!(hear("b", 2), newer(2));
        for n in 0..2 * u64::try_from(FORMER).unwrap() {
            assert_eq!(hear(&format!("c{n}"), 3), newer(3));
        }
        assert!(follower.before.len() <= FORMER);
    }

    #[test]
    fn what_cannot_be_read_or_followed_by_another_is_refused() {
        let mut follower = Follower::default();
        let mut hear = |record| follower.hear(of("a", record));
        let unreadable = || Record::Malformed("spec.buckets: is 7".into());
        let first = hear(unreadable());
        assert_eq!(refused(first), Some((Refused::Unreadable, true)));
        let again = hear(unreadable());
        assert_eq!(refused(again), Some((Refused::Unreadable, false)));
        // No leader could pass it, and nobody would follow what comes after it.
        let highest = hear(Record::Map(Arc::new(map(REACHABLE))));
        assert_eq!(refused(highest), Some((Refused::Unreadable, false)));
        let fine = hear(Record::Map(Arc::new(map(7))));
        assert_eq!(fine, Heard::Newer(Arc::new(map(7))));
        let anew = hear(unreadable());
        assert_eq!(refused(anew), Some((Refused::Unreadable, true)));
    }
}
