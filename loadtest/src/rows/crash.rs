//! kill -9 under load, many times; then every acknowledged event is looked for.

use std::{collections::BTreeMap, time::Duration};

use rand::RngExt as _;
use zen_fabric::{
    api::ingestor::{Dedup, Strategy},
    journal::Tally,
    ops::admin::wire::Tallies,
};

use super::{Bench, Error, Measured, run_id};
use crate::{
    admin::{Admin, imbalance},
    cluster::{self, Found},
    dev::Dev,
    generator::{self, Ids, Inputs, OnBreak, Outcome, Pace, Requests, Target, Window},
    ledger::Ledger,
};

/// The Ingestor whose events are one object each, and the one whose events are summed up.
const SINGLE: &str = "load";
const SUM: &str = "sum";

/// How long the events of all rounds may take to be written.
const DRAIN: Duration = Duration::from_mins(15);

/// What the rounds left behind.
struct Rounds {
    requests: Requests,
    ids: Ids,
    ledger: Ledger,
    /// UIDs of the two Ingestors.
    uids: Option<(String, String)>,
    unanswered: u64,
    refused: BTreeMap<String, u64>,
    slowest_start: Duration,
    /// Rounds whose process died before anything was acknowledged.
    idle: u32,
}

/// Kills `kills` times and compares.
pub(crate) async fn measure(bench: &Bench, kills: u32) -> Result<Measured, Error> {
    let place = bench.place()?;
    let profile = &bench.profile;
    let paths = [SINGLE, SUM].map(|name| cluster::path(profile, name));
    let run = run_id();
    let mut rounds = Rounds {
        requests: Requests::github(profile, &paths, cluster::SECRET),
        ids: Ids::new(run),
        ledger: Ledger::create(&place.file("ledger")).map_err(Error::io("make the ledger"))?,
        uids: None,
        unanswered: 0,
        refused: BTreeMap::new(),
        slowest_start: Duration::ZERO,
        idle: 0,
    };
    let start = bench.start(&place.data());
    let mut under_load = 0;
    while under_load < kills {
        let dev = start.run().await?;
        if rounds.one(bench, dev, &paths).await? {
            under_load += 1;
        } else {
            rounds.idle += 1;
        }
        if rounds.idle > kills {
            return Err(Error::Wrong(format!(
                "{} of {} kills came before anything was acknowledged: this machine is too slow for the profile's `crash`",
                rounds.idle,
                rounds.idle + under_load
            )));
        }
    }
    let dev = start.run().await?;
    rounds.slowest_start = rounds.slowest_start.max(dev.started_in);
    let tallies = Admin::of(&dev.data_dir)?.drained(DRAIN).await?;
    let client = dev.client().await?;
    let found = cluster::find(&client, profile.namespace(), run, SUM).await?;
    let measured = rounds.judge(kills, &tallies, &found)?;
    dev.stop().await?;
    Ok(measured)
}

impl Rounds {
    /// One round; false: nothing was acknowledged in it, so it was no kill under load.
    async fn one(&mut self, bench: &Bench, dev: Dev, paths: &[String]) -> Result<bool, Error> {
        self.slowest_start = self.slowest_start.max(dev.started_in);
        if self.uids.is_none() {
            self.uids = Some(ingestors(bench, &dev).await?);
        }
        let target = Target {
            address: dev.gateway()?,
            tls: None,
        };
        cluster::serving(&target, paths).await?;
        let inputs = Inputs {
            target: &target,
            requests: &self.requests,
            ids: &mut self.ids,
            ledger: &mut self.ledger,
            connections: bench.profile.crash.connections,
        };
        let outcome = round(bench, dev, inputs)?;
        self.unanswered += outcome.unanswered;
        for (what, count) in outcome.errors {
            *self.refused.entry(what).or_default() += count;
        }
        Ok(outcome.counted > 0)
    }

