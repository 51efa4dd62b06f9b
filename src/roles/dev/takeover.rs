//! What became of a dead core's buckets, as its parent tells it: pure.
//!
//! A kill is noted with the moment at which the process was seen dead; each map that the watch shows
//! after it says what the dead one still has, until that is nothing.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use crate::{
    coordination::{
        names::{Holder, PodName},
        records::ShardMapSpec,
    },
    journal::Bucket,
};

/// Follows the map, and deaths.
#[derive(Debug, Default)]
pub(super) struct Takeovers {
    /// Who owns what, by the newest map.
    owners: BTreeMap<Bucket, Holder>,
    waiting: Vec<Death>,
}

#[derive(Debug)]
struct Death {
    pod: PodName,
    at: Instant,
    /// What it had, and under which name.
    had: Vec<(Bucket, Holder)>,
}

/// A dead core's buckets are all owned by others, or by its next life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Takeover {
    /// Whose buckets.
    pub(super) pod: PodName,
    /// How many they were.
    pub(super) buckets: usize,
    /// Who has how many of them now.
    pub(super) heirs: BTreeMap<Holder, usize>,
    /// From the moment at which the process was seen dead.
    pub(super) after: Duration,
}

impl Takeovers {
    /// A process died; what it owned is to be taken over.
    pub(super) fn died(&mut self, pod: &PodName, now: Instant) {
        let had: Vec<(Bucket, Holder)> = self
            .owners
            .iter()
            .filter(|(_, owner)| owner.pod == *pod)
            .map(|(bucket, owner)| (*bucket, owner.clone()))
            .collect();
        // Of one that died again before its buckets found an owner the first death counts.
        let waits = self.waiting.iter().any(|death| death.pod == *pod);
        if !had.is_empty() && !waits {
            self.waiting.push(Death {
                pod: pod.clone(),
                at: now,
                had,
            });
        }
    }

    /// The watch shows a map; gives the takeovers that it completes.
    pub(super) fn seen(&mut self, map: &ShardMapSpec, now: Instant) -> Vec<Takeover> {
        let owners = map.grants.iter();
        self.owners = owners
            .map(|(bucket, grant)| (*bucket, grant.owner.clone()))
            .collect();
        let owners = &self.owners;
        let mut done = Vec::new();
        self.waiting.retain(|death| {
            let mut heirs: BTreeMap<Holder, usize> = BTreeMap::new();
            for (bucket, before) in &death.had {
                match owners.get(bucket) {
                    Some(owner) if owner != before => *heirs.entry(owner.clone()).or_default() += 1,
                    Some(_) | None => return true,
                }
            }
            done.push(Takeover {
                pod: death.pod.clone(),
                buckets: death.had.len(),
                heirs,
                after: now.saturating_duration_since(death.at),
            });
            false
        });
        done
    }
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heirs: Vec<String> = self
            .heirs
            .iter()
            .map(|(heir, count)| format!("{heir} ({count})"))
            .collect();
        write!(
            f,
            "the {} buckets of {} are owned by {} after {} ms",
            self.buckets,
            self.pod,
            heirs.join(" and "),
            self.after.as_millis()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        coordination::records::Grant,
        journal::Epoch,
        ops::time::{Clock as _, SystemClock},
    };

    fn holder(text: &str) -> Holder {
        text.parse().unwrap()
    }

    fn map(version: u64, owners: &[&str]) -> ShardMapSpec {
        let grants = owners.iter().enumerate().map(|(bucket, owner)| {
            let bucket = Bucket(u16::try_from(bucket).unwrap());
            let grant = Grant {
                owner: holder(owner),
                epoch: Epoch(version),
            };
            (bucket, grant)
        });
        ShardMapSpec {
            term: 1,
            version,
            leader: holder("a#1"),
            buckets: 4,
            members: BTreeMap::new(),
            grants: grants.collect(),
            moves: BTreeMap::new(),
        }
    }

    #[test]
    fn a_takeover_is_complete_when_the_last_bucket_has_another_owner() {
        let start = SystemClock.instant();
        let at = |ms| start + Duration::from_millis(ms);
        let mut takeovers = Takeovers::default();
        assert_eq!(takeovers.seen(&map(1, &["a#1", "b#1", "b#1"]), at(0)), []);
        takeovers.died(&PodName(Arc::from("b")), at(10));
        // Half of it is no takeover.
        assert_eq!(takeovers.seen(&map(2, &["a#1", "a#1", "b#1"]), at(50)), []);
        let done = takeovers.seen(&map(3, &["a#1", "a#1", "c#1"]), at(210));
        assert_eq!(
            done.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["the 2 buckets of b are owned by a#1 (1) and c#1 (1) after 200 ms"]
        );
        assert_eq!(takeovers.seen(&map(4, &["a#1", "a#1", "c#1"]), at(300)), []);
    }

    #[test]
    fn its_own_next_life_is_an_heir_and_who_owned_nothing_has_none() {
        let start = SystemClock.instant();
        let mut takeovers = Takeovers::default();
        takeovers.seen(&map(1, &["b#1"]), start);
        takeovers.died(&PodName(Arc::from("c")), start);
        takeovers.died(&PodName(Arc::from("b")), start);
        let done = takeovers.seen(&map(2, &["b#2"]), start);
        assert_eq!(done.len(), 1);
        assert_eq!(done[0].heirs, BTreeMap::from([(holder("b#2"), 1)]));
    }
}
