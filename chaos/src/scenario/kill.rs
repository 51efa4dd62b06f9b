//! kill -9.

use std::time::Duration;

use super::{Options, TAKEN_WITHIN, restart};
use crate::{
    check::{Checked, moved},
    clock::At,
    error::Result,
    outcome::{Bar, Measured, Outcome},
    report::acceptance::names,
    run::Run,
    samples::Samples,
};

/// Long enough behind a kill that whatever it moved has moved: a planned move that follows ends within
/// its ladder.
const MOVED_WITHIN: Duration = Duration::from_secs(1);

/// Owners and leaders in turn, each time with all replicas Active.
pub(super) async fn one_at_a_time(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(options.setup("kill", 3)).await?;
    run.hypothesis(
        "A process that dies while its node lives is known to be dead within milliseconds: every listener refuses. \
         The leader, or for a dead leader the first candidate, marks it by compare-and-swap and gives its buckets to their \
         standbys in one write. Nothing is lost or doubled, and nothing moves that doesn't have to.",
    );
    kills(
        &mut run,
        options.pick(100, 6),
        Bar::halves(300.0, 1000.0).of(100),
    )
    .await?;
    run.finish().await
}

/// One of two.
pub(super) async fn of_two(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(options.setup("kill-one-of-two", 2)).await?;
    run.hypothesis(
        "Of two replicas neither has a majority without the other: the survivor challenges, and the API server convicts \
         1 s after the challenge was written.",
    );
    kills(&mut run, options.pick(20, 4), Bar::p99(2500.0)).await?;
    run.finish().await
}

/// Leader and owner at once.
pub(super) async fn both(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(options.setup("kill-both", 3)).await?;
    run.hypothesis(
        "The one that is left has no majority: it challenges both, takes the leader Lease and everything else.",
    );
    let (mut taken, mut all) = (
        Checked::new("every key of the dead is taken over"),
        Samples::default(),
    );
    for round in 0..options.pick(20, 3) {
        let (leader, owner) = (run.leader()?, run.follower()?);
        let before = run.now()?;
        let moment = run.fleet.core(leader)?.kill()?;
        run.fleet.core(owner)?.kill()?;
        run.mark_at(
            moment,
            format!("{round}: kill -9 core-{leader} (leader) and core-{owner}"),
        );
        let takeover = run.takeover(&before, &[leader, owner], TAKEN_WITHIN).await;
        Run::all_taken(&mut taken, &takeover);
        all.extend(takeover.keys.values());
        run.fleet.begin(leader)?;
        restart(&mut run, owner).await?;
    }
    run.measured(Measured::of(names::TAKEOVER, "ms", &all).asked(Bar::p99(2500.0)));
    run.checked(taken);
    run.finish().await
}

async fn kills(run: &mut Run, kills: u32, bar: Bar) -> Result<()> {
    let mut taken = Checked::new("every key of the dead is taken over");
    let (mut all, mut of_leaders, mut last) =
        (Samples::default(), Samples::default(), Samples::default());
    let (mut moves, mut least) = (0, 0);
    for round in 0..kills {
        let leads = round % 2 == 1;
        let place = if leads {
            run.leader()?
        } else {
            run.follower()?
        };
        let before = run.now()?;
        let moment = run.fleet.core(place)?.kill()?;
        let who = if leads { " (leader)" } else { "" };
        run.mark_at(moment, format!("{round}: kill -9 core-{place}{who}"));
        let takeover = run.takeover(&before, &[place], TAKEN_WITHIN).await;
        Run::all_taken(&mut taken, &takeover);
        all.extend(takeover.keys.values());
        if leads {
            of_leaders.extend(takeover.keys.values());
        }
        last.extend(takeover.last);
        run.pass(MOVED_WITHIN).await?;
        let movement = moved(&run.history.lock(), before.at, At::now());
        moves += movement.moves;
        least += owned_by(run, &before, place);
        restart(run, place).await?;
    }
    run.count("kills", kills.into());
    run.measured(Measured::of(names::TAKEOVER, "ms", &all).asked(Bar {
        count: None,
        ..bar.clone()
    }));
    run.measured(Measured::of(
        "the same, of leaders alone",
        "ms",
        &of_leaders,
    ));
    // One sample of each kill: so many kills are asked for.
    run.measured(
        Measured::of("until the last key of a kill is acted on", "ms", &last).asked(Bar {
            p50: None,
            p99: None,
            ..bar
        }),
    );
    if least > 0 {
        let ratio = ratio(moves, least);
        run.measured(Measured::one(names::MOVEMENT, "×", ratio).asked(Bar::most(1.05)));
    }
    run.checked(taken);
    Ok(())
}

/// How many buckets a pod had: what has to move when it dies.
fn owned_by(run: &Run, before: &crate::run::Mark, place: usize) -> usize {
    let Some(core) = run.fleet.cores.get(place) else {
        return 0;
    };
    let owners = before.map.grants.values();
    owners
        .filter(|grant| &*grant.owner.pod.0 == core.name())
        .count()
}

/// Both are counts of buckets, far below what a float holds exactly.
fn ratio(one: usize, other: usize) -> f64 {
    let float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    float(one) / float(other)
}
