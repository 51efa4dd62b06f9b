//! The Kubernetes API: one store behind several servers.
//!
//! The store is the embedded API's own, with the shipped definitions, so that compare-and-swap,
//! versions and the rules in CEL are the product's. What is modelled here is what a server does to
//! what the store says: how far its watch cache is behind, and when it can't be reached.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use zen_fabric::{
    api::crds,
    coordination::{
        names::Holder,
        port::{Answer, Object, Op, Record, Stored},
        records::ShardMapSpec,
        wire,
    },
    embedded::{
        Patch, Refusal,
        store::{self, Action, At, Body, Limits, Part, Request, Store, Target, Write},
    },
    journal::{Epoch, Millis},
    testing::samples,
};

use crate::{
    time::{SECOND, Time},
    world::{BUCKETS, names},
};

/// How many Ingestors the prepared store has; a schedule uses some of them.
pub(crate) const KEYS: usize = 4;
/// Where everything lives.
pub(crate) const NAMESPACE: &str = "zen-system";
/// The wall clock of the servers when the world begins: 2026-01-01.
const EPOCH: i64 = 1_767_225_600_000;

/// One API server.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    /// How far its watch cache is behind.
    pub(crate) lag: Time,
    /// Until when it can't be reached.
    pub(crate) down_until: Time,
}

/// A change of an object that replicas watch.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// When.
    pub(crate) at: Time,
    /// Which.
    pub(crate) object: Object,
    /// What is stored now.
    pub(crate) stored: Option<Stored>,
}

/// All servers and what is behind them.
#[derive(Debug)]
pub(crate) struct Api {
    store: Store,
    entropy: u128,
    /// The servers.
    pub(crate) fronts: Vec<Front>,
    /// Until when etcd takes nothing.
    pub(crate) stalled_until: Time,
    /// Every change of a Lease or the map, in order.
    pub(crate) commits: Vec<Commit>,
    /// Changes before this one are compacted: a watch from before them is answered 410.
    pub(crate) compacted: usize,
    keys: Vec<Key>,
}

/// An Ingestor.
#[derive(Clone, Debug)]
struct Key {
    name: String,
    /// As it is stored: nobody but [`Api::write_status`] changes it.
    object: Value,
}

/// What is known of an Ingestor's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusRead {
    /// `metadata.resourceVersion`.
    pub(crate) version: String,
    /// Who wrote it.
    pub(crate) owner: Option<(Epoch, Holder)>,
}

/// What became of a status write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StatusAnswer {
    /// It is written.
    Done(StatusRead),
    /// It was another version.
    Conflict,
    /// The rules refuse it.
    Refused,
}

fn at(now: Time, entropy: u128) -> At {
    At {
        now: Millis(EPOCH + i64::try_from(now / 1_000).unwrap()),
        entropy,
    }
}

fn target(group: &str, plural: &str, name: Option<&str>) -> Target {
    Target {
        group: group.to_owned(),
        version: "v1".to_owned(),
        plural: plural.to_owned(),
        namespace: Some(NAMESPACE.to_owned()),
        name: name.map(str::to_owned),
        part: Part::Whole,
    }
}

/// A store with the definitions and Ingestors, made once; every schedule gets a clone.
fn prepared() -> &'static (Store, Vec<Key>) {
    static PREPARED: OnceLock<(Store, Vec<Key>)> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let mut store = Store::new(Limits::default());
        store.prepare(&at(0, 1));
        let mut entropy = 1_000;
        let mut create = |target: Target, object: Value| {
            entropy += 1;
            let action = Action::Create(object, Write::default());
            let answer = store.apply(&at(0, entropy), Request { target, action });
            body(answer.unwrap())
        };
        let cluster = |group: &str, plural: &str| Target {
            namespace: None,
            ..target(group, plural, None)
        };
        create(
            cluster("", "namespaces"),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        );
        for crd in crds() {
            let object = serde_json::to_value(crd).unwrap();
            create(
                cluster("apiextensions.k8s.io", "customresourcedefinitions"),
                object,
            );
        }
        let mut keys = Vec::new();
        for number in 0..KEYS {
            let mut object = samples::manifest("quickstart");
            let name = format!("source-{number}");
            object["metadata"] = json!({"name": name, "namespace": NAMESPACE});
            // Every write of the status evaluates the rules of the whole: what is irrelevant here is
            // left out of the spec.
            object["spec"]["normalize"] = json!({
                "category": {"value": "operations"},
                "severity": {"value": "info"},
                "eventType": {"value": "push"},
            });
            let object = create(target("zen.watcher.io", "ingestors", None), object);
            keys.push(Key { name, object });
        }
        drop(store.take_changes());
        (store, keys)
    })
}

/// As the edge does it, but for the number of buckets: what is stored always says 1,024, and the
/// simulated fleet has fewer, so that a schedule takes a millisecond.
pub(crate) fn encode(object: &Object, record: &Record) -> Value {
    let full = match record {
        Record::Map(map) => Record::Map(Arc::new(ShardMapSpec {
            buckets: zen_fabric::journal::BUCKETS,
            ..(**map).clone()
        })),
        other => other.clone(),
    };
    names().encode(object, &full, wire::Seconds(15)).unwrap()
}

