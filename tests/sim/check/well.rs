//! Whether the fleet is well.

use zen_fabric::coordination::{
    port::{Object, Record},
    records::{MemberState, ShardMapSpec},
};

use crate::{
    worker::Stage as LaneStage,
    world::{World, bucket_of},
};

impl World {
    /// What keeps the fleet from being well, if anything does.
    pub(crate) fn ails(&mut self) -> Option<String> {
        let now = self.now;
        if !self.api.is_well(now) {
            return Some("the API is not back".to_owned());
        }
        let Some(Record::Map(map)) = self.api.stored(&Object::Map).map(|one| one.record.clone())
        else {
            return Some("there is no map".to_owned());
        };
        if !map.moves.is_empty() {
            return Some(format!("{} buckets still move", map.moves.len()));
        }
        for place in &self.pods {
            let Some(process) = &place.process else {
                if place.phase == crate::process::Phase::Wanted {
                    return Some(format!("{} doesn't run", place.name));
                }
                continue;
            };
            let standing = process.brain.standing();
            let Some(holder) = &standing.holder else {
                return Some(format!("{} has no name", place.name));
            };
            if place.phase != crate::process::Phase::Wanted || process.draining {
                return Some(format!("{} has not gone", place.name));
            }
            if standing.version != map.version {
                return Some(format!("{holder} follows version {}", standing.version));
            }
            if !standing.open {
                return Some(format!("the gate of {holder} is shut"));
            }
            let state = map.state(holder);
            if state != Some(MemberState::Active) {
                return Some(format!("{holder} is {state:?} in the map"));
            }
        }
        if let Some(what) = self.leaderless() {
            return Some(what);
        }
        for key in 0..self.plan.keys {
            if let Some(what) = self.unowned(key, &map) {
                return Some(what);
            }
        }
        for (number, log) in self.logs.iter().enumerate() {
            let (_, _, backlog) = log.tally();
            if backlog > 0 {
                return Some(format!("{backlog} events wait in log {number}"));
            }
        }
        let lost = self
            .accepted
            .iter()
            .find_map(|event| self.effects.fault(event));
        if lost.is_none() {
            self.check.stood_still(now);
        }
        lost
    }

    fn leaderless(&self) -> Option<String> {
        let stored = self.api.stored(&Object::Leader).map(|one| &one.record);
        let Some(Record::Leader(leader)) = stored else {
            return Some("there is no leader Lease".to_owned());
        };
        let leads = self.pods.iter().any(|place| {
            let process = place.process.as_ref();
            process.is_some_and(|process| {
                process.holder == leader.holder && process.brain.standing().term.is_some()
            })
        });
        (!leads).then(|| {
            format!(
                "the leader Lease is {:?}'s, who doesn't lead",
                leader.holder
            )
        })
    }

    fn unowned(&self, key: usize, map: &ShardMapSpec) -> Option<String> {
        let bucket = bucket_of(key);
        let Some(grant) = map.grants.get(&bucket) else {
            return Some(format!("nobody owns key {key}"));
        };
        let place = self.pods.iter().find(|one| one.name == grant.owner.pod)?;
        let Some(process) = &place.process else {
            return Some(format!("{} owns key {key} and doesn't run", grant.owner));
        };
        let Some(work) = process.work.get(&bucket) else {
            return Some(format!("{} doesn't work on key {key}", grant.owner));
        };
        if work.status.refused || work.status.dirty {
            return Some(format!("the status of key {key} is not written"));
        }
        if work.holder != grant.owner || work.epoch != grant.epoch {
            return Some(format!(
                "key {key} is {}'s under {}, and {} works on it under {}",
                grant.owner, grant.epoch.0, work.holder, work.epoch.0
            ));
        }
        let reads = work
            .lanes
            .iter()
            .all(|lane| lane.epoch == Some(grant.epoch) && lane.stage == LaneStage::Listening);
        if !reads || !process.gate {
            return Some(format!(
                "{} owns key {key} and doesn't read it",
                grant.owner
            ));
        }
        None
    }
}
