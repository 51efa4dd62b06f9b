use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The example of kinds.md.
fn example() -> Value {
    json!({
        "term": 7, "version": 129, "leader": "zen-fabric-core-0#3", "buckets": 1024,
        "members": [
            { "name": "zen-fabric-core-0", "incarnation": 3, "zone": "a", "weight": 100, "state": "Active" },
            { "name": "zen-fabric-core-2", "incarnation": 1, "weight": 50, "state": "Draining" },
        ],
        "assignments": [
            { "owner": "zen-fabric-core-0#3", "epochs": { "117": "0-3,9,17-20", "129": "44" } },
        ],
        "moves": [{
            "buckets": "44", "from": "zen-fabric-core-0#3", "to": "zen-fabric-core-2#1",
            "since": 129, "stage": "Ask",
        }],
    })
}

fn holder(pod: &str, incarnation: u64) -> Holder {
    Holder {
        pod: PodName(Arc::from(pod)),
        incarnation,
    }
}

#[test]
fn the_example_reads_and_is_written_as_it_was() {
    let map = read(&example()).unwrap();
    assert_eq!((map.term, map.version), (7, 129));
    assert_eq!(map.leader, holder("zen-fabric-core-0", 3));
    assert_eq!(map.grants.len(), 10);
    assert_eq!(map.grants[&Bucket(18)].epoch, Epoch(117));
    assert_eq!(map.grants[&Bucket(44)].epoch, Epoch(129));
    let moving = &map.moves[&Bucket(44)];
    assert_eq!((moving.since, moving.stage), (129, Stage::Ask));
    assert_eq!(
        map.members[&PodName(Arc::from("zen-fabric-core-2"))].state,
        MemberState::Draining
    );
    assert_eq!(serde_json::to_value(encode(&map)).unwrap(), example());
}

#[test]
fn what_can_not_be_is_refused_with_its_field() {
    let rows = [
        (json!({ "term": -1 }), "spec.term: -1 is not between"),
        (json!({ "version": 1_i64 << 52 }), "spec.version"),
        (
            json!({ "version": 100 }),
            "spec.assignments[0].epochs[117]: the epoch is above the version 100",
        ),
        (
            json!({ "leader": "core-0" }),
            "spec.leader: `core-0` is not `pod#incarnation`",
        ),
        (
            json!({ "leader": "Core 0#1" }),
            "spec.leader: `Core 0` is no pod's name",
        ),
        (json!({ "buckets": 512 }), "spec.buckets: is 512"),
        (
            json!({ "members": [{ "name": "a", "incarnation": -2, "weight": 1, "state": "Active" }] }),
            "spec.members[0].incarnation",
        ),
        (
            json!({ "members": [{ "name": "a#1", "incarnation": 1, "weight": 1, "state": "Active" }] }),
            "spec.members[0].name",
        ),
        (
            json!({ "members": [{ "name": "a", "incarnation": 1, "weight": 10_001, "state": "Active" }] }),
            "spec.members[0].weight: is 10001, not from 1 to 10000",
        ),
        (
            json!({ "members": [
                { "name": "a", "incarnation": 1, "weight": 1, "state": "Active" },
                { "name": "a", "incarnation": 2, "weight": 1, "state": "Down" },
            ] }),
            "spec.members[1].name: `a` is there twice",
        ),
        (
            json!({ "members": [{ "name": "a", "incarnation": 1, "weight": 1, "state": "Odd" }] }),
            "spec: unknown variant `Odd`",
        ),
        (
            json!({ "assignments": [{ "owner": "a#0x", "epochs": {} }] }),
            "spec.assignments[0].owner",
        ),
        (
            json!({ "assignments": [{ "owner": "a#1", "epochs": {} }, { "owner": "a#1", "epochs": {} }] }),
            "spec.assignments[1].owner: `a#1` has two entries",
        ),
        (
            json!({ "assignments": [{ "owner": "a#1", "epochs": { "007": "1" } }] }),
            "spec.assignments[0].epochs[007]: the epoch is not a number",
        ),
        (
            json!({ "assignments": [{ "owner": "a#1", "epochs": { "7": "1-x" } }] }),
            "spec.assignments[0].epochs[7]: `1-x` is neither",
        ),
        (
            json!({ "assignments": [{ "owner": "a#1", "epochs": { "7": "1024" } }] }),
            "spec.assignments[0].epochs[7]: `1024` is no bucket",
        ),
        (
            json!({ "assignments": [{ "owner": "a#1", "epochs": { "7": "1" } }, { "owner": "b#1", "epochs": { "8": "0-4" } }] }),
            "spec.assignments[1].epochs[8]: bucket 1 is also a#1's",
        ),
        (
            json!({ "moves": [{ "buckets": "1", "from": "a#1", "to": "a#1", "since": 1, "stage": "Ask" }] }),
            "spec.moves[0].to: `a#1` is where it comes from",
        ),
        (
            json!({ "moves": [{ "buckets": "1", "from": "a#1", "to": "b#1", "since": 130, "stage": "Ask" }] }),
            "spec.moves[0].since: 130 is above",
        ),
        (
            json!({ "moves": [
                { "buckets": "1-3", "from": "a#1", "to": "b#1", "since": 1, "stage": "Ask" },
                { "buckets": "3", "from": "a#1", "to": "c#1", "since": 1, "stage": "Warn" },
            ] }),
            "spec.moves[1].buckets: bucket 3 moves twice",
        ),
        (json!({ "term": null }), "spec: missing field `term`"),
        (json!({ "leader": "x".repeat(200_000) }), "spec: has 200"),
    ];
    for (patch, says) in rows {
        let mut stored = example();
        json_patch::merge(&mut stored, &patch);
        let error = read(&stored).unwrap_err().to_string();
        assert!(
            error.starts_with(says),
            "{error:.300} does not begin with {says}"
        );
    }
    for stored in [json!(null), json!([]), json!({}), json!("0-3")] {
        assert_eq!(read(&stored).unwrap_err().field, "spec");
    }
    let mut many = example();
    many["members"] = (0..257)
        .map(|n| json!({ "name": format!("a-{n}"), "incarnation": 1, "weight": 1, "state": "Active" }))
        .collect();
    assert_eq!(read(&many).unwrap_err().field, "spec.members");
}