/// The way back.
pub(crate) fn decode(object: &Object, value: &Value) -> Stored {
    let stored = wire::decode(object, value);
    let record = match stored.record {
        Record::Map(map) => Record::Map(Arc::new(ShardMapSpec {
            buckets: BUCKETS,
            ..(*map).clone()
        })),
        other => other,
    };
    Stored { record, ..stored }
}

fn body(answer: store::Answer) -> Value {
    match answer.body {
        Body::Object(bytes) => serde_json::from_slice(&bytes).unwrap(),
        Body::List(_) | Body::Status(_) => Value::Null,
    }
}

impl Api {
    /// A fresh cluster with that many servers.
    pub(crate) fn new(fronts: usize) -> Self {
        let (store, keys) = prepared();
        let front = Front {
            lag: 0,
            down_until: 0,
        };
        Self {
            store: store.clone(),
            entropy: 1 << 64,
            fronts: vec![front; fronts],
            stalled_until: 0,
            commits: Vec::new(),
            compacted: 0,
            keys: keys.clone(),
        }
    }

    /// How many changes a server's watch cache has by `now`.
    pub(crate) fn visible(&self, front: usize, now: Time) -> usize {
        let lag = self.fronts[front].lag;
        if lag == 0 {
            return self.commits.len();
        }
        self.commits
            .partition_point(|commit| commit.at + lag <= now)
    }

    fn apply(
        &mut self,
        now: Time,
        target: Target,
        action: Action,
    ) -> Result<store::Answer, Refusal> {
        self.entropy += 1;
        self.store
            .apply(&at(now, self.entropy), Request { target, action })
    }

    /// Does what a replica's core asks, and notes what it changed.
    pub(crate) fn core(&mut self, now: Time, object: &Object, op: &Op) -> Answer {
        let (group, _, plural) = wire::resource(object);
        let name = names().name(object);
        let named = target(group, plural, Some(&name));
        let action = match op {
            Op::Read => Action::Get(None),
            Op::Create(record) => {
                let value = encode(object, record);
                let unnamed = target(group, plural, None);
                let answer = self.apply(now, unnamed, Action::Create(value, Write::default()));
                return self.answer(now, object, answer);
            }
            Op::Replace {
                record,
                resource_version,
            } => {
                let mut value = encode(object, record);
                if resource_version.is_empty() {
                    // Only mutants and baselines do so: whoever is there is overwritten.
                    Action::Patch(Patch::Merge(value), Write::default())
                } else {
                    value["metadata"]["resourceVersion"] = json!(&**resource_version);
                    Action::Update(value, Write::default())
                }
            }
            Op::Delete {
                uid,
                resource_version,
            } => Action::Delete(store::Delete {
                dry_run: false,
                uid: Some(uid.to_string()),
                version: Some(resource_version.to_string()),
            }),
        };
        let reads = matches!(op, Op::Read);
        let deletes = matches!(op, Op::Delete { .. });
        let answer = self.apply(now, named, action);
        if reads {
            return refused(answer).map_or_else(
                |answer| answer,
                |value| Answer::Done(decode(object, &value)),
            );
        }
        if deletes {
            return match answer {
                Ok(_) => {
                    self.note(now, object, None);
                    Answer::Absent
                }
                Err(refusal) => say(&refusal),
            };
        }
        self.answer(now, object, answer)
    }

    fn answer(
        &mut self,
        now: Time,
        object: &Object,
        answer: Result<store::Answer, Refusal>,
    ) -> Answer {
        match refused(answer) {
            Ok(value) => {
                let stored = decode(object, &value);
                // A write that changes nothing has no version of its own, and no watch shows it.
                let same = self
                    .stored(object)
                    .is_some_and(|last| last.resource_version == stored.resource_version);
                if !same {
                    self.note(now, object, Some(stored.clone()));
                }
                Answer::Done(stored)
            }
            Err(answer) => answer,
        }
    }

    fn note(&mut self, at: Time, object: &Object, stored: Option<Stored>) {
        drop(self.store.take_changes());
        self.commits.push(Commit {
            at,
            object: object.clone(),
            stored,
        });
    }

    /// What is stored now.
    pub(crate) fn stored(&self, object: &Object) -> Option<&Stored> {
        let last = self.commits.iter().rev();
        let mut of_object = last.filter(|commit| commit.object == *object);
        of_object.next()?.stored.as_ref()
    }

    /// What was stored when only the first `commits` changes had happened.
    pub(crate) fn stored_at(&self, commits: usize) -> Vec<(Object, Option<Stored>)> {
        let mut then = std::collections::BTreeMap::new();
        for commit in &self.commits[..commits] {
            then.insert(commit.object.clone(), commit.stored.clone());
        }
        then.into_iter().collect()
    }

