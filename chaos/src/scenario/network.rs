//! The network between replicas, and from one to the API server, cut in userland.

use std::time::Duration;

use super::{BREATH, Options, TAKEN_WITHIN, nobody_died};
use crate::{
    bed::fleet::Network,
    check::{Checked, deaths, moved},
    clock::At,
    error::Result,
    outcome::{Bar, Measured, Outcome},
    proxy::Mode,
    report::acceptance::names,
    run::{Run, Setup},
    samples::Samples,
};

/// One replica cut off from everybody.
pub(super) async fn isolate(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(proxied(options, "isolate")).await?;
    run.hypothesis(
        "A replica whose packets are dropped everywhere is silent: it is challenged, can't answer, and is marked. It shuts its \
         gate after 10 s by itself; what it would still write is refused.",
    );
    let time = Duration::from_secs(20);
    let mut taken = Checked::new("every key of the isolated one is taken over");
    let mut all = Samples::default();
    for round in 0..options.pick(8, 2) {
        let leads = round % 2 == 1;
        let place = if leads {
            run.leader()?
        } else {
            run.follower()?
        };
        let before = run.now()?;
        cut(&run, place, Way::Both, Mode::Drop);
        run.fleet.core(place)?.isolate(Mode::Drop);
        let who = if leads { " (leader)" } else { "" };
        run.mark_at(
            before.at,
            format!(
                "{round}: core-{place}{who} isolated for {} s",
                time.as_secs()
            ),
        );
        let takeover = run
            .takeover(&before, &[place], TAKEN_WITHIN.min(time))
            .await;
        Run::all_taken(&mut taken, &takeover);
        all.extend(takeover.keys.values());
        run.pass(time.saturating_sub(before.at.passed())).await?;
        heal(&run);
        run.mark(format!("{round}: core-{place} back"));
        run.settled().await?;
        run.pass(BREATH).await?;
    }
    run.measured(Measured::of(names::TAKEOVER, "ms", &all).asked(Bar::halves(5000.0, 7000.0)));
    run.checked(taken);
    run.finish().await
}

/// One replica cut off from its peers, which the API server still hears.
pub(super) async fn partition(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(proxied(options, "partition")).await?;
    run.hypothesis(
        "A replica that its peers don't reach, and the API server does, answers its challenge and stays alive, also where its \
         peers are refused: one of its listeners, the admin port, still answers. After 30 s its buckets leave in planned moves. \
         Nothing is lost or doubled, and leadership changes at most once with each cut.",
    );
    let time = options.pick(Duration::from_mins(1), Duration::from_secs(15));
    let kinds = [
        ("dropped both ways", Way::Both, Mode::Drop),
        ("dropped on the way to it", Way::To, Mode::Drop),
        ("dropped on the way from it", Way::From, Mode::Drop),
        ("rejected", Way::Both, Mode::Reject),
    ];
    let (mut alive, mut leaders) = (
        Checked::new("one that answers its challenge is not declared dead"),
        Checked::new("leadership changes at most once with each cut"),
    );
    for (what, way, mode) in kinds {
        for leads in [false, true] {
            let place = if leads {
                run.leader()?
            } else {
                run.follower()?
            };
            let before = run.now()?;
            let terms = run.map()?.term;
            cut(&run, place, way, mode);
            let who = if leads { " (leader)" } else { "" };
            run.mark_at(before.at, format!("core-{place}{who}: {what}"));
            run.pass(time).await?;
            let dead = deaths(&run.history.lock(), before.at).len();
            alive.look((dead > 0).then(|| format!("{what}: {dead} were")));
            let changes = run.map()?.term.saturating_sub(terms);
            leaders.look((changes > 1).then(|| format!("{what}: {changes} terms")));
            let from = run.sent();
            heal(&run);
            run.mark(format!("core-{place}: healed"));
            run.settled().await?;
            run.pass(BREATH).await?;
            let waits = run.waits(before.number, from);
            let leads = if leads { "leader" } else { "owner" };
            run.measured(Measured::of(
                &format!("an event's wait, {leads}: {what}"),
                "ms",
                &waits,
            ));
        }
    }
    run.checked(alive);
    run.checked(leaders);
    run.finish().await
}

/// Nobody reaches anybody.
pub(super) async fn blocked(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(proxied(options, "gossip-blocked")).await?;
    run.hypothesis(
        "Without gossip nothing moves and owners go on: the API server hears them all. One that is killed meanwhile is found \
         by its Lease, unchanged for 15 s.",
    );
    let time = options.pick(Duration::from_mins(10), Duration::from_secs(40));
    run.calm().await?;
    let before = run.now()?;
    for core in &run.fleet.cores {
        if let Some(peers) = &core.peers {
            peers.treat_all(Mode::Drop);
        }
    }
    run.mark_at(
        before.at,
        format!("gossip blocked for {} s", time.as_secs()),
    );
    run.pass(time).await?;
    let moved = moved(&run.history.lock(), before.at, At::now()).moves;
    let moved = f64::from(u32::try_from(moved).unwrap_or(u32::MAX));
    run.measured(Measured::one(names::MOVES, "buckets", moved).asked(Bar::most(0.0)));
    let alive = nobody_died(&run, before.at);
    run.checked(alive);
    let mut taken = Checked::new("every key of the killed one is taken over");
    let (mut all, mut dead) = (Samples::default(), Vec::new());
    let place = run.follower()?;
    let kill = run.now()?;
    // Its proxy stays: whoever dials it hears nothing, not a refusal.
    let moment = run.fleet.core(place)?.node.kill()?;
    run.mark_at(moment, format!("kill -9 core-{place}"));
    let takeover = run.takeover(&kill, &[place], TAKEN_WITHIN).await;
    Run::all_taken(&mut taken, &takeover);
    all.extend(takeover.keys.values());
    dead.push(place);
    heal(&run);
    run.mark("gossip open again");
    for place in dead {
        run.fleet.begin(place)?;
    }
    run.settled().await?;
    run.measured(Measured::of(names::TAKEOVER, "ms", &all).asked(Bar::most(25_000.0)));
    run.checked(taken);
    run.finish().await
}

fn proxied(options: &Options, name: &str) -> Setup {
    Setup {
        network: Network::Proxied,
        ..options.setup(name, 3)
    }
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Both,
    To,
    From,
}

/// Cuts a replica off from its peers.
fn cut(run: &Run, place: usize, way: Way, mode: Mode) {
    // A connection that others dial carries to it what they say, and back what it says; one that it
    // dials the other way round.
    let (theirs, its) = match way {
        Way::Both => (mode, mode),
        Way::To => (Mode::OnlyBack, Mode::OnlyThere),
        Way::From => (Mode::OnlyThere, Mode::OnlyBack),
    };
    let Some(one) = run.fleet.cores.get(place) else {
        return;
    };
    for (number, core) in run.fleet.cores.iter().enumerate() {
        let Some(peers) = &core.peers else { continue };
        if number == place {
            peers.treat_all(theirs);
        } else {
            peers.treat(one.name(), its);
        }
    }
}

fn heal(run: &Run) {
    for core in &run.fleet.cores {
        if let Some(peers) = &core.peers {
            peers.treat_all(Mode::Pass);
        }
        core.isolate(Mode::Pass);
    }
}
