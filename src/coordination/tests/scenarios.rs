//! Whole replicas in a small world.

use std::time::Duration;

use super::super::{
    event::Event,
    message::{Body, Message, PROTOCOL},
    names::{Holder, MOST},
    port::{Input, Object, Record},
    records::{LeaderRecord, Life, MemberState, ShardMapSpec, Stage},
};
use super::{
    fixtures::{BUCKETS, holder, pod},
    harness::{Cut, World},
};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn leaders(world: &World) -> usize {
    (0..world.processes.len())
        .map(|n| world.count(n, |event| matches!(event, Event::Leads { .. })))
        .sum()
}

fn marks(world: &World) -> usize {
    (0..world.processes.len())
        .map(|n| world.count(n, |event| matches!(event, Event::Marked(..))))
        .sum()
}

fn assert_nothing_moved(before: &ShardMapSpec, world: &World) {
    for (bucket, grant) in &world.map().grants {
        assert_eq!(grant.owner, before.grants[bucket].owner, "nothing moves");
    }
}

#[test]
fn a_single_replica_owns_everything_within_a_second() {
    let mut world = World::new(1);
    let took = world.until(secs(5), World::is_healthy);
    assert!(took < secs(2), "{took:?}");
    assert_eq!(world.processes[0].owns.len(), 16);
}

#[test]
fn three_share_and_then_nothing_moves() {
    let mut world = World::settled(3);
    let shares: Vec<usize> = world.processes.iter().map(|p| p.owns.len()).collect();
    assert!(shares.iter().all(|n| (4..=7).contains(n)), "{shares:?}");
    let (map, writes) = (world.map(), world.writes.clone());
    world.run(secs(120));
    assert_eq!(world.map(), map);
    let members = world.writes[&World::member_object(0)] - writes[&World::member_object(0)];
    assert!((22..=26).contains(&members), "{members} renewals in 120 s");
    assert_eq!(leaders(&world), 1);
}

/// A peer says which version it has seen.
fn hint(version: u64) -> Input {
    let body = Body::Hint;
    let protocol = PROTOCOL;
    let from = holder(1);
    let fleet = "fleet".into();
    let message = Message {
        fleet,
        protocol,
        version,
        body,
    };
    Input::Message { from, message }
}

#[test]
fn a_version_that_a_peer_has_seen_is_read_where_the_watch_is_slow() {
    let mut world = World::settled(3);
    let (version, reads) = (world.map().version, world.map_reads);
    world.tell(0, hint(version));
    world.run(ms(100));
    assert_eq!(world.map_reads, reads, "it is known");
    world.tell(0, hint(version + 1));
    world.run(ms(15));
    assert_eq!(world.map_reads, reads, "the watch has a while to show it");
    world.run(ms(10));
    assert_eq!(world.map_reads, reads + 1);
    world.tell(0, hint(version + 1));
    world.run(ms(100));
    assert_eq!(world.map_reads, reads + 1, "it isn't there: once is enough");
}

#[test]
fn a_killed_owner_is_replaced_at_once() {
    let mut world = World::settled(3);
    let victim = (world.leader() + 1) % 3;
    world.kill(victim);
    let took = world.until(secs(5), World::is_healthy);
    assert!(took < ms(300), "{took:?}");
    assert_eq!(world.member(victim).life, Life::Marked);
}

#[test]
fn a_killed_leader_is_replaced_within_a_second() {
    let mut world = World::settled(3);
    let victim = world.leader();
    world.kill(victim);
    let took = world.until(secs(5), World::is_healthy);
    assert!(took < ms(1000), "{took:?}");
    assert_ne!(world.leader(), victim);
}

#[test]
fn of_two_the_survivor_takes_over_after_a_challenge() {
    let mut world = World::settled(2);
    let victim = world.leader();
    world.kill(victim);
    let took = world.until(secs(5), World::is_healthy);
    assert!(took < ms(2500), "{took:?}");
}

