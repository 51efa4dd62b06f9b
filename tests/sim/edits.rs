//! What somebody with `kubectl edit` makes of the map and of the leader Lease.
//!
//! An edit changes the object as it is stored; the store takes it where the definition's schema and
//! rule do. One who first deletes and then creates is held to the schema alone. So an edit may be
//! sound and surprising, or what no leader would ever write, or what nobody can read.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zen_fabric::{
    coordination::{
        names::{Holder, PodName},
        port::{Object, Record},
        records::{Grant, Member, MemberState, Move, ShardMapSpec, Stage},
    },
    journal::Epoch,
    testing::seeded::Seeded,
};

use crate::{
    api::{decode, encode},
    world::bucket_of,
};

/// Just below what everything that counts stays below.
const MOST: u64 = (1 << 52) - 1;

/// What is done to the map. Where it stays readable, what is stored afterwards has another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapEdit {
    /// Nothing but its numbers.
    Numbers,
    /// Its version is among the last that there are, or its term is.
    Last { version: bool, below: u64 },
    /// A bucket is another member's, under the new version.
    Give { key: usize, pod: usize },
    /// A bucket is another member's, under the epoch that its owner has.
    Swap { key: usize, pod: usize },
    /// A bucket's epoch falls.
    Lower { key: usize },
    /// A bucket is nobody's.
    Orphan { key: usize },
    /// A bucket is of a life that its pod has not had.
    Unborn { key: usize, pod: usize },
    /// A bucket is of a pod that there isn't; maybe it is among the members.
    Stranger { key: usize, member: bool },
    /// A member is of another life.
    Life { pod: usize, up: bool },
    /// A member has another state.
    State { pod: usize, state: MemberState },
    /// A member is not there.
    Forget { pod: usize },
    /// There are no members, or no owners either.
    Empty { owners: bool },
    /// Another pod is said to have written it, in the next term.
    Leader { pod: usize },
    /// It is another fleet's, of which no pod is here.
    Foreign,
    /// A move that nobody asked for.
    Moving {
        key: usize,
        pod: usize,
        stage: Stage,
    },
    /// A move of what isn't the mover's, to one who isn't there.
    OddMove { key: usize, pod: usize },
    /// An epoch is not a number.
    Unreadable,
    /// A bucket has two owners.
    Twice,
    /// A bucket that there isn't.
    Beyond,
}

/// How its numbers change: what the rule asks for, or where it is created anew, anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) version: i64,
    pub(crate) term: i64,
    /// Deleted and created: nothing compares it with what it was.
    pub(crate) anew: bool,
}

/// What is done to the leader Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaderEdit {
    /// It names the present life of another pod.
    Member { pod: usize },
    /// It names a life that the pod has had, or not yet.
    Life { pod: usize, up: bool },
    /// It names a pod that there isn't.
    Stranger,
    /// It names nobody.
    Nobody,
    /// It names nobody, and an heir that there isn't.
    Heir,
    /// Whom it names is no holder.
    NoHolder,
    /// Its term is lower.
    Lower { to: u64 },
    /// Its term is higher.
    Raise { by: u64 },
    /// Its term is among the last that there are.
    Last { below: u64 },
    /// An annotation can't be read, or what has to be there isn't.
    Unreadable { which: usize },
    /// It was written by another pod.
    Uid { pod: usize },
}

impl MapEdit {
    pub(crate) fn draw(rng: &mut Seeded, keys: usize, pods: usize) -> Self {
        let (key, pod) = (rng.index(keys), rng.index(pods));
        let last = [0, 1, 100, 1 << 19, 1 << 30];
        let stages = [Stage::Ask, Stage::Warn, Stage::Fence];
        let states = [
            MemberState::Active,
            MemberState::Draining,
            MemberState::Unreachable,
            MemberState::Down,
        ];
        match rng.below(20) {
            0 => Self::Numbers,
            1 => Self::Last {
                version: rng.chance(50),
                below: last[rng.index(last.len())],
            },
            2 | 3 => Self::Give { key, pod },
            4 => Self::Swap { key, pod },
            5 => Self::Lower { key },
            6 => Self::Orphan { key },
            7 => Self::Unborn { key, pod },
            8 => Self::Stranger {
                key,
                member: rng.chance(50),
            },
            9 => Self::Life {
                pod,
                up: rng.chance(50),
            },
            10 => Self::State {
                pod,
                state: states[rng.index(states.len())],
            },
            11 => Self::Forget { pod },
            12 => Self::Empty {
                owners: rng.chance(50),
            },
            13 => Self::Leader { pod },
            14 => Self::Foreign,
            15 => Self::Moving {
                key,
                pod,
                stage: stages[rng.index(stages.len())],
            },
            16 => Self::OddMove { key, pod },
            17 => Self::Unreadable,
            18 => Self::Twice,
            _ => Self::Beyond,
        }
    }

