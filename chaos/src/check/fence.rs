//! I1: no write of a stale owner is accepted. Read from `status.owner` of every Ingestor, in the order
//! in which the API server stored it.

use std::collections::{BTreeMap, BTreeSet};

use zen_fabric::{
    coordination::names::Holder,
    journal::{Bucket, Epoch, IngestorUid},
};

use super::Checked;
use crate::history::{History, What};

/// Epochs of a key never fall, and at one epoch there is one holder.
#[must_use]
pub fn fence(history: &History) -> Checked {
    let mut checked =
        Checked::new("I1: the epochs of a key's owners never fall, and one epoch has one holder");
    for write in writes(history) {
        let wrong = write.before.as_ref().and_then(|(holder, epoch)| {
            let stale = write.epoch < *epoch || (write.epoch == *epoch && write.holder != *holder);
            stale.then(|| {
                format!(
                    "{}: {} at epoch {} after {holder} at epoch {}",
                    write.uid, write.holder, write.epoch.0, epoch.0
                )
            })
        });
        checked.look(wrong);
    }
    checked
}

/// How many writes of a holder were accepted on keys on which another had already written.
#[must_use]
pub fn stale_writes(history: &History) -> Checked {
    let mut checked =
        Checked::new("no write is accepted from an owner whose successor has written");
    let mut succeeded: BTreeMap<String, BTreeSet<Holder>> = BTreeMap::new();
    for write in writes(history) {
        let gone = succeeded.entry(write.uid.to_owned()).or_default();
        if let Some((before, epoch)) = &write.before
            && *before != write.holder
            && *epoch < write.epoch
        {
            gone.insert(before.clone());
            // One that is given the key again, later, is its owner again.
            gone.remove(&write.holder);
        }
        let wrong = gone.contains(&write.holder).then(|| {
            format!(
                "{}: {} wrote at epoch {}, and had been succeeded",
                write.uid, write.holder, write.epoch.0
            )
        });
        checked.look(wrong);
    }
    checked
}

/// Every owner that writes was given the key's bucket at that epoch by some map.
#[must_use]
pub fn granted(history: &History) -> Checked {
    let mut checked =
        Checked::new("who writes a status was given its bucket at that epoch by a map");
    let grants: BTreeSet<(Bucket, Epoch, Holder)> = history
        .all_maps()
        .flat_map(|(_, _, map)| {
            let grants = map.grants.iter();
            grants
                .map(|(bucket, grant)| (*bucket, grant.epoch, grant.owner.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    for write in writes(history) {
        let bucket = Bucket::of(&IngestorUid(write.uid.into()));
        let known = grants.contains(&(bucket, write.epoch, write.holder.clone()));
        let wrong = (!known).then(|| {
            format!(
                "{}: no map gave bucket {} to {} at epoch {}",
                write.uid, bucket.0, write.holder, write.epoch.0
            )
        });
        checked.look(wrong);
    }
    checked
}

/// A write of a status with an owner, and who was the owner before it.
struct Write<'a> {
    uid: &'a str,
    holder: Holder,
    epoch: Epoch,
    before: Option<(Holder, Epoch)>,
}

fn writes(history: &History) -> Vec<Write<'_>> {
    let mut last: BTreeMap<&str, (Holder, Epoch)> = BTreeMap::new();
    let mut writes = Vec::new();
    for told in history.in_order() {
        let What::Owner {
            uid,
            owner: Some((holder, epoch)),
        } = &told.what
        else {
            continue;
        };
        let before = last.insert(uid, (holder.clone(), *epoch));
        writes.push(Write {
            uid,
            holder: holder.clone(),
            epoch: *epoch,
            before,
        });
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{holder, map, told};

    fn owned(version: u64, who: &str, epoch: u64) -> crate::history::Told {
        let owner = Some((holder(who), Epoch(epoch)));
        told(
            version,
            version,
            What::Owner {
                uid: "u".to_owned(),
                owner,
            },
        )
    }

    fn history(writes: &[(&str, u64)]) -> History {
        let mut history = History::default();
        for (version, (who, epoch)) in (1..).zip(writes) {
            history.tell(owned(version, who, *epoch));
        }
        history
    }

    #[test]
    fn rising_epochs_hold_also_when_an_owner_comes_back() {
        let history = history(&[("a#1", 1), ("a#1", 1), ("b#1", 2), ("a#1", 3), ("a#1", 4)]);
        assert!(fence(&history).holds());
        assert!(stale_writes(&history).holds());
        assert_eq!(fence(&history).looked_at, 5);
    }

    #[test]
    fn a_stale_owner_is_found_by_its_epoch_and_by_its_successor() {
        let fallen = history(&[("a#1", 1), ("b#1", 2), ("a#1", 1)]);
        assert_eq!(fence(&fallen).violations, 1);
        assert_eq!(stale_writes(&fallen).violations, 1);
        let shared = history(&[("a#1", 2), ("b#1", 2)]);
        assert_eq!(fence(&shared).violations, 1);
        // Told in another order than it happened: the server's order counts.
        let mut late = History::default();
        late.tell(owned(3, "b#1", 2));
        late.tell(owned(2, "a#1", 1));
        assert!(fence(&late).holds());
    }

    #[test]
    fn an_epoch_that_no_map_gave_is_found() {
        let bucket = Bucket::of(&IngestorUid("u".into())).0;
        let mut history = history(&[("a#1", 1), ("b#1", 2)]);
        history.tell(told(9, 9, map(1, 1, "a#1", &[(bucket, "a#1", 1)])));
        let checked = granted(&history);
        assert_eq!((checked.looked_at, checked.violations), (2, 1));
    }
}