#[test]
fn a_silent_one_is_replaced_and_finds_itself_dead() {
    let mut world = World::settled(3);
    let victim = world.leader();
    world.pause(victim);
    world.until(secs(7), World::is_healthy);
    world.run(secs(60));
    let before = world.map();
    world.resume(victim);
    world.until(secs(20), World::is_healthy);
    world.run(secs(30));
    world.assert_healthy();
    assert_eq!(world.standing(victim).holder.unwrap().incarnation, 2);
    assert!(world.map().version > before.version, "it is a member again");
    assert!(!world.processes[victim].owns.is_empty());
}

#[test]
fn a_killed_one_that_comes_back_joins_again() {
    let mut world = World::settled(3);
    let victim = world.leader();
    world.kill(victim);
    world.run(secs(2));
    world.start(victim);
    world.run(secs(20));
    world.assert_healthy();
    assert_eq!(world.member(victim).holder.incarnation, 2);
    assert!(!world.processes[victim].owns.is_empty());
}

#[test]
fn an_outage_makes_nobody_dead_and_no_leader_new() {
    let mut world = World::settled(3);
    let (map, led) = (world.map(), leaders(&world));
    world.away = [0, 1, 2].into();
    world.run(secs(300));
    assert!(world.processes.iter().all(|process| !process.open));
    world.away.clear();
    let took = world.until(secs(5), World::is_healthy);
    assert!(took < secs(2), "{took:?}");
    world.run(secs(60));
    assert_eq!(world.map(), map, "{}", world.describe());
    assert_eq!(leaders(&world), led);
    assert_eq!(marks(&world), 0);
}

#[test]
fn a_drained_leader_gives_everything_away_and_ends() {
    let mut world = World::settled(3);
    let victim = world.leader();
    world.tell(victim, Input::Drain);
    let took = world.until(secs(25), |world| world.processes[victim].ended);
    assert!(took < secs(5), "{took:?}");
    world.run(secs(1));
    world.assert_healthy();
    assert_eq!(world.member(victim).life, Life::Gone);
    let slow = world.count(victim, |event| matches!(event, Event::DrainOverdue { .. }));
    assert_eq!(slow, 0);
    assert_eq!(marks(&world), 0);
}

/// What it would begin, its heir would have to end: a bucket would pause while the lead changes hands.
#[test]
fn a_draining_leader_moves_nothing_before_its_heir_leads() {
    let mut world = World::settled(3);
    let victim = world.leader();
    let version = world.map().version;
    world.tell(victim, Input::Drain);
    world.until(secs(5), |world| world.lease().holder.is_none());
    assert_eq!(world.map().version, version);
    world.until(secs(5), |world| world.map().version > version);
    assert_ne!(world.map().leader.pod, pod(victim));
}

#[test]
fn the_last_one_drains_alone() {
    let mut world = World::settled(1);
    world.tell(0, Input::Drain);
    let took = world.until(secs(25), |world| world.processes[0].ended);
    assert!(took < secs(1), "{took:?}");
    assert_eq!(world.lease().holder, None);
    world.start(0);
    world.until(secs(2), World::is_healthy);
}

#[test]
fn one_that_drains_while_it_is_given_its_first_buckets_waits_for_them() {
    let mut world = World::settled(3);
    let victim = (world.leader() + 1) % 3;
    world.kill(victim);
    world.run(secs(5));
    world.start(victim);
    let given = |world: &World| {
        let map = world.map();
        let own = |holder: &Holder| holder.pod == pod(victim);
        map.moves.values().any(|of| own(&of.to)) || map.grants.values().any(|g| own(&g.owner))
    };
    world.until(secs(60), given);
    world.tell(victim, Input::Drain);
    world.until(secs(25), |world| world.member(victim).life == Life::Gone);
    let map = world.map();
    let left = map
        .grants
        .values()
        .filter(|grant| grant.owner.pod == pod(victim));
    assert_eq!(
        left.count(),
        0,
        "another would have to take them from a dead one"
    );
}

#[test]
fn all_drain_at_once_and_end() {
    let mut world = World::settled(3);
    for n in 0..3 {
        world.tell(n, Input::Drain);
    }
    world.until(secs(26), |world| world.processes.iter().all(|p| p.ended));
}

