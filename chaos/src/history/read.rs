//! From objects as they are stored to what the history keeps of them. Pure.

use serde_json::Value;
use zen_fabric::{
    api::annotations,
    coordination::{
        names::Holder,
        port::{Object, Record},
        text,
        wire::{self, Place},
    },
    journal::Epoch,
};

use super::{Made, What};
use crate::{clock::At, ledger};

/// What an Ingestor says.
#[must_use]
pub fn ingestor(value: &Value) -> What {
    let owner = value.pointer("/status/owner");
    What::Owner {
        uid: text_at(value, "/metadata/uid").to_owned(),
        owner: owner.and_then(|owner| {
            let holder: Holder = text_at(owner, "/holder").parse().ok()?;
            let epoch = owner.get("epoch").and_then(Value::as_u64)?;
            Some((holder, Epoch(epoch)))
        }),
    }
}

/// What a `ShardMap` says.
#[must_use]
pub fn map(value: &Value, gone: bool) -> What {
    if gone {
        return What::MapGone;
    }
    match text::read(value.get("spec").unwrap_or(&Value::Null)) {
        Ok(map) => What::Map(map.into()),
        Err(why) => What::MapUnreadable(why.to_string()),
    }
}

/// What a Lease of the fleet says; `None`: it is another's, or says nothing readable.
#[must_use]
pub fn lease(value: &Value, gone: bool, place: &Place) -> Option<What> {
    let object = place.lease(text_at(value, "/metadata/name"))?;
    if gone {
        return match object {
            Object::Leader => Some(What::LeaderGone),
            Object::Member(pod) => Some(What::MemberGone {
                pod: pod.to_string(),
            }),
            Object::Map => None,
        };
    }
    match wire::decode(&object, value).record {
        Record::Leader(record) => Some(What::Leader {
            holder: record.holder,
            term: record.term,
        }),
        Record::Member(record) => Some(What::Member {
            holder: record.holder,
            life: record.life,
            ready: record.ready,
        }),
        Record::Map(_) | Record::Malformed(_) => None,
    }
}

/// An Observation: its name, and what is kept of it.
#[must_use]
pub fn observation(value: &Value, now: At) -> (&str, Made) {
    let annotation = value
        .pointer("/metadata/annotations")
        .and_then(|notes| notes.get(annotations::EVENT_ID))
        .and_then(Value::as_str);
    let made = Made {
        uid: text_at(value, "/metadata/uid").to_owned(),
        source: text_at(value, "/spec/source").to_owned(),
        number: annotation.and_then(ledger::number_of),
        first: now,
        count: value
            .pointer("/spec/count")
            .and_then(Value::as_u64)
            .unwrap_or(1),
    };
    (text_at(value, "/metadata/name"), made)
}

/// An object's resource version, which of one etcd is a number.
#[must_use]
pub fn version(value: &Value) -> u64 {
    text_at(value, "/metadata/resourceVersion")
        .parse()
        .unwrap_or_default()
}

fn text_at<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zen_fabric::coordination::{port::Moment, records::LeaderRecord, wire::Seconds};

    use super::*;

    fn place() -> Place {
        Place {
            namespace: "n".into(),
            release: "zen".into(),
            owned: false,
        }
    }

    #[test]
    fn an_owner_is_read_and_a_strange_one_is_none() {
        let with = |owner: Value| {
            ingestor(&json!({ "metadata": { "uid": "u" }, "status": { "owner": owner } }))
        };
        let none = What::Owner {
            uid: "u".to_owned(),
            owner: None,
        };
        assert_eq!(with(Value::Null), none);
        assert_eq!(with(json!({ "holder": "core-1", "epoch": 3 })), none);
        let owner = with(json!({ "holder": "core-1#2", "podUID": "p", "epoch": 3 }));
        let expected = Some(("core-1#2".parse().unwrap(), Epoch(3)));
        assert_eq!(
            owner,
            What::Owner {
                uid: "u".to_owned(),
                owner: expected
            }
        );
    }

    #[test]
    fn leases_of_the_fleet_are_told_apart_from_others() {
        let record = LeaderRecord {
            holder: Some("core-0#1".parse().unwrap()),
            pod_uid: "p".into(),
            term: 4,
            renewals: 1,
            renewed: Moment(0),
            heir: None,
        };
        let stored = place()
            .encode(&Object::Leader, &Record::Leader(record), Seconds(15))
            .unwrap();
        let told = lease(&stored, false, &place()).unwrap();
        assert!(matches!(told, What::Leader { term: 4, .. }), "{told:?}");
        assert_eq!(lease(&stored, true, &place()), Some(What::LeaderGone));
        let foreign = json!({ "metadata": { "name": "kube-scheduler" } });
        assert_eq!(lease(&foreign, false, &place()), None);
        let member = json!({ "metadata": { "name": "zen-member-core-7" } });
        assert_eq!(
            lease(&member, true, &place()),
            Some(What::MemberGone {
                pod: "core-7".to_owned()
            })
        );
    }

    #[test]
    fn a_map_that_cannot_be_read_says_why() {
        let broken = map(&json!({ "spec": { "term": -1 } }), false);
        assert!(matches!(broken, What::MapUnreadable(_)), "{broken:?}");
        assert_eq!(map(&json!({}), true), What::MapGone);
    }

    #[test]
    fn an_observation_is_known_by_its_delivery() {
        let value = json!({
            "metadata": {
                "name": "key-1-abc", "uid": "u", "resourceVersion": "77",
                "annotations": { "zen.io/event-id": format!("github/{}", ledger::delivery(9)) },
            },
            "spec": { "source": "key-1", "count": 3 },
        });
        let (name, made) = observation(&value, At(5));
        assert_eq!(name, "key-1-abc");
        assert_eq!((made.number, made.count, made.first), (Some(9), 3, At(5)));
        assert_eq!(version(&value), 77);
    }
}
