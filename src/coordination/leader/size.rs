//! The map stays small: etcd and every watcher copy it at each version.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    names::Holder,
    records::{ShardMapSpec, Stage},
};
use crate::journal::{Bucket, Epoch};

/// Above this an owner's epochs are merged. A quarter below the bound of 16 KiB: room for the moves
/// of a rolling update, which come and go.
const MOST: usize = 12 * 1024;

/// Bytes of `{"name":"","incarnation":4503599627370495,"zone":"","weight":4294967295,
/// "state":"Unreachable"},` without the names.
const MEMBER: usize = 100;

/// Bytes of `{"owner":"","epochs":{}},`.
const OWNER: usize = 24;

/// Bytes of `{"buckets":"","from":"","to":"","since":4503599627370495,"stage":"Fence"},`.
const MOVE: usize = 76;

/// Bytes of `"4503599627370495":"",` less the digits of the epoch.
const EPOCH: usize = 6;

/// An upper estimate of the bytes of the map's text as JSON, without its metadata.
pub(super) fn size(map: &ShardMapSpec) -> usize {
    let members: usize = map
        .members
        .iter()
        .map(|(pod, member)| MEMBER + pod.0.len() + member.zone.len())
        .sum();
    let mut groups: BTreeMap<(&Holder, Epoch), Vec<Bucket>> = BTreeMap::new();
    for (bucket, grant) in &map.grants {
        groups
            .entry((&grant.owner, grant.epoch))
            .or_default()
            .push(*bucket);
    }
    let owners: BTreeSet<&Holder> = groups.keys().map(|(owner, _)| *owner).collect();
    let names: usize = owners.iter().map(|owner| OWNER + name(owner)).sum();
    let epochs: usize = groups
        .iter()
        .map(|((_, epoch), buckets)| EPOCH + digits(epoch.0) + ranges(buckets))
        .sum();
    let mut moving: BTreeMap<(&Holder, &Holder, u64, Stage), Vec<Bucket>> = BTreeMap::new();
    for (bucket, of) in &map.moves {
        moving
            .entry((&of.from, &of.to, of.since, of.stage))
            .or_default()
            .push(*bucket);
    }
    let moves: usize = moving
        .iter()
        .map(|((from, to, _, _), buckets)| MOVE + name(from) + name(to) + ranges(buckets))
        .sum();
    members + names + epochs + moves
}

/// Issues the buckets of those owners again that have the most epochs, until the map is small.
pub(super) fn merge(map: &mut ShardMapSpec) {
    while size(map) > MOST {
        let mut epochs: BTreeMap<&Holder, BTreeSet<Epoch>> = BTreeMap::new();
        for grant in map.grants.values() {
            epochs.entry(&grant.owner).or_default().insert(grant.epoch);
        }
        let most = epochs.into_iter().max_by_key(|(_, epochs)| epochs.len());
        let Some((owner, _)) = most.filter(|(_, epochs)| epochs.len() > 1) else {
            return;
        };
        let owner = owner.clone();
        let version = Epoch(map.version);
        for grant in map.grants.values_mut().filter(|grant| grant.owner == owner) {
            grant.epoch = version;
        }
    }
}

fn name(holder: &Holder) -> usize {
    holder.pod.0.len() + 1 + digits(holder.incarnation)
}

fn digits(number: u64) -> usize {
    number
        .checked_ilog10()
        .map_or(1, |log| usize::try_from(log).unwrap_or(20) + 1)
}

/// Bytes of `0-3,9`; the buckets are in order.
fn ranges(buckets: &[Bucket]) -> usize {
    let mut bytes = 0;
    let mut runs = buckets.iter().map(|bucket| bucket.0).peekable();
    while let Some(first) = runs.next() {
        let mut last = first;
        while let Some(next) = runs.next_if(|next| *next == last + 1) {
            last = next;
        }
        bytes += digits(u64::from(first)) + 1;
        if last > first {
            bytes += digits(u64::from(last)) + 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::coordination::{
        names::PodName,
        records::{Grant, Member, MemberState},
    };

    fn fleet(pods: u16, epoch: impl Fn(u16) -> u64) -> ShardMapSpec {
        let holder = |n: u16| Holder {
            pod: PodName(Arc::from(format!("zen-fabric-core-{n}"))),
            incarnation: 3,
        };
        ShardMapSpec {
            term: 1,
            version: 1_000_000,
            leader: holder(0),
            buckets: 1024,
            members: (0..pods)
                .map(|n| {
                    let member = Member {
                        incarnation: 3,
                        zone: Arc::from("zone-a"),
                        weight: 100,
                        state: MemberState::Active,
                    };
                    (holder(n).pod, member)
                })
                .collect(),
            grants: (0..1024)
                .map(|n| {
                    let grant = Grant {
                        owner: holder(n % pods),
                        epoch: Epoch(epoch(n)),
                    };
                    (Bucket(n), grant)
                })
                .collect(),
            moves: BTreeMap::new(),
        }
    }

    #[test]
    fn ranges_are_counted_as_they_are_written() {
        let of = |buckets: &[u16]| ranges(&buckets.iter().map(|n| Bucket(*n)).collect::<Vec<_>>());
        assert_eq!(of(&[0, 1, 2, 3, 9]), "0-3,9,".len());
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[10, 12, 13]), "10,12-13,".len());
    }

    #[test]
    fn a_small_map_keeps_its_epochs() {
        let mut map = fleet(3, |_| 7);
        let before = map.clone();
        merge(&mut map);
        assert_eq!(map, before);
    }

    #[test]
    fn a_scattered_map_is_merged_below_the_bound() {
        let mut map = fleet(25, |n| 900_000 + u64::from(n));
        assert!(size(&map) > MOST);
        merge(&mut map);
        assert!(size(&map) <= MOST, "{}", size(&map));
        let kept = map
            .grants
            .values()
            .filter(|grant| grant.epoch.0 < map.version);
        assert!(kept.count() > 0, "no more is issued again than needed");
    }
}