#[test]
fn an_owner_that_does_not_stop_is_fenced_at_the_deadline() {
    let mut world = World::settled(3);
    let leader = world.leader();
    let victim = (leader + 1) % 3;
    world.processes[victim].stubborn = true;
    world.tell(victim, Input::Drain);
    world.run(secs(14));
    world.run(secs(2));
    let fenced = |event: &Event| {
        matches!(
            event,
            Event::Slow {
                stage: Stage::Fence,
                ..
            }
        )
    };
    assert!(world.count(leader, fenced) > 0);
    world.until(secs(10), |world| world.processes[victim].ended);
    world.run(secs(1));
    world.assert_healthy();
}

#[test]
fn a_drain_that_is_taken_back_keeps_its_pod() {
    let mut world = World::settled(3);
    let victim = (world.leader() + 1) % 3;
    world.processes[victim].stubborn = true;
    world.tell(victim, Input::Drain);
    world.run(secs(1));
    world.processes[victim].stubborn = false;
    world.tell(victim, Input::Undrain);
    world.run(secs(60));
    assert_eq!(
        world.map().members[&world.member(victim).holder.pod].state,
        MemberState::Active
    );
    assert!(!world.processes[victim].ended);
}

#[test]
fn a_vacated_leader_gives_everything_away_and_stays() {
    let mut world = World::settled(3);
    let victim = world.leader();
    world.tell(victim, Input::Vacate);
    let took = world.until(secs(25), |world| world.processes[victim].owns.is_empty());
    assert!(took < secs(5), "{took:?}");
    world.run(secs(60));
    assert_ne!(world.leader(), victim);
    assert!(world.processes[victim].owns.is_empty());
    assert!(!world.processes[victim].ended);
    assert_eq!(world.member(victim).life, Life::Live);
    world.tell(victim, Input::Undrain);
    world.until(secs(60), |world| !world.processes[victim].owns.is_empty());
    assert_eq!(marks(&world), 0);
}

#[test]
fn where_all_are_vacated_each_keeps_what_nobody_can_take() {
    let mut world = World::settled(2);
    for n in 0..2 {
        world.tell(n, Input::Vacate);
    }
    world.run(secs(60));
    let owned: usize = world.processes.iter().map(|p| p.owns.len()).sum();
    assert_eq!(owned, usize::from(BUCKETS));
    assert!(world.processes.iter().all(|p| !p.ended));
}

#[test]
fn a_leader_that_most_are_refused_by_dies_once_and_is_calm() {
    let mut world = World::settled(3);
    let cut = world.leader();
    for other in (0..3).filter(|other| *other != cut) {
        world.cuts.insert((other, cut), Cut::Rejects);
    }
    world.run(secs(600));
    assert!(leaders(&world) <= 4, "{} leaderships", leaders(&world));
    assert!(marks(&world) <= 4, "{} marks", marks(&world));
    world.cuts.clear();
    world.run(secs(60));
    world.assert_healthy();
    assert!(
        world
            .processes
            .iter()
            .all(|process| !process.owns.is_empty())
    );
}

#[test]
fn one_that_most_can_not_reach_gives_its_buckets_away() {
    let mut world = World::settled(3);
    let cut = (world.leader() + 1) % 3;
    for other in (0..3).filter(|other| *other != cut) {
        world.cuts.insert((other, cut), Cut::Drops);
    }
    world.run(secs(25));
    assert!(!world.processes[cut].owns.is_empty());
    world.run(secs(60));
    assert!(world.processes[cut].owns.is_empty(), "{}", world.describe());
    assert_eq!(marks(&world), 0);
    world.cuts.clear();
    world.run(secs(30));
    world.assert_healthy();
    assert!(!world.processes[cut].owns.is_empty());
}

