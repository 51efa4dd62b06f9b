use super::*;
use crate::coordination::{
    protocol::Protocol,
    records::Challenge,
    tests::fixtures::{asked, drain, holder, map, me, member, ms, out, pod, secs, stored},
    timing::Timing,
    view::Known,
};

struct Rig {
    view: View,
    register: Register,
    chance: Chance,
    out: Out,
    purpose: Option<Purpose>,
    sent: Moment,
}

impl Rig {
    fn new() -> Self {
        let mut view = View::new(me(0), Timing::default(), Protocol::default());
        view.stored_map = Known::Absent;
        let mut chance = Chance::new(1);
        Self {
            register: Register::new(&view, &mut chance),
            view,
            chance,
            out: out(),
            purpose: None,
            sent: Moment(0),
        }
    }

    /// What it asks now.
    fn step(&mut self, now: Moment) -> Option<Op> {
        let death = self.register.step(now, &self.view, &mut self.out);
        assert_eq!(death, None);
        let mut ops = asked(&mut self.out);
        assert!(ops.len() < 2);
        let (object, op) = ops.pop()?;
        assert_eq!(object, Object::Member(pod(0)));
        self.purpose = Some(match &op {
            Op::Read => Purpose::Read,
            _ if self.view.holder.is_none() => Purpose::Claim,
            _ => Purpose::Renew,
        });
        self.sent = now;
        Some(op)
    }

    fn answer(&mut self, now: Moment, answer: Answer) -> Option<Death> {
        let number = (1..100).map(super::super::port::RequestId);
        for id in number {
            self.out.answered(id);
        }
        let asked = (self.purpose.as_ref().unwrap(), self.sent);
        let tools = (&mut self.chance, &mut self.out);
        let death = self
            .register
            .answered(now, asked, &answer, &mut self.view, tools);
        drain(&mut self.out);
        death
    }

    /// The record that it writes now, stored at `version`.
    fn write(&mut self, now: Moment, version: &str) -> (MemberRecord, Option<ResourceVersion>) {
        let (record, at) = written(self.step(now).expect("a write"));
        let done = stored(Record::Member(record.clone()), version);
        assert_eq!(
            self.answer(now.after(ms(5).since(ms(0))), Answer::Done(done)),
            None
        );
        (record, at)
    }

    /// A rig that lives as `core-0#1`, its Lease at version `1`.
    fn live() -> Self {
        let mut rig = Self::new();
        assert_eq!(rig.step(secs(1)), Some(Op::Read));
        rig.answer(secs(1), Answer::Absent);
        rig.write(secs(1), "1");
        assert_eq!(rig.view.holder, Some(holder(0)));
        rig
    }
}

