use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{moves::Turn, *};
use crate::coordination::{
    assign::assign,
    names::MOST,
    port::Link,
    protocol::Protocol,
    records::{Grant, Member, MemberRecord, MemberState, Stage},
    tests::fixtures::{drain, holder, map, me, member, out, pod, secs, stored, view},
    timing::Timing,
};

/// What a leader knows, and the map that it makes of it.
struct Rig {
    view: View,
    evidence: Evidence,
    moves: Moves,
    fences: BTreeMap<Bucket, (Epoch, Holder)>,
    loads: BTreeMap<Bucket, u32>,
    map: ShardMapSpec,
}

impl Rig {
    fn new(pods: usize) -> Self {
        let mut view = view(pods, 0);
        for n in 1..pods {
            view.links.insert(holder(n), Link::Reached);
        }
        let mut rig = Self {
            map: map(pods),
            view,
            evidence: Evidence::default(),
            moves: Moves::default(),
            fences: BTreeMap::new(),
            loads: BTreeMap::new(),
        };
        rig.settle(secs(0));
        rig
    }

    fn next(&mut self, now: Moment) -> (Option<ShardMapSpec>, Vec<Event>) {
        self.moves.look(now, &self.map, &self.view.timing);
        let plan = Plan {
            now,
            term: 1,
            view: &self.view,
            evidence: &self.evidence,
            assign,
            moves: &self.moves,
            fences: &self.fences,
            loads: &self.loads,
            balance: Balance::Free,
        };
        plan.next(&self.map)
    }

    /// Takes what comes next for the map.
    fn take(&mut self, now: Moment) -> Option<Vec<Event>> {
        let (next, events) = self.next(now);
        self.map = next?;
        self.view.follow(now, Arc::new(self.map.clone()));
        Some(events)
    }

    /// Acknowledges everything until nothing more is to be written.
    fn settle(&mut self, now: Moment) {
        for _ in 0..200 {
            self.moves.look(now, &self.map, &self.view.timing);
            for (bucket, of) in &self.map.moves {
                self.moves
                    .acknowledged(secs(0), *bucket, &of.from, self.map.version);
            }
            if self.take(now).is_none() {
                return;
            }
        }
        panic!("it never settles: {:?}", self.map);
    }

    fn lease(&mut self, n: usize, change: impl FnOnce(&mut MemberRecord)) {
        let mut record = member(n);
        change(&mut record);
        let version = format!("{n}-{}", self.view.changes);
        let record = stored(Record::Member(record), &version);
        self.view.observe(
            secs(0),
            &Object::Member(pod(n)),
            Some(&record),
            Some(secs(0)),
        );
    }

    fn owned(&self, n: usize) -> usize {
        let owners = self.map.grants.values();
        owners.filter(|grant| grant.owner == holder(n)).count()
    }
}

/// What must hold between a map and the one after it.
fn assert_follows(old: &ShardMapSpec, new: &ShardMapSpec) {
    assert!(new.version > old.version);
    for (bucket, grant) in &new.grants {
        assert!(grant.epoch.0 <= new.version);
        let Some(before) = old.grants.get(bucket) else {
            continue;
        };
        assert!(grant.epoch >= before.epoch, "{bucket:?}");
        if before.owner != grant.owner {
            assert_eq!(grant.epoch.0, new.version, "{bucket:?} changed hands");
        }
    }
    for (bucket, of) in &new.moves {
        assert_eq!(new.grants[bucket].owner, of.from);
        assert_eq!(new.state(&of.to), Some(MemberState::Active));
        assert_ne!(of.from, of.to);
    }
}

#[test]
fn what_is_right_is_left_alone() {
    for pods in 1..6 {
        let mut rig = Rig::new(pods);
        assert_eq!(rig.next(secs(1)), (None, Vec::new()), "{pods}");
    }
}

