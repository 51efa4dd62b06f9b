//! The `ShardMap` as it is stored: read, written, and kept small.
//!
//! What is stored may have been edited by hand or written by a foreign program: what is read is taken
//! whole or refused with the field that is wrong, and nothing is guessed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use super::{
    buckets::Buckets,
    names::{Holder, MOST, PodName},
    records::{Grant, Member, MemberState, Move, ShardMapSpec, Stage},
};
use crate::{
    api::{
        ShardMapText,
        limits::{MAP_MEMBERS, WEIGHT},
        shardmap::{AssignmentText, MemberText, MoveText, StageText, StateText},
    },
    journal::{BUCKETS, Bucket, Epoch},
};

/// Above this size a map's epochs are merged: what a `kubectl get -o yaml` shows on a few screens, and
/// with room for moves below [`FULL`].
pub const MERGE_ABOVE: usize = 12 * 1_024;

/// A map of 25 replicas stays below this (coordination.md, "`ShardMap`").
pub const FULL: usize = 16 * 1_024;

/// A map that is larger is not read: ten times what the most replicas need whose pods have the usual
/// names, and a tenth of what etcd takes.
pub const MOST_BYTES: usize = 160 * 1_024;

/// A stored map that says what can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Malformed {
    /// Where, such as `spec.assignments[2].epochs[117]`.
    pub field: String,
    /// What is wrong about it.
    pub why: String,
}

/// What [`fit`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fitted {
    /// Buckets that are issued again to their owners at this version.
    pub merged: usize,
    /// Moves that were not asked for yet, and are left for later.
    pub postponed: usize,
}

// === reading ===

/// Reads the `spec` of a stored object, of whose form nothing is known.
///
/// # Errors
/// The first field that is wrong.
pub fn read(spec: &Value) -> Result<ShardMapSpec, Malformed> {
    let size = spec.to_string().len();
    if size > MOST_BYTES {
        return Err(wrong(
            "spec",
            format!("has {size} bytes, more than {MOST_BYTES}"),
        ));
    }
    let text: ShardMapText =
        serde_json::from_value(spec.clone()).map_err(|error| wrong("spec", error))?;
    decode(&text)
}

/// Reads a map.
///
/// # Errors
/// The first field that is wrong.
pub fn decode(text: &ShardMapText) -> Result<ShardMapSpec, Malformed> {
    if text.buckets != BUCKETS {
        let why = format!(
            "is {}, and there are {BUCKETS} buckets, for ever",
            text.buckets
        );
        return Err(wrong("spec.buckets", why));
    }
    let version = number("spec.version", text.version)?;
    Ok(ShardMapSpec {
        term: number("spec.term", text.term)?,
        version,
        leader: holder("spec.leader", &text.leader)?,
        buckets: text.buckets,
        members: members(text)?,
        grants: grants(text, version)?,
        moves: moves(text, version)?,
    })
}

fn members(text: &ShardMapText) -> Result<BTreeMap<PodName, Member>, Malformed> {
    if text.members.len() > MAP_MEMBERS {
        let why = format!(
            "has {} entries, more than {MAP_MEMBERS}",
            text.members.len()
        );
        return Err(wrong("spec.members", why));
    }
    let mut members = BTreeMap::new();
    for (n, entry) in text.members.iter().enumerate() {
        let at = |field: &str| format!("spec.members[{n}].{field}");
        let incarnation = number(&at("incarnation"), entry.incarnation)?;
        // What makes a holder, and is one.
        let named = holder(&at("name"), &format!("{}#{incarnation}", entry.name))?;
        if !WEIGHT.contains(&entry.weight) {
            let (least, most) = (WEIGHT.start(), WEIGHT.end());
            let why = format!("is {}, not from {least} to {most}", entry.weight);
            return Err(wrong(at("weight"), why));
        }
        let member = Member {
            incarnation,
            zone: Arc::from(entry.zone.as_str()),
            weight: entry.weight,
            state: entry.state.into(),
        };
        if members.insert(named.pod, member).is_some() {
            return Err(wrong(
                at("name"),
                format!("`{}` is there twice", entry.name),
            ));
        }
    }
    Ok(members)
}