    /// Changes the object as it is stored; `lives`: the present life of every pod.
    pub(crate) fn apply(self, numbers: Numbers, value: &mut Value, lives: &[Holder]) {
        if let Record::Map(map) = decode(&Object::Map, value).record {
            let mut map = (*map).clone();
            map.version = map.version.saturating_add_signed(numbers.version).min(MOST);
            map.term = map.term.saturating_add_signed(numbers.term).min(MOST);
            self.change(&mut map, lives);
            value["spec"] = encode(&Object::Map, &Record::Map(map.into()))["spec"].clone();
        }
        self.spoil(&mut value["spec"]);
    }

    fn change(self, map: &mut ShardMapSpec, lives: &[Holder]) {
        let version = Epoch(map.version);
        let grant = |map: &mut ShardMapSpec, key, owner: &Holder, epoch: Option<Epoch>| {
            let known = map.grants.get(&bucket_of(key)).map(|grant| grant.epoch);
            let epoch = epoch.or(known).unwrap_or(version);
            let owner = owner.clone();
            map.grants.insert(bucket_of(key), Grant { owner, epoch });
        };
        match self {
            Self::Numbers | Self::Unreadable | Self::Twice | Self::Beyond => {}
            Self::Last { version, below } => {
                let number = if version {
                    &mut map.version
                } else {
                    &mut map.term
                };
                *number = MOST - below;
            }
            Self::Give { key, pod } => grant(map, key, &lives[pod], Some(version)),
            Self::Swap { key, pod } => grant(map, key, &lives[pod], None),
            Self::Lower { key } => {
                if let Some(grant) = map.grants.get_mut(&bucket_of(key)) {
                    grant.epoch = Epoch(grant.epoch.0.saturating_sub(1).max(1));
                }
            }
            Self::Orphan { key } => {
                map.grants.remove(&bucket_of(key));
            }
            Self::Unborn { key, pod } => grant(map, key, &later(&lives[pod], 3), Some(version)),
            Self::Stranger { key, member } => {
                let owner = stranger();
                if member {
                    map.members.insert(owner.pod.clone(), one(&owner));
                }
                grant(map, key, &owner, Some(version));
            }
            Self::Life { pod, up } => {
                if let Some(member) = map.members.get_mut(&lives[pod].pod) {
                    let other = if up {
                        member.incarnation + 2
                    } else {
                        member.incarnation.saturating_sub(1)
                    };
                    member.incarnation = other.max(1);
                }
            }
            Self::State { pod, state } => {
                if let Some(member) = map.members.get_mut(&lives[pod].pod) {
                    member.state = state;
                }
            }
            Self::Forget { pod } => {
                map.members.remove(&lives[pod].pod);
            }
            Self::Empty { owners } => {
                map.members = BTreeMap::new();
                map.moves = BTreeMap::new();
                if owners {
                    map.grants = BTreeMap::new();
                }
            }
            Self::Leader { pod } => {
                map.term = (map.term + 1).min(MOST);
                map.leader = lives[pod].clone();
            }
            Self::Foreign => foreign(map),
            Self::Moving { key, pod, stage } => {
                let bucket = bucket_of(key);
                if let Some(grant) = map.grants.get(&bucket)
                    && grant.owner != lives[pod]
                {
                    let of = Move {
                        from: grant.owner.clone(),
                        to: lives[pod].clone(),
                        since: map.version,
                        stage,
                    };
                    map.moves.insert(bucket, of);
                }
            }
            Self::OddMove { key, pod } => {
                let of = Move {
                    from: lives[pod].clone(),
                    to: stranger(),
                    since: map.version,
                    stage: Stage::Ask,
                };
                map.moves.insert(bucket_of(key), of);
            }
        }
    }

    fn spoil(self, spec: &mut Value) {
        let owner = spec["assignments"]
            .as_array_mut()
            .and_then(|all| all.first_mut());
        let Some(owner) = owner else { return };
        let Some(epochs) = owner["epochs"].as_object_mut() else {
            return;
        };
        match self {
            Self::Unreadable => {
                epochs.insert("soon".to_owned(), json!("1"));
            }
            Self::Twice => {
                let some = epochs
                    .values()
                    .next()
                    .cloned()
                    .unwrap_or_else(|| json!("1"));
                epochs.insert("1".to_owned(), some.clone());
                epochs.insert("2".to_owned(), some);
            }
            Self::Beyond => {
                epochs.insert("1".to_owned(), json!("1000"));
            }
            _ => {}
        }
    }
}