fn written(op: Op) -> (MemberRecord, Option<ResourceVersion>) {
    match op {
        Op::Create(Record::Member(record)) => (record, None),
        Op::Replace {
            record: Record::Member(record),
            resource_version,
        } => (record, Some(resource_version)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_incarnation_is_above_the_leases_and_the_maps() {
    for (lease, mapped, next) in [(0, 0, 1), (4, 0, 5), (4, 9, 10), (9, 4, 10), (MOST, 2, 3)] {
        let mut rig = Rig::new();
        if mapped > 0 {
            let mut map = map(1);
            map.members.get_mut(&pod(0)).unwrap().incarnation = mapped;
            map.grants.clear();
            rig.view.follow(secs(0), map.into());
        }
        rig.step(secs(1));
        if lease == 0 {
            rig.answer(secs(1), Answer::Absent);
        } else {
            let mut record = member(0);
            record.holder.incarnation = lease;
            let done = stored(Record::Member(record), "7");
            rig.answer(secs(1), Answer::Done(done));
        }
        let (record, at) = rig.write(secs(1), "8");
        assert_eq!(record.holder.incarnation, next, "{lease} {mapped}");
        assert_eq!(at.is_some(), lease > 0);
    }
}

#[test]
fn nothing_is_claimed_before_the_map_was_read() {
    let mut rig = Rig::new();
    rig.view.stored_map = Known::Unread;
    rig.step(secs(1));
    rig.answer(secs(1), Answer::Absent);
    assert_eq!(rig.step(secs(1)), None);
}

#[test]
fn a_claim_without_an_answer_is_never_used() {
    let mut rig = Rig::new();
    rig.step(secs(1));
    rig.answer(secs(1), Answer::Absent);
    let (lost, _) = written(rig.step(secs(1)).unwrap());
    rig.answer(secs(1), Answer::Unknown);
    assert_eq!(rig.step(secs(2)), Some(Op::Read));
    // It was done after all.
    let done = stored(Record::Member(lost.clone()), "1");
    rig.answer(secs(2), Answer::Done(done));
    assert_eq!(rig.view.holder, None);
    let (record, at) = rig.write(secs(3), "2");
    assert_eq!(record.holder.incarnation, lost.holder.incarnation + 1);
    assert_eq!(at.as_deref(), Some("1"));
}

#[test]
fn it_renews_in_time_at_the_version_that_it_knows() {
    let mut rig = Rig::live();
    assert_eq!(rig.step(secs(2)), None);
    assert_eq!(rig.out.wake(), Some(secs(6)));
    let (record, at) = rig.write(secs(6), "2");
    assert_eq!((record.renewals, at.as_deref()), (1, Some("1")));
    assert_eq!(rig.register.renewed(), Some(secs(6)));
}

#[test]
fn a_challenge_is_answered_at_once_even_if_a_renewal_was_under_way() {
    let mut rig = Rig::live();
    let (renewal, _) = written(rig.step(secs(6)).unwrap());
    let mut asked = renewal.clone();
    asked.challenge = Some(Challenge { by: holder(1) });
    let asked = stored(Record::Member(asked), "3");
    assert_eq!(rig.register.seen(&rig.view, Some(&asked)), None);
    let done = stored(Record::Member(renewal), "2");
    rig.answer(secs(6), Answer::Done(done));
    assert_eq!(rig.step(secs(6)), Some(Op::Read));
    rig.answer(secs(6), Answer::Done(asked));
    let (answer, at) = rig.write(secs(6), "4");
    assert_eq!((answer.challenge, at.as_deref()), (None, Some("3")));
}

#[test]
fn a_mark_ends_this_life_and_the_next_one_is_above_it() {
    let mut rig = Rig::live();
    let Stand::There(_, Some(mine)) = rig.register.stand.clone() else {
        panic!("it has a Lease");
    };
    let marked = MemberRecord {
        life: Life::Marked,
        ..mine
    };
    let marked = stored(Record::Member(marked), "2");
    let death = rig.register.seen(&rig.view, Some(&marked));
    assert_eq!(death, Some(Death::Marked));
    rig.view.holder = None;
    rig.register.die(secs(2), &mut rig.chance);
    assert_eq!(rig.register.renewed(), None);
    // What it knew of the Lease is old: the claim on it fails, and is made on what is read.
    rig.step(secs(2)).unwrap();
    rig.answer(secs(2), Answer::Conflict);
    assert_eq!(rig.step(secs(2)), Some(Op::Read));
    rig.answer(secs(2), Answer::Done(marked));
    let (record, at) = rig.write(secs(2), "3");
    assert_eq!((record.holder.incarnation, at.as_deref()), (3, Some("2")));
    assert_eq!(record.life, Life::Live);
}

#[test]
fn another_process_under_the_same_name_supersedes() {
    let rig = Rig::live();
    let mut later = member(0);
    later.holder.incarnation = 2;
    let later = stored(Record::Member(later), "2");
    let mut rig = rig;
    let death = rig.register.seen(&rig.view, Some(&later));
    assert_eq!(death, Some(Death::Superseded));
    let same = stored(Record::Member(member(0)), "2");
    let death = rig.register.seen(&rig.view, Some(&same));
    assert_eq!(
        death,
        Some(Death::Superseded),
        "the same incarnation, another claim"
    );
}

#[test]
fn a_deleted_lease_is_made_again_by_one_that_renewed_of_late() {
    let mut rig = Rig::live();
    rig.register.seen(&rig.view, None);
    assert_eq!(rig.step(secs(2)), Some(Op::Read));
    rig.answer(secs(2), Answer::Absent);
    let (record, at) = rig.write(secs(2), "9");
    assert_eq!((record.holder, at), (holder(0), None));

    let mut rig = Rig::live();
    rig.register.seen(&rig.view, None);
    rig.step(secs(700));
    rig.answer(secs(700), Answer::Absent);
    let death = rig.register.step(secs(700), &rig.view, &mut rig.out);
    assert_eq!(
        death,
        Some(Death::Lost),
        "it may have been dead for ten minutes"
    );
}

#[test]
fn a_lower_incarnation_or_nonsense_is_overwritten() {
    let mut rig = Rig::live();
    let strange = Stored {
        record: Record::Malformed(Arc::from("?")),
        ..stored(Record::Member(member(0)), "5")
    };
    rig.register.seen(&rig.view, Some(&strange));
    rig.step(secs(2));
    assert_eq!(rig.answer(secs(2), Answer::Done(strange)), None);
    let (record, at) = rig.write(secs(2), "6");
    assert_eq!((record.holder, at.as_deref()), (holder(0), Some("5")));
}

#[test]
fn the_map_can_end_a_life_too() {
    let mut rig = Rig::live();
    let mut map = map(1);
    rig.view.follow(secs(1), map.clone().into());
    assert_eq!(Register::mapped(&rig.view), None);
    map.version = 2;
    map.members.get_mut(&pod(0)).unwrap().state = crate::coordination::records::MemberState::Down;
    rig.view.follow(secs(1), map.into());
    assert_eq!(Register::mapped(&rig.view), Some(Death::Down));
}

#[test]
fn retries_are_capped_at_a_second() {
    let mut rig = Rig::live();
    let mut now = secs(6);
    for _ in 0..30 {
        rig.step(now).expect("an attempt");
        rig.answer(now, Answer::Unknown);
        rig.out.settle();
        assert_eq!(rig.step(now), None);
        let next = rig.out.wake().unwrap();
        assert!(next.since(now) <= Timing::default().retry_most);
        now = next;
    }
}
