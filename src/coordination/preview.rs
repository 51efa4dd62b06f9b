//! What would move: of a change that has not happened, and between two assignments.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    assign::assign,
    buckets::Buckets,
    layout::{Candidate, Layout, Wanted},
    names::{Holder, PodName},
};
use crate::journal::Bucket;

/// A change to a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A pod is gone.
    Without(PodName),
    /// So many more pods, of the newest build and the usual weight, in the zones that have fewest.
    Add(u16),
    /// Every pod of a zone is gone.
    ZoneDown(Arc<str>),
}

/// A change to what isn't there. Nothing was computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuch {
    /// No Active member has this name.
    #[error("no Active replica is called {name}; there are: {}", known.join(", "))]
    Pod {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No Active member is in this zone.
    #[error("no Active replica is in zone {name}; there are: {}", known.join(", "))]
    Zone {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
}

/// What one pod has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many buckets.
    pub buckets: usize,
    /// Their load.
    pub load: u64,
}

/// Buckets that go from one pod to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shift {
    /// Who had them; `None`: nobody.
    pub from: Option<Holder>,
    /// Who gets them; `None`: nobody.
    pub to: Option<Holder>,
    /// Which.
    pub buckets: Buckets,
    /// Their load.
    pub load: u64,
}

/// Two assignments side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// What goes where, by the pods' names.
    pub shifts: Vec<Shift>,
    /// What each pod has before and after.
    pub shares: BTreeMap<Holder, (Share, Share)>,
}

// === impl Diff ===

impl Diff {
    /// How many buckets change hands, and their load.
    #[must_use]
    pub fn moved(&self) -> Share {
        self.shifts
            .iter()
            .fold(Share::default(), |sum, shift| Share {
                buckets: sum.buckets + shift.buckets.len(),
                load: sum.load + shift.load,
            })
    }
}

/// Compares two assignments.
#[must_use]
pub fn diff(
    before: &BTreeMap<Bucket, Holder>,
    after: &BTreeMap<Bucket, Holder>,
    loads: &BTreeMap<Bucket, u32>,
) -> Diff {
    let load = |bucket| u64::from(loads.get(&bucket).copied().unwrap_or(0));
    let mut diff = Diff::default();
    let mut shifts: BTreeMap<(Option<&Holder>, Option<&Holder>), Shift> = BTreeMap::new();
    let all: BTreeSet<Bucket> = before.keys().chain(after.keys()).copied().collect();
    for bucket in all {
        let (from, to) = (before.get(&bucket), after.get(&bucket));
        let cost = load(bucket);
        let mut give = |holder: Option<&Holder>, side: fn(&mut (Share, Share)) -> &mut Share| {
            if let Some(holder) = holder {
                let share = side(diff.shares.entry(holder.clone()).or_default());
                share.buckets += 1;
                share.load += cost;
            }
        };
        give(from, |(before, _)| before);
        give(to, |(_, after)| after);
        if from != to {
            let shift = shifts.entry((from, to)).or_insert_with(|| Shift {
                from: from.cloned(),
                to: to.cloned(),
                buckets: Buckets::EMPTY,
                load: 0,
            });
            shift.buckets.insert(bucket);
            shift.load += cost;
        }
    }
    diff.shifts = shifts.into_values().collect();
    diff
}

/// What would move if this happened, and everything else stayed as it is.
///
/// # Errors
/// The change is to what isn't there.
pub fn preview(wanted: &Wanted, change: &Change) -> Result<Diff, NoSuch> {
    let mut changed = wanted.clone();
    match change {
        Change::Without(pod) => {
            take(&mut changed, |holder, _| holder.pod == *pod).ok_or_else(|| NoSuch::Pod {
                name: pod.to_string(),
                known: wanted
                    .candidates
                    .keys()
                    .map(|h| h.pod.to_string())
                    .collect(),
            })?;
        }
        Change::ZoneDown(zone) => {
            take(&mut changed, |_, candidate| candidate.zone == *zone).ok_or_else(|| {
                let zones: BTreeSet<&str> = wanted.candidates.values().map(|c| &*c.zone).collect();
                NoSuch::Zone {
                    name: zone.to_string(),
                    known: zones.into_iter().map(str::to_owned).collect(),
                }
            })?;
        }
        Change::Add(more) => (0..*more).for_each(|_| add(&mut changed)),
    }
    Ok(diff(
        &wanted.current,
        &owners(&assign(&changed)),
        &wanted.loads,
    ))
}

/// Who owns what in a layout.
#[must_use]
pub fn owners(layout: &Layout) -> BTreeMap<Bucket, Holder> {
    let owner = |(bucket, place): (&Bucket, &super::layout::Place)| (*bucket, place.owner.clone());
    layout.iter().map(owner).collect()
}

/// Takes candidates away; `None` where there are none such.
fn take(wanted: &mut Wanted, gone: impl Fn(&Holder, &Candidate) -> bool) -> Option<()> {
    let (gone, left) = std::mem::take(&mut wanted.candidates)
        .into_iter()
        .partition(|(holder, candidate)| gone(holder, candidate));
    wanted.candidates = left;
    let gone: BTreeMap<Holder, Candidate> = gone;
    let found = !gone.is_empty();
    let zones = gone
        .into_iter()
        .map(|(holder, candidate)| (holder, candidate.zone));
    wanted.zones.extend(zones);
    found.then_some(())
}

/// The weight of a replica that nobody has set.
const USUAL_WEIGHT: u32 = 100;

/// One more pod, named like its siblings, with the next free number.
fn add(wanted: &mut Wanted) {
    let pods: BTreeSet<&str> = wanted
        .candidates
        .keys()
        .map(|holder| &*holder.pod.0)
        .collect();
    let first = pods.first().copied().unwrap_or("new");
    let stem = first.trim_end_matches(|c: char| c.is_ascii_digit());
    let stem = if stem.ends_with('-') {
        stem.to_owned()
    } else {
        format!("{first}-")
    };
    let name = (0..=pods.len())
        .map(|n| format!("{stem}{n}"))
        .find(|name| !pods.contains(name.as_str()))
        .unwrap_or(stem);
    let mut zones: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    for candidate in wanted.candidates.values() {
        *zones.entry(&candidate.zone).or_default() += 1;
    }
    let emptiest = zones.into_iter().min_by_key(|(_, pods)| *pods);
    let builds = wanted.candidates.values().map(|candidate| &candidate.build);
    let newest = builds.max_by(|a, b| super::names::newer(a, b));
    let unknown = || Arc::from("");
    let candidate = Candidate {
        zone: emptiest.map_or_else(unknown, |(zone, _)| Arc::clone(zone)),
        region: Arc::from(""),
        weight: USUAL_WEIGHT,
        build: newest.map_or_else(unknown, Arc::clone),
    };
    let holder = Holder {
        pod: PodName(Arc::from(name)),
        incarnation: 1,
    };
    wanted.candidates.insert(holder, candidate);
}

#[cfg(test)]
#[path = "preview/tests.rs"]
mod tests;