/// A fleet whose buckets are dealt out round.
fn fleet(pods: u16, name: &str) -> ShardMapSpec {
    let pod = |n: u16| PodName(Arc::from(format!("{name}-{n}")));
    let member = Member {
        incarnation: 1,
        zone: Arc::from("europe-west4-a"),
        weight: 100,
        state: MemberState::Active,
    };
    let grant = |n: u16| Grant {
        owner: Holder {
            pod: pod(n % pods),
            incarnation: 1,
        },
        epoch: Epoch(1),
    };
    ShardMapSpec {
        term: 1,
        version: 1,
        leader: Holder {
            pod: pod(0),
            incarnation: 1,
        },
        buckets: BUCKETS,
        members: (0..pods).map(|n| (pod(n), member.clone())).collect(),
        grants: (0..BUCKETS).map(|n| (Bucket(n), grant(n))).collect(),
        moves: BTreeMap::new(),
    }
}

/// Numbers below `bound`, the same for the same seed.
fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |bound| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    }
}

fn pick(map: &ShardMapSpec, n: u64) -> Holder {
    let at = usize::try_from(n).unwrap() % map.members.len();
    map.holders().nth(at).unwrap().0
}

/// Every pod restarts, thirty times over: each of its buckets goes to another pod, each in a version
/// of its own, which is the worst for epochs.
#[test]
fn twenty_five_replicas_stay_below_sixteen_kib_over_thirty_rolling_restarts() {
    // The longest name that a StatefulSet's pod may have as a host name is 63.
    for name in ["zen-fabric-core", &"n".repeat(60)] {
        let mut map = fleet(25, name);
        map.version = 1_000_000;
        let mut next = numbers(1);
        let (mut largest, mut merged) = (0, 0);
        for _ in 0..30 {
            let pods: Vec<PodName> = map.members.keys().cloned().collect();
            for pod in pods {
                map.version += 1;
                map.members.get_mut(&pod).unwrap().incarnation += 1;
                let gone: Vec<Bucket> = map
                    .grants
                    .iter()
                    .filter(|(_, g)| g.owner.pod == pod)
                    .map(|(b, _)| *b)
                    .collect();
                for bucket in gone {
                    map.version += 1;
                    let owner = pick(&map, next(25));
                    map.grants.insert(
                        bucket,
                        Grant {
                            owner,
                            epoch: Epoch(map.version),
                        },
                    );
                }
                merged += fit(&mut map).merged;
                let size = size(&map);
                largest = largest.max(size);
                assert!(size <= MERGE_ABOVE, "{size}");
            }
        }
        assert_eq!(decode(&encode(&map)), Ok(map.clone()));
        assert!(
            merged > 0 && largest > MERGE_ABOVE / 2,
            "{merged} {largest}"
        );
    }
}

