//! The assignment: which pod owns which bucket, and which is its warm standby.
//!
//! The ring says where a bucket would like to be; this says where it goes, given what there is: who
//! may take, how heavy buckets are, and where they lie today. In order of weight:
//!
//! 1. **What can stay, stays.** Equal input moves nothing, and neither does a new leader. A bucket
//!    leaves its owner only where that one is gone, gives away, or carries more than its bound.
//! 2. **Nobody is given more than its bound**: the larger of 1.10 times its share of the load, and
//!    its share and the heaviest bucket. The second makes it always possible: as long as a bucket has
//!    no owner, some pod carries no more than its share, and with any bucket no more than its bound
//!    (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2018).
//! 3. Among those within their bounds **the newest build comes first**, so that what a rolling update
//!    takes from an old pod goes to a new one and moves once; then another zone than the owner's; then
//!    the order of the ring.
//!
//! The standby of a bucket is where it would go if its owner, alone, were gone: found by the same
//! code, so that the caches that were kept warm are those that are needed.
//!
//! Buckets without load, which a small fleet has many of, are dealt out by number in the same way,
//! apart from the others: the next Ingestor then finds the fleet balanced.
//!
//! Everything is integers and ordered maps: equal input gives equal bytes, on every machine.

mod deal;
mod loads;
mod slots;

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{buckets::Buckets, names::PodName};
use crate::journal::{BUCKETS, Bucket};

use deal::Deal;
pub use loads::Loads;
use slots::Slots;

/// Which pod has which bucket. A bucket that is absent has none.
pub type Owners = BTreeMap<Bucket, PodName>;

/// What the leader holds of a member's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It works.
    Active,
    /// It asks to give everything away.
    Draining,
    /// A majority can't reach it, though it lives.
    Unreachable,
    /// It is dead: its member Lease says so.
    Down,
}

/// Whether a member's caches are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Readiness {
    /// It may get buckets.
    Ready,
    /// It keeps what it has, and gets none.
    Starting,
}

/// A replica, as the assignment sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it lives. Buckets are dealt out within a region alone: another region's members get
    /// none, whatever else is said about them.
    pub region: Arc<str>,
    /// Where it may fail together with others; empty where nobody knows.
    pub zone: Arc<str>,
    /// Its share of the work, against the others' weights; one of 0 gives everything away.
    pub weight: u32,
    /// Its life.
    pub state: MemberState,
    /// Its build: the greater, the newer.
    pub build: u64,
    /// Whether it may get buckets.
    pub readiness: Readiness,
}

/// Whether pods over their bounds give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Balance {
    /// They do.
    Free,
    /// They wait: only what has to go goes. While an update is [`rolling`], every bucket that is moved
    /// for balance from one old pod to another is moved once too often.
    Held,
}

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether pods over their bounds give away.
    pub balance: Balance,
    /// A bucket moves for balance only if the two pods are at least this much closer to each other
    /// behind it, in thousandths of the mean load of a pod.
    pub min_gain: u16,
}

/// 5 % of the mean: half of what the bound leaves above it. A measured load that wavers by less moves
/// nothing to and fro.
pub const MIN_GAIN: u16 = 50;

impl Default for Policy {
    fn default() -> Self {
        Self {
            balance: Balance::Free,
            min_gain: MIN_GAIN,
        }
    }
}

/// All that an assignment depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Whose buckets are dealt out.
    pub region: &'a str,
    /// The replicas.
    pub members: &'a BTreeMap<PodName, Member>,
    /// What each bucket weighs.
    pub loads: &'a Loads,
    /// Who has what today. A bucket that is under way counts as where it goes.
    pub today: &'a Owners,
    /// What an operator has set.
    pub policy: Policy,
}

/// What [`assign`] decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Who is to have each bucket; none only while nobody may take any.
    pub owners: Owners,
    /// Who takes it when its owner is gone; none where there is nobody else.
    pub standbys: Owners,
}

/// What one pod carries and may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its buckets.
    pub buckets: Buckets,
    /// Their load.
    pub load: u64,
    /// The load that it is not given more than; `None` where it is given nothing.
    pub bound: Option<u64>,
}

