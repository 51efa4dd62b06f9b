//! That nothing acknowledged is lost and nothing is made twice: the ledger against the objects that are
//! stored at the end, and against the journals' tallies.

use std::collections::{BTreeMap, BTreeSet};

use zen_fabric::journal::Tally;

use super::Checked;
use crate::{
    history::History,
    ledger::{Ledger, Makes},
};

/// What is stored at the end, as a list of it says: nothing that a watch could have missed.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Of Ingestors that make one Observation of each event: how many objects each event has.
    pub by_number: BTreeMap<u64, u32>,
    /// Of Ingestors that make sums: by Ingestor, how many events all its objects count.
    pub sums: BTreeMap<String, u64>,
    /// Objects of no event of this run.
    pub foreign: u64,
    /// What the journals say of each Ingestor, summed over them, by its UID.
    pub tallies: BTreeMap<String, Tally>,
}

/// Compares.
#[must_use]
pub fn books(ledger: &Ledger, counted: &Counted, history: &History) -> Vec<Checked> {
    vec![
        lost(ledger, counted),
        doubled(ledger, counted, history),
        sums(ledger, counted),
        tallies(ledger, counted),
    ]
}

fn lost(ledger: &Ledger, counted: &Counted) -> Checked {
    let mut checked = Checked::new("no acknowledged event is lost");
    let acknowledged = ledger.entries().filter(|(_, entry)| {
        entry.acknowledged.is_some() && makes(ledger, entry.key) == Some(Makes::Each)
    });
    for (number, entry) in acknowledged {
        let missing = !counted.by_number.contains_key(&number);
        checked.look(missing.then(|| {
            let name = ledger
                .keys
                .get(entry.key)
                .map_or("", |key| key.name.as_str());
            format!(
                "event {number} of {name}, sent at {:.0} ms",
                entry.sent.millis()
            )
        }));
    }
    checked
}

/// Two objects of one event at the end, or one that was made, deleted and made again meanwhile.
fn doubled(ledger: &Ledger, counted: &Counted, history: &History) -> Checked {
    let mut checked = Checked::new("every event has exactly one Observation");
    for (number, objects) in &counted.by_number {
        let wrong = *objects != 1;
        checked.look(wrong.then(|| format!("event {number} has {objects}")));
    }
    for (name, made) in history.observations() {
        if made.len() > 1 {
            checked.look(Some(format!("{name} was made {} times", made.len())));
        }
    }
    let sent: BTreeSet<u64> = ledger.entries().map(|(number, _)| number).collect();
    for number in counted
        .by_number
        .keys()
        .filter(|number| !sent.contains(number))
    {
        checked.look(Some(format!("event {number} was never sent")));
    }
    if counted.foreign > 0 {
        checked.look(Some(format!(
            "{} are of no event of this run",
            counted.foreign
        )));
    }
    checked
}

/// What aggregates count lies between what was acknowledged and what was sent.
fn sums(ledger: &Ledger, counted: &Counted) -> Checked {
    let mut checked = Checked::new("aggregates count each acknowledged event once");
    for (place, key) in ledger.keys.iter().enumerate() {
        if key.makes != Makes::Sums {
            continue;
        }
        let (least, most) = bounds(ledger, place);
        let count = counted.sums.get(&key.name).copied().unwrap_or_default();
        let wrong = count < least || count > most;
        checked.look(wrong.then(|| {
            format!(
                "{} counts {count}, of {least} acknowledged and {most} sent",
                key.name
            )
        }));
    }
    checked
}

/// I9: the journals' figures against the ledger and against themselves.
fn tallies(ledger: &Ledger, counted: &Counted) -> Checked {
    let mut checked =
        Checked::new("I9: accepted = ends + backlog, and accepted is what was acknowledged");
    for (place, key) in ledger.keys.iter().enumerate() {
        let (least, most) = bounds(ledger, place);
        let tally = counted.tallies.get(&key.uid).copied().unwrap_or_default();
        let ends = tally.observed + tally.filtered + tally.deduplicated + tally.dead_lettered;
        let accepted = tally.requests + tally.replays;
        let mut wrong = Vec::new();
        if accepted != ends + tally.damaged + tally.backlog {
            wrong.push(format!(
                "accepted {accepted}, ends {ends}, backlog {}",
                tally.backlog
            ));
        }
        if accepted < least || accepted > most {
            wrong.push(format!(
                "accepted {accepted}, of {least} acknowledged and {most} sent"
            ));
        }
        if key.makes == Makes::Each && tally.observed != accepted {
            wrong.push(format!("accepted {accepted}, observed {}", tally.observed));
        }
        checked.look((!wrong.is_empty()).then(|| format!("{}: {}", key.name, wrong.join("; "))));
    }
    checked
}