impl Numbers {
    pub(crate) fn draw(rng: &mut Seeded) -> Self {
        let anew = rng.chance(30);
        let far = [1, 1, 1, 2, 3, 700, 5_000, 1 << 31];
        let version = far[rng.index(far.len())];
        let terms = [0, 0, 0, 1, 1, 2, 1_000, 1 << 31];
        let term = terms[rng.index(terms.len())];
        let down = anew && rng.chance(50);
        Self {
            version: if down {
                -i64::try_from(rng.below(4)).unwrap()
            } else {
                version
            },
            term: if down {
                -i64::try_from(rng.below(4)).unwrap()
            } else {
                term
            },
            anew,
        }
    }
}

impl LeaderEdit {
    pub(crate) fn draw(rng: &mut Seeded, pods: usize) -> Self {
        let pod = rng.index(pods);
        let last = [0, 1, 100, 1 << 19, 1 << 30];
        let far = [1, 2, 10, (1 << 31) - 1, 1 << 40];
        match rng.below(13) {
            0 | 1 => Self::Member { pod },
            2 => Self::Life {
                pod,
                up: rng.chance(50),
            },
            3 => Self::Stranger,
            4 => Self::Nobody,
            5 => Self::Heir,
            6 => Self::NoHolder,
            7 => Self::Lower { to: rng.below(3) },
            8 => Self::Raise {
                by: far[rng.index(far.len())],
            },
            9 => Self::Last {
                below: last[rng.index(last.len())],
            },
            10 => Self::Uid { pod },
            _ => Self::Unreadable {
                which: rng.index(4),
            },
        }
    }

    /// Changes the Lease as it is stored; `lives` and `uids` are of every pod.
    pub(crate) fn apply(self, value: &mut Value, lives: &[Holder], uids: &[String]) {
        let holder = |holder: &Holder| json!(holder.to_string());
        match self {
            Self::Member { pod } => value["spec"]["holderIdentity"] = holder(&lives[pod]),
            Self::Life { pod, up } => {
                let life = &lives[pod];
                let other = if up {
                    later(life, 2)
                } else {
                    Holder {
                        incarnation: life.incarnation.saturating_sub(1).max(1),
                        ..life.clone()
                    }
                };
                value["spec"]["holderIdentity"] = holder(&other);
            }
            Self::Stranger => value["spec"]["holderIdentity"] = holder(&stranger()),
            Self::Nobody => value["spec"]["holderIdentity"] = json!(""),
            Self::Heir => {
                value["spec"]["holderIdentity"] = json!("");
                value["metadata"]["annotations"]["zen.io/heir"] = holder(&stranger());
            }
            Self::NoHolder => value["spec"]["holderIdentity"] = json!("core-0"),
            Self::Lower { to } => set_term(value, to),
            Self::Raise { by } => {
                let transitions = value["spec"]["leaseTransitions"].as_u64();
                set_term(value, transitions.unwrap_or_default() + by);
            }
            Self::Last { below } => set_term(value, MOST - below),
            Self::Unreadable { which: 0 } => {
                value["metadata"]["annotations"]["zen.io/renewals"] = json!("many");
            }
            Self::Unreadable { which: 1 } => {
                value["metadata"]["annotations"]["zen.io/term"] = json!("mine");
            }
            Self::Unreadable { which: 2 } => value["spec"]["leaseTransitions"] = Value::Null,
            Self::Unreadable { .. } => value["spec"]["renewTime"] = Value::Null,
            Self::Uid { pod } => {
                value["metadata"]["annotations"]["zen.io/pod-uid"] = json!(uids[pod]);
            }
        }
    }
}

/// As the product writes it: what has no room in 32 bits is an annotation.
fn set_term(value: &mut Value, term: u64) {
    value["spec"]["leaseTransitions"] = json!(i32::try_from(term).unwrap_or(i32::MAX));
    value["metadata"]["annotations"]["zen.io/term"] = json!(term.to_string());
}

fn later(life: &Holder, by: u64) -> Holder {
    Holder {
        incarnation: life.incarnation + by,
        ..life.clone()
    }
}

fn stranger() -> Holder {
    Holder {
        pod: PodName("core-9".into()),
        incarnation: 1,
    }
}

fn one(_: &Holder) -> Member {
    Member {
        incarnation: 1,
        zone: "zone-0".into(),
        weight: 100,
        state: MemberState::Active,
    }
}

/// Every name becomes another's.
fn foreign(map: &mut ShardMapSpec) {
    let name = |pod: &PodName| PodName(format!("other-{pod}").into());
    let of = |holder: &Holder| Holder {
        pod: name(&holder.pod),
        incarnation: holder.incarnation,
    };
    map.term = (map.term + 1).min(MOST);
    map.leader = of(&map.leader);
    let members = map.members.iter();
    map.members = members
        .map(|(pod, member)| (name(pod), member.clone()))
        .collect();
    for grant in map.grants.values_mut() {
        grant.owner = of(&grant.owner);
    }
    map.moves = BTreeMap::new();
}
