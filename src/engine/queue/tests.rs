use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    api::{ObservationSpec, SpecDigest},
    journal::{Event, IngestorUid, LogId, Origin, RecordId},
    ops::time::Clock as _,
    testing::clock::ManualClock,
};

fn record(position: u64) -> Record {
    Record {
        id: RecordId {
            log: LogId(7),
            position: Position(position),
        },
        event: Event {
            ingestor: IngestorUid("u".into()),
            spec: SpecDigest([0; 32]),
            event_id: "e".into(),
            key: None,
            payload: PayloadDigest([0; 32]),
            accepted_at: Millis(0),
            origin: Origin::Request,
            traceparent: None,
            headers: Vec::new(),
            query: "".into(),
            body: Bytes::from_static(b"0123456789"),
        },
    }
}

fn spec() -> ObservationSpec {
    serde_json::from_value(json!({
        "source": "s", "category": "security", "severity": "low", "eventType": "x",
        "detectedAt": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}

fn write(index: u32, name: &str, dedup: DedupKind) -> Verdict {
    Verdict::Write(Box::new(Item {
        index,
        name: name.into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        spec: spec(),
        dedup,
    }))
}

fn event(index: u32, name: &str) -> Verdict {
    write(index, name, DedupKind::Event)
}

fn counting(index: u32, name: &str) -> Verdict {
    let window_end = Millis(1);
    write(index, name, DedupKind::Aggregate { window_end })
}

fn letter(index: u32) -> Letter {
    Letter {
        index,
        reason: "Refused".into(),
        message: "no".into(),
    }
}

fn home(uid: &str) -> Arc<Home> {
    Arc::new(Home {
        namespace: "team".into(),
        uid: uid.into(),
    })
}

struct Bench {
    window: Window,
    now: Instant,
    home: Arc<Home>,
}

impl Bench {
    fn new() -> Self {
        Self {
            window: Window::default(),
            now: ManualClock::at(Millis(0)).instant(),
            home: home("n"),
        }
    }

    fn admit(&mut self, position: u64, verdicts: Vec<Verdict>) {
        self.window
            .admit(&record(position), &self.home, verdicts, 10);
    }

    fn take(&mut self) -> Option<Batch> {
        self.window.take(self.now, 100, |_| 0)
    }

    fn finish(&mut self, batch: Batch, end: &ItemEnd) {
        let ends = vec![end.clone(); batch.items.len()];
        self.window.finished(batch, ends, None);
    }
}

#[test]
fn names_overlap_and_a_name_keeps_its_order() {
    let mut bench = Bench::new();
    bench.admit(1, vec![event(0, "a")]);
    bench.admit(2, vec![event(0, "a"), event(1, "b")]);
    let (a, b) = (bench.take().unwrap(), bench.take().unwrap());
    assert_eq!((&*a.name, a.items.len()), ("a", 2));
    assert_eq!((&*b.name, b.items.len()), ("b", 1));
    bench.admit(3, vec![event(0, "a")]);
    assert!(bench.take().is_none(), "a is under way");
    bench.finish(a, &ItemEnd::Observed);
    assert_eq!(bench.take().unwrap().items[0].id.record.position.0, 3);
}

#[test]
fn one_write_has_one_home() {
    let mut bench = Bench::new();
    bench.admit(1, vec![event(0, "a")]);
    // The same, from another compilation of the spec.
    bench.home = home("n");
    bench.admit(2, vec![event(0, "a")]);
    bench.home = home("another");
    bench.admit(3, vec![event(0, "a")]);
    let batch = bench.take().unwrap();
    assert_eq!(batch.items.len(), 2);
    bench.finish(batch, &ItemEnd::Observed);
    assert_eq!(&*bench.take().unwrap().items[0].home.uid, "another");
}

#[test]
fn the_end_of_a_record_is_its_strongest_items() {
    let mut bench = Bench::new();
    let filtered = || Verdict::Filtered { filter: "f".into() };
    bench.admit(1, vec![]);
    bench.admit(2, vec![filtered(), filtered()]);
    bench.admit(3, vec![filtered(), event(1, "a")]);
    bench.admit(4, vec![Verdict::Dead(letter(0)), event(1, "b")]);
    for _ in 0..2 {
        let batch = bench.take().unwrap();
        bench.finish(batch, &ItemEnd::Observed);
    }
    let ends: Vec<_> = bench.window.ended();
    let brief: Vec<_> = ends
        .iter()
        .map(|e| (e.position.0, e.end, e.observation.as_deref()))
        .collect();
    assert_eq!(
        brief,
        [
            (1, End::Filtered, None),
            (2, End::Filtered, None),
            (3, End::Observed, Some("a")),
            (4, End::DeadLettered, None),
        ]
    );
    assert_eq!(
        ends[3].items,
        Items {
            observed: 1,
            dead_lettered: 1,
            ..Items::default()
        }
    );
    assert_eq!(ends[3].letters, [letter(0)]);
    assert!(bench.window.ended().is_empty(), "handed out once");
    bench.window.committed(&ends);
    assert!(bench.window.is_empty());
    assert_eq!(bench.window.bytes(), 0);
}

#[test]
fn what_failed_comes_back_in_front_and_waits() {
    let mut bench = Bench::new();
    bench.admit(1, vec![event(0, "a")]);
    bench.admit(2, vec![event(0, "a")]);
    let batch = bench.take().unwrap();
    bench.admit(3, vec![event(0, "a")]);
    let until = bench.now + Duration::from_secs(1);
    bench
        .window
        .finished(batch, vec![ItemEnd::Observed], Some(until));
    assert!(bench.take().is_none());
    assert_eq!(bench.window.next_wake(), Some(until));
    bench.now = until;
    let positions: Vec<_> = bench
        .take()
        .unwrap()
        .items
        .iter()
        .map(|w| w.id.record.position.0)
        .collect();
    assert_eq!(positions, [2, 3]);
}

#[test]
fn behind_a_given_up_item_an_aggregate_waits_for_the_journal() {
    let mut bench = Bench::new();
    bench.admit(1, vec![counting(0, "a"), event(1, "other")]);
    bench.admit(2, vec![counting(0, "a")]);
    bench.window.singly("a");
    let first = bench.take().unwrap();
    bench.finish(first, &ItemEnd::Dead(letter(0)));
    let other = bench.take().unwrap();
    assert_eq!(&*other.name, "other", "the lane of a is closed");
    assert!(bench.take().is_none());
    bench.finish(other, &ItemEnd::Observed);
    assert!(
        bench.take().is_none(),
        "the end is known, but not in the journal"
    );
    let ends = bench.window.ended();
    bench.window.committed(&ends);
    assert_eq!(bench.take().unwrap().items[0].id.record.position.0, 2);
}

#[test]
fn a_record_does_not_wait_for_itself() {
    let mut bench = Bench::new();
    bench.admit(1, vec![counting(0, "a"), counting(1, "a")]);
    bench.admit(2, vec![counting(0, "a")]);
    bench.window.singly("a");
    let first = bench.take().unwrap();
    bench.finish(first, &ItemEnd::Dead(letter(0)));
    let second = bench.take().unwrap();
    assert_eq!(second.items[0].id.index, 1);
    bench.finish(second, &ItemEnd::Observed);
    assert!(
        bench.take().is_none(),
        "a later record waits for the journal"
    );
    let ends = bench.window.ended();
    bench.window.committed(&ends);
    assert!(bench.take().is_some());
}

#[test]
fn kinds_are_not_mixed_in_a_batch() {
    let mut bench = Bench::new();
    bench.admit(1, vec![event(0, "a")]);
    bench.admit(2, vec![counting(0, "a")]);
    assert_eq!(bench.take().unwrap().items.len(), 1);
}

#[test]
fn the_rank_goes_before_age() {
    let mut bench = Bench::new();
    bench.admit(1, vec![event(0, "poison")]);
    bench.admit(2, vec![event(0, "good")]);
    let rank = |name: &str| u32::from(name == "poison");
    let batch = bench.window.take(bench.now, 1, rank).unwrap();
    assert_eq!(&*batch.name, "good");
}

#[test]
fn a_record_is_admitted_once() {
    let mut bench = Bench::new();
    bench.admit(1, vec![event(0, "a")]);
    bench.admit(1, vec![event(0, "a")]);
    assert_eq!(bench.take().unwrap().items.len(), 1);
    assert_eq!(bench.window.len(), 1);
}

proptest! {
    /// Over any schedule of takes, failures, waits and commits, every record gets exactly one end,
    /// with all its items, and each name's items are written in order.
    #[test]
    fn every_record_ends_once_and_names_keep_their_order(
        records in prop::collection::vec(prop::collection::vec((0_u8..4, any::<bool>()), 0..4), 1..30),
        moves in prop::collection::vec((0_u8..5, 0_u8..4), 0..400),
    ) {
        let mut bench = Bench::new();
        let (mut under_way, mut done): (Vec<Batch>, BTreeMap<Position, Ended>) = (Vec::new(), BTreeMap::new());
        let mut written: HashMap<Arc<str>, Vec<ItemId>> = HashMap::new();
        let mut incoming = records.iter().enumerate();
        let mut step = |bench: &mut Bench, what: u8, how: u8| {
            match what {
                0 => if let Some((position, items)) = incoming.next() {
                    let verdicts = items.iter().enumerate().map(|(index, (name, counts))| {
                        let (index, name) = (u32::try_from(index).unwrap(), format!("n{name}"));
                        if *counts { counting(index, &name) } else { event(index, &name) }
                    }).collect();
                    bench.admit(u64::try_from(position).unwrap(), verdicts);
                },
                1 => under_way.extend(bench.window.take(bench.now, 1 + usize::from(how), |_| 0)),
                2 => if !under_way.is_empty() {
                    let batch = under_way.swap_remove(usize::from(how) % under_way.len());
                    let ok = (usize::from(how) * 7) % (batch.items.len() + 1);
                    for work in &batch.items[..ok] {
                        written.entry(Arc::clone(&batch.name)).or_default().push(work.id);
                    }
                    let end = if how == 3 { ItemEnd::Dead(letter(0)) } else { ItemEnd::Observed };
                    let until = (how == 1).then(|| bench.now + Duration::from_secs(1));
                    bench.window.finished(batch, vec![end; ok], until);
                },
                3 => bench.now += Duration::from_millis(400),
                _ => {
                    let ends = bench.window.ended();
                    bench.window.committed(&ends);
                    for end in ends {
                        assert!(done.insert(end.position, end).is_none(), "two ends");
                    }
                }
            }
            under_way.len()
        };
        for (what, how) in moves {
            step(&mut bench, what, how);
        }
        // Then everything goes well.
        for _ in 0..30 {
            step(&mut bench, 0, 0);
        }
        for _ in 0..500 {
            step(&mut bench, 3, 0);
            step(&mut bench, 1, 3);
            while step(&mut bench, 2, 1) > 0 {}
            step(&mut bench, 4, 0);
        }
        prop_assert!(bench.window.is_empty());
        prop_assert_eq!(bench.window.in_flight(), 0);
        prop_assert!(bench.window.lanes.is_empty() || bench.window.asleep.len() == bench.window.lanes.len());
        for (position, items) in records.iter().enumerate() {
            let end = &done[&Position(u64::try_from(position).unwrap())];
            let sum = end.items.observed + end.items.dead_lettered;
            prop_assert_eq!(usize::try_from(sum).unwrap(), items.len());
        }
        for ids in written.values() {
            prop_assert!(ids.is_sorted());
        }
    }
}

/// What waits behind a held name goes back, and with it all that must not overtake it.
#[test]
fn a_held_name_makes_room_and_nothing_overtakes_within_a_name() {
    let mut bench = Bench::new();
    let held = |name: &str| name == "held";
    for position in 1..=5 {
        bench.admit(position, vec![event(0, "held")]);
    }
    bench.admit(6, vec![event(0, "free")]);
    assert!(bench.window.pass_over(held));
    assert!(!bench.window.pass_over(held), "once");
    assert_eq!((bench.window.len(), bench.window.bytes()), (2, 20));
    bench.admit(7, vec![event(0, "held"), event(1, "along")]);
    bench.admit(8, vec![event(0, "along")]);
    bench.admit(9, vec![Verdict::Filtered { filter: "f".into() }]);
    bench.admit(10, vec![event(0, "free")]);
    assert_eq!((bench.window.len(), bench.window.passed_over()), (4, 6));
    // One that is not held lets nobody in.
    assert_eq!(bench.window.let_in("along"), None);
    assert_eq!(bench.window.let_in("held"), Some(Position(2)));
    assert_eq!(bench.window.passed_over(), 0);
    for position in 2..=5 {
        bench.admit(position, vec![event(0, "held")]);
    }
    bench.admit(6, vec![event(0, "free")]);
    bench.admit(7, vec![event(0, "held"), event(1, "along")]);
    bench.admit(8, vec![event(0, "along")]);
    let mut seen = BTreeMap::new();
    while let Some(batch) = bench.take() {
        let positions = batch.items.iter().map(|work| work.id.record.position.0);
        seen.insert(batch.name.to_string(), positions.collect::<Vec<_>>());
    }
    let expected = [
        ("along", vec![7, 8]),
        ("free", vec![6, 10]),
        ("held", vec![1, 2, 3, 4, 5, 7]),
    ];
    assert_eq!(
        seen,
        expected.map(|(name, at)| (name.to_owned(), at)).into()
    );
}

#[test]
fn a_record_of_several_names_stays_with_what_came_before_it() {
    let mut bench = Bench::new();
    bench.admit(1, vec![event(0, "held")]);
    bench.admit(2, vec![event(0, "held"), event(1, "other")]);
    bench.admit(3, vec![event(0, "held")]);
    assert!(bench.window.pass_over(|name| name == "held"));
    assert_eq!(bench.window.len(), 2);
    assert_eq!(bench.window.let_in("held"), Some(Position(3)));
}
