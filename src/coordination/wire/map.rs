//! The `ShardMap`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Malformed;
use crate::{
    coordination::{
        names::{Holder, MOST, PodName},
        records::{Grant, Member, MemberState, Move, ShardMapSpec, Stage},
    },
    journal::{Bucket, Epoch},
};

pub(super) fn encode(map: &ShardMapSpec) -> Value {
    let members: Vec<Value> = map
        .members
        .iter()
        .map(|(pod, member)| {
            json!({
                "name": pod.to_string(), "incarnation": member.incarnation, "zone": &*member.zone,
                "weight": member.weight, "state": format!("{:?}", member.state),
            })
        })
        .collect();
    let mut owners: BTreeMap<&Holder, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for (bucket, grant) in &map.grants {
        let epochs = owners.entry(&grant.owner).or_default();
        let buckets = epochs.entry(grant.epoch.0.to_string()).or_default();
        buckets.push(bucket.0.to_string());
    }
    let assignments: Vec<Value> = owners
        .into_iter()
        .map(|(owner, epochs)| {
            let epochs: BTreeMap<String, String> = epochs
                .into_iter()
                .map(|(epoch, buckets)| (epoch, buckets.join(",")))
                .collect();
            json!({"owner": owner.to_string(), "epochs": epochs})
        })
        .collect();
    let moves: Vec<Value> = map
        .moves
        .iter()
        .map(|(bucket, of)| {
            json!({
                "buckets": bucket.0.to_string(), "from": of.from.to_string(),
                "to": of.to.to_string(), "since": of.since, "stage": format!("{:?}", of.stage),
            })
        })
        .collect();
    json!({
        "apiVersion": "zen.watcher.io/v1",
        "kind": "ShardMap",
        "metadata": {},
        "spec": {
            "term": map.term, "version": map.version, "leader": map.leader.to_string(),
            "buckets": map.buckets, "members": members, "assignments": assignments, "moves": moves,
        },
    })
}

pub(super) fn decode(value: &Value) -> Result<ShardMapSpec, Malformed> {
    let spec = value.get("spec").ok_or(Malformed::Missing("spec"))?;
    let list = |field: &str| spec.get(field).and_then(Value::as_array).into_iter().flatten();
    let mut map = ShardMapSpec {
        term: number(spec, "term")?,
        version: number(spec, "version")?,
        leader: holder(spec, "leader")?,
        buckets: u16::try_from(number(spec, "buckets")?).unwrap_or(u16::MAX),
        members: BTreeMap::new(),
        grants: BTreeMap::new(),
        moves: BTreeMap::new(),
    };
    for member in list("members") {
        let state = match text(member, "state")? {
            "Active" => MemberState::Active,
            "Draining" => MemberState::Draining,
            "Unreachable" => MemberState::Unreachable,
            _ => MemberState::Down,
        };
        map.members.insert(
            PodName(text(member, "name")?.into()),
            Member {
                incarnation: number(member, "incarnation")?,
                zone: text(member, "zone")?.into(),
                weight: u32::try_from(number(member, "weight")?).unwrap_or(u32::MAX),
                state,
            },
        );
    }
    for one in list("assignments") {
        let owner = holder(one, "owner")?;
        let epochs = one.get("epochs").and_then(Value::as_object);
        for (epoch, buckets) in epochs.into_iter().flatten() {
            for bucket in buckets.as_str().unwrap_or_default().split(',') {
                let grant = Grant {
                    owner: owner.clone(),
                    epoch: Epoch(parsed("epoch", epoch)?),
                };
                map.grants.insert(Bucket(parsed("bucket", bucket)?), grant);
            }
        }
    }
    for one in list("moves") {
        let stage = match text(one, "stage")? {
            "Ask" => Stage::Ask,
            "Warn" => Stage::Warn,
            _ => Stage::Fence,
        };
        map.moves.insert(
            Bucket(parsed("bucket", text(one, "buckets")?)?),
            Move {
                from: holder(one, "from")?,
                to: holder(one, "to")?,
                since: number(one, "since")?,
                stage,
            },
        );
    }
    Ok(map)
}

fn parsed<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, Malformed> {
    text.parse()
        .map_err(|_not| Malformed::wrong(field, text, "must be a number"))
}

fn text<'v>(value: &'v Value, field: &'static str) -> Result<&'v str, Malformed> {
    let found = value.get(field).and_then(Value::as_str);
    found.ok_or(Malformed::Missing(field))
}

fn number(value: &Value, field: &'static str) -> Result<u64, Malformed> {
    let found = value.get(field).and_then(Value::as_u64);
    found
        .filter(|number| *number <= MOST)
        .ok_or(Malformed::Missing(field))
}

fn holder(value: &Value, field: &'static str) -> Result<Holder, Malformed> {
    let found = text(value, field)?;
    found
        .parse()
        .map_err(|_not| Malformed::wrong(field, found, "must be `pod#incarnation`"))
}
