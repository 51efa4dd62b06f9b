//! Ten replicas that are left alone: what they tell each other, and that a busy machine moves nothing.

use std::{ffi::OsString, time::Duration};

use super::{Options, nobody_died};
use crate::{
    bed::fleet::Network,
    check::{deaths, moved},
    clock::At,
    error::{Attempt as _, Result},
    outcome::{Bar, Measured, Outcome},
    report::acceptance::names,
    run::{Run, Setup},
};

const REPLICAS: usize = 10;

/// What goes over the wire between ten replicas.
pub(super) async fn gossip(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(Setup {
        network: Network::Proxied,
        per_second: 2,
        ..options.setup("gossip", REPLICAS)
    })
    .await?;
    run.hypothesis(
        "In steady state a node sends a probe and its answers, and now and then exchanges what it knows: at most 2 KB/s with TLS \
         and HTTP/2 framing (what TCP and IP add is not counted).",
    );
    // Behind the moves of the start.
    run.pass(Duration::from_secs(10)).await?;
    let time = options.pick(Duration::from_mins(2), Duration::from_secs(20));
    let (before, carried) = (At::now(), carried(&run));
    run.mark("counted from here");
    run.pass(time).await?;
    let bytes = self::carried(&run) - carried;
    let seconds = before.passed().as_secs_f64();
    run.mark("to here");
    let nodes = f64::from(u32::try_from(REPLICAS).unwrap_or(u32::MAX));
    let per_node = bytes / nodes / seconds / 1000.0;
    run.measured(Measured::one(names::GOSSIP, "KB/s", per_node).asked(Bar::most(2.0)));
    run.finish().await
}

/// Bytes between replicas. What one sends another receives: each is counted once.
fn carried(run: &Run) -> f64 {
    let of_each = run
        .fleet
        .cores
        .iter()
        .filter_map(|core| core.peers.as_ref());
    let bytes: u64 = of_each.map(|peers| peers.carried().0).sum();
    // Far below 2^52.
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) * 1024.0
}

/// Two cores with nothing to spare.
pub(super) async fn quiet(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(Setup {
        per_second: 2,
        ..options.setup("quiet", REPLICAS)
    })
    .await?;
    run.hypothesis(
        "A busy machine delays everybody, and delay alone is no evidence: a slow replica answers its challenge, a slow API server \
         is a gap in contact. Nobody is taken over whom nobody stopped.",
    );
    run.calm().await?;
    let shell = std::path::PathBuf::from("/bin/sh");
    let spin: Vec<OsString> = vec!["-c".into(), "while :; do :; done".into()];
    let mut busy = Vec::new();
    for number in 0..std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get) {
        let log = run.bed.dir().join(format!("busy-{number}.log"));
        let process = run.bed.cluster().process(shell.clone(), spin.clone(), log);
        process.start().attempt("make the machine busy")?;
        busy.push(process);
    }
    let before = run.now()?;
    run.mark("the machine is busy from here");
    run.pass(options.pick(Duration::from_mins(10), Duration::from_mins(1)))
        .await?;
    drop(busy);
    run.mark("to here");
    let (dead, moves) = {
        let history = run.history.lock();
        (
            deaths(&history, before.at).len(),
            moved(&history, before.at, At::now()).moves,
        )
    };
    let float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    run.measured(Measured::one(names::TAKEOVERS, "holders", float(dead)).asked(Bar::most(0.0)));
    run.measured(
        Measured::one("buckets that moved", "buckets", float(moves)).asked(Bar::most(0.0)),
    );
    let to = run.sent();
    let waits = run.waits(before.number, to);
    run.measured(Measured::of("an event's wait meanwhile", "ms", &waits));
    let alive = nobody_died(&run, before.at);
    run.checked(alive);
    run.finish().await
}
