//! What a replica knows and does, for people and tools.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::coordination::{
    buckets::Buckets,
    names::Holder,
    port::{Link, Moment},
    records::{Life, MemberState, ShardMapSpec, Stage},
    replica::{Replica, look::Progress},
};

/// One replica's view of its fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, shown by its name"
)]
pub struct Snapshot {
    /// The fleet.
    pub fleet: String,
    /// As whom this replica acts, `pod#incarnation`; absent before its incarnation is claimed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub holder: Option<String>,
    /// Whom the leader Lease names.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leader: Option<String>,
    /// The term of that leadership.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leader_term: Option<u64>,
    /// The term of the map that is followed.
    pub term: u64,
    /// Its version.
    pub version: u64,
    /// Whether this replica leads.
    pub leads: bool,
    /// Whether it may start effects.
    pub gate_open: bool,
    /// Whether it gives everything away.
    pub draining: bool,
    /// Whether it is making the map again.
    pub healing: bool,
    /// The fleet's replicas.
    pub members: Vec<Member>,
    /// What this replica works on.
    pub buckets: Vec<Work>,
    /// What moves in the fleet.
    pub moves: Vec<Move>,
}

/// A replica of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its pod.
    pub pod: String,
    /// `pod#incarnation`.
    pub holder: String,
    /// What the map says: Active, Draining, Unreachable or Down; absent where it doesn't name it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<String>,
    /// What its Lease says: Live, Marked or Gone; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub life: Option<String>,
    /// Whether its caches are filled.
    pub ready: bool,
    /// Its zone.
    pub zone: String,
    /// Its region.
    pub region: String,
    /// Its build.
    pub build: String,
    /// What this replica's connection to it says: reached, refused or silent; absent for itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link: Option<String>,
    /// For how long its Lease is unchanged, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease_age_millis: Option<u64>,
    /// How many buckets the map grants it.
    pub buckets: usize,
    /// The same by the epoch at which they were issued: `{"117": "0-3,9"}`.
    pub epochs: BTreeMap<u64, String>,
}

/// A bucket that this replica has not let go of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// Which.
    pub bucket: u16,
    /// Under which epoch.
    pub epoch: u64,
    /// working, stopping or stopped.
    pub stage: String,
}

/// A bucket that is to change its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// Which.
    pub bucket: u16,
    /// Its owner.
    pub from: String,
    /// Its next owner.
    pub to: String,
    /// The version that first listed the move.
    pub since: u64,
    /// ask, warn or fence.
    pub stage: String,
}

// === impl Snapshot ===

impl Snapshot {
    /// What `replica` knows at `now`.
    #[must_use]
    pub fn of(fleet: &str, replica: &Replica, now: Moment) -> Self {
        let standing = replica.standing();
        let map = replica.map();
        Self {
            fleet: fleet.to_owned(),
            holder: standing.holder.as_ref().map(Holder::to_string),
            leader: replica.leader().map(Holder::to_string),
            leader_term: replica.leader_term(),
            term: map.map_or(0, |map| map.term),
            version: standing.version,
            leads: standing.term.is_some(),
            gate_open: standing.open,
            draining: standing.draining,
            healing: replica.is_healing(),
            members: members(replica, map.map(|map| &**map), now),
            buckets: replica
                .work()
                .map(|(bucket, epoch, progress)| Work {
                    bucket: bucket.0,
                    epoch: epoch.0,
                    stage: progressing(progress).to_owned(),
                })
                .collect(),
            moves: map.map_or_else(Vec::new, |map| moves(map)),
        }
    }
}

fn members(replica: &Replica, map: Option<&ShardMapSpec>, now: Moment) -> Vec<Member> {
    let mut owned: BTreeMap<&Holder, BTreeMap<u64, Buckets>> = BTreeMap::new();
    for (bucket, grant) in map.iter().flat_map(|map| &map.grants) {
        let of = owned.entry(&grant.owner).or_default();
        of.entry(grant.epoch.0).or_default().insert(*bucket);
    }
    let of = |holder: &Holder| owned.get(holder).into_iter().flatten();
    let buckets = |holder: &Holder| of(holder).map(|(_, buckets)| buckets.len()).sum();
    let epochs = |holder: &Holder| {
        let texts = of(holder).map(|(epoch, buckets)| (*epoch, buckets.to_string()));
        texts.collect()
    };
    let link = |holder: &Holder| {
        replica
            .links()
            .get(holder)
            .map(|link| linked(*link).to_owned())
    };
    let mut all: BTreeMap<String, Member> = BTreeMap::new();
    for (record, changed) in replica.members() {
        let holder = &record.holder;
        let age = u64::try_from(now.since(changed).as_millis()).unwrap_or(u64::MAX);
        let state = map.and_then(|map| map.state(holder));
        let member = Member {
            pod: holder.pod.to_string(),
            holder: holder.to_string(),
            state: state.map(|state| standing(state).to_owned()),
            life: Some(living(record.life).to_owned()),
            ready: record.ready,
            zone: record.zone.to_string(),
            region: record.region.to_string(),
            build: record.build.to_string(),
            link: link(holder),
            lease_age_millis: Some(age),
            buckets: buckets(holder),
            epochs: epochs(holder),
        };
        all.insert(holder.to_string(), member);
    }
    for (holder, member) in map.iter().flat_map(|map| map.holders()) {
        all.entry(holder.to_string()).or_insert_with(|| Member {
            pod: holder.pod.to_string(),
            holder: holder.to_string(),
            state: Some(standing(member.state).to_owned()),
            life: None,
            ready: false,
            zone: member.zone.to_string(),
            region: String::new(),
            build: String::new(),
            link: link(&holder),
            lease_age_millis: None,
            buckets: buckets(&holder),
            epochs: epochs(&holder),
        });
    }
    all.into_values().collect()
}

fn moves(map: &ShardMapSpec) -> Vec<Move> {
    let shown = map.moves.iter().map(|(bucket, of)| Move {
        bucket: bucket.0,
        from: of.from.to_string(),
        to: of.to.to_string(),
        since: of.since,
        stage: match of.stage {
            Stage::Ask => "ask",
            Stage::Warn => "warn",
            Stage::Fence => "fence",
        }
        .to_owned(),
    });
    shown.collect()
}

const fn progressing(progress: Progress) -> &'static str {
    match progress {
        Progress::Working => "working",
        Progress::Stopping => "stopping",
        Progress::Stopped => "stopped",
    }
}

const fn linked(link: Link) -> &'static str {
    match link {
        Link::Reached => "reached",
        Link::Refused => "refused",
        Link::Silent => "silent",
    }
}

const fn standing(state: MemberState) -> &'static str {
    match state {
        MemberState::Active => "Active",
        MemberState::Draining => "Draining",
        MemberState::Unreachable => "Unreachable",
        MemberState::Down => "Down",
    }
}

const fn living(life: Life) -> &'static str {
    match life {
        Life::Live => "Live",
        Life::Marked => "Marked",
        Life::Gone => "Gone",
    }
}