#[test]
fn the_deads_buckets_go_in_one_write() {
    let mut rig = Rig::new(3);
    rig.lease(2, |record| record.life = Life::Marked);
    let old = rig.map.clone();
    rig.take(secs(1)).unwrap();
    assert_follows(&old, &rig.map);
    assert_eq!(rig.owned(2), 0);
    assert_eq!(rig.map.grants.len(), 16);
    assert_eq!(rig.map.moves.len(), 0);
    assert_eq!(rig.map.state(&holder(2)), Some(MemberState::Down));
    let kept = old
        .grants
        .iter()
        .filter(|(_, grant)| grant.owner != holder(2));
    for (bucket, grant) in kept {
        assert_eq!(&rig.map.grants[bucket], grant, "only the dead one's move");
    }
}

#[test]
fn a_later_incarnation_replaces_its_pods_former_one() {
    let mut rig = Rig::new(3);
    let mut later = member(2);
    later.holder.incarnation = 2;
    let comes = later.holder.clone();
    rig.view.links.insert(comes.clone(), Link::Reached);
    rig.lease(2, |record| record.holder = later.holder);
    rig.take(secs(1)).unwrap();
    assert_eq!(rig.owned(2), 0, "another holder");
    assert_eq!(rig.map.state(&comes), Some(MemberState::Active));
    rig.settle(secs(2));
    assert!(rig.map.grants.values().any(|grant| grant.owner == comes));
}

#[test]
fn only_ready_ones_that_are_reached_join() {
    let spoil: [fn(&mut Rig); 5] = [
        |rig| rig.lease(3, |record| record.ready = false),
        |rig| rig.lease(3, |record| record.draining = true),
        |rig| rig.lease(3, |record| record.protocol = 3),
        |rig| rig.lease(3, |record| record.region = Arc::from("elsewhere")),
        |rig| {
            rig.view.links.insert(holder(3), Link::Silent);
        },
    ];
    for (n, spoil) in spoil.into_iter().enumerate() {
        let mut rig = Rig::new(3);
        rig.lease(3, |_| {});
        rig.view.links.insert(holder(3), Link::Reached);
        spoil(&mut rig);
        assert_eq!(rig.next(secs(1)).0, None, "{n}");
    }
    let mut rig = Rig::new(3);
    rig.lease(3, |_| {});
    rig.view.links.insert(holder(3), Link::Reached);
    rig.settle(secs(1));
    assert!(rig.owned(3) > 0);
}

#[test]
fn a_weight_that_the_map_has_no_place_for_becomes_the_nearest() {
    for (written, taken) in [(0, 1), (70, 70), (u32::MAX, 10_000)] {
        let mut rig = Rig::new(3);
        rig.lease(3, |record| record.weight = written);
        rig.view.links.insert(holder(3), Link::Reached);
        rig.take(secs(1)).unwrap();
        assert_eq!(rig.map.members[&pod(3)].weight, taken);
    }
}

#[test]
fn a_move_waits_for_the_owner_or_its_deadlines() {
    let mut rig = Rig::new(3);
    rig.lease(2, |record| record.draining = true);
    rig.take(secs(1)).unwrap();
    assert_eq!(rig.map.state(&holder(2)), Some(MemberState::Draining));
    let asked: Vec<Bucket> = rig.map.moves.keys().copied().collect();
    assert_eq!(asked.len(), 4, "a quarter of 16 at once");
    let owned = rig.owned(2);
    assert_eq!(rig.next(secs(2)).0, None);
    // An acknowledgement of before this move was listed is none.
    rig.moves
        .acknowledged(secs(0), asked[0], &holder(2), rig.map.version - 1);
    rig.moves
        .acknowledged(secs(0), asked[0], &holder(1), rig.map.version);
    assert_eq!(rig.next(secs(2)).0, None);
    rig.moves
        .acknowledged(secs(0), asked[0], &holder(2), rig.map.version);
    let old = rig.map.clone();
    rig.take(secs(2)).unwrap();
    assert_follows(&old, &rig.map);
    assert_ne!(rig.map.grants[&asked[0]].owner, holder(2));
    assert_eq!(rig.owned(2), owned - 1);
    let events = rig.take(secs(12)).unwrap();
    assert!(matches!(
        events[0],
        Event::Slow {
            stage: Stage::Warn,
            ..
        }
    ));
    assert_eq!(rig.map.moves[&asked[1]].stage, Stage::Warn);
    // A stage begins when its map is known.
    assert_eq!(rig.next(secs(12)).0, None);
    let old = rig.map.clone();
    let events = rig.take(secs(17)).unwrap();
    assert!(matches!(
        events[0],
        Event::Slow {
            stage: Stage::Fence,
            ..
        }
    ));
    assert_follows(&old, &rig.map);
    assert_ne!(rig.map.grants[&asked[1]].owner, holder(2));
}

