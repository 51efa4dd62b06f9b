//! The end of a run: the load stops, the backlog is worked off, and everything is compared.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use zen_fabric::journal::Tally;

use super::Run;
use crate::{
    admin::Admin,
    api::{INGESTORS, name_of},
    bed::stored,
    check::{self, Checked, Counted},
    clock::{At, millis},
    error::Result,
    history::{History, Span, read},
    ledger::{Key, Makes},
    outcome::{Outcome, OwnedBy, Row, Timeline},
};

/// How long a backlog may take: what a scenario of minutes leaves, at hundreds a second.
const DRAINED_WITHIN: Duration = Duration::from_mins(5);

/// How old counters may be: seconds, more where a status waits for the budget of all others.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

/// How often tallies are read meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(200);

impl Run {
    /// Ends the run.
    pub async fn finish(mut self) -> Result<Outcome> {
        self.load.stop().await;
        self.look_after()?;
        self.note("the load has stopped");
        let (tallies, backlog) = self.drained().await?;
        let mut drained =
            Checked::new("every accepted event has an end soon after the load stopped");
        drained
            .look((backlog > 0).then(|| format!("{backlog} have none after {DRAINED_WITHIN:?}")));
        let counters = self.counters(&tallies).await?;
        let counted = self.counted(tallies).await?;
        self.look_after()?;
        self.tasks.stop(Duration::from_secs(5)).await.ok();
        self.fleet.stop().await;
        let end = At::now();
        self.conclude(&counted, vec![drained, counters], end);
        Ok(self.outcome)
    }

    fn conclude(&mut self, counted: &Counted, mut checks: Vec<Checked>, end: At) {
        let mut exits = Checked::new("no process ended by itself");
        for _process in 0..self.fleet.cores.len() + self.fleet.gateways.len() {
            exits.look(None);
        }
        for why in self.exits.drain(..) {
            exits.look(Some(why));
        }
        let (ledger, history) = (self.ledger.lock(), self.history.lock());
        checks.push(exits);
        checks.extend(check::books(&ledger, counted, &history));
        checks.push(check::fence(&history));
        checks.push(check::stale_writes(&history));
        if history.gaps.is_empty() {
            checks.push(check::granted(&history));
        }
        checks.extend(check::maps(&history));
        let counts = [
            ("events sent", ledger.sent()),
            ("events acknowledged", ledger.acknowledged()),
            ("Observations", counted.by_number.len()),
            ("ShardMaps stored", history.maps().count()),
            ("watches that had to begin anew", history.gaps.len()),
        ];
        let refused = ledger.refused.clone();
        let timeline = timeline(&self.keys, &history, self.begun, end);
        drop((ledger, history));
        for (what, count) in counts {
            self.count(what, u64::try_from(count).unwrap_or(u64::MAX));
        }
        for (why, count) in refused {
            self.count(&format!("not acknowledged: {why}"), count);
        }
        let outcome = &mut self.outcome;
        outcome.checks.extend(checks);
        outcome.timeline.length = timeline.length;
        outcome.timeline.rows = timeline.rows;
        outcome.seconds = end.since(self.begun).as_secs_f64();
    }