    fn judge(&mut self, kills: u32, tallies: &Tallies, found: &Found) -> Result<Measured, Error> {
        let (single, sum) = self.uids.clone().unwrap_or_default();
        let tally = |uid: &str| {
            let mut items = tallies.items.iter();
            items
                .find(|item| item.ingestor.uid == uid)
                .map(|item| item.tally)
                .unwrap_or_default()
        };
        let acknowledged = self.ledger.ids().map_err(Error::io("read the ledger"))?;
        let verdict = Check {
            requests: &self.requests,
            found,
            single: tally(&single),
            sum: tally(&sum),
            taken: self.ids.taken(),
        }
        .against(&acknowledged);
        let counted: u64 = found.sums.values().sum();
        let figures = [
            ("acknowledged", acknowledged.len().to_string()),
            (
                "sent when the process died, never answered",
                self.unanswered.to_string(),
            ),
            (
                "kills before anything was acknowledged, not counted",
                self.idle.to_string(),
            ),
            ("answers that were no 202", format!("{:?}", self.refused)),
            ("objects of single events", found.ids.len().to_string()),
            (
                "aggregate objects, and the sum of their counts",
                format!("{}, {counted}", found.sums.len()),
            ),
            (
                "slowest start",
                format!("{} ms", self.slowest_start.as_millis()),
            ),
        ];
        Ok(Measured {
            row: "crash".to_owned(),
            what: format!("acknowledged events lost by kill -9 under load, {kills} kills"),
            bar: "≥ 50 kills: 0 lost, 0 doubled, counts and tallies exact".to_owned(),
            result: verdict.to_string(),
            // Fewer kills can break the bar, not meet it.
            met: (kills >= 50 || !verdict.is_clean()).then(|| verdict.is_clean()),
            details: figures
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            curve: Vec::new(),
        })
    }
}

async fn ingestors(bench: &Bench, dev: &Dev) -> Result<(String, String), Error> {
    let client = dev.client().await?;
    let profile = &bench.profile;
    cluster::prepare(&client, profile).await?;
    let single = cluster::ingestor(&client, &profile.ingestor(SINGLE, None)).await?;
    let mut aggregate = profile.ingestor(SUM, None);
    aggregate.spec.dedup = Dedup {
        strategy: Strategy::Aggregate,
        fields: vec!["resource".to_owned()],
        window: "24h".to_owned(),
    };
    let sum = cluster::ingestor(&client, &aggregate).await?;
    Ok((single, sum))
}

/// Load, and a kill at a random moment amid it.
fn round(bench: &Bench, dev: Dev, inputs: Inputs<'_>) -> Result<Outcome, Error> {
    let crash = bench.profile.crash;
    let moment = rand::rng().random_range(crash.earliest_millis..=crash.latest_millis);
    let death = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(moment));
        dev.kill()
    });
    let window = Window {
        warm_up: Duration::ZERO,
        measure: Duration::from_millis(crash.latest_millis) * 4,
        at_most: None,
    };
    let pace = Pace::Open {
        per_second: crash.per_second,
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let outcome =
        tokio::task::block_in_place(|| generator::run(inputs, pace, window, OnBreak::End, &stop));
    let joined = tokio::task::block_in_place(|| death.join());
    joined.map_err(|_panic| Error::Wrong("the killer's thread panicked".to_owned()))??;
    match outcome {
        // Killed before the last connection was open: nothing was sent.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Ok(Outcome::of_nothing(window))
        }
        other => other.map_err(Error::io("generate load")),
    }
}

struct Check<'a> {
    requests: &'a Requests,
    found: &'a Found,
    single: Tally,
    sum: Tally,
    taken: u64,
}

/// What the comparison says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    lost: usize,
    doubled: u64,
    foreign: u64,
    wrong: Vec<String>,
}

impl Verdict {
    fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lost, {} doubled", self.lost, self.doubled)?;
        if self.foreign > 0 {
            write!(f, ", {} of no delivery", self.foreign)?;
        }
        if self.wrong.is_empty() {
            return write!(f, ", counts and tallies exact");
        }
        write!(f, "; {}", self.wrong.join("; "))
    }
}

