//! Election and hand-over, exhaustively at a small scope: two or three replicas, two buckets, the
//! product's own cores, and a model checker that takes every way.
//!
//! What is under way arrives in *every* order. Beside that, each way has at most so many
//! *deviations*, at every point where one is possible: a process crashes (and comes back, or not),
//! an answer is lost, a request or message is held and arrives at any later time, a watch shows
//! nothing for a while. Time goes on when nothing is under way.
//!
//! `cargo test --test model` takes one deviation close after each beginning; `make model` more.

#![allow(
    clippy::allow_attributes,
    reason = "which of these a test needs changes with the tests"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::enum_glob_use,
    clippy::indexing_slicing,
    clippy::match_same_arms,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and reads as a scenario"
)]

mod fleet;
mod ledger;
mod sealed;
mod store;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};
use zen_fabric::coordination::{
    port::Input,
    protocol::{Mutation, Protocol},
};

use crate::{
    fleet::{Fleet, Flight, Kind},
    ledger::Broken,
};

const SECOND: u64 = 1_000_000;
/// A fleet of three has formed, and balanced itself, by then.
const FORMED: u64 = 12 * SECOND;
/// Deviations come within so many milliseconds after the beginning; `make model` takes a span in
/// which a takeover by challenge ends.
const WINDOW: u64 = 100;
/// A watch that shows nothing: longer than a takeover takes.
const BLIND: u64 = 6 * SECOND;
/// After the last deviation everything is well again within this: a Lease's expiry, and what follows.
const HEALING: u64 = 25 * SECOND;

/// How a way begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// Nothing happens.
    Calm,
    /// The leader is asked to go.
    LeaderDrains,
    /// Another is asked to go.
    OtherDrains,
    /// The leader's process is killed.
    LeaderDies,
    /// Another's process is killed, and comes back at once.
    OtherReturns,
}

const BEGINNINGS: [Beginning; 5] = [
    Beginning::Calm,
    Beginning::LeaderDrains,
    Beginning::OtherDrains,
    Beginning::LeaderDies,
    Beginning::OtherReturns,
];

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Something that is under way arrives.
    Arrives(usize),
    /// Nothing is under way: time goes on.
    Tick,
    /// Deviation: it arrives, and the answer is lost.
    AnswerLost(usize),
    /// Deviation: it arrives later.
    Held(usize),
    /// What was held arrives.
    Lands(usize),
    /// Deviation: a process dies, for good or for less than a second.
    Dies(usize, Option<u64>),
    /// Deviation: the watches of a process show nothing for a while.
    Blind(usize),
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
struct Scope {
    replicas: usize,
    kind: Kind,
    deviations: u8,
    /// Microseconds.
    window: u64,
    /// Deviations come after every beginning, not only after those where something has to happen.
    full: bool,
}

impl Scope {
    fn new(replicas: usize, deviations: u8, protocol: Protocol) -> Self {
        let kind = Kind {
            buckets: 2,
            protocol,
        };
        Self {
            replicas,
            kind,
            deviations,
            window: number("ZEN_MODEL_WINDOW_MS", WINDOW) * 1_000,
            full: number("ZEN_MODEL_FULL", 0) > 0,
        }
    }

    /// A fleet that has formed in the order of things, without any deviation.
    fn formed(&self) -> Fleet {
        let mut fleet = Fleet::new(self.replicas, self.kind);
        while fleet.now < FORMED {
            if fleet.flying.is_empty() {
                fleet.tick(self.kind);
            } else {
                let flight = fleet.flying.remove(0);
                fleet.arrive(&flight, true);
            }
        }
        fleet.left = self.deviations;
        fleet.until = fleet.now + self.window;
        fleet.end = fleet.now + HEALING;
        fleet
    }
}

impl Model for Scope {
    type State = Fleet;
    type Action = Step;

    fn init_states(&self) -> Vec<Fleet> {
        let formed = self.formed();
        let leader = formed.leader().unwrap();
        let other = (leader + 1) % self.replicas;
        let begin = |beginning| {
            let mut fleet = formed.clone();
            let matters = matches!(beginning, Beginning::LeaderDrains | Beginning::LeaderDies);
            if !(self.full || matters) {
                fleet.left = 0;
            }
            match beginning {
                Beginning::Calm => {}
                Beginning::LeaderDrains => fleet.tell(leader, Input::Drain),
                Beginning::OtherDrains => fleet.tell(other, Input::Drain),
                Beginning::LeaderDies => fleet.crash(leader, None),
                Beginning::OtherReturns => fleet.crash(other, Some(SECOND / 5)),
            }
            fleet
        };
        BEGINNINGS.into_iter().map(begin).collect()
    }

