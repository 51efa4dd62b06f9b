//! What is planted so that the simulator shows that it would notice.

use zen_fabric::coordination::protocol::{Mutation, Protocol};

use crate::{
    naive::Elect,
    plan::Family,
    run::{self, Setup},
};

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
    /// The epoch is part of the key of a callback.
    EpochInCallbackKey,
    /// Aggregates are added to without looking at what they cover.
    AggregateWithoutPosition,
    /// Events are decided by the spec of today instead of the one recorded with them.
    TodaysSpec,
    /// A worker says that it has released while something is in flight.
    ReleasedInFlight,
    /// Not a mutant: another elector, without fence.
    Baseline(Elect),
}

impl Planted {
    /// Whether what stores effects looks at epochs at all. Electors leave that to their users, so
    /// the baselines run without.
    pub(crate) fn fenced(self) -> bool {
        !matches!(self, Self::NoFence | Self::Baseline(_))
    }

    /// What the cores get.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Core(mutation) => Protocol::with(mutation),
            _ => Protocol::default(),
        }
    }
}

/// A mutant, the family of schedules that is made for it, and how many it took to find it.
struct Case {
    planted: Planted,
    only: Option<Family>,
    /// The most schedules that were needed, of searches from several seeds.
    took: u64,
}

impl Case {
    /// How many schedules it may survive: a few times what it took, since another build draws others.
    fn budget(&self) -> u64 {
        run::number("ZEN_SIM_MOST").unwrap_or(self.took * 4 + 100)
    }

    fn setup(&self) -> Setup {
        Setup {
            planted: self.planted,
            only: self.only,
            counting: false,
        }
    }

    fn name(&self) -> String {
        match self.planted {
            Planted::Core(mutation) => format!("{mutation:?}"),
            other => format!("{other:?}"),
        }
    }
}

/// Every mutant.
fn cases() -> Vec<Case> {
    let of = |planted, only, took| Case {
        planted,
        only,
        took,
    };
    let core = |mutation, took| of(Planted::Core(mutation), None, took);
    let edge = |planted, took| of(planted, None, took);
    vec![
        core(Mutation::RenewWithoutCas, 78),
        core(Mutation::TakeByPatch, 10),
        core(Mutation::WallClocks, 2),
        core(Mutation::SkipAcknowledgement, 184),
        core(Mutation::StartOnAcknowledgement, 4),
        core(Mutation::MarkWithoutVersion, 1_300),
        core(Mutation::MarkedGoesOn, 13),
        of(
            Planted::Core(Mutation::TermFromLeaseAlone),
            Some(Family::Operator),
            335,
        ),
        core(Mutation::VersionRestarts, 28),
        core(Mutation::IncarnationReused, 2),
        core(Mutation::MinorityMarks, 13),
        core(Mutation::ClocksRunThroughOutage, 106),
        of(
            Planted::Core(Mutation::OldMessageAccepted),
            Some(Family::Echo),
            28,
        ),
        core(Mutation::GateStaysOpen, 24),
        core(Mutation::ResumesWhileMoving, 29),
        core(Mutation::OlderMapFollowed, 225),
        core(Mutation::UnknownIsDone, 552),
        core(Mutation::AnswerIgnored, 46),
        core(Mutation::EarlyGoodbye, 26),
        core(Mutation::NoDamping, 1_849),
        core(Mutation::FencedUntold, 218),
        core(Mutation::EpochKept, 3),
        edge(Planted::NoFence, 34),
        edge(Planted::CommitWithoutEpoch, 177),
        of(Planted::JournalForgets, Some(Family::Pause), 2_542),
        edge(Planted::EndCountedTwice, 20),
        edge(Planted::MergePatch, 357),
        edge(Planted::EpochInCallbackKey, 290),
        edge(Planted::AggregateWithoutPosition, 102),
        edge(Planted::TodaysSpec, 7),
        edge(Planted::ReleasedInFlight, 392),
    ]
}

/// The mutant that is asked for, if not all are.
fn asked() -> Option<String> {
    std::env::var("ZEN_SIM_MUTANT").ok()
}

/// How the schedules of the mutant run that is asked for; without one, the protocol as it is.
pub(crate) fn setup() -> Setup {
    let Some(name) = asked() else {
        return run::plain();
    };
    let case = cases().into_iter().find(|case| case.name() == name);
    let case = case.unwrap_or_else(|| panic!("ZEN_SIM_MUTANT={name} is none"));
    case.setup()
}

#[test]
#[ignore = "minutes: `make sim-mutants` runs it"]
fn every_mutant_is_found() {
    let from = run::number("ZEN_SIM_FROM").unwrap_or(1);
    let one = asked();
    let mut survivors = Vec::new();
    println!("| mutant | schedules | found after | by |\n|---|---|---|---|");
    for case in cases() {
        let name = case.name();
        if one.as_ref().is_some_and(|one| *one != name) {
            continue;
        }
        let budget = case.budget();
        let sum = run::many(from, budget, case.setup());
        let family = case.only.map_or_else(
            || format!("{budget}"),
            |only| format!("{budget} of {only:?}"),
        );
        if let Some((seed, violation)) = &sum.broken {
            let (after, what) = (seed - from + 1, &violation.what);
            println!(
                "| {name} | {family} | {after} | {}: {what} |",
                violation.invariant
            );
        } else {
            println!("| {name} | {family} | **not found** | |");
            survivors.push(name);
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
}

#[test]
#[ignore = "minutes: `make sim-mutants` runs it"]
fn baselines_double_effects_and_this_protocol_does_not() {
    let count = run::number("ZEN_SIM_BASELINE").unwrap_or(1_000);
    let of = |planted| {
        let setup = Setup {
            planted,
            only: None,
            counting: true,
        };
        run::many(1, count, setup)
    };
    println!("| baseline | double effects | in schedules of {count} |\n|---|---|---|");
    let of = |name, planted| {
        let sum = of(planted);
        println!("| {name} | {} | {} |", sum.doubled, sum.hit);
        sum.doubled
    };
    let patched = of(
        "a Lease that is patched by wall clocks (kube-leader-election), no fence",
        Planted::Baseline(Elect::Patched),
    );
    let swapped = of(
        "a Lease by compare-and-swap and local clocks (client-go), no fence",
        Planted::Baseline(Elect::Swapped),
    );
    let unfenced = of("this protocol without its fences", Planted::NoFence);
    let this = of("this protocol", Planted::Nothing);
    println!(
        "unfenced baseline: {unfenced} double effects in {count} schedules; this protocol: {this}"
    );
    assert!(
        patched > 0 && swapped > 0,
        "the baselines are not tried hard enough"
    );
    assert!(unfenced > 0, "the fences are not tried hard enough");
    assert_eq!(this, 0);
}
