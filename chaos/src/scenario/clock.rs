//! Clocks that are wrong: what an unprivileged process can have of that is a library before the C
//! library's clock (`chaos/clock/shift.c`, compiled on the spot). It shifts one replica's wall clock, and
//! lets its wall and monotonic clock run at another rate. The timers of the kernel stay right, and a jump
//! in the middle of a run is left to the simulator, which has both.

use std::{path::PathBuf, process::Command, time::Duration};

use super::{BREATH, Options, TAKEN_WITHIN, nobody_died, restart};
use crate::{
    bed::fleet::Clock,
    check::{Checked, moved},
    clock::At,
    error::{Attempt as _, Error, Result},
    outcome::{Bar, Measured, Outcome},
    report::acceptance::names,
    run::{Run, Setup},
    samples::Samples,
};

/// One right, one an hour ahead and fast, one behind and slow.
pub(super) async fn clock(options: &Options) -> Result<Outcome> {
    let mut setup = options.setup("clock", 3);
    let library = compile(&setup)?;
    let wrong = |ahead, rate| Clock {
        library: library.clone(),
        ahead,
        rate,
    };
    // Less than an hour behind: the API server's own certificate begins an hour before it was made.
    setup.clocks = vec![
        None,
        Some(wrong(3600, 1_020_000)),
        Some(wrong(-1800, 980_000)),
    ];
    let mut run = Run::start(setup).await?;
    run.hypothesis(
        "No two clocks are ever compared: every expiry is judged by one's own monotonic clock since a record last changed. So \
         a fleet whose clocks are an hour apart and drift by 2 % is calm, and takes over as fast as any.",
    );
    run.calm().await?;
    let before = run.now()?;
    run.mark("core-1 is an hour ahead and 2 % fast, core-2 half an hour behind and 2 % slow");
    run.pass(options.pick(Duration::from_mins(1), Duration::from_secs(20)))
        .await?;
    let moved = moved(&run.history.lock(), before.at, At::now()).moves;
    let moved = f64::from(u32::try_from(moved).unwrap_or(u32::MAX));
    run.measured(
        Measured::one("buckets that moved by themselves", "buckets", moved).asked(Bar::most(0.0)),
    );
    let alive = nobody_died(&run, before.at);
    run.checked(alive);
    let mut taken = Checked::new("every key of the dead is taken over");
    let mut all = Samples::default();
    for round in 0..options.pick(12, 3) {
        // Each of the three once as the dead one, and each of them among those who judge.
        let place = round % 3;
        let before = run.now()?;
        let moment = run.fleet.core(place)?.kill()?;
        run.mark_at(moment, format!("{round}: kill -9 core-{place}"));
        let takeover = run.takeover(&before, &[place], TAKEN_WITHIN).await;
        Run::all_taken(&mut taken, &takeover);
        all.extend(takeover.keys.values());
        restart(&mut run, place).await?;
        run.pass(BREATH).await?;
    }
    run.measured(Measured::of(names::TAKEOVER, "ms", &all).asked(Bar::halves(300.0, 1000.0)));
    run.checked(taken);
    run.finish().await
}

/// The library, where the run's files are.
fn compile(setup: &Setup) -> Result<PathBuf> {
    std::fs::create_dir_all(&setup.dir).attempt(format!("make {}", setup.dir.display()))?;
    let library = setup.dir.join("shift.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clock/shift.c");
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .output()
        .attempt("run cc, which makes the wrong clock: install a C compiler")?;
    if done.status.success() {
        return library.canonicalize().attempt("find the wrong clock");
    }
    let why = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(Error::new(format!("compile {source}: {why}")))
}
