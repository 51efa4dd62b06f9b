//! What the maps say: their rules, who was declared dead, how much moved, how evenly work lies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use zen_fabric::{
    coordination::{
        names::Holder,
        records::{Life, MemberState, ShardMapSpec},
    },
    journal::{Bucket, Epoch},
};

use super::Checked;
use crate::{
    clock::At,
    history::{History, What},
};

/// The map's own rules, over all that were stored.
#[must_use]
pub fn maps(history: &History) -> Vec<Checked> {
    let mut order =
        Checked::new("maps: the version rises, the term never falls, a term has one leader");
    let mut epochs =
        Checked::new("maps: the epoch of a bucket never falls, and a new owner has a higher one");
    let mut last: Option<Arc<ShardMapSpec>> = None;
    let mut issued: BTreeMap<Bucket, (Epoch, Holder)> = BTreeMap::new();
    for (_, map) in history.maps() {
        order.look(last.as_ref().and_then(|last| disorder(last, &map)));
        for (bucket, grant) in &map.grants {
            let before = issued.insert(*bucket, (grant.epoch, grant.owner.clone()));
            let wrong = before.and_then(|(epoch, owner)| {
                let moved = owner != grant.owner;
                (grant.epoch < epoch || (moved && grant.epoch == epoch)).then(|| {
                    format!(
                        "version {}: bucket {} goes from {owner} at epoch {} to {} at epoch {}",
                        map.version, bucket.0, epoch.0, grant.owner, grant.epoch.0
                    )
                })
            });
            epochs.look(wrong);
        }
        last = Some(map);
    }
    let mut readable = Checked::new("maps: every one that was stored can be read");
    for told in history.in_order() {
        match &told.what {
            What::Map(_) => readable.look(None),
            What::MapUnreadable(why) => readable.look(Some(why.clone())),
            What::Owner { .. }
            | What::MapGone
            | What::Leader { .. }
            | What::LeaderGone
            | What::Member { .. }
            | What::MemberGone { .. } => {}
        }
    }
    vec![order, epochs, readable]
}

fn disorder(last: &ShardMapSpec, map: &ShardMapSpec) -> Option<String> {
    let by = format!(
        "version {} of term {} by {}",
        map.version, map.term, map.leader
    );
    let after = format!(
        "version {} of term {} by {}",
        last.version, last.term, last.leader
    );
    let fine = map.version > last.version
        && (map.term > last.term || (map.term == last.term && map.leader == last.leader));
    (!fine).then(|| format!("{by} after {after}"))
}

/// Who was declared dead, by a member Lease or by the map, after `since`.
#[must_use]
pub fn deaths(history: &History, since: At) -> BTreeSet<Holder> {
    let mut dead = BTreeSet::new();
    for told in history.in_order() {
        if told.at < since {
            continue;
        }
        match &told.what {
            What::Member {
                holder,
                life: Life::Marked,
                ..
            } => {
                dead.insert(holder.clone());
            }
            What::Map(map) => {
                let down = map
                    .holders()
                    .filter(|(_, member)| member.state == MemberState::Down);
                dead.extend(down.map(|(holder, _)| holder));
            }
            What::Owner { .. }
            | What::MapUnreadable(_)
            | What::MapGone
            | What::Leader { .. }
            | What::LeaderGone
            | What::Member { .. }
            | What::MemberGone { .. } => {}
        }
    }
    dead
}

/// How many buckets changed their owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Changes of owner, each counted.
    pub moves: usize,
    /// Buckets whose owner at the end is another than at the beginning: what had to move, at least.
    pub least: usize,
}

/// Ownership changes between two moments.
#[must_use]
pub fn moved(history: &History, from: At, to: At) -> Moved {
    let mut begin: Option<Arc<ShardMapSpec>> = None;
    let mut last: Option<Arc<ShardMapSpec>> = None;
    let mut moves = 0;
    for (at, map) in history.maps() {
        if at > to {
            break;
        }
        if at >= from
            && let Some(last) = &last
        {
            moves += changed(last, &map);
        } else {
            begin = Some(Arc::clone(&map));
        }
        last = Some(map);
    }
    let least = match (&begin, &last) {
        (Some(begin), Some(last)) => changed(begin, last),
        _ => 0,
    };
    Moved { moves, least }
}

/// Buckets with another owner. One that nobody has for a moment has not moved yet.
fn changed(one: &ShardMapSpec, other: &ShardMapSpec) -> usize {
    let differs = |(bucket, grant): (&Bucket, &zen_fabric::coordination::records::Grant)| {
        one.grants
            .get(bucket)
            .is_some_and(|before| before.owner != grant.owner)
    };
    other.grants.iter().filter(|entry| differs(*entry)).count()
}

