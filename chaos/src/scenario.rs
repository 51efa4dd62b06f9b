//! The scenarios: what is broken, what should happen, what is measured.
//!
//! Each has a full form, whose figures go into the report, and a short one of a minute or two, which
//! goes through the same steps.

mod clock;
mod effort;
mod kill;
mod network;
mod operator;
mod outage;
mod pause;
mod planned;
mod quiet;

use std::{path::PathBuf, time::Duration};

use futures::future::BoxFuture;

use crate::{
    check::Checked,
    clock::At,
    error::Result,
    outcome::{Outcome, Taken},
    run::{Run, Setup},
};

/// How scenarios are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program that is broken.
    pub binary: PathBuf,
    /// Where each scenario gets a folder for its files.
    pub scratch: PathBuf,
    /// In the short form.
    pub short: bool,
    /// When, and of what.
    pub taken: Taken,
}

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// As the command names it.
    pub name: &'static str,
    /// In a few words.
    pub about: &'static str,
    /// Runs it.
    pub run: for<'a> fn(&'a Options) -> BoxFuture<'a, Result<Outcome>>,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A scenario of a function.
macro_rules! scenario {
    ($name:literal, $about:literal, $run:path) => {
        Scenario {
            name: $name,
            about: $about,
            run: |options| Box::pin($run(options)),
        }
    };
}

/// All of them, in the order of the report.
pub const ALL: &[Scenario] = &[
    scenario!(
        "kill",
        "kill -9 of owners and leaders in turn, 3 replicas",
        kill::one_at_a_time
    ),
    scenario!(
        "kill-both",
        "kill -9 of leader and owner at once, 3 replicas",
        kill::both
    ),
    scenario!(
        "kill-one-of-two",
        "kill -9 of owners and leaders in turn, 2 replicas",
        kill::of_two
    ),
    scenario!(
        "pause",
        "SIGSTOP of owners and leaders, up to 60 s, and SIGCONT",
        pause::pause
    ),
    scenario!(
        "rolling",
        "every replica drained and started again, under load",
        planned::rolling
    ),
    scenario!("scale", "1 → 5 → 2 replicas under load", planned::scale),
    scenario!(
        "api-away",
        "the API server stopped and started again",
        outage::api_away
    ),
    scenario!(
        "etcd-stalled",
        "etcd stopped by SIGSTOP and continued",
        outage::etcd_stalled
    ),
    scenario!(
        "isolate",
        "one replica's packets dropped, to peers and API server",
        network::isolate
    ),
    scenario!(
        "partition",
        "one replica cut off from its peers: both ways, one way, rejecting",
        network::partition
    ),
    scenario!(
        "gossip-blocked",
        "no replica reaches any other; one is killed meanwhile",
        network::blocked
    ),
    scenario!(
        "operator",
        "Lease and ShardMap deleted, restored, edited by hand",
        operator::operator
    ),
    scenario!(
        "clock",
        "one replica an hour ahead, one an hour behind, at other rates",
        clock::clock
    ),
    scenario!(
        "efficiency",
        "the same work by 1, 3 and 5 replicas, and a fifth of it by one",
        effort::efficiency
    ),
    scenario!(
        "gossip",
        "10 replicas: what they tell each other",
        quiet::gossip
    ),
    scenario!(
        "quiet",
        "10 replicas on two busy cores: nothing happens",
        quiet::quiet
    ),
];

// === impl Options ===

impl Options {
    /// A run of this scenario with so many cores.
    fn setup(&self, name: &str, cores: usize) -> Setup {
        let setup = Setup::new(self.binary.clone(), self.scratch.join(name), name, cores);
        Setup {
            short: self.short,
            taken: self.taken.clone(),
            // A debug build on a busy machine is to keep up.
            per_second: self.pick(setup.per_second, 4),
            ..setup
        }
    }

    /// One or the other.
    fn pick<T>(&self, full: T, short: T) -> T {
        if self.short { short } else { full }
    }
}

/// A takeover without gossip takes a Lease's 15 s and a few more; what isn't taken over after this
/// never will be.
const TAKEN_WITHIN: Duration = Duration::from_secs(40);

/// How long the kubelet takes to start a dead container again.
const RESTART_AFTER: Duration = Duration::from_secs(2);

/// A fleet that has just settled goes on for a moment before the next blow: renewals and pushes that
/// follow from the last one are over.
const BREATH: Duration = Duration::from_secs(1);

/// Starts a core again, as a kubelet would, and waits until all of the fleet works.
async fn restart(run: &mut Run, place: usize) -> Result<()> {
    run.pass(RESTART_AFTER).await?;
    run.fleet.begin(place)?;
    run.settled().await?;
    run.pass(BREATH).await
}

/// That nobody was declared dead since a moment.
fn nobody_died(run: &Run, since: At) -> Checked {
    let mut checked = Checked::new("I11: nobody who lives is declared dead");
    let dead = crate::check::deaths(&run.history.lock(), since);
    for _core in &run.fleet.cores {
        checked.look(None);
    }
    for holder in dead {
        checked.look(Some(format!("{holder} was")));
    }
    checked
}
