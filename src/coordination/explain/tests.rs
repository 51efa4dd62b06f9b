use serde_json::json;

use super::*;
use crate::coordination::{assign::assign, text::read};

/// Two replicas at work, one that drains, one dead; every bucket but 5 is dealt out.
fn map() -> ShardMapSpec {
    read(&json!({
        "term": 2, "version": 20, "leader": "core-0#1", "buckets": 1024,
        "members": [
            { "name": "core-0", "incarnation": 1, "zone": "a", "weight": 100, "state": "Active" },
            { "name": "core-1", "incarnation": 4, "zone": "b", "weight": 100, "state": "Active" },
            { "name": "core-2", "incarnation": 1, "weight": 100, "state": "Draining" },
            { "name": "core-3", "incarnation": 2, "weight": 100, "state": "Down" },
        ],
        "assignments": [
            { "owner": "core-0#1", "epochs": { "7": "0-1,6-511" } },
            { "owner": "core-1#4", "epochs": { "9": "512-1023" } },
            { "owner": "core-2#1", "epochs": { "9": "2" } },
            { "owner": "core-3#1", "epochs": { "9": "3" } },
            { "owner": "core-3#2", "epochs": { "9": "4" } },
        ],
        "moves": [{ "buckets": "1", "from": "core-0#1", "to": "core-1#4", "since": 20, "stage": "Warn" }],
    }))
    .unwrap()
}

fn asked(map: &ShardMapSpec, loads: &[(u16, u32)]) -> Wanted {
    let loads = loads.iter().map(|(n, load)| (Bucket(*n), *load)).collect();
    wanted(map, loads, &BTreeMap::new())
}

fn of(map: &ShardMapSpec, wanted: &Wanted, bucket: u16) -> Explanation {
    let bucket = Bucket(bucket);
    let standby = assign(wanted)
        .get(&bucket)
        .and_then(|place| place.standby.clone());
    explain(map, wanted, bucket, standby)
}

/// A bucket between these whose first choice is core-0, or is not.
fn with_first(wanted: &Wanted, buckets: std::ops::Range<u16>, first: &str) -> u16 {
    let is = |n: &u16| *choices(wanted, Bucket(*n))[0].pod.0 == *first;
    buckets.clone().find(is).unwrap()
}

#[test]
fn each_reason_is_found_and_said() {
    let map = map();
    let asked_for = asked(&map, &[]);
    let own = with_first(&asked_for, 6..512, "core-0");
    let other = with_first(&asked_for, 6..512, "core-1");
    for (bucket, says) in [
        (5, "nobody may take it"),
        (3, "its owner is gone"),
        (4, "its owner is gone"),
        (2, "its owner gives everything away"),
        (
            1,
            "it is on its way to core-1#4 since version 20; the owner was warned",
        ),
        (own, "the owner is the ring's first choice."),
        (
            other,
            "the ring's first choice is core-1#4, which had no room or was not there",
        ),
    ] {
        let text = of(&map, &asked_for, bucket).to_string();
        assert!(
            text.contains(&format!("Why:     {says}")),
            "{bucket}: {text}"
        );
    }
    // With a load that core-1 has no room for.
    let heavy = asked(&map, &[(other, 30), (600, 40), (601, 40)]);
    let text = of(&map, &heavy, other).to_string();
    assert!(
        text.contains("the ring's first choice, core-1#4, carries 80 of at most 95 and"),
        "{text}"
    );
}

#[test]
fn a_newer_build_is_a_reason() {
    let map = map();
    let mut asked_for = asked(&map, &[]);
    let bucket = with_first(&asked_for, 6..512, "core-1");
    for (holder, candidate) in &mut asked_for.candidates {
        candidate.build = Arc::from(if *holder.pod.0 == *"core-0" {
            "1.10"
        } else {
            "1.9"
        });
    }
    let explained = of(&map, &asked_for, bucket);
    assert!(matches!(&explained.why, Why::FirstIsOlder(first) if *first.holder.pod.0 == *"core-1"));
    assert!(explained.to_string().contains("has an older build"));
}

#[test]
fn the_whole_is_readable() {
    let map = map();
    let asked_for = asked(&map, &[(700, 3)]);
    let bucket = with_first(&asked_for, 512..1024, "core-1");
    let text = of(&map, &asked_for, bucket).to_string();
    assert_eq!(
        text,
        "Owner:   core-1#4, since version 9.\n\
         Why:     the owner is the ring's first choice.\n\
         Standby: core-0#1 takes it if the owner is gone.\n\
         Ring:    the order in which pods are this bucket's choice\n         \
         1. core-1#4 in zone b, carries 3 of at most 4\n         \
         2. core-0#1 in zone a, carries 0 of at most 4\n"
    );
}

#[test]
fn a_fleet_of_nobody_is_explained() {
    let mut map = map();
    map.members.clear();
    let asked_for = asked(&map, &[]);
    let explained = of(&map, &asked_for, 700);
    assert_eq!(explained.why, Why::OwnerGone);
    assert_eq!((explained.standby, explained.choices), (None, vec![]));
}