    fn actions(&self, fleet: &Fleet, steps: &mut Vec<Step>) {
        if fleet.now >= fleet.end || fleet.ledger.broken.is_some() {
            return;
        }
        let quiet = fleet.flying.is_empty();
        if quiet {
            steps.push(Step::Tick);
            steps.extend((0..fleet.held.len()).map(Step::Lands));
        }
        steps.extend((0..fleet.flying.len()).map(Step::Arrives));
        if fleet.left == 0 || fleet.now > fleet.until {
            return;
        }
        for (number, flight) in fleet.flying.iter().enumerate() {
            match &**flight {
                Flight::Request { .. } => {
                    steps.extend([Step::AnswerLost(number), Step::Held(number)]);
                }
                Flight::Message { .. } => steps.push(Step::Held(number)),
                Flight::Input { .. } => {}
            }
        }
        for (pod, process) in fleet.processes.iter().enumerate() {
            if process.core.is_some() {
                steps.push(Step::Dies(pod, None));
                steps.push(Step::Dies(pod, Some(SECOND / 5)));
                if process.blind <= fleet.now {
                    steps.push(Step::Blind(pod));
                }
            }
        }
    }

    fn next_state(&self, last: &Fleet, step: Step) -> Option<Fleet> {
        let mut fleet = last.clone();
        match step {
            Step::Arrives(index) => {
                let flight = fleet.flying.remove(index);
                fleet.arrive(&flight, true);
            }
            Step::Tick => fleet.tick(self.kind),
            Step::Lands(index) => fleet.land(index),
            deviation => {
                fleet.left -= 1;
                fleet.end = fleet.now + HEALING;
                match deviation {
                    Step::AnswerLost(index) => {
                        let flight = fleet.flying.remove(index);
                        fleet.arrive(&flight, false);
                    }
                    Step::Held(index) => fleet.hold(index),
                    Step::Dies(pod, back) => fleet.crash(pod, back),
                    Step::Blind(pod) => fleet.processes[pod].blind = fleet.now + BLIND,
                    _ => {}
                }
            }
        }
        Some(fleet)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holds(fleet: &Fleet, broken: Broken) -> bool {
            fleet.ledger.broken != Some(broken)
        }
        vec![
            Property::always("I2: one owner, by the map", |_, fleet| {
                holds(fleet, Broken::Owners)
            }),
            Property::always("I4: nothing moves while it is worked on", |_, fleet| {
                holds(fleet, Broken::Move)
            }),
            Property::always("I8: numbers are given once", |_, fleet| {
                holds(fleet, Broken::Numbers)
            }),
            Property::always("I11: nobody who lives is marked", |_, fleet| {
                holds(fleet, Broken::Mark)
            }),
            Property::always("I3: in the end all is well", |_, fleet: &Fleet| {
                let lives = fleet.processes.iter().any(|one| one.core.is_some());
                fleet.now < fleet.end || !lives || fleet.is_well()
            }),
            Property::sometimes("a move is carried out", |_, fleet: &Fleet| {
                fleet.ledger.moved
            }),
            Property::sometimes("what a dead one had is inherited", |_, fleet: &Fleet| {
                fleet.ledger.inherited
            }),
            Property::sometimes("another leads", |_, fleet: &Fleet| fleet.ledger.leaders > 1),
        ]
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Takes every way, and says how many states there were.
fn explore(scope: Scope, until: HasDiscoveries) -> impl Checker<Scope> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    let checker = scope.checker().threads(threads).finish_when(until);
    let checked = checker.spawn_bfs().join();
    println!(
        "{} replicas, {} deviations within {} ms: {} unique states of {}, depth {}, {:.1} s",
        scope.replicas,
        scope.deviations,
        scope.window / 1_000,
        checked.unique_state_count(),
        checked.state_count(),
        checked.max_depth(),
        start.elapsed().as_secs_f64()
    );
    checked
}

#[test]
fn no_way_breaks_a_rule() {
    let replicas = usize::try_from(number("ZEN_MODEL_REPLICAS", 2)).unwrap();
    let deviations = u8::try_from(number("ZEN_MODEL_DEVIATIONS", 1)).unwrap();
    let scope = Scope::new(replicas, deviations, Protocol::default());
    explore(scope, HasDiscoveries::All).assert_properties();
}

#[test]
fn mutants_are_found() {
    let mutants = [
        (Mutation::StartOnAcknowledgement, 0),
        (Mutation::SkipAcknowledgement, 0),
        (Mutation::EpochKept, 0),
        (Mutation::UnknownIsDone, 1),
        (Mutation::RenewWithoutCas, 1),
    ];
    for (mutant, deviations) in mutants {
        let scope = Scope {
            full: true,
            ..Scope::new(2, deviations, Protocol::with(mutant))
        };
        let checked = explore(scope, HasDiscoveries::AnyFailures);
        let found = checked.discoveries();
        let rule = found.keys().find(|rule| rule.starts_with('I'));
        println!("{mutant:?}: {rule:?}");
        assert!(rule.is_some(), "{mutant:?} is not found");
    }
}
