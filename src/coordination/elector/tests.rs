use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::coordination::{
    names::MOST,
    port::Stored,
    protocol::{Mutation, Protocol},
    records::Life,
    tests::fixtures::{asked, drain, holder, lease, member, ms, out, pod, secs, stored, view},
};

/// A candidate (pod 0) that knows how the Lease stands.
fn knowing(view: &View) -> Elector {
    let mut elector = Elector::new(view);
    elector.unsure = false;
    elector
}

fn see(view: &mut View, now: Moment, record: Option<LeaderRecord>, version: &str) {
    let heard = record.map(|record| stored(Record::Leader(record), version));
    view.observe(now, &Object::Leader, heard.as_ref(), Some(now));
}

fn kill(view: &mut View, n: usize) {
    let mut record = member(n);
    record.life = Life::Marked;
    let record = stored(Record::Member(record), "dead");
    view.observe(
        secs(1),
        &Object::Member(pod(n)),
        Some(&record),
        Some(secs(1)),
    );
}

/// Keeps the candidate in contact up to then.
fn contact(view: &mut View, until: u64) {
    for at in (0..=until).step_by(5) {
        view.contact.confirmed(secs(at), secs(at));
    }
}

/// When it first writes, from `from` on.
fn takes(elector: &mut Elector, view: &View, from: Moment, most: Moment) -> Option<(Moment, Op)> {
    let mut out = out();
    let mut now = from;
    while now <= most {
        out.settle();
        elector.step(now, view, &mut out);
        if let Some((_, op)) = asked(&mut out).pop() {
            return Some((now, op));
        }
        now = out.wake().filter(|wake| *wake > now)?;
    }
    None
}