fn grants(text: &ShardMapText, version: u64) -> Result<BTreeMap<Bucket, Grant>, Malformed> {
    let mut owners = BTreeSet::new();
    let mut grants = BTreeMap::new();
    for (n, entry) in text.assignments.iter().enumerate() {
        let at = format!("spec.assignments[{n}]");
        let owner = holder(&format!("{at}.owner"), &entry.owner)?;
        if !owners.insert(owner.clone()) {
            let why = format!("`{owner}` has two entries");
            return Err(wrong(format!("{at}.owner"), why));
        }
        for (epoch, set) in &entry.epochs {
            let at = format!("{at}.epochs[{epoch}]");
            let epoch = epoch_of(&at, epoch, version)?;
            for bucket in buckets(&at, set)?.iter() {
                let owner = owner.clone();
                if let Some(other) = grants.insert(bucket, Grant { owner, epoch }) {
                    let why = format!("bucket {} is also {}'s", bucket.0, other.owner);
                    return Err(wrong(at, why));
                }
            }
        }
    }
    Ok(grants)
}

fn moves(text: &ShardMapText, version: u64) -> Result<BTreeMap<Bucket, Move>, Malformed> {
    let mut moves = BTreeMap::new();
    for (n, entry) in text.moves.iter().enumerate() {
        let at = |field: &str| format!("spec.moves[{n}].{field}");
        let from = holder(&at("from"), &entry.from)?;
        let to = holder(&at("to"), &entry.to)?;
        if from == to {
            return Err(wrong(at("to"), format!("`{to}` is where it comes from")));
        }
        let since = number(&at("since"), entry.since)?;
        if since > version {
            return Err(wrong(
                at("since"),
                format!("{since} is above the version {version}"),
            ));
        }
        for bucket in buckets(&at("buckets"), &entry.buckets)?.iter() {
            let listed = Move {
                from: from.clone(),
                to: to.clone(),
                since,
                stage: entry.stage.into(),
            };
            if moves.insert(bucket, listed).is_some() {
                let why = format!("bucket {} moves twice", bucket.0);
                return Err(wrong(at("buckets"), why));
            }
        }
    }
    Ok(moves)
}

fn wrong(field: impl Into<String>, why: impl ToString) -> Malformed {
    Malformed {
        field: field.into(),
        why: why.to_string(),
    }
}

fn number(field: &str, number: i64) -> Result<u64, Malformed> {
    let counted = u64::try_from(number).ok().filter(|n| *n <= MOST);
    counted.ok_or_else(|| wrong(field, format!("{number} is not between 0 and 2^52 - 1")))
}

fn epoch_of(field: &str, text: &str, version: u64) -> Result<Epoch, Malformed> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    let number = text.parse().ok().filter(|n| plain && *n <= MOST);
    let Some(epoch) = number else {
        return Err(wrong(
            field,
            "the epoch is not a number between 0 and 2^52 - 1",
        ));
    };
    if epoch > version {
        return Err(wrong(
            field,
            format!("the epoch is above the version {version}"),
        ));
    }
    Ok(Epoch(epoch))
}

fn holder(field: &str, text: &str) -> Result<Holder, Malformed> {
    let holder: Holder = text.parse().map_err(|error| wrong(field, error))?;
    let name = holder.pod.0.as_bytes();
    let plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if name.iter().all(plain) {
        Ok(holder)
    } else {
        Err(wrong(field, format!("`{}` is no pod's name", holder.pod)))
    }
}

fn buckets(field: &str, text: &str) -> Result<Buckets, Malformed> {
    text.parse().map_err(|error| wrong(field, error))
}

// === writing ===

/// The text of a map. Equal maps have equal texts.
#[must_use]
pub fn encode(map: &ShardMapSpec) -> ShardMapText {
    let mut owned: BTreeMap<&Holder, BTreeMap<Epoch, Buckets>> = BTreeMap::new();
    for (bucket, grant) in &map.grants {
        let epochs = owned.entry(&grant.owner).or_default();
        epochs.entry(grant.epoch).or_default().insert(*bucket);
    }
    let assignment = |(owner, epochs): (&Holder, BTreeMap<Epoch, Buckets>)| AssignmentText {
        owner: owner.to_string(),
        epochs: epochs
            .into_iter()
            .map(|(epoch, buckets)| (epoch.0.to_string(), buckets.to_string()))
            .collect(),
    };
    ShardMapText {
        term: integer(map.term),
        version: integer(map.version),
        leader: map.leader.to_string(),
        buckets: map.buckets,
        members: map.members.iter().map(member).collect(),
        assignments: owned.into_iter().map(assignment).collect(),
        moves: grouped(map).into_iter().map(moving).collect(),
    }
}

