//! The API server or its etcd away: nobody dies, nothing is lost, work goes on when it is back.

use std::time::Duration;

use super::{BREATH, Options, nobody_died};
use crate::{
    check::deaths,
    clock::At,
    error::{Attempt as _, Result},
    outcome::{Bar, Measured, Outcome},
    report::acceptance::names,
    run::{Run, Setup},
};

/// Behind an outage: one retry is due each second.
const RESUMED_WITHIN: Duration = Duration::from_secs(40);

/// What is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    Server,
    Etcd,
}

/// The API server killed, and started again.
pub(super) async fn api_away(options: &Options) -> Result<Outcome> {
    outage(options, "api-away", Away::Server).await
}

/// etcd stopped, and continued.
pub(super) async fn etcd_stalled(options: &Options) -> Result<Outcome> {
    outage(options, "etcd-stalled", Away::Etcd).await
}

async fn outage(options: &Options, name: &str, away: Away) -> Result<Outcome> {
    let time = options.pick(Duration::from_mins(5), Duration::from_secs(20));
    let mut run = Run::start(Setup {
        // What gathers in five minutes is worked off in one.
        each: 12,
        per_second: options.pick(5, 3),
        ..options.setup(name, 3)
    })
    .await?;
    run.hypothesis(
        "Gates shut after 10 s, events are accepted into the journal all the while. Clocks on Leases run only in contact with \
         the API server, so that an outage of any length makes nobody dead and no leader new. Retries are at most 1 s apart, \
         so that work goes on within 2 s.",
    );
    if !options.short {
        run.calm().await?;
    }
    let before = run.now()?;
    let gone = At::now();
    let cluster = run.bed.cluster();
    match away {
        Away::Server => cluster.apiserver().kill().attempt("stop the API server")?,
        Away::Etcd => cluster.etcd().pause().attempt("stop etcd")?,
    }
    run.mark_at(gone, format!("{away:?} away for {} s", time.as_secs()));
    run.pass(time).await?;
    let cluster = run.bed.cluster();
    match away {
        Away::Server => cluster
            .apiserver()
            .start()
            .attempt("start the API server")?,
        Away::Etcd => cluster.etcd().resume().attempt("continue etcd")?,
    }
    run.bed
        .cluster()
        .wait_ready()
        .await
        .attempt("wait for the API server")?;
    let back = run.now()?;
    run.mark_at(back.at, "the API server is ready");
    let all: Vec<usize> = (0..run.fleet.cores.len()).collect();
    let resumed = run.resumed(&before, &back, RESUMED_WITHIN).await;
    let mut taken = crate::check::Checked::new("every key is worked on again");
    Run::all_taken(&mut taken, &resumed);
    run.measured(Measured::of(names::RESUMES, "ms", &resumed.keys).asked(Bar::most(2000.0)));
    run.settled().await?;
    run.pass(10 * BREATH).await?;
    let dead = deaths(&run.history.lock(), gone).len();
    let dead = f64::from(u32::try_from(dead).unwrap_or(u32::MAX));
    run.measured(Measured::one(names::DEAD, "holders", dead).asked(Bar::most(0.0)));
    let died = nobody_died(&run, gone);
    run.checked(died);
    run.checked(taken);
    run.count("replicas", u64::try_from(all.len()).unwrap_or_default());
    let moved = crate::check::moved(&run.history.lock(), gone, At::now());
    run.count(
        "buckets moved",
        u64::try_from(moved.moves).unwrap_or(u64::MAX),
    );
    run.finish().await
}
