//! A map's members as the next map will have them: brought in line with their Leases, as far as one
//! can who isn't the leader. What only the leader knows, whom probes reach, is left as the map has it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    names::Holder,
    records::{Life, Member, MemberRecord, MemberState, ShardMapSpec},
};

/// `map` with the members that it will have, given what their `leases` say today.
#[must_use]
pub fn outlook(map: &ShardMapSpec, leases: &[MemberRecord]) -> ShardMapSpec {
    let mut next = map.clone();
    for (pod, member) in &mut next.members {
        let lease = leases.iter().find(|lease| lease.holder.pod == *pod);
        member.state = lease.map_or(member.state, |lease| state(member, lease));
    }
    let leader = leases.iter().find(|lease| lease.holder == map.leader);
    for lease in leases.iter().filter(|lease| joins(leader, lease)) {
        let known = map.members.get(&lease.holder.pod);
        if known.is_none_or(|member| member.incarnation < lease.holder.incarnation) {
            let member = Member::joined(lease);
            next.members.insert(lease.holder.pod.clone(), member);
        }
    }
    next
}

fn state(member: &Member, lease: &MemberRecord) -> MemberState {
    let dead = match lease.holder.incarnation.cmp(&member.incarnation) {
        std::cmp::Ordering::Less => return member.state,
        std::cmp::Ordering::Equal => lease.life != Life::Live,
        std::cmp::Ordering::Greater => true,
    };
    match member.state {
        MemberState::Down => MemberState::Down,
        _ if dead => MemberState::Down,
        _ if lease.draining => MemberState::Draining,
        MemberState::Unreachable => MemberState::Unreachable,
        MemberState::Active | MemberState::Draining => MemberState::Active,
    }
}

/// Whether the leader lets it in: it is Ready, near, and speaks as the leader does.
fn joins(leader: Option<&MemberRecord>, lease: &MemberRecord) -> bool {
    let near = leader.is_none_or(|leader| {
        leader.region == lease.region && leader.protocol.abs_diff(lease.protocol) <= 1
    });
    lease.life == Life::Live && lease.ready && !lease.draining && near
}

/// The builds that Leases tell of.
#[must_use]
pub fn builds(leases: &[MemberRecord]) -> BTreeMap<Holder, Arc<str>> {
    let build = |lease: &MemberRecord| (lease.holder.clone(), Arc::clone(&lease.build));
    leases.iter().map(build).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::coordination::{names::PodName, port::Moment, text::read};

    fn map() -> ShardMapSpec {
        let member = |name: &str, state: &str| json!({ "name": name, "incarnation": 2, "zone": "a", "weight": 100, "state": state });
        read(&json!({
            "term": 2, "version": 20, "leader": "core-0#2", "buckets": 1024,
            "members": [
                member("core-0", "Active"), member("core-1", "Active"), member("core-2", "Draining"),
                member("core-3", "Unreachable"), member("core-4", "Down"),
            ],
            "assignments": [{ "owner": "core-0#2", "epochs": { "7": "0-1023" } }],
        }))
        .unwrap()
    }

    fn lease(pod: &str, incarnation: u64) -> MemberRecord {
        MemberRecord {
            holder: Holder {
                pod: PodName(pod.into()),
                incarnation,
            },
            claim: 1,
            pod_uid: "u".into(),
            address: "10.0.0.1:8083".into(),
            region: "r".into(),
            zone: "b".into(),
            weight: 50,
            build: "1.2.3".into(),
            protocol: 1,
            ready: true,
            draining: false,
            seen: 20,
            renewals: 1,
            renewed: Moment(0),
            life: Life::Live,
            challenge: None,
        }
    }

    /// What is otherwise about a Lease.
    type Change = fn(&mut MemberRecord);

    fn after(
        change: impl FnOnce(&mut MemberRecord),
        pod: &str,
        incarnation: u64,
    ) -> Option<Member> {
        let mut changed = lease(pod, incarnation);
        change(&mut changed);
        let leases = [lease("core-0", 2), changed];
        let pod = PodName(pod.into());
        outlook(&map(), &leases).members.get(&pod).cloned()
    }

    #[test]
    fn members_are_as_their_leases_say() {
        let state = |change: Change, pod, incarnation| {
            after(change, pod, incarnation).map(|member| member.state)
        };
        let rows: [(&str, u64, Change, MemberState); 9] = [
            ("core-1", 2, |_| {}, MemberState::Active),
            ("core-1", 1, |of| of.life = Life::Gone, MemberState::Active),
            ("core-1", 2, |of| of.life = Life::Marked, MemberState::Down),
            ("core-1", 2, |of| of.draining = true, MemberState::Draining),
            ("core-1", 3, |of| of.ready = false, MemberState::Down),
            ("core-2", 2, |_| {}, MemberState::Active),
            ("core-3", 2, |_| {}, MemberState::Unreachable),
            ("core-4", 2, |_| {}, MemberState::Down),
            ("core-4", 3, |_| {}, MemberState::Active),
        ];
        for (pod, incarnation, change, expected) in rows {
            assert_eq!(state(change, pod, incarnation), Some(expected), "{pod}");
        }
    }

    #[test]
    fn who_is_ready_and_near_joins_with_its_own_weight_and_zone() {
        let joined = after(|_| {}, "core-9", 1).unwrap();
        assert_eq!((&*joined.zone, joined.weight), ("b", 50));
        let refused: [Change; 5] = [
            |of| of.ready = false,
            |of| of.draining = true,
            |of| of.life = Life::Gone,
            |of| of.region = "elsewhere".into(),
            |of| of.protocol = 3,
        ];
        for change in refused {
            assert_eq!(after(change, "core-9", 1), None);
        }
    }
}
