//! Why a bucket is where it is, in data and in words.
//!
//! What is explained is a `ShardMap` as it stands, with what is known of loads and builds; a reason is
//! found by looking at it as the assignment would, not by remembering what happened.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    assign::{Account, accounts, choices, rolling},
    layout::{Balance, Candidate, Wanted},
    names::{Holder, newer},
    records::{MemberState, ShardMapSpec, Stage},
};
use crate::journal::{Bucket, Epoch};

/// A bucket, and everything about its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Which.
    pub bucket: Bucket,
    /// Its load, as far as it is known.
    pub load: Option<u32>,
    /// Who owns it, and since which version of the map.
    pub owner: Option<(Holder, Epoch)>,
    /// Why that one.
    pub why: Why,
    /// Who takes it if the owner is gone.
    pub standby: Option<Holder>,
    /// Those that may own it, in the order of the ring.
    pub choices: Vec<Choice>,
}

/// A pod that may own a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Who.
    pub holder: Holder,
    /// Its zone; empty where nobody knows.
    pub zone: Arc<str>,
    /// What it carries today; `None` where nobody knows.
    pub load: Option<u64>,
    /// What it is given no more than; `None` where nobody knows.
    pub bound: Option<u64>,
}

/// Why a bucket is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody has it: there is nobody, or the next version of the map will say who.
    Unowned,
    /// Its owner is dead, or no member; the next version of the map will say who takes it.
    OwnerGone,
    /// It is on its way.
    Moving {
        /// To whom.
        to: Holder,
        /// Since which version.
        since: u64,
        /// How urgently the owner is asked.
        stage: Stage,
    },
    /// Its owner gives everything away, and this bucket's turn comes.
    Leaving(MemberState),
    /// The owner is the ring's first choice.
    First,
    /// The ring's first choice would carry too much with it.
    FirstIsFull(Choice),
    /// The ring's first choice has an older build than the owner.
    FirstIsOlder(Choice),
    /// The ring's first choice has room, and had none, or was not there, when the bucket came to its
    /// owner: what can stay, stays.
    Stays(Choice),
}

/// What the assignment would be asked, if the map were all that is known: `loads` and `builds` as far
/// as the caller knows them. Members that are Active are taken to be Ready; while their builds differ,
/// balance waits, as the leader has it.
#[must_use]
pub fn wanted(
    map: &ShardMapSpec,
    loads: BTreeMap<Bucket, u32>,
    builds: &BTreeMap<Holder, Arc<str>>,
) -> Wanted {
    let mut wanted = Wanted {
        buckets: map.buckets,
        loads,
        gain_percent: GAIN_PERCENT,
        ..Wanted::default()
    };
    for (holder, member) in map.holders() {
        if member.state == MemberState::Active {
            let candidate = Candidate {
                zone: Arc::clone(&member.zone),
                region: Arc::from(""),
                weight: member.weight,
                build: builds
                    .get(&holder)
                    .map_or_else(|| Arc::from(""), Arc::clone),
            };
            wanted.candidates.insert(holder, candidate);
        } else {
            wanted.zones.insert(holder, Arc::clone(&member.zone));
        }
    }
    for (bucket, grant) in &map.grants {
        let to = map.moves.get(bucket).map(|listed| &listed.to);
        let owner = to.unwrap_or(&grant.owner).clone();
        wanted.current.insert(*bucket, owner);
    }
    // The leader doesn't wait for ever, but how long it has waited only it knows.
    if rolling(&wanted) {
        wanted.balance = Balance::Held;
    }
    wanted
}

/// As the leader has it (`Timing::gain_percent`).
const GAIN_PERCENT: u32 = 5;

/// Explains a bucket of `map`; `wanted` as [`wanted`] gives it, `standby` as the assignment does.
#[must_use]
pub fn explain(
    map: &ShardMapSpec,
    wanted: &Wanted,
    bucket: Bucket,
    standby: Option<Holder>,
) -> Explanation {
    let accounts = accounts(wanted);
    let choices: Vec<Choice> = choices(wanted, bucket)
        .into_iter()
        .map(|holder| choice(wanted, &accounts, holder))
        .collect();
    let load = wanted.loads.get(&bucket).copied().unwrap_or(0);
    let grant = map.grants.get(&bucket);
    Explanation {
        why: why(map, wanted, bucket, &choices),
        bucket,
        load: Some(load),
        owner: grant.map(|grant| (grant.owner.clone(), grant.epoch)),
        standby,
        choices,
    }
}

fn choice(wanted: &Wanted, accounts: &BTreeMap<Holder, Account>, holder: Holder) -> Choice {
    let account = accounts.get(&holder);
    let zone = wanted
        .candidates
        .get(&holder)
        .map(|candidate| &candidate.zone);
    Choice {
        zone: zone.map_or_else(|| Arc::from(""), Arc::clone),
        load: Some(account.map_or(0, |account| account.load)),
        bound: Some(account.and_then(|account| account.bound).unwrap_or(0)),
        holder,
    }
}

