use super::*;
use crate::journal::BUCKETS;

fn pod(name: &str) -> PodName {
    PodName(Arc::from(name))
}

/// Three replicas in two zones that share 90 Ingestors.
fn fleet() -> Wanted {
    let mut wanted = Wanted {
        buckets: BUCKETS,
        loads: (0..90).map(|n| (Bucket(n * 11), 1)).collect(),
        gain_percent: 5,
        ..Wanted::default()
    };
    for (name, zone) in [("core-0", "a"), ("core-1", "b"), ("core-2", "a")] {
        let holder = Holder {
            pod: pod(name),
            incarnation: 2,
        };
        let candidate = Candidate {
            zone: Arc::from(zone),
            region: Arc::from(""),
            weight: 100,
            build: Arc::from("1"),
        };
        wanted.candidates.insert(holder, candidate);
    }
    wanted.current = owners(&assign(&wanted));
    wanted
}

fn share(diff: &Diff, name: &str) -> (Share, Share) {
    let found = diff
        .shares
        .iter()
        .find(|(holder, _)| holder.pod == pod(name));
    found.map(|(_, shares)| *shares).unwrap_or_default()
}

#[test]
fn without_a_pod_its_buckets_go_to_the_others() {
    let wanted = fleet();
    let diff = preview(&wanted, &Change::Without(pod("core-1"))).unwrap();
    let (before, after) = share(&diff, "core-1");
    assert_eq!(after, Share::default());
    assert_eq!(diff.moved(), before, "what it had, and nothing else");
    assert!(
        diff.shifts
            .iter()
            .all(|shift| shift.from.as_ref().unwrap().pod == pod("core-1"))
    );
    assert_eq!(diff.shifts.len(), 2);
    assert_eq!(
        share(&diff, "core-0").1.load + share(&diff, "core-2").1.load,
        90
    );
}

#[test]
fn more_pods_take_their_share() {
    let wanted = fleet();
    let diff = preview(&wanted, &Change::Add(2)).unwrap();
    for name in ["core-3", "core-4"] {
        let (before, after) = share(&diff, name);
        assert_eq!(before, Share::default());
        assert!((12..=20).contains(&after.load), "{name} {after:?}");
    }
    assert!(diff.moved().load <= 40);
}

#[test]
fn a_zone_that_is_down_leaves_what_it_had() {
    let wanted = fleet();
    let diff = preview(&wanted, &Change::ZoneDown(Arc::from("a"))).unwrap();
    assert_eq!(
        share(&diff, "core-1").1,
        Share {
            buckets: 1024,
            load: 90
        }
    );
    let diff = preview(&wanted, &Change::ZoneDown(Arc::from("b"))).unwrap();
    assert_eq!(share(&diff, "core-1").1, Share::default());
}

#[test]
fn nobody_left_is_said_as_it_is() {
    let mut wanted = fleet();
    wanted
        .candidates
        .retain(|holder, _| holder.pod == pod("core-1"));
    let diff = preview(&wanted, &Change::Without(pod("core-1"))).unwrap();
    assert!(diff.shifts.iter().all(|shift| shift.to.is_none()));
    assert_eq!(
        diff.moved(),
        Share {
            buckets: 1024,
            load: 90
        }
    );
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let wanted = fleet();
    let error = preview(&wanted, &Change::Without(pod("core-9"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no Active replica is called core-9; there are: core-0, core-1, core-2"
    );
    let error = preview(&wanted, &Change::ZoneDown(Arc::from("z"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no Active replica is in zone z; there are: a, b"
    );
}

#[test]
fn names_are_like_their_siblings() {
    let mut wanted = fleet();
    add(&mut wanted);
    add(&mut wanted);
    let names: Vec<&str> = wanted
        .candidates
        .keys()
        .map(|holder| &*holder.pod.0)
        .collect();
    assert_eq!(names, ["core-0", "core-1", "core-2", "core-3", "core-4"]);
    let mut single = Wanted::default();
    add(&mut single);
    assert_eq!(&*single.candidates.keys().next().unwrap().pod.0, "new-0");
}

#[test]
fn equal_assignments_differ_in_nothing() {
    let wanted = fleet();
    let same = diff(&wanted.current, &wanted.current, &wanted.loads);
    assert_eq!(same.shifts, []);
    assert_eq!(same.shares.len(), 3);
}
