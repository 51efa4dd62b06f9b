//! Writes of the map, and what they have in common with those of Leases.

use std::collections::BTreeMap;

use zen_fabric::coordination::{
    port::{Object, Record},
    records::{MemberState, ShardMapSpec, Stage},
};

use super::{DEADLINES, WARNED};
use crate::{
    time::{MS, Time},
    world::{Ask, World, key_of},
};

impl World {
    /// A Lease or the map was changed.
    pub(crate) fn check_commit(&mut self, index: usize, by: Option<usize>, _ask: &Ask) {
        let now = self.now;
        let commit = self.api.commits[index].clone();
        let record = commit.stored.map(|stored| stored.record);
        match (&commit.object, record) {
            (Object::Map, Some(Record::Map(map))) => {
                self.check_moved(index, by, &map);
                self.check.map_written(now, &map, by, self.plan.keys);
            }
            (Object::Leader, Some(Record::Leader(leader))) => {
                self.check_leader(index, by, &leader);
            }
            (Object::Member(pod), record) => {
                let record = match record {
                    Some(Record::Member(record)) => Some(record),
                    Some(Record::Leader(_) | Record::Map(_) | Record::Malformed(_)) | None => None,
                };
                self.check_member(pod.clone(), by, record);
            }
            (Object::Map | Object::Leader, _) => {}
        }
    }

    /// Where an editor has made numbers fall while no process runs, or the last one that knew higher
    /// ones is gone, nothing but what is stored is remembered.
    pub(crate) fn check_memory(&mut self) {
        if !self.check.operated || self.pods.iter().any(|place| place.process.is_some()) {
            return;
        }
        let (mut version, mut term) = (None, 0);
        if let Some(Record::Map(map)) = self.api.stored(&Object::Map).map(|one| &one.record) {
            (version, term) = (Some(map.version), map.term);
        }
        if let Some(Record::Leader(leader)) =
            self.api.stored(&Object::Leader).map(|one| &one.record)
        {
            term = term.max(leader.term);
        }
        let members = self.check.members.values();
        let seen = members
            .filter_map(|one| Some(one.record.as_ref()?.seen))
            .max();
        // A missing map is made again above what journals remember; one that is there is believed.
        let version = version.map_or(u64::MAX, |version| version.max(seen.unwrap_or_default()));
        self.check.forgotten(version, term);
    }

    /// When the object was last written before.
    pub(super) fn changed_before(&self, index: usize) -> Time {
        let object = &self.api.commits[index].object;
        let earlier = self.api.commits[..index].iter().rev();
        let mut same = earlier.filter(|commit| commit.object == *object);
        same.next().map_or(0, |commit| commit.at)
    }

    pub(super) fn before(&self, index: usize) -> Option<&Record> {
        let object = &self.api.commits[index].object;
        let earlier = self.api.commits[..index].iter().rev();
        let mut same = earlier.filter(|commit| commit.object == *object);
        same.next()?.stored.as_ref().map(|stored| &stored.record)
    }

    /// A bucket got another owner: the former one has stopped, is dead, or was fenced.
    fn check_moved(&mut self, index: usize, by: Option<usize>, map: &ShardMapSpec) {
        let before = match self.before(index).cloned() {
            Some(Record::Map(before)) => before.moves.clone(),
            Some(Record::Leader(_) | Record::Member(_) | Record::Malformed(_)) | None => {
                BTreeMap::new()
            }
        };
        for (bucket, of) in &before {
            let Some(key) = key_of(*bucket, self.plan.keys) else {
                continue;
            };
            let moved = map
                .grants
                .get(bucket)
                .is_some_and(|grant| grant.owner != of.from);
            let lives = map.state(&of.from).is_some_and(MemberState::lives);
            let asked = self
                .check
                .listed
                .get(bucket)
                .filter(|(from, _)| *from == of.from);
            let fenced = asked.is_some_and(|(_, until)| self.now >= *until);
            if by.is_none() || !moved || !lives || fenced {
                continue;
            }
            let busy = self.pods.iter().any(|place| {
                let Some(process) = &place.process else {
                    return false;
                };
                let work = process.work.get(bucket);
                work.is_some_and(|work| {
                    work.holder == of.from && (!work.released || !work.is_still())
                })
            });
            if busy {
                let text = format!(
                    "bucket {} (key {key}) moves from {} to {} while that works on it",
                    bucket.0, of.from, of.to
                );
                self.check.fault(self.now, "I4", text);
            }
        }
        let (asked, warned) = (self.slow(DEADLINES), self.slow(WARNED));
        let now = self.now;
        let listed = &mut self.check.listed;
        listed.retain(|bucket, (from, _)| {
            let of = map.moves.get(bucket);
            of.is_some_and(|of| of.from == *from)
        });
        for (bucket, of) in &map.moves {
            // An editor may have begun with the warning.
            let hurried = by.is_none() && of.stage != Stage::Ask;
            let until = now + if hurried { warned } else { asked };
            let listed = listed
                .entry(*bucket)
                .or_insert_with(|| (of.from.clone(), until));
            listed.1 = listed.1.min(until);
        }
    }

    /// A span that a process waits, as the fastest clock of the schedule shows it.
    pub(super) fn slow(&self, span: Time) -> Time {
        span - span * (self.plan.drift + 1) / 1_000_000 - 20 * MS
    }
}
