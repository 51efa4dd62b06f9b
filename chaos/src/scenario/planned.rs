//! What is done on purpose: rolling updates, scaling.

use std::time::Duration;

use super::{BREATH, Options, restart};
use crate::{
    check::{moved, spread},
    clock::{At, millis},
    error::Result,
    outcome::{Bar, Measured, Outcome},
    report::acceptance::names,
    run::{Mark, Run, Setup},
    samples::Samples,
};

/// A drain has 25 s, and the process a little more to end.
const DRAINED_WITHIN: Duration = Duration::from_secs(40);

/// Every replica, one after the other.
pub(super) async fn rolling(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(Setup {
        // Fewer keys, each touched more often: an event finds a gap wherever it is.
        each: 12,
        sums: 2,
        per_second: options.pick(16, 6),
        ..options.setup("rolling", 3)
    })
    .await?;
    run.hypothesis(
        "A pod that is asked to end keeps each bucket until it is taken over: the next owner begins as soon as the ShardMap \
         says so. Nothing is lost or doubled, and an event waits no longer than a few API calls.",
    );
    let quiet = run.now()?;
    run.pass(Duration::from_secs(10)).await?;
    let usual = run.waits(quiet.number, run.sent());
    let (mut gaps, mut drains, mut waits) =
        (Samples::default(), Samples::default(), Samples::default());
    for round in 0..options.pick(10, 1) {
        for place in 0..run.fleet.cores.len() {
            let before = run.now()?;
            let moment = run.mark(format!("{round}: SIGTERM core-{place}"));
            let took = run.fleet.core(place)?.drain(DRAINED_WITHIN).await?;
            drains.add(millis(took));
            run.note(format!(
                "{round}: core-{place} ended after {:.0} ms",
                millis(moment.passed())
            ));
            restart(&mut run, place).await?;
            let to = run.sent();
            // Every event up to here has been acted on, or is late and counts with what it has waited.
            run.caught_up(to, Duration::from_secs(30)).await;
            gaps.extend(moved_keys(&run, &before, to));
            waits.extend(run.waits(before.number, to).values());
        }
    }
    run.measured(Measured::of(names::GAP, "ms", &gaps).asked(Bar::p99(100.0)));
    run.measured(Measured::of(
        "an event's wait while pods are replaced",
        "ms",
        &waits,
    ));
    run.measured(Measured::of(
        "an event's wait while nothing happens",
        "ms",
        &usual,
    ));
    run.measured(Measured::of(
        "SIGTERM until the process has ended",
        "ms",
        &drains,
    ));
    run.finish().await
}

/// The longest wait of each key that had another owner in between.
fn moved_keys(run: &Run, before: &Mark, to: u64) -> Vec<f64> {
    let longest = run.longest_waits(before.number, to);
    let history = run.history.lock();
    let moved = |place: &usize| {
        run.keys.get(*place).is_some_and(|key| {
            let spans = history.spans(key.bucket());
            spans.iter().any(|span| span.from > before.at)
        })
    };
    longest
        .into_iter()
        .filter(|(place, _)| moved(place))
        .map(|(_, wait)| wait)
        .collect()
}

/// 1 → 5 → 2.
pub(super) async fn scale(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(options.setup("scale", 1)).await?;
    run.hypothesis(
        "Replicas that come take their share in planned moves, those that leave give theirs away; nobody is paused by more \
         than a few API calls, and nothing is lost or doubled.",
    );
    let rounds = options.pick(2, 1);
    let (mut waits, mut up, mut down) =
        (Samples::default(), Samples::default(), Samples::default());
    let mut spreads = Samples::default();
    for round in 0..rounds {
        let before = run.now()?;
        run.mark(format!("{round}: 4 replicas more"));
        for place in 1..5 {
            if place < run.fleet.cores.len() {
                run.fleet.begin(place)?;
            } else {
                run.fleet.add(&run.bed).await?;
            }
        }
        run.settled().await?;
        up.add(millis(before.at.passed()));
        // Loads are told every 30 s, and balance follows them.
        run.pass(options.pick(Duration::from_secs(70), BREATH))
            .await?;
        run.settled().await?;
        spreads.extend(even(&run));
        let movement = moved(&run.history.lock(), before.at, At::now());
        run.count("buckets moved by scaling up", count(movement.moves));
        run.count(
            "buckets that had to move by scaling up",
            count(movement.least),
        );

        let middle = run.now()?;
        run.mark(format!("{round}: 3 replicas fewer"));
        // All at once, as a Deployment does.
        for place in [4, 3, 2] {
            run.fleet.core(place)?.node.ask()?;
        }
        for place in [4, 3, 2] {
            run.fleet
                .core(place)?
                .end(middle.at, DRAINED_WITHIN)
                .await?;
        }
        run.settled().await?;
        down.add(millis(middle.at.passed()));
        let movement = moved(&run.history.lock(), middle.at, At::now());
        run.count("buckets moved by scaling down", count(movement.moves));
        run.count(
            "buckets that had to move by scaling down",
            count(movement.least),
        );
        if round + 1 < rounds {
            run.fleet.core(1)?.drain(DRAINED_WITHIN).await?;
            run.settled().await?;
        }
        let to = run.sent();
        waits.extend(run.waits(before.number, to).values());
    }
    run.measured(Measured::of("an event's wait meanwhile", "ms", &waits));
    run.measured(Measured::of("1 → 5 until all work", "ms", &up));
    run.measured(Measured::of("5 → 2 until those two have all", "ms", &down));
    run.measured(Measured::of(
        "keys of the heaviest of 5, over the mean",
        "×",
        &spreads,
    ));
    run.finish().await
}

fn even(run: &Run) -> Option<f64> {
    let keys: Vec<_> = run.keys.iter().map(crate::ledger::Key::bucket).collect();
    spread(&*run.map().ok()?, &keys)
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
