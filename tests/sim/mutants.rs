//! What is planted so that the simulator shows that it would notice.

use zen_fabric::coordination::protocol::{Mutation, Protocol};

/// One rule, broken: in the cores, or in what the simulator models of workers, journals and edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Planted {
    /// Nothing.
    Nothing,
    /// In the cores.
    Core(Mutation),
    /// Neither journals nor statuses look at epochs.
    NoFence,
    /// A journal takes commits without looking at their epoch.
    CommitWithoutEpoch,
    /// A journal forgets claims when it restarts.
    JournalForgets,
    /// A journal counts an end again that it has already.
    EndCountedTwice,
    /// Statuses are written by a merge patch without version and owner.
    MergePatch,
    /// Statuses are written at a version, without owner.
    StatusWithoutOwner,
    /// The epoch is part of the key of a callback.
    EpochInCallbackKey,
    /// Aggregates are added to without looking at what they cover.
    AggregateWithoutPosition,
    /// Events are decided by the spec of today instead of the one recorded with them.
    TodaysSpec,
    /// A worker says that it has released while something is in flight.
    ReleasedInFlight,
    /// Not a mutant: another elector, as the crate `kube-leader-election` has it, without fence.
    Naive,
}

impl Planted {
    /// What the cores get.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Core(mutation) => Protocol::with(mutation),
            _ => Protocol::default(),
        }
    }
}

/// Every mutant, with the most schedules it may survive.
fn mutants() -> Vec<Planted> {
    let mut all: Vec<Planted> = Mutation::ALL.into_iter().map(Planted::Core).collect();
    all.extend([
        Planted::NoFence,
        Planted::CommitWithoutEpoch,
        Planted::JournalForgets,
        Planted::EndCountedTwice,
        Planted::MergePatch,
        Planted::StatusWithoutOwner,
        Planted::EpochInCallbackKey,
        Planted::AggregateWithoutPosition,
        Planted::TodaysSpec,
        Planted::ReleasedInFlight,
    ]);
    all
}

#[test]
fn every_mutant_is_found() {
    let most = crate::run::number("ZEN_SIM_MOST").unwrap_or(2_000);
    let mut survivors = Vec::new();
    for planted in mutants() {
        let sum = crate::run::many(1, most, planted);
        match &sum.broken {
            Some((seed, violation)) => println!(
                "{planted:?}: after {} schedules (seed {seed}): {}: {}",
                sum.schedules, violation.invariant, violation.what
            ),
            None => {
                println!("{planted:?}: survives {} schedules", sum.schedules);
                survivors.push(planted);
            }
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
}

#[test]
fn baselines() {
    let count = crate::run::number("ZEN_SIM_SCHEDULES").unwrap_or(300);
    let start = std::time::Instant::now();
    let mut events = 0;
    let mut doubled = 0;
    let mut hit = 0;
    for seed in 1..=count {
        let outcome = crate::run::schedule(seed, Planted::Naive, true, crate::trace::Trace::default());
        events += outcome.events;
        doubled += outcome.doubled;
        hit += u64::from(outcome.doubled > 0);
    }
    println!("naive: {doubled} in {hit} of {count} schedules; {events} events in {:?}", start.elapsed());
}

#[test]
fn look_at_naive() {
    let seed = crate::run::number("ZEN_SIM_SEED").unwrap_or(1);
    println!("{}", crate::run::told(seed, Planted::Naive));
}
