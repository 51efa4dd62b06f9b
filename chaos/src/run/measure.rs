//! What is measured of a run: takeovers, and how long events wait.
//!
//! A takeover is seen from outside: an event that was *sent after* the kill has an Observation. Nobody
//! but another pod can have made it. What was under way when the pod died doesn't count, although it is
//! taken over too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use zen_fabric::coordination::records::ShardMapSpec;

use super::Run;
use crate::{
    check::Checked,
    clock::{At, millis},
    error::Result,
    history::History,
    ledger::{Ledger, Makes},
    samples::Samples,
};

/// How often it is looked whether a takeover is complete; what is measured is when events were seen.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A moment, with what was so then.
#[derive(Clone, Debug)]
pub struct Mark {
    /// When.
    pub at: At,
    /// Events from this number on are sent later.
    pub number: u64,
    /// The map at that moment.
    pub map: Arc<ShardMapSpec>,
}

/// What a takeover took.
#[derive(Clone, Debug, Default)]
pub struct Takeover {
    /// Per key of the dead ones, in milliseconds.
    pub keys: Samples,
    /// Until the last of them, in milliseconds.
    pub last: Option<f64>,
    /// Keys that nobody took over in time.
    pub left: Vec<String>,
}

impl Run {
    /// The number of the next event.
    pub fn sent(&self) -> u64 {
        self.ledger.lock().next()
    }

    /// Now.
    pub fn now(&self) -> Result<Mark> {
        let map = self.map()?;
        // The number first: an event that is sent between the two counts from a moment too early.
        let number = self.sent();
        Ok(Mark {
            at: At::now(),
            number,
            map,
        })
    }

    /// Waits until other pods act on every key of these ones.
    pub async fn takeover(&self, before: &Mark, dead: &[usize], within: Duration) -> Takeover {
        let keys = self.keys_of(before, dead);
        self.acted_on(before, before.at, &keys, within).await
    }

    /// Waits until every key is acted on by whomever, for an event that is sent after the mark.
    pub async fn all_acted_on(&self, mark: &Mark, within: Duration) -> Takeover {
        let keys = self.single();
        self.acted_on(mark, mark.at, &keys, within).await
    }

    /// Waits until every key is worked on after `back`, for any event that was sent since `gone`.
    pub async fn resumed(&self, gone: &Mark, back: &Mark, within: Duration) -> Takeover {
        let keys = self.single();
        self.acted_on(gone, back.at, &keys, within).await
    }

    /// The keys that make one Observation of each event.
    fn single(&self) -> BTreeSet<usize> {
        let single = self
            .keys
            .iter()
            .enumerate()
            .filter(|(_, key)| key.makes == Makes::Each);
        single.map(|(place, _)| place).collect()
    }

    /// Those that these cores owned.
    fn keys_of(&self, before: &Mark, dead: &[usize]) -> BTreeSet<usize> {
        let pods: BTreeSet<&str> = dead
            .iter()
            .filter_map(|place| Some(self.fleet.cores.get(*place)?.name()))
            .collect();
        Self::owned(&before.map, &self.keys)
            .into_iter()
            .filter(|(_, pod)| pods.contains(pod.as_str()))
            .map(|(place, _)| place)
            .collect()
    }

    /// Waits until something is seen of each of these keys from `since` on, that was sent after the mark.
    async fn acted_on(
        &self,
        mark: &Mark,
        since: At,
        keys: &BTreeSet<usize>,
        within: Duration,
    ) -> Takeover {
        let mut first = BTreeMap::new();
        while first.len() < keys.len() && since.passed() < within {
            tokio::time::sleep(LOOK_EVERY).await;
            first = first_seen(
                &self.ledger.lock(),
                &self.history.lock(),
                (mark, since),
                keys,
            );
        }
        let took = |seen: &At| millis(seen.since(since));
        Takeover {
            keys: first.values().map(took).collect(),
            last: first.values().max().map(took),
            left: keys
                .iter()
                .filter(|place| !first.contains_key(place))
                .filter_map(|place| Some(self.keys.get(*place)?.name.clone()))
                .collect(),
        }
    }

    /// Notes what was not taken over as a violation.
    pub fn all_taken(checked: &mut Checked, takeover: &Takeover) {
        for key in &takeover.left {
            checked.look(Some(format!("{key} was not taken over in time")));
        }
        for _key in 0..takeover.keys.len() {
            checked.look(None);
        }
    }

    /// How long acknowledged events of this span of numbers waited for their Observation, in
    /// milliseconds. One that has none yet is not among them.
    pub fn waits(&self, from: u64, to: u64) -> Samples {
        let (ledger, history) = (self.ledger.lock(), self.history.lock());
        waits(&ledger, &history, from, to)
            .values()
            .flatten()
            .copied()
            .collect()
    }

