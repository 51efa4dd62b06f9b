use super::*;
use crate::{
    outcome::{OwnedBy, Row, Step, Timeline},
    report::acceptance::names,
};

fn outcome() -> Outcome {
    let mut checked = Checked::new("no acknowledged event is lost");
    checked.look(None);
    let mut broken = Checked::new("no process ended by itself");
    broken.look(Some(
        "core-1 ended by itself with signal 11\nlog".to_owned(),
    ));
    let span = |from, to, owner: &str, epoch| OwnedBy {
        from,
        to,
        owner: owner.to_owned(),
        epoch,
    };
    let step = |at, what: &str| Step {
        at,
        what: what.to_owned(),
    };
    Outcome {
        name: "kill".to_owned(),
        hypothesis: "Another pod acts within a second.".to_owned(),
        steps: vec![step(0.0, "3 cores started"), step(1500.0, "kill -9 core-0")],
        measured: vec![
            Measured::of(
                names::TAKEOVER,
                "ms",
                &[100.0, 250.0, 900.5].into_iter().collect(),
            )
            .asked(Bar::halves(300.0, 1000.0)),
            Measured::one(names::MOVEMENT, "×", 1.1).asked(Bar::most(1.05)),
            Measured::of("nothing", "ms", &std::iter::empty().collect()).asked(Bar::most(1.0)),
        ],
        checks: vec![checked, broken],
        counts: BTreeMap::from([("events sent".to_owned(), 30)]),
        timeline: Timeline {
            length: 3000.0,
            rows: vec![Row {
                key: "key-<0>".to_owned(),
                spans: vec![
                    span(0.0, 1700.0, "core-0#1", 1),
                    span(1700.0, 2500.0, "core-1#1", 4),
                    span(2500.0, 3000.0, "core-0#2", 7),
                ],
            }],
            marks: vec![step(1500.0, "kill -9 core-0")],
        },
        seconds: 3.0,
        short: true,
        taken: Taken {
            at: "2026-11-28T06:00:00Z".to_owned(),
            commit: "0123456789ab".to_owned(),
            machine: "a machine".to_owned(),
            build: "release".to_owned(),
        },
    }
}

fn data() -> Data {
    let reproduction = Reproduction {
        transcript: vec!["rival-1 writes".to_owned(), "rival-2 writes".to_owned()],
        ..Reproduction::default()
    };
    Data {
        reproduction: Some((reproduction, outcome().taken)),
        outcomes: BTreeMap::from([("kill".to_owned(), outcome())]),
    }
}

#[test]
fn the_document_is_what_it_was() {
    insta::assert_snapshot!(document(&data(), &["pause", "kill"]));
}

#[test]
fn the_drawing_is_what_it_was() {
    insta::assert_snapshot!(timeline::svg(&outcome().timeline));
}

#[test]
fn what_is_kept_gives_the_same_document() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/failover.json");
    data().save(&path).unwrap();
    let again = Data::load(&path).unwrap();
    assert_eq!(again, data());
    assert_eq!(document(&again, &["kill"]), document(&data(), &["kill"]));
    write(&again, &["kill"], dir.path()).unwrap();
    assert!(dir.path().join("failover/kill.svg").is_file());
    assert_eq!(
        Data::load(&dir.path().join("absent")).unwrap(),
        Data::default()
    );
}

#[test]
fn nothing_measured_is_said_so() {
    let text = document(&Data::default(), &["kill"]);
    assert!(text.contains("| not measured |"), "{text}");
    assert!(!text.contains("## kill"), "{text}");
}
