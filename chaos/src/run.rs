//! One run of a scenario: a bed, a fleet under load, everything that is written down about it, and the
//! checks at its end.

mod close;
mod measure;
mod wait;

use std::{io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use zen_fabric::{
    coordination::{records::ShardMapSpec, wire::Place},
    ops::tasks::Tasks,
    testing::cluster::User,
};

use crate::{
    bed::{
        Bed, FLEET, LOAD, SYSTEM,
        fleet::{Clock, Fleet, Network, Plan},
    },
    check::Checked,
    clock::At,
    error::{Attempt as _, Error, Result},
    history,
    ledger::{Key, Ledger, Makes},
    load::{self, Load},
    outcome::{Measured, Outcome, Step, Taken},
};

pub use measure::{Mark, Takeover};

/// How a run is laid out.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The program.
    pub binary: PathBuf,
    /// Where its files go.
    pub dir: PathBuf,
    /// Cores.
    pub cores: usize,
    /// Gateways.
    pub gateways: usize,
    /// Whether connections can be cut.
    pub network: Network,
    /// Clocks that are wrong, by the core's place.
    pub clocks: Vec<Option<Clock>>,
    /// Ingestors that make one Observation of each event.
    pub each: usize,
    /// Ingestors that count.
    pub sums: usize,
    /// Events per second and Ingestor.
    pub per_second: u32,
    /// The scenario.
    pub name: String,
    /// Whether it is the short form.
    pub short: bool,
    /// When, and of what.
    pub taken: Taken,
}

/// See the module.
#[derive(Debug)]
pub struct Run {
    /// The API server and what is in it.
    pub bed: Bed,
    /// The processes.
    pub fleet: Fleet,
    /// What is sent.
    pub load: Load,
    /// What was sent.
    pub ledger: load::Shared,
    /// What the API server told.
    pub history: history::watch::Shared,
    /// The Ingestors.
    pub keys: Vec<Key>,
    setup: Setup,
    begun: At,
    outcome: Outcome,
    exits: Vec<String>,
    tasks: Tasks,
}

// === impl Setup ===

impl Setup {
    /// A fleet of so many cores, under a load that touches each of a dozen keys several times a
    /// second: enough to see a takeover within a tenth of a second, and less than half of what two
    /// cores can do.
    #[must_use]
    pub fn new(binary: PathBuf, dir: PathBuf, name: &str, cores: usize) -> Self {
        Self {
            binary,
            dir,
            cores,
            gateways: 1,
            network: Network::Plain,
            clocks: Vec::new(),
            each: 12,
            sums: 2,
            per_second: 8,
            name: name.to_owned(),
            short: false,
            taken: Taken::default(),
        }
    }

    fn rate(&self) -> u32 {
        let keys = u32::try_from(self.each + self.sums).unwrap_or(u32::MAX);
        keys.saturating_mul(self.per_second)
    }
}

// === impl Run ===

impl Run {
    /// Starts everything, and waits until every core works and every key is worked on.
    pub async fn start(setup: Setup) -> Result<Self> {
        let bed = Bed::start(&setup.dir).await?;
        let tasks = Tasks::new();
        let shared = history::watch::Shared::default();
        let client = bed
            .cluster()
            .client(&User::admin())
            .attempt("log in to watch")?;
        let place = Place {
            namespace: SYSTEM.into(),
            release: FLEET.into(),
            owned: false,
        };
        let begun = At::now();
        history::watch::everything(&client, &place, LOAD, &shared, &tasks);
        let keys = bed.ingestors(setup.each, setup.sums).await?;
        let plan = Plan {
            binary: setup.binary.clone(),
            cores: setup.cores,
            gateways: setup.gateways,
            network: setup.network,
            clocks: setup.clocks.clone(),
        };
        let fleet = Fleet::start(&bed, plan).await?;
        let ledger = load::Shared::new(Ledger::new(keys.clone()));
        let load = Load::start(fleet.hooks()?, ledger.clone(), setup.rate());
        let mut run = Self {
            bed,
            fleet,
            load,
            ledger,
            history: shared,
            keys,
            begun,
            outcome: Outcome {
                name: setup.name.clone(),
                short: setup.short,
                taken: setup.taken.clone(),
                ..Outcome::default()
            },
            exits: Vec::new(),
            setup,
            tasks,
        };
        let (cores, rate) = (run.setup.cores, run.setup.rate());
        run.note(format!(
            "{cores} cores started, {rate} events/s on {} keys",
            run.keys.len()
        ));
        run.settled().await?;
        Ok(run)
    }