#[test]
fn gossip_down_for_everybody_moves_nothing() {
    let mut world = World::settled(3);
    let map = world.map();
    for one in 0..3 {
        for other in (0..3).filter(|other| *other != one) {
            world.cuts.insert((one, other), Cut::Drops);
        }
    }
    world.run(secs(600));
    assert_eq!(world.map(), map, "{}", world.describe());
    let victim = (world.leader() + 1) % 3;
    world.kill(victim);
    let took = world.until(secs(25), World::is_healthy);
    assert!(took < secs(25), "{took:?}");
}

#[test]
fn a_deleted_map_is_made_again_above_everything() {
    let mut world = World::settled(3);
    let before = world.map();
    world.surveyed = Some(before.version + 50);
    world.delete(&Object::Map);
    let took = world.until(secs(5), World::is_healthy);
    assert!(took < secs(2), "{took:?}");
    let after = world.map();
    assert!(after.version > before.version + 50 + 1024);
    for (bucket, grant) in &after.grants {
        assert_eq!(grant.owner, before.grants[bucket].owner, "nothing moves");
    }
}

#[test]
fn a_map_from_a_backup_is_made_again() {
    let mut world = World::new(1);
    world.until(secs(5), World::is_healthy);
    let old = world.map();
    world.start(1);
    world.start(2);
    world.run(secs(20));
    let before = world.map();
    assert!(old.version < before.version);
    world.put(&Object::Map, Record::Map(old));
    let took = world.until(secs(5), |world| {
        world.map().version > before.version && world.is_healthy()
    });
    assert!(took < secs(2), "{took:?}");
    assert_nothing_moved(&before, &world);
}

#[test]
fn everything_deleted_is_made_again() {
    let mut world = World::settled(3);
    let before = world.map();
    let objects: Vec<Object> = world.objects.keys().cloned().collect();
    for object in objects {
        world.delete(&object);
    }
    let took = world.until(secs(5), World::is_healthy);
    assert!(took < secs(2), "{took:?} {}", world.describe());
    assert!(world.map().version > before.version + 1024);
    assert!(world.map().term > before.term);
    assert_eq!(marks(&world), 0);
}

#[test]
fn lost_answers_are_recognised() {
    let mut world = World::settled(3);
    for _ in 0..20 {
        world.lose = world.objects.keys().cloned().collect();
        world.run(secs(10));
    }
    world.assert_healthy();
    assert_eq!(marks(&world), 0);
    assert_eq!(leaders(&world), 1);
    let leader = world.leader();
    world.lose = world.objects.keys().cloned().collect();
    world.kill(leader);
    world.until(secs(4), World::is_healthy);
}

#[test]
fn what_a_store_has_accepted_is_passed() {
    let mut world = World::settled(3);
    let owner = (world.leader() + 1) % 3;
    let (bucket, epoch) = world.processes[owner].owns.first_key_value().unwrap();
    let (bucket, epoch) = (*bucket, *epoch);
    let stored = crate::journal::Epoch(epoch.0 + 5000);
    let holder = "stranger#7".parse().unwrap();
    let fenced = Input::Fenced {
        bucket,
        epoch: stored,
        holder,
    };
    world.tell(owner, fenced.clone());
    world.run(ms(500));
    assert!(world.processes[owner].owns[&bucket] > stored);
    let version = world.map().version;
    world.tell(owner, fenced);
    world.run(secs(5));
    assert_eq!(world.map().version, version, "it does not loop");
}

#[test]
fn an_edited_map_is_mended() {
    let mut world = World::settled(3);
    let mut edited = (*world.map()).clone();
    edited.version += 1;
    let owners: Vec<_> = edited.holders().map(|(holder, _)| holder).collect();
    for (n, grant) in edited.grants.values_mut().enumerate() {
        grant.owner = owners[n % owners.len()].clone();
    }
    edited.grants.remove(&crate::journal::Bucket(3));
    world.put(&Object::Map, Record::Map(edited.into()));
    world.until(secs(2), World::is_healthy);
}