#[test]
fn nothing_moves_for_balance_where_nobody_hears_of_it() {
    let unbalanced = || {
        let mut rig = Rig::new(3);
        // Four times as much for each bucket of one as for those of the others.
        let load = |grant: &Grant| if grant.owner == holder(0) { 4 } else { 1 };
        let grants = rig.map.grants.iter();
        rig.loads = grants
            .map(|(bucket, grant)| (*bucket, load(grant)))
            .collect();
        rig
    };
    let mut rig = unbalanced();
    rig.take(secs(1)).unwrap();
    assert!(!rig.map.moves.is_empty());
    let mut rig = unbalanced();
    rig.view.links.clear();
    assert_eq!(rig.next(secs(1)).0, None);
}

#[test]
fn acknowledgements_are_gathered_for_one_write() {
    let ms = |ms: u64| Moment(ms * 1000);
    let wait = Timing::default().gather;
    let mut rig = Rig::new(3);
    rig.lease(2, |record| record.draining = true);
    rig.take(ms(1000)).unwrap();
    let asked: Vec<Bucket> = rig.map.moves.keys().copied().collect();
    rig.moves.look(ms(1000), &rig.map, &rig.view.timing);
    assert_eq!(rig.moves.gathers(ms(1000), wait), None, "nobody stopped");
    let (last, others) = asked.split_last().unwrap();
    for (at, bucket) in (1001..).zip(others) {
        rig.moves
            .acknowledged(ms(at), *bucket, &holder(2), rig.map.version);
    }
    let until = Some(ms(1011));
    assert_eq!(
        rig.moves.gathers(ms(1005), wait),
        until,
        "from the first on"
    );
    assert_eq!(rig.moves.gathers(ms(1011), wait), None, "and no longer");
    rig.moves
        .acknowledged(ms(1006), *last, &holder(2), rig.map.version);
    assert_eq!(rig.moves.gathers(ms(1006), wait), None, "all have stopped");
}

#[test]
fn an_acknowledgement_that_comes_before_its_move_is_known_counts() {
    let mut rig = Rig::new(3);
    rig.lease(2, |record| record.draining = true);
    let (next, _) = rig.next(secs(1));
    let next = next.unwrap();
    let bucket = *next.moves.keys().next().unwrap();
    rig.moves
        .acknowledged(secs(0), bucket, &holder(2), next.version);
    rig.map = next;
    rig.moves.look(secs(1), &rig.map, &Timing::default());
    assert_eq!(rig.moves.turn(secs(1), bucket), Turn::Commit);
}

#[test]
fn a_move_to_one_that_leaves_is_off() {
    let mut rig = Rig::new(3);
    rig.lease(2, |record| record.draining = true);
    rig.take(secs(1)).unwrap();
    let gone = rig.map.moves.values().next().unwrap().to.clone();
    let n = usize::from(gone == holder(1));
    if n == 0 {
        rig.view.draining = true;
    } else {
        rig.lease(1, |record| record.draining = true);
    }
    rig.take(secs(2)).unwrap();
    assert!(rig.map.moves.values().all(|of| of.to != gone));
}

#[test]
fn where_nobody_can_take_over_everything_stays() {
    let mut rig = Rig::new(2);
    rig.view.draining = true;
    rig.lease(1, |record| record.draining = true);
    rig.take(secs(1)).unwrap();
    assert_eq!((rig.map.moves.len(), rig.map.grants.len()), (0, 16));
    assert_eq!(rig.next(secs(2)).0, None);
}