    /// Writes down what is done, for the report and for whoever watches.
    pub fn note(&mut self, what: impl Into<String>) -> At {
        let now = At::now();
        self.note_at(now, what);
        now
    }

    /// The same of a moment that has passed.
    pub fn note_at(&mut self, moment: At, what: impl Into<String>) {
        let step = Step {
            at: crate::clock::millis(moment.since(self.begun)),
            what: what.into(),
        };
        // Nobody may be watching.
        drop(writeln!(
            std::io::stderr(),
            "{:>9.1} s  {}: {}",
            step.at / 1000.0,
            self.setup.name,
            step.what
        ));
        self.outcome.steps.push(step);
    }

    /// The same, and drawn as a line into the timeline; when that was.
    pub fn mark(&mut self, what: impl Into<String>) -> At {
        let now = At::now();
        self.mark_at(now, what);
        now
    }

    /// The same of a moment that has passed.
    pub fn mark_at(&mut self, moment: At, what: impl Into<String>) {
        let what = what.into();
        self.outcome.timeline.marks.push(Step {
            at: crate::clock::millis(moment.since(self.begun)),
            what: what.clone(),
        });
        self.note_at(moment, what);
    }

    /// Says what should happen.
    pub fn hypothesis(&mut self, text: &str) {
        text.clone_into(&mut self.outcome.hypothesis);
    }

    /// Adds a figure.
    pub fn measured(&mut self, measured: Measured) {
        self.outcome.measured.push(measured);
    }

    /// Adds a check.
    pub fn checked(&mut self, checked: Checked) {
        self.outcome.checks.push(checked);
    }

    /// Counts.
    pub fn count(&mut self, what: &str, more: u64) {
        *self.outcome.counts.entry(what.to_owned()).or_default() += more;
    }

    /// How it is laid out.
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The newest map.
    pub fn map(&self) -> Result<Arc<ShardMapSpec>> {
        let map = self.history.lock().map();
        map.ok_or_else(|| Error::new("find the ShardMap: none is stored"))
    }

    /// The place of the core that leads.
    pub fn leader(&self) -> Result<usize> {
        let leader = self.history.lock().leader();
        let leader = leader.ok_or_else(|| Error::new("find the leader: the Lease names none"))?;
        self.fleet.place(&leader.pod.0)
    }

    /// The place of a core that owns keys and doesn't lead.
    pub fn follower(&self) -> Result<usize> {
        let leader = self.leader()?;
        let owners = self.owners()?;
        let found = (0..self.fleet.cores.len()).find(|place| {
            let core = self.fleet.cores.get(*place);
            *place != leader && core.is_some_and(|core| owners.iter().any(|pod| pod == core.name()))
        });
        found.ok_or_else(|| Error::new("find a core that owns keys and doesn't lead"))
    }

    /// The pods that own keys.
    fn owners(&self) -> Result<Vec<String>> {
        let map = self.map()?;
        let owners = self.keys.iter().filter_map(|key| {
            let grant = map.grants.get(&key.bucket())?;
            Some(grant.owner.pod.to_string())
        });
        Ok(owners.collect())
    }

    /// The keys that make one Observation of each event, by their place, with the pod that owns each.
    fn owned(map: &ShardMapSpec, keys: &[Key]) -> Vec<(usize, String)> {
        let single = keys
            .iter()
            .enumerate()
            .filter(|(_, key)| key.makes == Makes::Each);
        single
            .filter_map(|(place, key)| {
                let grant = map.grants.get(&key.bucket())?;
                Some((place, grant.owner.pod.to_string()))
            })
            .collect()
    }

    /// Waits, and looks meanwhile whether a process ended by itself; it is started again, and told.
    pub async fn pass(&mut self, time: Duration) -> Result<()> {
        let until = At::now().after(time);
        while At::now() < until {
            let left = until.since(At::now());
            tokio::time::sleep(left.min(Duration::from_secs(1))).await;
            self.look_after()?;
        }
        Ok(())
    }

    /// Starts what ended by itself, and remembers that it did.
    fn look_after(&mut self) -> Result<()> {
        for why in self.fleet.revive()? {
            let first = why.lines().next().unwrap_or_default().to_owned();
            self.note(first);
            self.exits.push(why);
        }
        Ok(())
    }
}
