//! What is planted so that the simulator shows that it would notice.

use zen_fabric::coordination::protocol::{Mutation, Protocol};

use crate::{
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
    /// Whether what stores effects looks at epochs at all. What the crate of that name lacks is the
    /// fence as much as the compare-and-swap, so its stand-in runs without.
    pub(crate) fn fenced(self) -> bool {
        !matches!(self, Self::NoFence | Self::Naive)
    }

    /// What the cores get.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Core(mutation) => Protocol::with(mutation),
            _ => Protocol::default(),
        }
    }
}

/// Schedules that a mutant may survive at the most, of one family or of all.
struct Case {
    planted: Planted,
    only: Option<Family>,
    most: u64,
}

/// Every mutant, with the family of schedules that is made for it.
fn cases() -> Vec<Case> {
    let case = |planted, only, most| Case {
        planted,
        only,
        most,
    };
    let core = |mutation, only, most| case(Planted::Core(mutation), only, most);
    vec![
        core(Mutation::RenewWithoutCas, None, 3_000),
        core(Mutation::TakeByPatch, None, 3_000),
        core(Mutation::WallClocks, None, 3_000),
        core(Mutation::SkipAcknowledgement, None, 3_000),
        core(Mutation::StartOnAcknowledgement, None, 3_000),
        core(Mutation::MarkWithoutVersion, None, 3_000),
        core(Mutation::MarkedGoesOn, None, 3_000),
        core(Mutation::TermFromLeaseAlone, None, 3_000),
        core(Mutation::VersionRestarts, None, 3_000),
        core(Mutation::IncarnationReused, None, 3_000),
        core(Mutation::MinorityMarks, None, 3_000),
        core(Mutation::ClocksRunThroughOutage, None, 3_000),
        core(Mutation::OldMessageAccepted, None, 3_000),
        core(Mutation::GateStaysOpen, None, 3_000),
        core(Mutation::ResumesWhileMoving, None, 3_000),
        core(Mutation::OlderMapFollowed, None, 3_000),
        core(Mutation::UnknownIsDone, None, 3_000),
        core(Mutation::AnswerIgnored, None, 3_000),
        core(Mutation::EarlyGoodbye, None, 3_000),
        core(Mutation::NoDamping, Some(Family::OneWay), 300),
        core(Mutation::FencedUntold, None, 3_000),
        core(Mutation::EpochKept, None, 3_000),
        case(Planted::NoFence, None, 3_000),
        case(Planted::CommitWithoutEpoch, None, 3_000),
        case(Planted::JournalForgets, None, 3_000),
        case(Planted::EndCountedTwice, None, 3_000),
        case(Planted::MergePatch, None, 3_000),
        case(Planted::StatusWithoutOwner, None, 3_000),
        case(Planted::EpochInCallbackKey, None, 3_000),
        case(Planted::AggregateWithoutPosition, None, 3_000),
        case(Planted::TodaysSpec, None, 3_000),
        case(Planted::ReleasedInFlight, None, 3_000),
    ]
}

#[test]
#[ignore = "minutes: `make sim-mutants` runs it"]
fn every_mutant_is_found() {
    let mut survivors = Vec::new();
    println!("| mutant | schedules | found after | by |\n|---|---|---|---|");
    for case in cases() {
        let setup = Setup {
            planted: case.planted,
            only: case.only,
            counting: false,
        };
        let most = run::number("ZEN_SIM_MOST").unwrap_or(case.most);
        let sum = run::many(1, most, setup);
        let name = format!("{:?}", case.planted);
        let name = name.trim_start_matches("Core(").trim_end_matches(')');
        let of = case
            .only
            .map_or_else(|| "all".to_owned(), |only| format!("{only:?}"));
        if let Some((seed, violation)) = &sum.broken {
            println!(
                "| {name} | {of} | {seed} | {}: {} |",
                violation.invariant, violation.what
            );
        } else {
            println!("| {name} | {of} | not in {most} | |");
            survivors.push(case.planted);
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
}

#[test]
#[ignore = "minutes: `make sim-mutants` runs it"]
fn baselines_double_effects_and_this_protocol_does_not() {
    let count = run::number("ZEN_SIM_BASELINE").unwrap_or(300);
    let of = |planted| {
        let setup = Setup {
            planted,
            only: None,
            counting: true,
        };
        run::many(1, count, setup)
    };
    let naive = of(Planted::Naive);
    let unfenced = of(Planted::NoFence);
    let this = of(Planted::Nothing);
    for (name, sum) in [
        ("a patched Lease, as kube-leader-election", &naive),
        ("this protocol without fences", &unfenced),
        ("this protocol", &this),
    ] {
        println!(
            "{name}: {} double effects in {} of {count} schedules",
            sum.doubled, sum.hit
        );
    }
    assert!(naive.doubled > 0, "the baseline is not tried hard enough");
    assert!(unfenced.doubled > 0, "the fences are not tried hard enough");
    assert_eq!(this.doubled, 0);
}
