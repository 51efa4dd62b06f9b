use super::*;
use crate::coordination::{
    port::Action,
    tests::fixtures::{asked, drain, holder, map, member, ms, out, pod, secs, stored, view},
};

const LEADS: Role = Role {
    leads: true,
    damped: None,
};
const FOLLOWS: Role = Role {
    leads: false,
    damped: None,
};

/// Pod 0 of a fleet, led by `leader`, which reaches everybody.
struct Rig {
    view: View,
    evidence: Evidence,
    chance: Chance,
    out: Out,
}

impl Rig {
    fn new(pods: usize, leader: usize) -> Self {
        let mut rig = Self {
            view: view(pods, leader),
            evidence: Evidence::default(),
            chance: Chance::new(1),
            out: out(),
        };
        for n in 1..pods {
            rig.link(secs(0), n, Link::Reached);
        }
        drain(&mut rig.out);
        rig
    }

    fn link(&mut self, now: Moment, n: usize, link: Link) {
        self.view.links.insert(holder(n), link);
        self.evidence
            .link(now, &self.view, &holder(n), link, &mut self.out);
    }

    fn vote(&mut self, now: Moment, from: usize, suspect: usize, link: Link, age: u64) {
        let vote = Vote {
            suspect: holder(suspect),
            link,
            age: ms(age).since(ms(0)),
        };
        self.evidence.vote(now, &self.view, &holder(from), &vote);
    }

    fn step(&mut self, now: Moment, role: Role) -> Vec<Op> {
        self.view.contact.confirmed(now, now);
        self.out.settle();
        self.evidence.step(now, &self.view, role, &mut self.out);
        asked(&mut self.out).into_iter().map(|(_, op)| op).collect()
    }

    fn answer(&mut self, sent: Moment, now: Moment, purpose: &Purpose, answer: &Answer) {
        for id in (1..200).map(crate::coordination::port::RequestId) {
            self.out.answered(id);
        }
        let suspect = match purpose {
            Purpose::Check(holder) | Purpose::Challenge(holder) | Purpose::Mark(holder, _) => {
                holder.clone()
            }
            other => panic!("{other:?}"),
        };
        if let Answer::Done(stored) = answer {
            let object = Object::Member(suspect.pod.clone());
            self.view.observe(now, &object, Some(stored), Some(now));
        }
        let tools = (&self.view.timing.clone(), &mut self.chance, &mut self.out);
        self.evidence
            .answered(now, &suspect, (purpose, sent), answer, tools);
        drain(&mut self.out);
    }

    /// The suspect, silent for this replica, challenged at `at`; its Lease then has version `c`.
    fn challenged(&mut self, n: usize, at: Moment) {
        self.link(at, n, Link::Silent);
        let ops = self.step(at, LEADS);
        let [Op::Replace { record, .. }] = ops.as_slice() else {
            panic!("{ops:?}");
        };
        let done = Answer::Done(stored(record.clone(), "c"));
        self.answer(at, at, &Purpose::Challenge(holder(n)), &done);
    }
}

/// The version at which it marks, if it marks.
fn marked(ops: &[Op]) -> Option<&str> {
    ops.iter().find_map(|op| match op {
        Op::Replace {
            record: Record::Member(record),
            resource_version,
        } if record.life == Life::Marked => Some(&**resource_version),
        _ => None,
    })
}

fn challenges(ops: &[Op]) -> bool {
    ops.iter().any(|op| {
        matches!(op, Op::Replace { record: Record::Member(record), .. } if record.challenge.is_some())
    })
}

#[test]
fn a_majority_that_is_refused_marks_at_once_at_the_version_it_knows() {
    let mut rig = Rig::new(3, 0);
    rig.link(secs(1), 2, Link::Refused);
    rig.vote(secs(1), 1, 2, Link::Refused, 200);
    assert_eq!(marked(&rig.step(secs(1), LEADS)), Some("m2"));
}