#[test]
fn what_a_store_accepted_is_passed_unless_nothing_can_pass_it() {
    let mut rig = Rig::new(2);
    let bucket = Bucket(3);
    let stranger: Holder = "x#1".parse().unwrap();
    rig.fences.insert(bucket, (Epoch(500), stranger.clone()));
    let events = rig.take(secs(1)).unwrap();
    assert_eq!(events, [Event::Reissued(bucket)]);
    assert!(rig.map.grants[&bucket].epoch.0 > 500);
    assert_eq!(rig.next(secs(1)).0, None);
    // At its own epoch under its own name: nothing is wrong.
    let grant = rig.map.grants[&bucket].clone();
    rig.fences.insert(bucket, (grant.epoch, grant.owner));
    assert_eq!(rig.next(secs(1)).0, None);
    rig.fences.insert(bucket, (grant.epoch, stranger.clone()));
    assert!(rig.next(secs(1)).0.is_some(), "equal, under another");
    rig.fences.insert(bucket, (Epoch(MOST), stranger));
    let (next, events) = rig.next(secs(1));
    assert_eq!(next, None);
    assert!(matches!(events[0], Event::EpochAtMaximum { .. }));
}

#[test]
fn the_dead_leave_the_map_when_their_lease_is_deleted() {
    let mut rig = Rig::new(2);
    rig.lease(1, |record| record.life = Life::Gone);
    rig.settle(secs(1));
    assert_eq!(rig.map.state(&holder(1)), Some(MemberState::Down));
    let object = Object::Member(pod(1));
    rig.view.observe(secs(700), &object, None, Some(secs(700)));
    rig.settle(secs(700));
    assert_eq!(rig.map.state(&holder(1)), None);
}

#[test]
fn a_map_is_made_again_above_what_anybody_remembers() {
    let (mut view, mut chance, mut out) = (view(3, 0), Chance::new(1), out());
    let mut healing = Healing::begin(secs(1), &view, &mut chance, &mut out);
    let actions = drain(&mut out);
    let asked = actions.iter().filter_map(|action| match action {
        crate::coordination::port::Action::Send { message, .. } => match message.body {
            Body::Recall { number } => Some(number),
            _ => None,
        },
        _ => None,
    });
    let numbers: Vec<u64> = asked.collect();
    assert_eq!(numbers.len(), 2);
    assert!(healing.waits(secs(1)).is_some());
    assert_eq!(healing.waits(secs(2)), None);
    let mut newer = map(3);
    newer.version = 77;
    newer.grants.get_mut(&Bucket(0)).unwrap().owner = holder(2);
    newer.term = 9;
    let newer = Arc::new(newer);
    healing.remembered(Some(numbers[0] + 1), 5000, None);
    healing.remembered(Some(numbers[0]), 80, Some(&newer));
    healing.remembered(None, 900, None);
    healing.remembered(None, MOST, None);
    assert_eq!(
        healing.term(),
        9,
        "what is to come is written under a higher one"
    );
    let made = healing.map(&view, &mut chance).unwrap();
    assert!(
        (900 + 1024..900 + 2048).contains(&made.version),
        "{}",
        made.version
    );
    assert_eq!(made.grants[&Bucket(0)].owner, holder(2));
    assert!(
        made.grants
            .values()
            .all(|grant| grant.epoch.0 == made.version + 1)
    );
    // A map that was seen, and lost, since all were asked.
    view.highest = 5_000;
    let made = healing.map(&view, &mut chance).unwrap();
    assert!(made.version > 5_000, "{}", made.version);
}

#[test]
fn the_first_map_of_a_fleet_begins_at_one() {
    let mut view = View::new(me(0), Timing::default(), Protocol::default());
    view.holder = Some(holder(0));
    let mut chance = Chance::new(1);
    let healing = Healing::begin(secs(1), &view, &mut chance, &mut out());
    assert_eq!(healing.map(&view, &mut chance).unwrap().version, 0);
}

/// What may become of a pod.
#[derive(Clone, Debug)]
enum Fall {
    Dies(usize),
    Drains(usize),
    ComesBack(usize),
    Acknowledges(usize),
    Waits(u64),
    Fenced(u16, u64),
    Edited(u16, usize),
    Loaded(u16, u32),
}