    /// Somebody with `kubectl` deletes an object.
    pub(crate) fn remove(&mut self, now: Time, object: &Object) -> bool {
        let (group, _, plural) = wire::resource(object);
        let named = target(group, plural, Some(&names().name(object)));
        let done = self.apply(now, named, Action::Delete(store::Delete::default()));
        if done.is_ok() {
            self.note(now, object, None);
        }
        done.is_ok()
    }

    /// Somebody with `kubectl` edits an object: `edit` changes what is stored.
    pub(crate) fn edit(
        &mut self,
        now: Time,
        object: &Object,
        edit: impl FnOnce(&mut Value),
    ) -> bool {
        let Some(mut value) = self.fetch(now, object) else {
            return false;
        };
        edit(&mut value);
        let (group, _, plural) = wire::resource(object);
        let named = target(group, plural, Some(&names().name(object)));
        let answer = self.apply(now, named, Action::Update(value, Write::default()));
        matches!(self.answer(now, object, answer), Answer::Done(_))
    }

    /// As [`Api::edit`], by one who deletes the object and creates what came of it: nothing compares
    /// the two.
    pub(crate) fn edit_anew(
        &mut self,
        now: Time,
        object: &Object,
        edit: impl FnOnce(&mut Value),
    ) -> bool {
        let Some(mut value) = self.fetch(now, object) else {
            return false;
        };
        edit(&mut value);
        self.remove(now, object);
        let annotations = value["metadata"]["annotations"].clone();
        value["metadata"] = json!({"name": names().name(object), "namespace": NAMESPACE});
        if annotations.is_object() {
            value["metadata"]["annotations"] = annotations;
        }
        let (group, _, plural) = wire::resource(object);
        let unnamed = target(group, plural, None);
        let answer = self.apply(now, unnamed, Action::Create(value, Write::default()));
        matches!(self.answer(now, object, answer), Answer::Done(_))
    }

    /// An object as `kubectl` shows it.
    fn fetch(&mut self, now: Time, object: &Object) -> Option<Value> {
        let (group, _, plural) = wire::resource(object);
        let named = target(group, plural, Some(&names().name(object)));
        let found = self.apply(now, named, Action::Get(None));
        found.ok().map(body)
    }

    /// Somebody puts an object back as it once was, from a backup: what is there is deleted first.
    pub(crate) fn restore(&mut self, now: Time, object: &Object, then: &Stored) -> bool {
        self.remove(now, object);
        let op = Op::Create(then.record.clone());
        matches!(self.core(now, object, &op), Answer::Done(_))
    }

    /// Reads an Ingestor for its status.
    pub(crate) fn read_status(&self, key: usize) -> StatusRead {
        status_read(&self.keys[key].object)
    }

    /// Writes an Ingestor's status at a version, as `owner`; without one the owner stays as it is.
    pub(crate) fn write_status(
        &mut self,
        now: Time,
        key: usize,
        version: Option<&str>,
        owner: Option<(&Epoch, &Holder, &str)>,
        counted: u64,
    ) -> StatusAnswer {
        let named = target("zen.watcher.io", "ingestors", Some(&self.keys[key].name));
        let mut value = self.keys[key].object.clone();
        if let Some(version) = version {
            value["metadata"]["resourceVersion"] = json!(version);
        }
        value["status"]["backlog"] = json!(counted);
        if let Some((epoch, holder, pod_uid)) = owner {
            value["status"]["owner"] =
                json!({"holder": holder.to_string(), "podUID": pod_uid, "epoch": epoch.0});
        }
        let status = Target {
            part: Part::Status,
            ..named
        };
        match self.apply(now, status, Action::Update(value, Write::default())) {
            Ok(answer) => {
                drop(self.store.take_changes());
                self.keys[key].object = body(answer);
                StatusAnswer::Done(self.read_status(key))
            }
            Err(refusal) => match refusal.code {
                409 => StatusAnswer::Conflict,
                _ => StatusAnswer::Refused,
            },
        }
    }

    /// Whether any server answers at `now`, and etcd behind it.
    pub(crate) fn is_well(&self, now: Time) -> bool {
        self.stalled_until <= now
            && self
                .fronts
                .iter()
                .all(|front| front.down_until <= now && front.lag < SECOND)
    }
}

fn status_read(value: &Value) -> StatusRead {
    let owner = value.pointer("/status/owner").and_then(|owner| {
        let holder = owner["holder"].as_str()?.parse().ok()?;
        Some((Epoch(owner["epoch"].as_u64()?), holder))
    });
    let version = value["metadata"]["resourceVersion"].as_str();
    StatusRead {
        version: version.unwrap_or_default().to_owned(),
        owner,
    }
}

fn refused(answer: Result<store::Answer, Refusal>) -> Result<Value, Answer> {
    answer.map(body).map_err(|refusal| say(&refusal))
}

/// A refusal as the edge tells it to the core.
fn say(refusal: &Refusal) -> Answer {
    match (refusal.code, refusal.reason) {
        (404, _) => Answer::Absent,
        (409, "AlreadyExists") => Answer::Exists,
        (409, _) => Answer::Conflict,
        (429 | 500..=599, _) => Answer::Unknown,
        _ => Answer::Refused(refusal.message.as_str().into()),
    }
}