#[test]
fn what_is_no_majority_challenges() {
    let spoil: [fn(&mut Rig); 6] = [
        |_| {},
        |rig| rig.vote(secs(1), 1, 2, Link::Silent, 0),
        |rig| rig.vote(secs(1), 1, 2, Link::Refused, 1001),
        |rig| rig.vote(ms(1), 1, 2, Link::Refused, 0),
        // Of one who is no member.
        |rig| rig.vote(secs(1), 7, 2, Link::Refused, 0),
        // Taken back.
        |rig| {
            rig.vote(secs(1), 1, 2, Link::Refused, 0);
            rig.vote(secs(1), 1, 2, Link::Reached, 0);
        },
    ];
    for (n, spoil) in spoil.into_iter().enumerate() {
        let mut rig = Rig::new(3, 0);
        spoil(&mut rig);
        let now = secs(1).after(ms(2).since(ms(0)));
        rig.link(now, 2, Link::Refused);
        let ops = rig.step(now, LEADS);
        assert!(challenges(&ops), "{n}: {ops:?}");
        assert_eq!(marked(&ops), None, "{n}");
    }
}

#[test]
fn members_that_are_down_leave_the_count_and_suspects_do_not() {
    let mut rig = Rig::new(4, 0);
    rig.link(secs(1), 2, Link::Refused);
    rig.vote(secs(1), 1, 2, Link::Refused, 0);
    assert_eq!(marked(&rig.step(secs(1), LEADS)), None, "2 of 4");
    let mut rig = Rig::new(4, 0);
    let mut map = map(4);
    map.version = 2;
    map.members.get_mut(&pod(3)).unwrap().state = crate::coordination::records::MemberState::Down;
    rig.view.follow(secs(1), map.into());
    rig.link(secs(1), 2, Link::Refused);
    rig.vote(secs(1), 1, 2, Link::Refused, 0);
    assert_eq!(marked(&rig.step(secs(1), LEADS)), Some("m2"), "2 of 3");
}

#[test]
fn one_that_reaches_nobody_does_not_vote_but_may_challenge() {
    let mut rig = Rig::new(3, 0);
    for n in [1, 2] {
        rig.link(secs(1), n, Link::Refused);
    }
    rig.vote(secs(1), 1, 2, Link::Refused, 0);
    let sent = drain(&mut rig.out);
    assert!(
        !sent
            .iter()
            .any(|action| matches!(action, Action::Send { .. }))
    );
    let ops = rig.step(secs(1), LEADS);
    assert_eq!(marked(&ops), None);
    assert!(challenges(&ops));
}

#[test]
fn votes_go_to_the_leader_and_to_all_when_it_is_the_suspect() {
    let sent = |rig: &mut Rig| -> Vec<Holder> {
        drain(&mut rig.out)
            .into_iter()
            .filter_map(|action| match action {
                Action::Send { to, .. } => Some(to),
                _ => None,
            })
            .collect()
    };
    let mut rig = Rig::new(4, 1);
    rig.link(secs(1), 2, Link::Refused);
    assert_eq!(sent(&mut rig), [holder(1)]);
    rig.link(secs(1), 1, Link::Refused);
    assert_eq!(sent(&mut rig), [holder(2), holder(3)]);
    rig.link(secs(2), 2, Link::Reached);
    assert_eq!(sent(&mut rig), [holder(1)], "a vote is taken back");
}

#[test]
fn an_unanswered_challenge_marks_after_a_second_at_its_own_version() {
    let mut rig = Rig::new(3, 0);
    rig.challenged(2, secs(1));
    assert_eq!(rig.step(ms(1900), LEADS), []);
    rig.link(secs(2), 2, Link::Silent);
    assert_eq!(marked(&rig.step(secs(2), LEADS)), Some("c"));
}