/// How many of `keys` each owner has by a map: the most, over the mean. 1.0 is even.
#[must_use]
pub fn spread(map: &ShardMapSpec, keys: &[Bucket]) -> Option<f64> {
    let mut of: BTreeMap<&Holder, u32> =
        map.grants.values().map(|grant| (&grant.owner, 0)).collect();
    for bucket in keys {
        *of.entry(&map.grants.get(bucket)?.owner).or_default() += 1;
    }
    let most = f64::from(*of.values().max()?);
    let keys = f64::from(u32::try_from(keys.len()).ok()?);
    let owners = f64::from(u32::try_from(of.len()).ok()?);
    (keys > 0.0).then(|| most * owners / keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{holder, map, told};

    fn history(maps: &[What]) -> History {
        let mut history = History::default();
        for (version, what) in (1..).zip(maps) {
            history.tell(told(version * 10, version, what.clone()));
        }
        history
    }

    fn violations(maps: &[What]) -> Vec<usize> {
        let checks = super::maps(&history(maps));
        checks.iter().map(|checked| checked.violations).collect()
    }

    #[test]
    fn a_map_follows_another_by_the_rules() {
        let fine = [
            map(1, 1, "a#1", &[(1, "a#1", 1)]),
            map(1, 2, "a#1", &[(1, "b#1", 2)]),
            map(2, 3, "b#1", &[(1, "b#1", 3)]),
        ];
        assert_eq!(violations(&fine), [0, 0, 0]);
        let falls = [map(1, 2, "a#1", &[]), map(1, 1, "a#1", &[])];
        assert_eq!(violations(&falls), [1, 0, 0]);
        let two_leaders = [map(1, 1, "a#1", &[]), map(1, 2, "b#1", &[])];
        assert_eq!(violations(&two_leaders), [1, 0, 0]);
        let kept_epoch = [
            map(1, 1, "a#1", &[(1, "a#1", 1)]),
            map(1, 2, "a#1", &[(1, "b#1", 1)]),
        ];
        assert_eq!(violations(&kept_epoch), [0, 1, 0]);
        // Also over a map that leaves the bucket out.
        let forgotten = [
            map(1, 1, "a#1", &[(1, "a#1", 5)]),
            map(1, 2, "a#1", &[]),
            map(1, 3, "a#1", &[(1, "b#1", 3)]),
        ];
        assert_eq!(violations(&forgotten), [0, 1, 0]);
        assert_eq!(violations(&[What::MapUnreadable("why".into())]), [0, 0, 1]);
    }

    #[test]
    fn movement_is_counted_beside_its_minimum() {
        let there_and_back = history(&[
            map(1, 1, "a#1", &[(1, "a#1", 1), (2, "b#1", 1)]),
            map(1, 2, "a#1", &[(1, "b#1", 2), (2, "b#1", 1)]),
            map(1, 3, "a#1", &[(1, "a#1", 3), (2, "a#1", 3)]),
        ]);
        let all = moved(&there_and_back, At(11), At(100));
        assert_eq!(all, Moved { moves: 3, least: 1 });
        let first = moved(&there_and_back, At(11), At(20));
        assert_eq!(first, Moved { moves: 1, least: 1 });
        assert_eq!(moved(&history(&[]), At(0), At(9)), Moved::default());
    }

    #[test]
    fn the_dead_are_those_that_were_declared() {
        let mut history = history(&[map(1, 1, "a#1", &[(1, "a#1", 1)])]);
        let lease = |holder_text: &str, life| What::Member {
            holder: holder(holder_text),
            life,
            ready: true,
        };
        history.tell(told(50, 5, lease("a#1", Life::Gone)));
        history.tell(told(60, 6, lease("b#1", Life::Marked)));
        assert_eq!(deaths(&history, At(0)), BTreeSet::from([holder("b#1")]));
        assert!(deaths(&history, At(61)).is_empty());
    }

    #[test]
    fn spread_is_the_most_over_the_mean() {
        let What::Map(map) = map(1, 1, "a#1", &[(1, "a#1", 1), (2, "b#1", 1), (3, "a#1", 1)])
        else {
            panic!("a map");
        };
        let even = spread(&map, &[Bucket(1), Bucket(2)]);
        assert_eq!(even, Some(1.0));
        let lopsided = spread(&map, &[Bucket(1), Bucket(3)]);
        assert_eq!(lopsided, Some(2.0));
        assert_eq!(spread(&map, &[Bucket(9)]), None, "nobody has it");
    }
}