fn taken(op: &Op) -> (LeaderRecord, Option<ResourceVersion>) {
    match op {
        Op::Create(Record::Leader(record)) => (record.clone(), None),
        Op::Replace {
            record: Record::Leader(record),
            resource_version,
        } => (record.clone(), Some(Arc::clone(resource_version))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_of_nobody_is_taken_after_a_moment() {
    let mut view = view(2, 1);
    contact(&mut view, 10);
    let mut elector = knowing(&view);
    let mut edited = lease(1, 1);
    edited.holder = Some("nobody#7".parse().unwrap());
    see(&mut view, secs(10), Some(edited.clone()), "edited");
    let (at, op) = takes(&mut elector, &view, secs(10), secs(14)).unwrap();
    assert!(at >= secs(11) && at <= secs(12), "{at:?}");
    let (record, version) = taken(&op);
    assert_eq!((record.holder, record.term), (Some(holder(0)), 2));
    assert_eq!(version.as_deref(), Some("edited"));
    // One whose member Lease comes meanwhile is somebody.
    let mut elector = knowing(&view);
    edited.holder = Some(Holder {
        pod: pod(1),
        incarnation: 2,
    });
    see(&mut view, secs(10), Some(edited), "joined");
    let (at, _) = takes(&mut knowing(&view), &view, secs(10), secs(14)).unwrap();
    assert!(at >= secs(11) && at <= secs(12), "{at:?}");
    assert_eq!(takes(&mut elector, &view, secs(10), ms(10_900)), None);
    let mut record = member(1);
    record.holder.incarnation = 2;
    let record = stored(Record::Member(record), "joined");
    view.observe(
        secs(11),
        &Object::Member(pod(1)),
        Some(&record),
        Some(secs(11)),
    );
    assert_eq!(takes(&mut elector, &view, secs(11), secs(14)), None);
}

#[test]
fn a_lease_that_is_renewed_is_left_alone_and_a_stale_one_taken() {
    let mut view = view(2, 1);
    contact(&mut view, 10);
    let mut elector = knowing(&view);
    assert_eq!(takes(&mut elector, &view, secs(10), secs(14)), None);
    see(&mut view, secs(12), Some(lease(1, 1)), "l2");
    contact(&mut view, 25);
    assert_eq!(takes(&mut elector, &view, secs(25), secs(26)), None);
    let (at, op) = takes(&mut elector, &view, secs(26), secs(31)).unwrap();
    assert!(at >= secs(27), "{at:?}");
    let (record, version) = taken(&op);
    assert_eq!((record.holder, record.term), (Some(holder(0)), 2));
    assert_eq!(version.as_deref(), Some("l2"));
}

#[test]
fn out_of_contact_nothing_expires() {
    let view = view(2, 1);
    let mut elector = knowing(&view);
    assert_eq!(takes(&mut elector, &view, secs(3600), secs(7200)), None);
}

#[test]
fn the_term_is_above_the_leases_and_the_maps() {
    for (stored_term, mapped, next) in [
        (4, 2, 5),
        (2, 4, 5),
        (MOST, 2, 3),
        // No map could have the next one.
        (REACHABLE, 2, 3),
        (REACHABLE - 2, 2, REACHABLE - 1),
    ] {
        let mut view = view(2, 1);
        let mut map = (**view.map.as_ref().unwrap()).clone();
        (map.term, map.version) = (mapped, 2);
        view.follow(secs(0), map.into());
        see(&mut view, secs(0), Some(lease(1, stored_term)), "l3");
        contact(&mut view, 20);
        let mut elector = knowing(&view);
        kill(&mut view, 1);
        let (_, op) = takes(&mut elector, &view, secs(20), secs(30)).unwrap();
        assert_eq!(taken(&op).0.term, next, "{stored_term} {mapped}");
    }
}

#[test]
fn a_lease_that_was_deleted_is_not_begun_anew_below_what_it_was_seen_at() {
    for (seen, next) in [(4, 5), (REACHABLE - 2, REACHABLE - 1), (REACHABLE - 1, 2)] {
        let mut view = view(2, 1);
        see(&mut view, secs(0), Some(lease(1, seen)), "l3");
        see(&mut view, secs(1), None, "gone");
        contact(&mut view, 20);
        let mut elector = knowing(&view);
        let (_, op) = takes(&mut elector, &view, secs(1), secs(30)).unwrap();
        let (record, version) = taken(&op);
        assert_eq!((record.term, version), (next, None), "{seen}");
    }
}

#[test]
fn a_lease_that_an_editor_gave_is_held_under_a_term_of_ones_own() {
    let mut view = view(2, 1);
    contact(&mut view, 10);
    let mut elector = Elector::new(&view);
    let (_, op) = takes(&mut elector, &view, secs(10), secs(10)).unwrap();
    assert_eq!(op, Op::Read);
    let edited = lease(0, 3);
    see(&mut view, secs(10), Some(edited.clone()), "edited");
    let answer = Answer::Done(stored(Record::Leader(edited), "edited"));
    let tools = (&mut Chance::new(1), &mut out());
    elector.answered(secs(10), (&Purpose::Read, secs(10)), &answer, &view, tools);
    assert!(elector.bumping(), "term 3 may have been another's");
    let (_, op) = takes(&mut elector, &view, secs(10), secs(10)).unwrap();
    let (record, version) = taken(&op);
    assert_eq!((record.holder, record.term), (Some(holder(0)), 4));
    assert_eq!(version.as_deref(), Some("edited"));
}

#[test]
fn a_dead_leaders_candidates_come_one_after_the_other() {
    let mut turns = Vec::new();
    for term in 1..40 {
        let mut view = view(4, 3);
        see(&mut view, secs(1), Some(lease(3, term)), "l9");
        contact(&mut view, 5);
        kill(&mut view, 3);
        let mut elector = knowing(&view);
        let (at, _) = takes(&mut elector, &view, secs(2), secs(4)).unwrap();
        turns.push(at.since(secs(2)).as_millis());
    }
    let mut seen = turns.clone();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(
        seen,
        [0, 300, 600],
        "by term another one is first: {turns:?}"
    );
}

#[test]
fn a_missing_lease_is_left_to_the_maps_leader_at_first() {
    let mut view = view(2, 1);
    contact(&mut view, 5);
    see(&mut view, secs(4), None, "");
    let mut elector = knowing(&view);
    // The map names pod 0.
    let (at, op) = takes(&mut elector, &view, secs(4), secs(6)).unwrap();
    assert_eq!((at, matches!(op, Op::Create(_))), (secs(4), true));
    let mut map = (**view.map.as_ref().unwrap()).clone();
    (map.leader, map.version) = (holder(1), 2);
    view.follow(secs(4), map.into());
    let mut elector = knowing(&view);
    let (at, _) = takes(&mut elector, &view, secs(4), secs(6)).unwrap();
    assert!(at >= secs(4).after(view.timing.create), "{at:?}");
}

#[test]
fn a_released_lease_goes_to_its_heir_at_once() {
    let released = |heir| LeaderRecord {
        holder: None,
        heir,
        ..lease(1, 1)
    };
    let mut view = view(3, 1);
    contact(&mut view, 5);
    see(&mut view, secs(4), Some(released(Some(holder(0)))), "l2");
    let (at, _) = takes(&mut knowing(&view), &view, secs(4), secs(6)).unwrap();
    assert_eq!(at, secs(4));
    see(&mut view, secs(4), Some(released(Some(holder(2)))), "l3");
    let (at, _) = takes(&mut knowing(&view), &view, secs(4), secs(6)).unwrap();
    assert!(at >= secs(4).after(view.timing.step), "{at:?}");
}

#[test]
fn ones_own_former_lease_is_taken_back_only_under_the_same_pod_uid() {
    let mut view = view(2, 1);
    contact(&mut view, 5);
    view.holder.as_mut().unwrap().incarnation = 2;
    see(&mut view, secs(1), Some(lease(0, 1)), "l2");
    let (at, _) = takes(&mut knowing(&view), &view, secs(2), secs(4)).unwrap();
    assert_eq!(at, secs(2));
    let foreign = LeaderRecord {
        pod_uid: Arc::from("another"),
        ..lease(0, 1)
    };
    see(&mut view, secs(2), Some(foreign), "l3");
    let mut old = member(0);
    old.holder.incarnation = 1;
    let old = stored(Record::Member(old), "m9");
    view.observe(secs(2), &Object::Member(pod(0)), Some(&old), Some(secs(2)));
    assert_eq!(takes(&mut knowing(&view), &view, secs(2), secs(4)), None);
}

#[test]
fn one_that_was_deposed_waits_unless_the_lease_expires() {
    let mut view = view(2, 1);
    contact(&mut view, 40);
    kill(&mut view, 1);
    let mut elector = knowing(&view);
    elector.damping.deposed(secs(20));
    see(&mut view, secs(19), Some(lease(1, 1)), "l2");
    let (at, _) = takes(&mut elector, &view, secs(20), secs(40)).unwrap();
    assert_eq!(at, secs(34), "stale before the damping ends");
    let mut hasty = knowing(&view);
    hasty.damping.deposed(secs(20));
    view.protocol = Protocol::with(Mutation::NoDamping);
    let (at, _) = takes(&mut hasty, &view, secs(20), secs(40)).unwrap();
    assert_eq!(at, secs(20));
}

#[test]
fn those_that_drain_or_are_not_ready_do_not_lead() {
    for spoil in [
        |view: &mut View| view.draining = true,
        |view: &mut View| view.ready = false,
    ] {
        let mut view = view(2, 1);
        contact(&mut view, 60);
        kill(&mut view, 1);
        spoil(&mut view);
        assert_eq!(takes(&mut knowing(&view), &view, secs(20), secs(60)), None);
    }
}

// What any number of candidates do to one Lease, whatever the network does to them.

/// One candidate with its own view.
struct Candidate {
    view: View,
    elector: Elector,
    chance: Chance,
    out: Out,
    led: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Fault {
    Fine,
    LostAnswer,
    LostRequest,
    Late,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::Fine),
        1 => Just(Fault::LostAnswer),
        1 => Just(Fault::LostRequest),
        1 => Just(Fault::Late),
    ]
}

/// The Lease as the API server has it.
#[derive(Default)]
struct Server {
    stored: Option<Stored>,
    versions: u64,
    terms: BTreeMap<u64, Holder>,
}

impl Server {
    fn serve(&mut self, op: Op) -> Answer {
        match (op, &self.stored) {
            (Op::Read, Some(stored)) => Answer::Done(stored.clone()),
            (Op::Read | Op::Replace { .. } | Op::Delete { .. }, None) => Answer::Absent,
            (Op::Create(_), Some(_)) => Answer::Exists,
            (Op::Create(record), None) => self.store(record),
            (
                Op::Replace {
                    record,
                    resource_version,
                },
                Some(stored),
            ) => {
                if stored.resource_version == resource_version {
                    self.store(record)
                } else {
                    Answer::Conflict
                }
            }
            (Op::Delete { .. }, Some(_)) => Answer::Conflict,
        }
    }

    fn store(&mut self, record: Record) -> Answer {
        self.versions += 1;
        if let Record::Leader(record) = &record
            && let Some(holder) = &record.holder
        {
            let first = self
                .terms
                .entry(record.term)
                .or_insert_with(|| holder.clone());
            assert_eq!(first, holder, "one leader a term");
        }
        let stored = stored(record, &self.versions.to_string());
        self.stored = Some(stored.clone());
        Answer::Done(stored)
    }
}

proptest! {
    /// However answers are lost and writes come late: each term has one leader, and one that leads
    /// by its own belief under the stored term is the one that is stored.
    #[test]
    fn a_term_has_one_leader(script in prop::collection::vec((0_usize..3, fault(), 1_u64..9000), 1..80)) {
        let mut server = Server::default();
        let mut candidates: Vec<Candidate> = (0..3)
            .map(|n| {
                let mut view = view(3, 1);
                view.me = crate::coordination::tests::fixtures::me(n);
                view.holder = Some(holder(n));
                view.leader = None;
                Candidate {
                    elector: Elector::new(&view),
                    chance: Chance::new(u64::try_from(n).unwrap()),
                    view,
                    out: out(),
                    led: Vec::new(),
                }
            })
            .collect();
        let mut late: Vec<Op> = Vec::new();
        let mut now = secs(1);
        for (n, fault, wait) in script {
            now = now.after(ms(wait).since(ms(0)));
            // What was sent long ago arrives now: it must change nothing that it shouldn't.
            for op in late.drain(..) {
                server.serve(op);
            }
            let candidate = &mut candidates[n];
            candidate.view.contact.confirmed(now, now);
            candidate.out.settle();
            candidate.elector.step(now, &candidate.view, &mut candidate.out);
            for action in drain(&mut candidate.out) {
                let crate::coordination::port::Action::Request { id, op, .. } = action else {
                    continue;
                };
                let answer = match fault {
                    Fault::Fine => server.serve(op),
                    Fault::LostAnswer => {
                        server.serve(op);
                        Answer::Unknown
                    }
                    Fault::LostRequest => Answer::Unknown,
                    Fault::Late => {
                        late.push(op);
                        Answer::Unknown
                    }
                };
                let pending = candidate.out.answered(id).unwrap();
                match &answer {
                    Answer::Done(stored) => {
                        candidate.view.observe(now, &Object::Leader, Some(stored), Some(now));
                    }
                    Answer::Absent => candidate.view.observe(now, &Object::Leader, None, Some(now)),
                    _ => {}
                }
                let asked = (&pending.purpose, pending.sent);
                let tools = (&mut candidate.chance, &mut candidate.out);
                candidate.elector.answered(now, asked, &answer, &candidate.view, tools);
                candidate.led.extend(candidate.elector.term());
            }
        }
        for (n, candidate) in candidates.iter().enumerate() {
            for term in &candidate.led {
                prop_assert_eq!(server.terms.get(term), Some(&holder(n)));
            }
        }
    }
}