    /// Of each key the longest such wait.
    pub fn longest_waits(&self, from: u64, to: u64) -> BTreeMap<usize, f64> {
        let (ledger, history) = (self.ledger.lock(), self.history.lock());
        waits(&ledger, &history, from, to)
            .into_iter()
            .map(|(key, waits)| (key, waits.into_iter().fold(0.0, f64::max)))
            .collect()
    }

    /// Waits until every acknowledged event before this number has its Observation.
    pub async fn caught_up(&self, number: u64, within: Duration) -> bool {
        let begun = At::now();
        while begun.passed() < within {
            let left = {
                let (ledger, history) = (self.ledger.lock(), self.history.lock());
                unseen(&ledger, &history, number)
            };
            if left == 0 {
                return true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        false
    }
}

/// Of each of these keys, when the first event was seen, from `since` on, that was sent after the mark.
fn first_seen(
    ledger: &Ledger,
    history: &History,
    (mark, since): (&Mark, At),
    keys: &BTreeSet<usize>,
) -> BTreeMap<usize, At> {
    let mut first: BTreeMap<usize, At> = BTreeMap::new();
    let later = ledger
        .since(mark.number)
        .filter(|(_, entry)| entry.sent >= mark.at && keys.contains(&entry.key));
    for (number, entry) in later {
        if let Some(seen) = history.seen(number).filter(|seen| *seen >= since) {
            let known = first.entry(entry.key).or_insert(seen);
            *known = (*known).min(seen);
        }
    }
    first
}

fn waits(ledger: &Ledger, history: &History, from: u64, to: u64) -> BTreeMap<usize, Vec<f64>> {
    let mut waits: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (number, entry) in ledger.since(from).take_while(|(number, _)| *number < to) {
        let acknowledged = entry.acknowledged.is_some();
        if let Some(seen) = history.seen(number).filter(|_| acknowledged) {
            waits
                .entry(entry.key)
                .or_default()
                .push(millis(seen.since(entry.sent)));
        }
    }
    waits
}

fn unseen(ledger: &Ledger, history: &History, number: u64) -> usize {
    ledger
        .entries()
        .take_while(|(found, _)| *found < number)
        .filter(|(found, entry)| {
            let single = ledger.keys.get(entry.key).map(|key| key.makes) == Some(Makes::Each);
            single && entry.acknowledged.is_some() && history.seen(*found).is_none()
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Made, What, tests::map},
        ledger::Key,
    };

    /// Two keys in turn, an event each 10 µs; those named are seen 5 µs later.
    fn world(events: u64, seen: &[u64]) -> (Ledger, History) {
        let key = |name: &str| Key {
            name: name.to_owned(),
            uid: name.to_owned(),
            makes: Makes::Each,
        };
        let mut ledger = Ledger::new(vec![key("a"), key("b")]);
        let mut history = History::default();
        for number in 0..events {
            let sent = At(number * 10);
            ledger.send(sent);
            ledger.acknowledge(number, sent);
            if seen.contains(&number) {
                let made = Made {
                    uid: number.to_string(),
                    source: String::new(),
                    number: Some(number),
                    first: At(number * 10 + 5),
                    count: 1,
                };
                history.observe(&format!("o-{number}"), made);
            }
        }
        (ledger, history)
    }

    #[test]
    fn only_what_was_sent_after_the_kill_counts() {
        let (ledger, history) = world(8, &[0, 1, 2, 3, 5, 6]);
        let What::Map(map) = map(1, 1, "a#1", &[]) else {
            panic!("a map");
        };
        let mark = Mark {
            at: At(25),
            number: 2,
            map,
        };
        // Event 2 was sent before the kill and seen after it: no takeover.
        let first = first_seen(&ledger, &history, (&mark, At(25)), &BTreeSet::from([0, 1]));
        assert_eq!(first, BTreeMap::from([(0, At(65)), (1, At(35))]));
        let of_one = first_seen(&ledger, &history, (&mark, At(25)), &BTreeSet::from([0]));
        assert_eq!(of_one, BTreeMap::from([(0, At(65))]));
        // Nor is what was seen before the API server was back.
        let later = first_seen(&ledger, &history, (&mark, At(40)), &BTreeSet::from([1]));
        assert_eq!(later, BTreeMap::from([(1, At(55))]));
    }

    #[test]
    fn waits_are_of_acknowledged_events_that_were_seen() {
        let (ledger, history) = world(4, &[0, 1, 2]);
        let waits = waits(&ledger, &history, 1, 4);
        assert_eq!(waits, BTreeMap::from([(0, vec![0.005]), (1, vec![0.005])]));
        assert_eq!(unseen(&ledger, &history, 4), 1);
        assert_eq!(unseen(&ledger, &history, 3), 0);
    }
}
