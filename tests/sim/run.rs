//! Running schedules: one, many, replayed.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use crate::{
    assigned,
    check::Violation,
    mutants::{self, Planted},
    plan::{Family, Plan},
    time::Time,
    trace::Trace,
    world::World,
};

/// What became of a schedule.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The rule that was broken.
    pub(crate) violation: Option<Violation>,
    /// How many events were handled.
    pub(crate) events: u64,
    /// When it ended, in the world.
    pub(crate) ended: Time,
    /// Writes of a stale owner that a store took, and effects that were doubled.
    pub(crate) doubled: u64,
    /// What happened, where it was written.
    pub(crate) trace: String,
}

/// Which schedules, and with what planted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// What is planted.
    pub(crate) planted: Planted,
    /// Only schedules of this family.
    pub(crate) only: Option<Family>,
    /// Broken rules are counted, not reported.
    pub(crate) counting: bool,
}

/// The protocol as it is; in all schedules, or in those of the family that `ZEN_SIM_FAMILY` names.
pub(crate) fn plain() -> Setup {
    let only = std::env::var("ZEN_SIM_FAMILY").ok().map(|name| {
        let found = Family::ALL
            .into_iter()
            .find(|one| format!("{one:?}") == name);
        found.unwrap_or_else(|| panic!("ZEN_SIM_FAMILY={name} is none of {:?}", Family::ALL))
    });
    Setup {
        planted: Planted::Nothing,
        only,
        counting: false,
    }
}

/// Runs the schedule of a seed.
pub(crate) fn schedule(seed: u64, setup: Setup, trace: Trace) -> Outcome {
    let Setup {
        planted,
        only,
        counting,
    } = setup;
    let plan = Plan::of(seed, only);
    assigned::forget();
    let mut world = World::new(seed, plan, planted, assigned::checked, trace);
    world.check.counting = counting;
    // A panic belongs to its seed, like any other broken rule.
    let ran = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(why) = ran {
        let now = world.now;
        let text = why.downcast_ref::<String>().cloned();
        let text = text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.check.fault(now, "panic", text.unwrap_or_default());
    }
    Outcome {
        doubled: world.check.stale + world.effects.doubled,
        violation: world.check.violation.take(),
        events: world.events,
        ended: world.now,
        trace: world.trace.text().to_owned(),
    }
}

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

/// What many schedules came to.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) schedules: u64,
    pub(crate) events: u64,
    pub(crate) world_seconds: u64,
    /// See [`Outcome::doubled`].
    pub(crate) doubled: u64,
    /// Schedules in which something was doubled.
    pub(crate) hit: u64,
    /// The first seed that breaks a rule.
    pub(crate) broken: Option<(u64, Violation)>,
}

impl Sum {
    fn add(&mut self, more: Self) {
        self.schedules += more.schedules;
        self.events += more.events;
        self.world_seconds += more.world_seconds;
        self.doubled += more.doubled;
        self.hit += more.hit;
        self.broken = self.broken.take().or(more.broken);
    }
}

/// After so many schedules a long run says how far it is.
const CHUNK: u64 = 50_000;

/// Runs schedules on all cores, or `ZEN_SIM_JOBS` of them, until they are done or one breaks a rule.
pub(crate) fn many(from: u64, count: u64, setup: Setup) -> Sum {
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Sum::default());
    let threads = number("ZEN_SIM_JOBS")
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, |cores| cores.get() as u64));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let outcome = schedule(seed, setup, Trace::default());
                    let mut sum = sum.lock().unwrap();
                    sum.schedules += 1;
                    sum.events += outcome.events;
                    sum.world_seconds += outcome.ended / 1_000_000;
                    sum.doubled += outcome.doubled;
                    sum.hit += u64::from(outcome.doubled > 0);
                    if let Some(violation) = outcome.violation {
                        let first = sum.broken.as_ref().is_none_or(|(known, _)| seed < *known);
                        if first {
                            sum.broken = Some((seed, violation));
                        }
                        // Seeds below this one that are under way still end.
                        next.store(from + count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap()
}

/// The trace of a seed, with what became of it in its last line.
pub(crate) fn told(seed: u64, setup: Setup) -> String {
    let outcome = schedule(seed, setup, Trace::written());
    let plan = Plan::of(seed, setup.only);
    let end = outcome.violation.map_or_else(
        || "no rule is broken".to_owned(),
        |violation| violation.to_string(),
    );
    format!(
        "seed {seed}: {:?}, {} replicas, {} keys, {} logs, {} API servers, drift {} ppm\n{}{end}\n",
        plan.family, plan.replicas, plan.keys, plan.logs, plan.fronts, plan.drift, outcome.trace
    )
}

/// A renewal that changes nothing, as a reader of an excerpt can do without.
fn is_routine(line: &str) -> bool {
    let lease =
        line.contains(" Leader ") || line.contains(" Leader by") || line.contains("Member(");
    let seen = line.contains("← sees") || line.contains("← gets answer");
    seen || (lease
        && line.contains("replaces")
        && !line.contains("challenged")
        && !line.contains("Marked"))
}

#[test]
fn no_schedule_breaks_a_rule() {
    let count = number("ZEN_SIM_SCHEDULES").unwrap_or(3_000);
    let from = number("ZEN_SIM_FROM").unwrap_or(1);
    let start = Instant::now();
    let mut sum = Sum::default();
    while sum.schedules < count && sum.broken.is_none() {
        let next = CHUNK.min(count - sum.schedules);
        sum.add(many(from + sum.schedules, next, plain()));
        let took = start.elapsed().as_secs_f64();
        println!(
            "{} schedules from seed {from} in {took:.1} s ({:.0}/s): {} events, {} simulated hours",
            sum.schedules,
            sum.schedules as f64 / took,
            sum.events,
            sum.world_seconds / 3_600
        );
    }
    if let Some((seed, violation)) = sum.broken {
        let trace = told(seed, plain());
        let quiet = |line: &&str| !is_routine(line);
        let lines: Vec<&str> = trace.lines().filter(quiet).collect();
        for line in &lines[lines.len().saturating_sub(150)..] {
            println!("{line}");
        }
        panic!("seed {seed}: {violation}\nreplay: make sim-replay SEED={seed}");
    }
}

#[test]
fn replay() {
    if let Some(seed) = number("ZEN_SIM_SEED") {
        println!("{}", told(seed, mutants::setup()));
        return;
    }
    for seed in 1..20 {
        assert_eq!(told(seed, plain()), told(seed, plain()), "seed {seed}");
    }
}