    /// Waits until nothing is left to be worked on; the tallies, summed over gateways, and what is left.
    async fn drained(&mut self) -> Result<(BTreeMap<String, Tally>, u64)> {
        let admin = Admin::default();
        let begun = At::now();
        loop {
            self.look_after()?;
            let mut sums: BTreeMap<String, Tally> = BTreeMap::new();
            for gateway in &self.fleet.gateways {
                let tallies = admin.tallies(&self.bed.dir().join(gateway.name())).await?;
                for item in tallies.items {
                    add(sums.entry(item.ingestor.uid).or_default(), &item.tally);
                }
            }
            let backlog = sums.values().map(|tally| tally.backlog).sum();
            if backlog == 0 || begun.passed() > DRAINED_WITHIN {
                return Ok((sums, backlog));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Whether the counters in each status come to be what the journals say: exact, up to seconds old.
    async fn counters(&self, tallies: &BTreeMap<String, Tally>) -> Result<Checked> {
        let begun = At::now();
        loop {
            let mut checked =
                Checked::new("the counters of each status are the journals' within 30 s");
            for ingestor in self.bed.load().list(INGESTORS).await? {
                let uid = ingestor.pointer("/metadata/uid").and_then(Value::as_str);
                let tally = uid.and_then(|uid| tallies.get(uid)).copied();
                checked.look(differs(&ingestor, &tally.unwrap_or_default()));
            }
            if checked.holds() || begun.passed() > COUNTED_WITHIN {
                return Ok(checked);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// What is stored, by a list.
    async fn counted(&self, tallies: BTreeMap<String, Tally>) -> Result<Counted> {
        let mut counted = Counted {
            tallies,
            ..Counted::default()
        };
        let sums: Vec<&str> = self
            .keys
            .iter()
            .filter(|key| key.makes == Makes::Sums)
            .map(|key| key.name.as_str())
            .collect();
        stored(self.bed.load(), |_, object: &Value| {
            let (_, made) = read::observation(object, At(0));
            if sums.contains(&made.source.as_str()) {
                *counted.sums.entry(made.source).or_default() += made.count;
            } else if let Some(number) = made.number {
                *counted.by_number.entry(number).or_default() += 1;
            } else {
                counted.foreign += 1;
            }
        })
        .await?;
        Ok(counted)
    }
}

/// What an Ingestor's status says otherwise than its tally.
fn differs(ingestor: &Value, tally: &Tally) -> Option<String> {
    let expected = [
        ("accepted", tally.requests + tally.replays),
        ("observed", tally.observed),
        ("filtered", tally.filtered),
        ("deduplicated", tally.deduplicated),
        ("deadLettered", tally.dead_lettered),
    ];
    let counters = ingestor.pointer("/status/counters");
    let says = |what: &str| {
        let found = counters.and_then(|counters| counters.get(what));
        found.and_then(Value::as_u64).unwrap_or_default()
    };
    let wrong: Vec<String> = expected
        .into_iter()
        .filter(|(what, count)| says(what) != *count)
        .map(|(what, count)| format!("{what} {} for {count}", says(what)))
        .collect();
    (!wrong.is_empty()).then(|| format!("{}: {}", name_of(ingestor), wrong.join(", ")))
}

fn add(sum: &mut Tally, tally: &Tally) {
    sum.requests += tally.requests;
    sum.replays += tally.replays;
    sum.observed += tally.observed;
    sum.filtered += tally.filtered;
    sum.deduplicated += tally.deduplicated;
    sum.dead_lettered += tally.dead_lettered;
    sum.damaged += tally.damaged;
    sum.backlog += tally.backlog;
}

/// Who owned each key when.
fn timeline(keys: &[Key], history: &History, begun: At, end: At) -> Timeline {
    let rows = keys.iter().map(|key| Row {
        key: key.name.clone(),
        spans: history
            .spans(key.bucket())
            .iter()
            .map(|span| owned(span, begun, end))
            .collect(),
    });
    Timeline {
        length: millis(end.since(begun)),
        rows: rows.collect(),
        marks: Vec::new(),
    }
}

fn owned(span: &Span, begun: At, end: At) -> OwnedBy {
    OwnedBy {
        from: millis(span.from.since(begun)),
        to: millis(span.to.unwrap_or(end).since(begun)),
        owner: span.owner.to_string(),
        epoch: span.epoch.0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_counter_that_differs_is_told() {
        let ingestor = json!({
            "metadata": { "name": "key-0" },
            "status": { "counters": { "accepted": 3, "observed": 2, "filtered": 0 } },
        });
        let tally = |observed| Tally {
            requests: 3,
            observed,
            ..Tally::default()
        };
        assert_eq!(
            differs(&ingestor, &tally(2)),
            None,
            "an absent counter is nothing"
        );
        let wrong = differs(&ingestor, &tally(3)).unwrap();
        assert_eq!(wrong, "key-0: observed 2 for 3");
    }
}