fn falls() -> impl Strategy<Value = Vec<Fall>> {
    let fall = prop_oneof![
        (1_usize..5).prop_map(Fall::Dies),
        (1_usize..5).prop_map(Fall::Drains),
        (1_usize..5).prop_map(Fall::ComesBack),
        (0_usize..16).prop_map(Fall::Acknowledges),
        (1_u64..20).prop_map(Fall::Waits),
        (0_u16..16, 0_u64..200).prop_map(|(b, e)| Fall::Fenced(b, e)),
        (0_u16..16, 0_usize..5).prop_map(|(b, n)| Fall::Edited(b, n)),
        (0_u16..16, 0_u32..50).prop_map(|(b, n)| Fall::Loaded(b, n)),
    ];
    prop::collection::vec(fall, 1..40)
}

proptest! {
    /// Whatever becomes of the fleet: versions and epochs rise, a bucket changes hands only under a
    /// new epoch, no epoch of a bucket is ever issued to two, and everything comes to rest with each
    /// bucket at a live pod.
    #[test]
    fn every_map_follows_from_the_one_before(falls in falls()) {
        let mut rig = Rig::new(5);
        let mut incarnations = [1_u64; 5];
        let mut issued: BTreeMap<(Bucket, Epoch), Holder> = BTreeMap::new();
        let mut now = secs(1);
        for fall in falls {
            match fall {
                Fall::Dies(n) => {
                    let incarnation = incarnations[n];
                    rig.lease(n, |record| {
                        record.holder.incarnation = incarnation;
                        record.life = Life::Marked;
                    });
                }
                Fall::Drains(n) => {
                    let incarnation = incarnations[n];
                    rig.lease(n, |record| {
                        record.holder.incarnation = incarnation;
                        record.draining = true;
                    });
                }
                Fall::ComesBack(n) => {
                    incarnations[n] += 1;
                    let incarnation = incarnations[n];
                    let comes = Holder { pod: pod(n), incarnation };
                    rig.view.links.insert(comes, Link::Reached);
                    rig.lease(n, |record| record.holder.incarnation = incarnation);
                }
                Fall::Acknowledges(n) => {
                    let of = rig.map.moves.iter().nth(n).map(|(b, of)| (*b, of.from.clone()));
                    if let Some((bucket, from)) = of {
                        rig.moves.acknowledged(secs(0), bucket, &from, rig.map.version);
                    }
                }
                Fall::Waits(time) => now = now.after(std::time::Duration::from_secs(time)),
                Fall::Fenced(bucket, epoch) => {
                    rig.fences.insert(Bucket(bucket), (Epoch(epoch), "x#1".parse().unwrap()));
                }
                Fall::Edited(bucket, n) => {
                    let mut edited = rig.map.clone();
                    edited.version += 1;
                    edited.grants.get_mut(&Bucket(bucket)).unwrap().owner = holder(n);
                    edited.moves.remove(&Bucket(bucket));
                    rig.view.follow(now, Arc::new(edited.clone()));
                    rig.map = edited;
                }
                Fall::Loaded(bucket, load) => {
                    rig.loads.insert(Bucket(bucket), load);
                }
            }
            let old = rig.map.clone();
            if rig.take(now).is_some() {
                assert_follows(&old, &rig.map);
                for (bucket, grant) in &rig.map.grants {
                    let first = issued
                        .entry((*bucket, grant.epoch))
                        .or_insert_with(|| grant.owner.clone());
                    prop_assert_eq!(&*first, &grant.owner, "{:?} at {:?}", bucket, grant.epoch);
                }
            }
        }
        rig.settle(now);
        let lives: BTreeSet<Holder> = rig
            .map
            .holders()
            .filter(|(_, member)| member.state.lives())
            .map(|(holder, _)| holder)
            .collect();
        prop_assert_eq!(rig.map.grants.len(), 16);
        for Grant { owner, .. } in rig.map.grants.values() {
            prop_assert!(lives.contains(owner));
        }
        let _: Option<&Member> = rig.map.members.values().next();
    }
}