impl Check<'_> {
    fn against(&self, acknowledged: &std::collections::BTreeSet<u64>) -> Verdict {
        // Deliveries go to the two endpoints in turn.
        let is_single = |id: &u64| id.is_multiple_of(2);
        let lost = acknowledged
            .iter()
            .filter(|id| is_single(id) && !self.found.ids.contains(id))
            .count();
        let mut wrong = Vec::new();
        let mut by_repository = BTreeMap::<String, (u64, u64)>::new();
        for id in (0..self.taken).filter(|id| !is_single(id)) {
            let entry = by_repository
                .entry(self.requests.repository(id))
                .or_default();
            entry.0 += u64::from(acknowledged.contains(&id));
            entry.1 += 1;
        }
        for (repository, (least, most)) in &by_repository {
            let count = self.found.sums.get(repository).copied().unwrap_or_default();
            if count < *least || count > *most {
                wrong.push(format!(
                    "{repository} counts {count}, acknowledged {least} of {most} sent"
                ));
            }
        }
        let sum: u64 = self.found.sums.values().sum();
        let mut equal = |what: &str, left: u64, right: u64| {
            if left != right {
                wrong.push(format!("{what}: {left} ≠ {right}"));
            }
        };
        let objects = u64::try_from(self.found.ids.len()).unwrap_or(u64::MAX);
        equal(
            "accepted single events and their objects",
            self.single.requests,
            objects,
        );
        equal(
            "observed single events and their objects",
            self.single.observed,
            objects,
        );
        equal(
            "accepted summed events and the sum of counts",
            self.sum.requests,
            sum,
        );
        let aggregates = u64::try_from(self.found.sums.len()).unwrap_or(u64::MAX);
        if self.sum.observed < aggregates {
            wrong.push(format!(
                "{} summed events observed, but {aggregates} objects",
                self.sum.observed
            ));
        }
        for tally in [&self.single, &self.sum] {
            let off = imbalance(tally);
            if off != 0 {
                wrong.push(format!("a tally is off by {off}: {tally:?}"));
            }
        }
        Verdict {
            lost,
            doubled: self.found.doubled,
            foreign: self.found.foreign,
            wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::profile::Profile;

    fn check(found: &Found, accepted: u64, summed: u64, acknowledged: &[u64]) -> Verdict {
        let profile = Profile::load(None).unwrap();
        let paths = ["/a".to_owned(), "/b".to_owned()];
        let requests = Requests::github(&profile, &paths, "s");
        let tally = |requests, observed, deduplicated| Tally {
            requests,
            observed,
            deduplicated,
            ..Tally::default()
        };
        let aggregates = u64::try_from(found.sums.len()).unwrap();
        let check = Check {
            requests: &requests,
            found,
            single: tally(accepted, accepted, 0),
            sum: tally(summed, aggregates, summed - aggregates),
            taken: 4,
        };
        check.against(&acknowledged.iter().copied().collect::<BTreeSet<u64>>())
    }

    fn found(ids: &[u64], sums: &[(u64, u64)]) -> Found {
        Found {
            ids: ids.iter().copied().collect(),
            sums: sums
                .iter()
                .map(|(number, count)| (format!("load/repository-{number:05}"), *count))
                .collect(),
            ..Found::default()
        }
    }

    #[test]
    fn what_is_acknowledged_and_found_is_clean_whatever_became_of_the_rest() {
        let all = found(&[0, 2], &[(1, 1), (3, 1)]);
        assert!(check(&all, 2, 2, &[0, 1]).is_clean());
        assert!(check(&all, 2, 2, &[0, 1, 2, 3]).is_clean());
    }

    #[test]
    fn a_lost_event_a_lost_count_and_a_wrong_tally_are_each_found() {
        let lost = check(&found(&[0], &[(1, 1), (3, 1)]), 1, 2, &[0, 2]);
        assert_eq!(lost.lost, 1);
        let lost = check(&found(&[0, 2], &[(1, 1)]), 2, 1, &[3]);
        assert_eq!(lost.wrong.len(), 1, "{lost}");
        let counted_twice = check(&found(&[0, 2], &[(1, 2)]), 2, 2, &[1]);
        assert_eq!(counted_twice.wrong.len(), 1, "{counted_twice}");
        let tally = check(&found(&[0, 2], &[]), 3, 0, &[]);
        assert!(!tally.is_clean());
    }
}