fn why(map: &ShardMapSpec, wanted: &Wanted, bucket: Bucket, choices: &[Choice]) -> Why {
    let Some(grant) = map.grants.get(&bucket) else {
        return Why::Unowned;
    };
    if let Some(listed) = map.moves.get(&bucket) {
        return Why::Moving {
            to: listed.to.clone(),
            since: listed.since,
            stage: listed.stage,
        };
    }
    match map.state(&grant.owner) {
        None | Some(MemberState::Down) => return Why::OwnerGone,
        Some(state @ (MemberState::Draining | MemberState::Unreachable)) => {
            return Why::Leaving(state);
        }
        Some(MemberState::Active) => {}
    }
    let Some(first) = choices.first().filter(|first| first.holder != grant.owner) else {
        return Why::First;
    };
    let build = |holder| wanted.candidates.get(holder).map_or("", |c| &*c.build);
    let load = u64::from(wanted.loads.get(&bucket).copied().unwrap_or(0));
    if newer(build(&grant.owner), build(&first.holder)).is_gt() {
        Why::FirstIsOlder(first.clone())
    } else if first.load.unwrap_or(0).saturating_add(load) > first.bound.unwrap_or(0) {
        Why::FirstIsFull(first.clone())
    } else {
        Why::Stays(first.clone())
    }
}

// === impl Explanation ===

impl Explanation {
    /// The same where loads are unknown: numbers that were computed from nothing are none.
    #[must_use]
    pub fn without_loads(mut self) -> Self {
        self.load = None;
        let forget = |choice: &mut Choice| (choice.load, choice.bound) = (None, None);
        self.choices.iter_mut().for_each(forget);
        match &mut self.why {
            Why::FirstIsFull(first) | Why::FirstIsOlder(first) | Why::Stays(first) => forget(first),
            Why::Unowned | Why::OwnerGone | Why::Moving { .. } | Why::Leaving(_) | Why::First => {}
        }
        self
    }
}

// === words ===

/// A number, or that nobody knows it.
fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some((owner, epoch)) => {
                writeln!(f, "Owner:   {owner}, since version {}.", epoch.0)?;
            }
            None => writeln!(f, "Owner:   none.")?,
        }
        writeln!(f, "Why:     {}", self.why)?;
        match &self.standby {
            Some(standby) => writeln!(f, "Standby: {standby} takes it if the owner is gone.")?,
            None => writeln!(f, "Standby: none; there is nobody else.")?,
        }
        writeln!(
            f,
            "Ring:    the order in which pods are this bucket's choice"
        )?;
        for (n, choice) in self.choices.iter().enumerate() {
            writeln!(f, "         {}. {choice}", n + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.holder)?;
        if !self.zone.is_empty() {
            write!(f, " in zone {}", self.zone)?;
        }
        let (load, bound) = (known(self.load), known(self.bound));
        write!(f, ", carries {load} of at most {bound}")
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unowned => f.write_str(
                "nobody may take it; it is given out when a replica is Active and Ready.",
            ),
            Self::OwnerGone => {
                f.write_str("its owner is gone; the next version of the map says who takes it.")
            }
            Self::Moving { to, since, stage } => write!(
                f,
                "it is on its way to {to} since version {since}; the owner {}.",
                match stage {
                    Stage::Ask => "is asked for it, and finishes what is in flight",
                    Stage::Warn => "was warned, and will lose it soon",
                    Stage::Fence => "did not answer, and what it still writes is refused",
                }
            ),
            Self::Leaving(MemberState::Unreachable) => f.write_str(
                "its owner can't be reached by most others; the bucket leaves in a planned move.",
            ),
            Self::Leaving(MemberState::Draining | MemberState::Active | MemberState::Down) => {
                f.write_str("its owner gives everything away; the bucket's turn comes.")
            }
            Self::First => f.write_str("the owner is the ring's first choice."),
            Self::FirstIsFull(first) => write!(
                f,
                "the ring's first choice, {}, carries {} of at most {} and has no room for it.",
                first.holder,
                known(first.load),
                known(first.bound)
            ),
            Self::FirstIsOlder(first) => write!(
                f,
                "the ring's first choice, {}, has an older build; a bucket that moved there would move again.",
                first.holder
            ),
            Self::Stays(first) => write!(
                f,
                "the ring's first choice is {}, which had no room or was not there when the bucket came \
                 here; what can stay, stays.",
                first.holder
            ),
        }
    }
}

#[cfg(test)]
#[path = "explain/tests.rs"]
mod tests;