/// A quarter of all buckets moves at once, each from another pod to another: more than fits.
#[test]
fn new_moves_wait_where_there_is_no_room() {
    let mut map = fleet(25, "zen-fabric-core");
    map.version = 5_000;
    let mut next = numbers(2);
    for n in 0..256 {
        let bucket = Bucket(n * 4);
        let from = map.grants[&bucket].owner.clone();
        let to = loop {
            let to = pick(&map, next(25));
            if to != from {
                break to;
            }
        };
        let since = if n < 20 { 4_000 } else { map.version };
        map.moves.insert(
            bucket,
            Move {
                from,
                to,
                since,
                stage: Stage::Ask,
            },
        );
        map.grants.get_mut(&bucket).unwrap().epoch = Epoch(u64::from(n) + 100);
    }
    let fitted = fit(&mut map);
    assert!(size(&map) < FULL);
    assert_eq!(map.moves.len() + fitted.postponed, 256);
    assert!(map.moves.len() >= 40, "{}", map.moves.len());
    assert_eq!(
        map.moves
            .values()
            .filter(|listed| listed.since == 4_000)
            .count(),
        20
    );
    let kept = map
        .moves
        .keys()
        .all(|bucket| map.grants[bucket].epoch < Epoch(5_000));
    assert!(kept, "what moves keeps its epoch");
}

#[test]
fn what_fits_is_left_alone() {
    let map = fleet(25, "zen-fabric-core");
    let mut fitted = map.clone();
    fitted.version = 2;
    assert_eq!(fit(&mut fitted), Fitted::default());
    assert_eq!(fitted.grants, map.grants);
}

fn maps() -> impl Strategy<Value = ShardMapSpec> {
    (1_u16..9, any::<u64>(), 1..MOST).prop_map(|(pods, seed, version)| {
        let mut next = numbers(seed);
        let mut map = fleet(pods, "core");
        (map.term, map.version) = (next(MOST), version);
        map.grants.retain(|_, _| next(4) > 0);
        for (bucket, grant) in &mut map.grants {
            grant.epoch = Epoch(next(version + 1));
            grant.owner.incarnation += next(3);
            if next(8) == 0 {
                let stage =
                    [Stage::Ask, Stage::Warn, Stage::Fence][usize::try_from(next(3)).unwrap()];
                let listed = Move {
                    from: grant.owner.clone(),
                    to: holder("other", 1 + next(2)),
                    since: next(version + 1),
                    stage,
                };
                map.moves.insert(*bucket, listed);
            }
        }
        map
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_map_reads_back(map in maps()) {
        let text = encode(&map);
        prop_assert_eq!(decode(&text), Ok(map));
        let stored = serde_json::to_value(&text).unwrap();
        prop_assert_eq!(read(&stored).map(|map| encode(&map)), Ok(text));
    }

    /// Nothing changes hands, and no epoch falls, by making a map small.
    #[test]
    fn fitting_only_raises_epochs(map in maps()) {
        let mut small = map.clone();
        fit(&mut small);
        prop_assert!(small.grants.keys().eq(map.grants.keys()));
        for (bucket, grant) in &small.grants {
            let before = &map.grants[bucket];
            prop_assert_eq!(&grant.owner, &before.owner);
            prop_assert!(grant.epoch == before.epoch || grant.epoch == Epoch(map.version));
        }
    }

    /// A field that is replaced by anything is refused or read, and never a reason to end.
    #[test]
    fn hostile_maps_are_refused_or_read(
        at in 0_usize..24,
        value in prop_oneof![
            Just(json!(null)), Just(json!(-1)), Just(json!(1_u64 << 60)), Just(json!("")), Just(json!("#")),
            Just(json!("0-1023")), Just(json!({})), Just(json!([])), "[0-9#,-]{0,12}".prop_map(Value::from),
        ],
    ) {
        let mut stored = example();
        let mut paths = Vec::new();
        leaves(&stored, String::new(), &mut paths);
        let path = &paths[at % paths.len()];
        *stored.pointer_mut(path).unwrap() = value;
        if let Ok(map) = read(&stored) {
            prop_assert_eq!(read(&serde_json::to_value(encode(&map)).unwrap()), Ok(map));
        }
    }
}

fn leaves(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, below)| leaves(below, format!("{path}/{name}"), paths)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(n, below)| leaves(below, format!("{path}/{n}"), paths)),
        _ => paths.push(path),
    }
}
