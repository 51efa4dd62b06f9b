//! SIGSTOP and SIGCONT: a process that doesn't know that it was away.

use std::time::Duration;

use super::{BREATH, Options, TAKEN_WITHIN};
use crate::{
    check::{Checked, stale_writes},
    error::Result,
    outcome::{Bar, Measured, Outcome},
    report::acceptance::names,
    run::Run,
    samples::Samples,
};

/// Owners and leaders in turn; a few for a whole minute, which is longer than every Lease.
pub(super) async fn pause(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(options.setup("pause", 3)).await?;
    run.hypothesis(
        "A stopped process is silent, not refusing: probes time out after 2–4 s, a challenge is not answered within 1 s, and \
         it is marked. When it goes on it believes to own what it had; the API server and the journals refuse every write of \
         it on what its successor has taken, and it goes on as another incarnation.",
    );
    let long = Duration::from_mins(1);
    let brief = Duration::from_secs(12);
    let times: Vec<Duration> = options.pick(
        [[long; 2].as_slice(), &[brief; 14]].concat(),
        vec![Duration::from_secs(20), brief],
    );
    let mut taken = Checked::new("every key of a stopped pod is taken over");
    let mut all = Samples::default();
    let mut after = Samples::default();
    for (round, time) in times.into_iter().enumerate() {
        let leads = round % 2 == 1;
        let place = if leads {
            run.leader()?
        } else {
            run.follower()?
        };
        let before = run.now()?;
        let moment = run.fleet.core(place)?.node.pause()?;
        let who = if leads { " (leader)" } else { "" };
        run.mark_at(
            moment,
            format!(
                "{round}: SIGSTOP core-{place}{who} for {} s",
                time.as_secs()
            ),
        );
        let takeover = run
            .takeover(&before, &[place], TAKEN_WITHIN.min(time))
            .await;
        Run::all_taken(&mut taken, &takeover);
        all.extend(takeover.keys.values());
        run.pass(time.saturating_sub(moment.passed())).await?;
        let from = run.sent();
        let moment = run.fleet.core(place)?.node.resume()?;
        run.mark_at(moment, format!("{round}: SIGCONT core-{place}"));
        run.settled().await?;
        let to = run.sent();
        after.extend(run.waits(from, to).values());
        run.pass(BREATH).await?;
    }
    let stale = stale_writes(&run.history.lock());
    let count = f64::from(u32::try_from(stale.violations).unwrap_or(u32::MAX));
    run.measured(Measured::of(names::TAKEOVER, "ms", &all).asked(Bar::halves(5000.0, 7000.0)));
    run.measured(Measured::one(names::STALE, "writes", count).asked(Bar::most(0.0)));
    run.measured(Measured::of(
        "an event's wait while one comes back",
        "ms",
        &after,
    ));
    run.checked(taken);
    run.finish().await
}
