use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::coordination::{
    names::{Holder, MOST, PodName},
    port::Moment,
    records::{Challenge, LeaderRecord, Life, MemberRecord, ShardMapSpec},
};

const LEASE: Seconds = Seconds(15);

fn place() -> Place {
    Place {
        namespace: "zen-system".into(),
        release: "zen-fabric".into(),
        owned: false,
    }
}

fn holder(text: &str) -> Holder {
    text.parse().unwrap()
}

fn pod(name: &str) -> PodName {
    PodName(name.into())
}

fn leader() -> LeaderRecord {
    LeaderRecord {
        holder: Some(holder("core-0#3")),
        pod_uid: "uid-0".into(),
        term: 7,
        renewals: 12,
        renewed: Moment(1_767_225_600_000_001),
        heir: None,
    }
}

fn member() -> MemberRecord {
    MemberRecord {
        holder: holder("core-0#3"),
        claim: u64::MAX,
        pod_uid: "uid-0".into(),
        address: "10.0.0.1:7443".into(),
        region: "eu".into(),
        zone: "a".into(),
        weight: 100,
        build: "0.1.0".into(),
        protocol: 1,
        ready: true,
        draining: false,
        seen: 129,
        renewals: 4,
        renewed: Moment(1_767_225_600_000_000),
        life: Life::Live,
        challenge: Some(Challenge {
            by: holder("core-1#1"),
        }),
    }
}

/// As the API server gives it back.
fn stored(object: &Object, record: &Record) -> Value {
    let mut value = place().encode(object, record, LEASE).unwrap();
    value["metadata"]["resourceVersion"] = json!("42");
    value["metadata"]["uid"] = json!("u");
    value
}

fn there_and_back(object: &Object, record: &Record) {
    let value = stored(object, record);
    let found = decode(object, &value);
    assert_eq!(found.record, *record, "{value:#}");
    assert_eq!((&*found.resource_version, &*found.uid), ("42", "u"));
    if *object != Object::Map {
        // What `kubectl` and other programs read is a Lease.
        let lease: Lease = serde_json::from_value(value).unwrap();
        assert_eq!(lease.spec.unwrap().lease_duration_seconds, Some(15));
    }
}

#[test]
fn leases_make_the_way_there_and_back() {
    there_and_back(&Object::Leader, &Record::Leader(leader()));
    let released = LeaderRecord {
        holder: None,
        heir: Some(holder("core-2#1")),
        ..leader()
    };
    there_and_back(&Object::Leader, &Record::Leader(released));
    let object = Object::Member(pod("core-0"));
    for life in [Life::Live, Life::Marked, Life::Gone] {
        there_and_back(&object, &Record::Member(MemberRecord { life, ..member() }));
    }
}

#[test]
fn a_term_above_32_bits_has_an_annotation() {
    for term in [0, 2_147_483_647, 2_147_483_648, MOST] {
        let record = Record::Leader(LeaderRecord { term, ..leader() });
        there_and_back(&Object::Leader, &record);
    }
    let small = stored(&Object::Leader, &Record::Leader(leader()));
    assert_eq!(small["spec"]["leaseTransitions"], 7);
    assert_eq!(small.pointer("/metadata/annotations/zen.io~1term"), None);
}

#[test]
fn the_map_makes_the_way_there_and_back() {
    let map = ShardMapSpec {
        term: 7,
        version: 129,
        leader: holder("core-0#3"),
        buckets: crate::journal::BUCKETS,
        members: BTreeMap::new(),
        grants: BTreeMap::new(),
        moves: BTreeMap::new(),
    };
    there_and_back(&Object::Map, &Record::Map(map.into()));
}

#[test]
fn member_leases_go_with_their_pods_where_there_are_pods() {
    let object = Object::Member(pod("core-0"));
    let owned = Place {
        owned: true,
        ..place()
    };
    let value = owned.encode(&object, &Record::Member(member()), LEASE);
    let owner = value.unwrap()["metadata"]["ownerReferences"][0].clone();
    assert_eq!(
        (&owner["name"], &owner["uid"]),
        (&json!("core-0"), &json!("uid-0"))
    );
    let played = stored(&object, &Record::Member(member()));
    assert_eq!(played["metadata"].get("ownerReferences"), None);
}

#[test]
fn names_tell_which_lease_is_which() {
    let place = place();
    for object in [Object::Leader, Object::Member(pod("core-0"))] {
        assert_eq!(place.lease(&place.name(&object)), Some(object));
    }
    for foreign in [
        "zen-fabric",
        "zen-fabric-member-",
        "other-leader",
        "zen-fabric-lead",
    ] {
        assert_eq!(place.lease(foreign), None, "{foreign}");
    }
}

/// What an editor's hand can do to a Lease, and what is told about it.
#[test]
fn an_edited_lease_is_malformed_and_says_where() {
    type Edit = fn(&mut Value);
    let object = Object::Member(pod("core-0"));
    let cases: [(Edit, &str); 8] = [
        (
            |v| v["spec"]["holderIdentity"] = json!("core-0"),
            "spec.holderIdentity is `core-0`",
        ),
        (
            |v| v["spec"]["holderIdentity"] = json!("core-1#3"),
            "names another pod",
        ),
        (
            |v| v["spec"]["holderIdentity"] = Value::Null,
            "spec.holderIdentity is missing",
        ),
        (
            |v| v["spec"]["renewTime"] = json!("noon"),
            "spec.renewTime is `noon`",
        ),
        (
            |v| v["metadata"]["annotations"]["zen.io/claim"] = json!("mine"),
            "zen.io/claim",
        ),
        (
            |v| v["metadata"]["annotations"]["zen.io/life"] = json!("Undead"),
            "zen.io/life",
        ),
        (
            |v| {
                v["metadata"]["annotations"]["zen.io/shardmap-version"] =
                    json!((MOST + 1).to_string());
            },
            "must be a number below 2^52",
        ),
        (|v| v["metadata"]["annotations"] = Value::Null, "is missing"),
    ];
    for (edit, expected) in cases {
        let mut value = stored(&object, &Record::Member(member()));
        edit(&mut value);
        let found = decode(&object, &value);
        let Record::Malformed(why) = &found.record else {
            panic!("{expected}: {found:?}");
        };
        assert!(why.contains(expected), "{why}");
        assert_eq!(&*found.resource_version, "42", "it can be replaced");
    }
}

proptest! {
    /// Whatever is stored: it is read as something, and nothing panics.
    #[test]
    fn anything_can_be_read(text in ".{0,600}", number in any::<i64>()) {
        let object = Object::Member(pod("core-0"));
        for field in ["holderIdentity", "renewTime", "leaseTransitions"] {
            for found in [json!(text), json!(number), json!([text])] {
                let mut value = stored(&object, &Record::Member(member()));
                value["spec"][field] = found;
                prop_assert!(!matches!(decode(&object, &value).record, Record::Leader(_)));
                let _leader = decode(&Object::Leader, &value);
                let _map = decode(&Object::Map, &value);
            }
        }
    }
}