/// Moves that have everything but the bucket in common.
fn grouped(map: &ShardMapSpec) -> BTreeMap<(u64, Stage, &Holder, &Holder), Buckets> {
    let mut groups: BTreeMap<_, Buckets> = BTreeMap::new();
    for (bucket, listed) in &map.moves {
        let group = (listed.since, listed.stage, &listed.from, &listed.to);
        groups.entry(group).or_default().insert(*bucket);
    }
    groups
}

fn moving(
    ((since, stage, from, to), buckets): ((u64, Stage, &Holder, &Holder), Buckets),
) -> MoveText {
    MoveText {
        buckets: buckets.to_string(),
        from: from.to_string(),
        to: to.to_string(),
        since: integer(since),
        stage: stage.into(),
    }
}

fn member((pod, member): (&PodName, &Member)) -> MemberText {
    MemberText {
        name: pod.to_string(),
        incarnation: integer(member.incarnation),
        zone: member.zone.to_string(),
        weight: member.weight,
        state: member.state.into(),
    }
}

/// Everything that counts stays below 2^52.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How many bytes the map has as it is stored.
#[must_use]
pub fn size(map: &ShardMapSpec) -> usize {
    serde_json::to_vec(&encode(map)).map_or(usize::MAX, |bytes| bytes.len())
}

/// Makes a map that is about to be written small enough: above [`MERGE_ABOVE`] owners are issued their
/// buckets again at the map's version, those with the most epochs first, so that an owner's buckets
/// are one text again; buckets that move keep their epoch. If it is not below [`FULL`] then, moves that
/// this very version would have asked for first are left for a later one, the last first.
pub fn fit(map: &mut ShardMapSpec) -> Fitted {
    let mut fitted = Fitted::default();
    let mut left = size(map);
    if left > MERGE_ABOVE {
        for owner in by_epochs(map) {
            if left <= MERGE_ABOVE {
                break;
            }
            fitted.merged += merge(map, &owner);
            left = size(map);
        }
    }
    while left >= FULL && postpone(map, &mut fitted) {
        left = size(map);
    }
    fitted
}

/// Owners, those with the most epochs first.
fn by_epochs(map: &ShardMapSpec) -> Vec<Holder> {
    let mut epochs: BTreeMap<&Holder, BTreeSet<Epoch>> = BTreeMap::new();
    for grant in map.grants.values() {
        epochs.entry(&grant.owner).or_default().insert(grant.epoch);
    }
    let mut owners: Vec<_> = epochs
        .into_iter()
        .map(|(owner, e)| (e.len(), owner))
        .collect();
    owners.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.cmp(other)));
    owners.into_iter().map(|(_, owner)| owner.clone()).collect()
}

/// Issues an owner its buckets again; how many.
fn merge(map: &mut ShardMapSpec, owner: &Holder) -> usize {
    let (version, moves) = (Epoch(map.version), &map.moves);
    let of_owner = map.grants.iter_mut().filter(|(bucket, grant)| {
        grant.owner == *owner && grant.epoch != version && !moves.contains_key(bucket)
    });
    of_owner.map(|(_, grant)| grant.epoch = version).count()
}

/// Leaves one group of new moves for later; whether there was one.
fn postpone(map: &mut ShardMapSpec, fitted: &mut Fitted) -> bool {
    let version = map.version;
    let new = |(since, stage, ..): &(u64, Stage, &Holder, &Holder)| {
        *since == version && *stage == Stage::Ask
    };
    let last = grouped(map).into_iter().rfind(|(group, _)| new(group));
    let Some((_, buckets)) = last else {
        return false;
    };
    map.moves.retain(|bucket, _| !buckets.contains(*bucket));
    fitted.postponed += buckets.len();
    true
}

// === the same words in both forms ===

impl From<StateText> for MemberState {
    fn from(state: StateText) -> Self {
        match state {
            StateText::Active => Self::Active,
            StateText::Draining => Self::Draining,
            StateText::Unreachable => Self::Unreachable,
            StateText::Down => Self::Down,
        }
    }
}

impl From<MemberState> for StateText {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Active => Self::Active,
            MemberState::Draining => Self::Draining,
            MemberState::Unreachable => Self::Unreachable,
            MemberState::Down => Self::Down,
        }
    }
}

impl From<StageText> for Stage {
    fn from(stage: StageText) -> Self {
        match stage {
            StageText::Ask => Self::Ask,
            StageText::Warn => Self::Warn,
            StageText::Fence => Self::Fence,
        }
    }
}

impl From<Stage> for StageText {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Ask => Self::Ask,
            Stage::Warn => Self::Warn,
            Stage::Fence => Self::Fence,
        }
    }
}

#[cfg(test)]
mod tests;
