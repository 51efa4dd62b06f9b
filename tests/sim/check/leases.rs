//! Writes of Leases: who leads, who is marked, who says goodbye.

use zen_fabric::coordination::{
    names::{Holder, PodName},
    port::{Object, Record},
    records::{Life, Member, MemberRecord, MemberState},
};

use super::{DRAIN, LEASE, ROOM, Written};
use crate::{
    mutants::Planted,
    plan::{Family, Step},
    probe::{LATE_VOTE, VOTE},
    time::{MS, SECOND},
    world::World,
};

impl World {
    pub(super) fn check_leader(
        &mut self,
        index: usize,
        by: Option<usize>,
        leader: &zen_fabric::coordination::records::LeaderRecord,
    ) {
        let (now, naive) = (self.now, matches!(self.planted, Planted::Baseline(_)));
        let before = self.before(index).cloned();
        let Some(Record::Leader(before)) = before else {
            self.check.leaders += 1;
            return;
        };
        let changed = leader.holder != before.holder;
        if changed && leader.holder.is_some() {
            self.check.leaders += 1;
        }
        if by.is_none() || naive {
            return;
        }
        // What leaves no room above it is no term, whoever wrote it: it is passed over.
        if before.term >= ROOM {
            return;
        }
        let since = self.changed_before(index);
        // One that nobody has ever been is an editor's: it has no peace that could be disturbed.
        let incarnations = &self.check.incarnations;
        let was = before.holder.as_ref();
        let somebody = was.is_some_and(|holder| {
            let highest = incarnations.get(&holder.pod);
            highest.is_some_and(|highest| *highest >= holder.incarnation)
        });
        if changed && somebody && now < since + self.slow(LEASE) {
            self.check_early(by, leader.holder.as_ref());
        }
        let taken = changed && leader.holder.is_some() && leader.term <= before.term;
        if taken || leader.term < before.term {
            let text = format!(
                "the leader Lease was {:?}'s at term {}, and is {:?}'s at term {}",
                before.holder, before.term, leader.holder, leader.term
            );
            self.check.fault(now, "I8", text);
        }
    }

    /// One that led and was declared dead, and lives, leaves it to others to take over early for one
    /// Lease duration at least.
    fn check_early(&mut self, by: Option<usize>, holder: Option<&Holder>) {
        let (Some(pod), Some(holder)) = (by, holder) else {
            return;
        };
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        // Where nobody else lives, there is nobody whom it could disturb.
        let others = self.check.members.iter().any(|(other, written)| {
            let live = |record: &MemberRecord| record.life == Life::Live;
            *other != holder.pod && written.record.as_ref().is_some_and(live)
        });
        let deposed = self
            .check
            .deposed
            .get(&(pod, process.life))
            .filter(|_| others);
        if deposed.is_some_and(|at| self.now < at + self.slow(LEASE)) {
            let text = format!("{holder} was deposed of late and takes over early again");
            self.check.fault(self.now, "I10", text);
        }
    }

    /// A member Lease was written: nobody is marked who has renewed since the evidence.
    pub(super) fn check_member(
        &mut self,
        pod: PodName,
        by: Option<usize>,
        record: Option<MemberRecord>,
    ) {
        let now = self.now;
        let next = Written {
            at: now,
            by,
            record: record.clone(),
        };
        let before = self.check.members.insert(pod.clone(), next);
        let (Some(record), Some(before), Some(by)) = (record, before, by) else {
            return;
        };
        let Some(old) = before.record.filter(|old| old.holder == record.holder) else {
            return;
        };
        if record.life == Life::Gone {
            self.check_goodbye(&record.holder);
        }
        if record.life != Life::Marked || old.life != Life::Live {
            return;
        }
        if matches!(self.check.family, Family::Calm | Family::Outage) {
            let text = format!(
                "{} was marked though all that happened was {:?}",
                record.holder, self.check.family
            );
            self.check.fault(now, "I11", text);
        }
        let suspect = self.pods.iter().position(|one| one.name == pod);
        let lives = suspect.is_some_and(|suspect| {
            let process = self.pods[suspect].process.as_ref();
            process.is_some_and(|process| process.holder.as_ref() == Some(&record.holder))
        });
        if !lives || before.by.is_none() {
            return;
        }
        let age = now - before.at;
        let stale = age >= self.slow(LEASE);
        let challenged =
            old.challenge.is_some() && before.by != suspect && age >= self.slow(SECOND);
        let late = self
            .plan
            .steps
            .iter()
            .any(|(_, step)| matches!(step, Step::Storm { .. }));
        let since = before
            .at
            .saturating_sub(if late { LATE_VOTE } else { VOTE });
        let refused = |voter: &Holder| {
            let votes = &self.check.refusals;
            let seen = votes.get(&(voter.clone(), record.holder.clone()));
            seen.is_some_and(|seen| *seen >= since)
        };
        let majority = self.check.voters.iter().any(|voters| {
            let those = voters.iter().filter(|voter| refused(voter));
            those.count() * 2 > voters.len()
        });
        if !(stale || challenged || majority) {
            let text = format!(
                "core-{by} marked {}, which lives and wrote its Lease {age} µs before",
                record.holder
            );
            self.check.fault(now, "I11", text);
        }
    }

    /// One that drains has said goodbye: where another could take what it has, that was taken before,
    /// or its deadline is over. Looked at where nothing but updates happens, and everybody knows
    /// everybody.
    fn check_goodbye(&mut self, holder: &Holder) {
        let stored = self.api.stored(&Object::Map).map(|stored| &stored.record);
        let Some(Record::Map(map)) = stored else {
            return;
        };
        let of = |holder: &Holder| self.pods.iter().find(|one| one.name == holder.pod);
        let overdue = of(holder)
            .and_then(|place| place.process.as_ref())
            .is_none_or(|process| self.now >= process.asked + self.slow(DRAIN));
        let takes = |(other, member): (Holder, &Member)| {
            let process = of(&other).and_then(|place| place.process.as_ref());
            let here = process.is_some_and(|process| {
                process.holder.as_ref() == Some(&other) && !process.draining && !process.paused
            });
            other != *holder && here && member.state == MemberState::Active
        };
        let left = map.grants.values().any(|grant| grant.owner == *holder);
        // One that has not seen that it is in the map goes at once.
        let joined = self.check.joined.get(holder);
        let overdue = overdue || joined.is_none_or(|at| self.now < at + 100 * MS);
        if self.check.family == Family::Rollout && left && !overdue && map.holders().any(takes) {
            let text = format!("{holder} says goodbye while it owns what others could take");
            self.check.fault(self.now, "I4", text);
        }
    }
}