#[test]
fn an_answer_keeps_it_alive_and_it_is_asked_again_later_each_time() {
    let mut rig = Rig::new(3, 0);
    let mut now = secs(1);
    let mut pauses = Vec::new();
    for round in 0..6 {
        rig.challenged(2, now);
        let answered = now.after(ms(300).since(ms(0)));
        let lease = stored(Record::Member(member(2)), &format!("r{round}"));
        rig.view
            .observe(answered, &Object::Member(pod(2)), Some(&lease), None);
        let mut next = answered;
        loop {
            rig.link(next, 2, Link::Silent);
            // Both renew all the while.
            for n in [1, 2] {
                let version = format!("{n}-{round}-{}", next.0);
                let lease = stored(Record::Member(member(n)), &version);
                rig.view
                    .observe(next, &Object::Member(pod(n)), Some(&lease), None);
            }
            rig.view.contact.confirmed(next, next);
            rig.out.settle();
            let mut probe = rig.evidence.clone();
            probe.step(next, &rig.view, LEADS, &mut rig.out);
            let ops: Vec<Op> = asked(&mut rig.out).into_iter().map(|(_, op)| op).collect();
            assert_eq!(marked(&ops), None);
            if challenges(&ops) {
                for id in (1..2000).map(crate::coordination::port::RequestId) {
                    rig.out.answered(id);
                }
                break;
            }
            rig.evidence = probe;
            next = next.after(ms(500).since(ms(0)));
        }
        pauses.push(next.since(answered).as_secs());
        now = next;
    }
    assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn a_challenge_that_stands_is_adopted() {
    let mut rig = Rig::new(3, 0);
    let mut asked = member(2);
    asked.challenge = Some(Challenge { by: holder(1) });
    let asked = stored(Record::Member(asked), "x");
    rig.view
        .observe(secs(1), &Object::Member(pod(2)), Some(&asked), None);
    rig.link(secs(1), 2, Link::Silent);
    assert_eq!(rig.step(secs(1), LEADS), []);
    rig.link(secs(2), 2, Link::Silent);
    assert_eq!(marked(&rig.step(secs(2), LEADS)), Some("x"));
}

#[test]
fn a_slow_answer_or_a_gap_makes_a_challenger_start_over() {
    let mut rig = Rig::new(3, 0);
    rig.link(secs(1), 2, Link::Silent);
    let ops = rig.step(secs(1), LEADS);
    let [Op::Replace { record, .. }] = ops.as_slice() else {
        panic!("{ops:?}");
    };
    let done = Answer::Done(stored(record.clone(), "c"));
    rig.answer(secs(1), ms(2100), &Purpose::Challenge(holder(2)), &done);
    rig.link(ms(2100), 2, Link::Silent);
    let ops = rig.step(ms(2100), LEADS);
    assert!(challenges(&ops) && marked(&ops).is_none(), "{ops:?}");

    let mut rig = Rig::new(3, 0);
    rig.challenged(2, secs(1));
    rig.link(secs(30), 2, Link::Silent);
    let ops = rig.step(secs(30), LEADS);
    assert_eq!(ops, [Op::Read], "the gap may have hidden an answer");
}

#[test]
fn a_renewal_that_overtakes_a_mark_makes_the_evidence_start_over() {
    let mut rig = Rig::new(3, 0);
    rig.link(secs(1), 2, Link::Refused);
    rig.vote(secs(1), 1, 2, Link::Refused, 0);
    assert!(marked(&rig.step(secs(1), LEADS)).is_some());
    let mark = Purpose::Mark(holder(2), Why::Refused);
    rig.answer(secs(1), secs(1), &mark, &Answer::Conflict);
    assert_eq!(rig.step(secs(1), LEADS), [Op::Read]);
    let lease = Answer::Done(stored(Record::Member(member(2)), "new"));
    rig.answer(secs(1), secs(1), &Purpose::Check(holder(2)), &lease);
    assert_eq!(rig.step(secs(1), LEADS), [], "the votes are from before");
    rig.link(secs(2), 2, Link::Refused);
    rig.vote(secs(2), 1, 2, Link::Refused, 0);
    assert_eq!(marked(&rig.step(secs(2), LEADS)), Some("new"));
}

#[test]
fn a_stale_lease_is_marked_without_any_gossip_and_never_out_of_contact() {
    let mut rig = Rig::new(3, 0);
    let mut first = None;
    for at in 1..40 {
        // The other one renews.
        let lease = stored(Record::Member(member(1)), &format!("a{at}"));
        rig.view
            .observe(secs(at), &Object::Member(pod(1)), Some(&lease), None);
        let ops = rig.step(secs(at), LEADS);
        if let Some(version) = marked(&ops) {
            first = Some((at, version.to_owned()));
            break;
        }
    }
    assert_eq!(first, Some((15, "m2".to_owned())));
    let mut rig = Rig::new(3, 0);
    assert_eq!(rig.step(secs(300), LEADS), [], "it was away itself");
}

#[test]
fn a_member_without_a_lease_whom_nobody_reaches_is_marked_after_a_moment() {
    let mut rig = Rig::new(3, 0);
    rig.view
        .observe(secs(1), &Object::Member(pod(1)), None, Some(secs(1)));
    assert!(rig.step(secs(3), LEADS).is_empty(), "it is reached");
    rig.view.links.remove(&holder(1));
    rig.view
        .observe(secs(4), &Object::Member(pod(2)), None, Some(secs(4)));
    rig.view.links.remove(&holder(2));
    let ops = rig.step(ms(4_900), LEADS);
    let marks = |op: &Op, n| {
        let Op::Create(Record::Member(record)) = op else {
            return false;
        };
        record.life == Life::Marked && record.holder == holder(n)
    };
    assert!(ops.len() == 1 && marks(&ops[0], 1), "{ops:?}");
    let ops = rig.step(ms(5_100), LEADS);
    assert!(ops.iter().any(|op| marks(op, 2)), "{ops:?}");
}

#[test]
fn followers_act_on_the_leader_alone_one_after_the_other() {
    let mut rig = Rig::new(4, 1);
    rig.link(secs(1), 2, Link::Silent);
    assert_eq!(rig.step(secs(1), FOLLOWS), []);
    let wait = rig.view.timing.step * rig.view.rank(1);
    rig.link(secs(1), 1, Link::Silent);
    let turn = secs(1).after(wait);
    let ops = rig.step(turn, FOLLOWS);
    assert!(challenges(&ops), "{ops:?}");
    let mut rig = Rig::new(4, 1);
    rig.link(secs(1), 1, Link::Silent);
    let damped = Role {
        leads: false,
        damped: Some(secs(60)),
    };
    assert_eq!(rig.step(secs(1), damped), []);
}

#[test]
fn one_that_most_can_not_reach_for_half_a_minute_is_unreachable_until_they_do() {
    let mut rig = Rig::new(3, 0);
    let mut began = None;
    for at in 0..50 {
        for n in [1, 2] {
            let lease = stored(Record::Member(member(n)), &format!("{n}-{at}"));
            rig.view
                .observe(secs(at), &Object::Member(pod(n)), Some(&lease), None);
        }
        rig.link(secs(at), 2, Link::Silent);
        if at != 20 {
            // One lost vote doesn't matter.
            rig.vote(secs(at), 1, 2, Link::Silent, 0);
        }
        rig.view.contact.confirmed(secs(at), secs(at));
        rig.evidence.step(secs(at), &rig.view, LEADS, &mut rig.out);
        if began.is_none() && rig.evidence.unreachable(&holder(2)) {
            began = Some(at);
        }
        drain(&mut rig.out);
    }
    assert_eq!(began, Some(30));
    rig.link(secs(50), 2, Link::Reached);
    rig.vote(secs(50), 1, 2, Link::Reached, 0);
    rig.step(secs(50), LEADS);
    assert!(!rig.evidence.unreachable(&holder(2)));
}

#[test]
fn in_a_fleet_of_two_nobody_is_unreachable() {
    let mut rig = Rig::new(2, 0);
    for at in 0..100 {
        let lease = stored(Record::Member(member(1)), &format!("{at}"));
        rig.view
            .observe(secs(at), &Object::Member(pod(1)), Some(&lease), None);
        rig.link(secs(at), 1, Link::Silent);
        rig.step(secs(at), LEADS);
    }
    assert!(!rig.evidence.unreachable(&holder(1)));
}