#[test]
fn another_map_at_the_same_version_is_made_again() {
    let mut world = World::settled(3);
    let before = world.map();
    let mut edited = (*before).clone();
    let owners: Vec<_> = edited.holders().map(|(holder, _)| holder).collect();
    for (n, grant) in edited.grants.values_mut().enumerate() {
        grant.owner = owners[n % owners.len()].clone();
    }
    world.delete(&Object::Map);
    world.put(&Object::Map, Record::Map(edited.into()));
    let took = world.until(secs(5), |world| {
        world.map().version > before.version && world.is_healthy()
    });
    assert!(took < secs(2), "{took:?}");
    assert_nothing_moved(&before, &world);
}

#[test]
fn a_member_that_an_editor_invented_loses_what_it_was_given() {
    let mut world = World::settled(3);
    let mut edited = (*world.map()).clone();
    edited.version += 1;
    let stranger: Holder = "core-9#1".parse().unwrap();
    let member = edited.members.values().next().unwrap().clone();
    edited.members.insert(stranger.pod.clone(), member);
    let grant = edited.grants.get_mut(&crate::journal::Bucket(3)).unwrap();
    (grant.owner, grant.epoch) = (stranger.clone(), crate::journal::Epoch(edited.version));
    world.put(&Object::Map, Record::Map(edited.into()));
    let took = world.until(secs(5), |world| {
        let map = world.map();
        map.grants.values().all(|grant| grant.owner != stranger) && world.is_healthy()
    });
    assert!(took < secs(2), "{took:?}");
}

#[test]
fn a_leader_lease_whose_term_leaves_no_room_is_passed_over() {
    for term in [MOST, MOST - 1, MOST - 100, MOST - (1 << 20)] {
        let mut world = World::settled(3);
        let edited = LeaderRecord {
            term,
            ..world.lease()
        };
        world.put(&Object::Leader, Record::Leader(edited));
        world.run(secs(2));
        world.assert_healthy();
        let leader = world.leader();
        world.kill(leader);
        world.until(secs(2), World::is_healthy);
        assert!(world.lease().term < 100, "{}", world.lease().term);
    }
}

#[test]
fn a_lone_replica_that_an_editor_called_dead_goes_on_at_once() {
    let mut world = World::new(1);
    world.until(secs(5), World::is_healthy);
    let mut edited = (*world.map()).clone();
    edited.version += 1;
    for member in edited.members.values_mut() {
        member.state = MemberState::Down;
    }
    world.put(&Object::Map, Record::Map(edited.into()));
    world.run(secs(2));
    world.assert_healthy();
}

#[test]
fn a_foreign_incarnation_is_passed() {
    let mut world = World::settled(3);
    let victim = (world.leader() + 1) % 3;
    let mut record = world.member(victim);
    record.holder.incarnation = 40;
    world.put(&World::member_object(victim), Record::Member(record));
    world.run(secs(20));
    world.assert_healthy();
    assert_eq!(world.standing(victim).holder.unwrap().incarnation, 41);
}

#[test]
fn a_strange_term_is_passed() {
    let mut world = World::settled(3);
    let mut edited = (*world.map()).clone();
    edited.version += 1;
    edited.term = 1 << 40;
    world.put(&Object::Map, Record::Map(edited.into()));
    world.run(secs(2));
    world.assert_healthy();
    let leader = world.leader();
    world.kill(leader);
    world.until(secs(2), World::is_healthy);
    assert!(world.map().term > 1 << 40);
}

#[test]
fn numbers_at_their_maximum_are_passed_by_a_new_map() {
    let edits: [fn(&mut ShardMapSpec); 4] = [
        |map| (map.version, map.term) = (map.version + 1, MOST),
        |map| (map.version, map.term) = (map.version + 1, MOST - 1),
        |map| map.version = MOST,
        |map| map.version = MOST - 1,
    ];
    for edit in edits {
        let mut world = World::settled(3);
        let mut edited = (*world.map()).clone();
        edit(&mut edited);
        world.put(&Object::Map, Record::Map(edited.into()));
        world.run(secs(10));
        world.assert_healthy();
        let leader = world.leader();
        world.kill(leader);
        world.until(secs(10), World::is_healthy);
    }
}