/// Who is to own each bucket, and who stands by. It depends on `input` alone.
///
/// It holds that
/// - with what it gave as `today`, it gives the same again;
/// - a bucket leaves a pod that is Active only from above that pod's bound, and a pod is given one
///   only within its bound;
/// - every bucket has an owner if anybody may take one; else those that are not gone keep theirs.
///
/// A pod may stay above its bound where no single move gains as much as [`Policy::min_gain`], or while
/// [`Policy::balance`] holds it.
#[must_use]
pub fn assign(input: &Input<'_>) -> Assignment {
    let slots = Slots::new(input.region, input.members);
    let mut assignment = Assignment::default();
    for mut deal in deals(&slots, input) {
        deal.place_homeless();
        match input.policy.balance {
            Balance::Free => deal.balance(input.policy.min_gain),
            Balance::Held => {}
        }
        let name = |(bucket, slot)| Some((bucket, slots.pod(slot)?.clone()));
        assignment.owners.extend(deal.owners().filter_map(name));
        assignment.standbys.extend(deal.standbys().filter_map(name));
    }
    assignment
}

/// What each member carries of `input.today`, and may carry. Who isn't a member has no account.
#[must_use]
pub fn accounts(input: &Input<'_>) -> BTreeMap<PodName, Account> {
    let slots = Slots::new(input.region, input.members);
    let [loaded, _] = deals(&slots, input);
    let account = |pod: &PodName| {
        let buckets: Buckets = of_pod(input.today, pod);
        Account {
            load: buckets.iter().map(|b| u64::from(input.loads.of(b))).sum(),
            buckets,
            bound: slots.slot(pod).and_then(|slot| loaded.bound(slot)),
        }
    };
    input.members.keys().map(|pod| (pod.clone(), account(pod))).collect()
}

/// Whether members of different builds are at work: then the leader holds balance, though not for
/// ever, as an update may get stuck half-way.
#[must_use]
pub fn rolling(region: &str, members: &BTreeMap<PodName, Member>) -> bool {
    let mut builds = members
        .values()
        .filter(|member| *member.region == *region && member.state != MemberState::Down)
        .map(|member| member.build);
    let first = builds.next();
    builds.any(|build| Some(build) != first)
}

/// The buckets of one pod.
#[must_use]
pub fn of_pod(owners: &Owners, pod: &PodName) -> Buckets {
    let of_pod = owners.iter().filter(|(_, owner)| *owner == pod);
    of_pod.map(|(bucket, _)| *bucket).collect()
}

/// Buckets with load and buckets without, each dealt out for itself.
fn deals<'a>(slots: &'a Slots<'a>, input: &Input<'_>) -> [Deal<'a>; 2] {
    let (mut loaded, mut empty) = (Vec::new(), Vec::new());
    for bucket in (0..BUCKETS).map(Bucket) {
        match input.loads.of(bucket) {
            0 => empty.push((bucket, 1)),
            load => loaded.push((bucket, u64::from(load))),
        }
    }
    let heaviest = loaded.iter().map(|(_, load)| *load).max().unwrap_or(0);
    [
        Deal::new(slots, loaded, heaviest, input.today),
        Deal::new(slots, empty, EMPTY_SLACK, input.today),
    ]
}

/// How many empty buckets a pod may have above its share, where a tenth of the share is less: they
/// cost nothing, and are not worth a write of the map as one more or less comes to be empty.
const EMPTY_SLACK: u64 = 8;

// === impl Assignment ===

impl fmt::Display for Assignment {
    /// A line per pod: `core-0: 0-3,9 standby 17-20`. Equal assignments have equal texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: BTreeMap<&PodName, (Buckets, Buckets)> = BTreeMap::new();
        for (bucket, pod) in &self.owners {
            lines.entry(pod).or_default().0.insert(*bucket);
        }
        for (bucket, pod) in &self.standbys {
            lines.entry(pod).or_default().1.insert(*bucket);
        }
        for (pod, (owned, standby)) in lines {
            writeln!(f, "{pod}: {owned} standby {standby}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