fn makes(ledger: &Ledger, key: usize) -> Option<Makes> {
    ledger.keys.get(key).map(|key| key.makes)
}

/// How many events of a key were acknowledged, and how many sent.
fn bounds(ledger: &Ledger, key: usize) -> (u64, u64) {
    let of_key = ledger.entries().filter(|(_, entry)| entry.key == key);
    of_key.fold((0, 0), |(least, most), (_, entry)| {
        (least + u64::from(entry.acknowledged.is_some()), most + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::At, history::Made, ledger::Key};

    /// Two keys, four events: 0 and 2 of `each`, 1 and 3 of `sum`; 3 was not acknowledged.
    fn ledger() -> Ledger {
        let key = |name: &str, makes| Key {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            makes,
        };
        let mut ledger = Ledger::new(vec![key("each", Makes::Each), key("sum", Makes::Sums)]);
        for _ in 0..4 {
            ledger.send(At(1));
        }
        for number in 0..3 {
            ledger.acknowledge(number, At(2));
        }
        ledger
    }

    fn counted() -> Counted {
        let tally = |requests, observed, deduplicated| Tally {
            requests,
            observed,
            deduplicated,
            ..Tally::default()
        };
        Counted {
            by_number: BTreeMap::from([(0, 1), (2, 1)]),
            sums: BTreeMap::from([("sum".to_owned(), 2)]),
            foreign: 0,
            tallies: BTreeMap::from([
                ("uid-each".to_owned(), tally(2, 2, 0)),
                ("uid-sum".to_owned(), tally(2, 1, 1)),
            ]),
        }
    }

    fn violations(counted: &Counted) -> Vec<usize> {
        let checks = books(&ledger(), counted, &History::default());
        checks.iter().map(|checked| checked.violations).collect()
    }

    #[test]
    fn books_balance_whatever_became_of_what_was_not_acknowledged() {
        assert_eq!(violations(&counted()), [0, 0, 0, 0]);
        let mut less = counted();
        less.sums.insert("sum".to_owned(), 1);
        less.tallies
            .entry("uid-sum".to_owned())
            .and_modify(|tally| {
                tally.requests = 1;
                tally.deduplicated = 0;
            });
        assert_eq!(violations(&less), [0, 0, 0, 0]);
    }

    #[test]
    fn what_is_lost_doubled_miscounted_is_each_found() {
        let mut lost = counted();
        lost.by_number.remove(&2);
        assert_eq!(violations(&lost), [1, 0, 0, 0]);
        let mut twice = counted();
        twice.by_number.insert(2, 2);
        assert_eq!(violations(&twice), [0, 1, 0, 0]);
        let mut strange = counted();
        strange.by_number.insert(8, 1);
        strange.foreign = 1;
        assert_eq!(violations(&strange), [0, 2, 0, 0]);
        let mut many = counted();
        many.sums.insert("sum".to_owned(), 3);
        assert_eq!(violations(&many), [0, 0, 1, 0]);
        let mut off = counted();
        off.tallies
            .entry("uid-each".to_owned())
            .and_modify(|tally| tally.observed = 1);
        assert_eq!(violations(&off), [0, 0, 0, 1]);
    }

    #[test]
    fn an_object_that_was_made_again_is_found_by_the_history() {
        let mut history = History::default();
        for uid in ["1", "2"] {
            let made = Made {
                uid: uid.to_owned(),
                source: "each".to_owned(),
                number: Some(0),
                first: At(1),
                count: 1,
            };
            history.observe("each-x", made);
        }
        let checks = books(&ledger(), &counted(), &history);
        let doubled = checks
            .iter()
            .find(|checked| checked.violations > 0)
            .unwrap();
        assert_eq!(doubled.examples, ["each-x was made 2 times"]);
    }
}
