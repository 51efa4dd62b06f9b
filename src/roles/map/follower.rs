//! Which of the maps that a watch shows is followed: pure.
//!
//! The rule is the cores' own: only what is newer than all that was seen. A map that is restored from
//! a backup is made again by the leader, above every version that anybody knows.

use std::sync::Arc;

use crate::{
    coordination::{port::Record, records::ShardMapSpec},
    journal::BUCKETS,
};

/// What is followed.
#[derive(Debug, Default)]
pub(super) struct Follower {
    newest: Option<Arc<ShardMapSpec>>,
    /// The last refusal that was told; a map that is followed ends it.
    told: Option<Refused>,
}

/// Why a map isn't followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refused {
    /// Older than one that was seen, or another at the same version.
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
    pub(super) fn hear(&mut self, record: Record) -> Heard {
        let map = match record {
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
        match &self.newest {
            Some(newest) if *newest == map => {
                self.told = None;
                Heard::Same
            }
            Some(newest) if map.version <= newest.version => {
                let (shown, newest) = (map.version, newest.version);
                let why = format!("version {shown} is shown after version {newest}");
                self.refuse(Refused::Older, why.into())
            }
            Some(_) | None => {
                self.told = None;
                self.newest = Some(Arc::clone(&map));
                Heard::Newer(map)
            }
        }
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

    #[test]
    fn only_what_is_newer_than_all_that_was_seen_is_followed() {
        let mut follower = Follower::default();
        let mut hear = |map: ShardMapSpec| follower.hear(Record::Map(Arc::new(map)));
        assert_eq!(hear(map(5)), Heard::Newer(Arc::new(map(5))));
        assert_eq!(hear(map(5)), Heard::Same);
        let mut other = map(5);
        other.leader = Holder {
            pod: PodName("core-1".into()),
            incarnation: 1,
        };
        assert_eq!(refused(hear(other)), Some((Refused::Older, true)));
        assert_eq!(refused(hear(map(4))), Some((Refused::Older, false)));
        // Restored from a backup, and made again.
        assert_eq!(hear(map(1_029)), Heard::Newer(Arc::new(map(1_029))));
        assert_eq!(refused(hear(map(1_028))), Some((Refused::Older, true)));
    }

    #[test]
    fn what_cannot_be_read_or_followed_by_another_is_refused() {
        let mut follower = Follower::default();
        let unreadable = || Record::Malformed("spec.buckets: is 7".into());
        let first = follower.hear(unreadable());
        assert_eq!(refused(first), Some((Refused::Unreadable, true)));
        let again = follower.hear(unreadable());
        assert_eq!(refused(again), Some((Refused::Unreadable, false)));
        // No leader could pass it, and nobody would follow what comes after it.
        let highest = follower.hear(Record::Map(Arc::new(map(REACHABLE))));
        assert_eq!(refused(highest), Some((Refused::Unreadable, false)));
        let fine = follower.hear(Record::Map(Arc::new(map(7))));
        assert_eq!(fine, Heard::Newer(Arc::new(map(7))));
        let anew = follower.hear(unreadable());
        assert_eq!(refused(anew), Some((Refused::Unreadable, true)));
    }
}
