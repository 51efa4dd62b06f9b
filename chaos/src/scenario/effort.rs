//! What sharing costs: the same work by one, three and five replicas.

use std::time::Duration;

use super::Options;
use crate::{
    error::Result,
    outcome::{Bar, Measured, Outcome},
    report::acceptance::names,
    run::{Run, Setup},
};

/// The keys of one replica's share, where each has the same.
const SHARE: usize = 8;

/// How much CPU a fleet of each size takes for an event, heartbeats and gossip included: with the same
/// work for all of it, and with the same work for each replica.
pub(super) async fn efficiency(options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut costs = Vec::new();
    for (cores, keys) in [(1, SHARE), (1, 5 * SHARE), (3, 5 * SHARE), (5, 5 * SHARE)] {
        let (cost, of_size) = work(options, cores, keys).await?;
        let name = format!("CPU of {cores} replicas for an event of {keys} keys");
        let mut next = of_size;
        // The last fleet's outcome is told, with what the others showed.
        next.measured.splice(0..0, outcome.measured);
        next.checks.splice(0..0, outcome.checks);
        next.steps.splice(0..0, outcome.steps);
        next.seconds += outcome.seconds;
        next.measured.push(Measured::one(&name, "µs", cost));
        outcome = next;
        costs.push(cost);
    }
    if let [share, one, three, five] = costs[..] {
        let efficiency = Measured::one(names::EFFICIENCY, "%", 100.0 * one / five);
        outcome.measured.push(efficiency.asked(Bar::least(90.0)));
        // Tells what is spent on each other from what is lost by having less to do at a time.
        let each = Measured::one(
            "the same, five with five times the work of the one",
            "%",
            100.0 * share / five,
        );
        outcome.measured.push(each);
        let three = Measured::one(names::THREE, "%", 100.0 * three / one);
        outcome.measured.push(three.asked(Bar::most(110.0)));
    }
    "Work is shared without being done twice: what replicas do for each other (heartbeats, gossip, watches of their own) is \
     little beside the work itself."
        .clone_into(&mut outcome.hypothesis);
    Ok(outcome)
}

/// Microseconds of CPU that a fleet of this size takes for an event.
async fn work(options: &Options, cores: usize, keys: usize) -> Result<(f64, Outcome)> {
    let mut run = Run::start(Setup {
        each: keys,
        sums: 0,
        per_second: options.pick(10, 3),
        ..options.setup("efficiency", cores)
    })
    .await?;
    // The start of a fleet is no part of its work.
    run.pass(Duration::from_secs(5)).await?;
    let (before, cpu) = (run.now()?, run.fleet.cpu());
    run.mark(format!("{cores} replicas at work on {keys} keys"));
    run.pass(options.pick(Duration::from_secs(90), Duration::from_secs(15)))
        .await?;
    let spent = run.fleet.cpu() - cpu;
    let to = run.sent();
    run.mark("measured");
    run.caught_up(to, Duration::from_secs(30)).await;
    let events = run.waits(before.number, to).len();
    let events = f64::from(u32::try_from(events).unwrap_or(u32::MAX)).max(1.0);
    Ok((1e6 * spent / events, run.finish().await?))
}
