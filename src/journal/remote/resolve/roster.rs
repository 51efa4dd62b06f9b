//! Which addresses there are, and through which of them each log is reached: pure.
//!
//! Two addresses may lead to one gateway, and a gateway may come back with its log at another
//! address: a log is attached once, through an address that answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use crate::journal::LogId;

/// What an entry of `--gateways` stands for: kept while it can't be looked up.
#[derive(Debug, Default)]
pub(super) struct Found {
    by_entry: BTreeMap<usize, BTreeSet<SocketAddr>>,
}

/// What a look at all entries changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Diff {
    pub(super) appeared: Vec<SocketAddr>,
    pub(super) left: Vec<SocketAddr>,
}

impl Found {
    /// The answers of a round; `None`: an entry couldn't be looked up, and stays what it was.
    pub(super) fn look(&mut self, answers: Vec<Option<Vec<SocketAddr>>>) -> Diff {
        let before = self.all();
        for (entry, answer) in answers.into_iter().enumerate() {
            if let Some(addresses) = answer {
                self.by_entry.insert(entry, addresses.into_iter().collect());
            }
        }
        let now = self.all();
        Diff {
            appeared: now.difference(&before).copied().collect(),
            left: before.difference(&now).copied().collect(),
        }
    }

    fn all(&self) -> BTreeSet<SocketAddr> {
        self.by_entry.values().flatten().copied().collect()
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The log is there, through this address.
    Attach(LogId, SocketAddr),
    /// It isn't any more.
    Detach(LogId),
}

/// Where each log is reached.
#[derive(Debug, Default)]
pub(super) struct Roster {
    logs: BTreeMap<LogId, Places>,
}

#[derive(Debug)]
struct Places {
    attached: SocketAddr,
    spare: BTreeSet<SocketAddr>,
}

impl Roster {
    /// A log answers at an address.
    pub(super) fn met(&mut self, address: SocketAddr, log: LogId) -> Option<Step> {
        if let Some(places) = self.logs.get_mut(&log) {
            if places.attached != address {
                places.spare.insert(address);
            }
            return None;
        }
        let places = Places {
            attached: address,
            spare: BTreeSet::new(),
        };
        self.logs.insert(log, places);
        Some(Step::Attach(log, address))
    }

    /// Nothing is at an address any more, or another log.
    pub(super) fn gone(&mut self, address: SocketAddr) -> Vec<Step> {
        let mut steps = Vec::new();
        self.logs.retain(|log, places| {
            places.spare.remove(&address);
            if places.attached != address {
                return true;
            }
            steps.push(Step::Detach(*log));
            let Some(next) = places.spare.pop_first() else {
                return false;
            };
            places.attached = next;
            steps.push(Step::Attach(*log, next));
            true
        });
        steps
    }

    /// Goes over to spare addresses where the attached one doesn't answer and another does.
    pub(super) fn prefer(&mut self, answers: impl Fn(SocketAddr) -> bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for (log, places) in &mut self.logs {
            if answers(places.attached) {
                continue;
            }
            let Some(better) = places.spare.iter().copied().find(|spare| answers(*spare)) else {
                continue;
            };
            places.spare.remove(&better);
            places.spare.insert(places.attached);
            places.attached = better;
            steps.extend([Step::Detach(*log), Step::Attach(*log, better)]);
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 7))
    }

    #[test]
    fn addresses_appear_and_leave_and_a_failed_lookup_changes_nothing() {
        let mut found = Found::default();
        let diff = found.look(vec![Some(vec![at(1), at(2)]), None]);
        assert_eq!((diff.appeared, diff.left), (vec![at(1), at(2)], vec![]));
        assert_eq!(found.look(vec![None, None]), Diff::default());
        let diff = found.look(vec![Some(vec![at(2)]), Some(vec![at(3), at(2)])]);
        assert_eq!((diff.appeared, diff.left), (vec![at(3)], vec![at(1)]));
        let diff = found.look(vec![Some(vec![]), None]);
        assert_eq!(diff, Diff::default(), "the other entry names it too");
        let diff = found.look(vec![Some(vec![]), Some(vec![])]);
        assert_eq!((diff.appeared, diff.left), (vec![], vec![at(2), at(3)]));
    }

    #[test]
    fn a_log_is_attached_once() {
        let mut roster = Roster::default();
        let (one, two) = (LogId(1), LogId(2));
        assert_eq!(roster.met(at(1), one), Some(Step::Attach(one, at(1))));
        assert_eq!(roster.met(at(1), one), None, "again");
        assert_eq!(roster.met(at(2), one), None, "an alias");
        assert_eq!(roster.met(at(3), two), Some(Step::Attach(two, at(3))));
        let over = [Step::Detach(one), Step::Attach(one, at(2))];
        assert_eq!(roster.gone(at(1)), over);
        assert_eq!(roster.gone(at(1)), []);
        assert_eq!(roster.gone(at(2)), [Step::Detach(one)]);
        assert_eq!(roster.met(at(2), one), Some(Step::Attach(one, at(2))));
    }

    #[test]
    fn an_address_that_answers_is_preferred() {
        let mut roster = Roster::default();
        let log = LogId(1);
        roster.met(at(1), log);
        assert_eq!(roster.prefer(|_| false), []);
        roster.met(at(2), log);
        assert_eq!(roster.prefer(|_| false), [], "none is better");
        assert_eq!(roster.prefer(|_| true), [], "it answers");
        let over = [Step::Detach(log), Step::Attach(log, at(2))];
        assert_eq!(roster.prefer(|address| address == at(2)), over);
        assert_eq!(roster.prefer(|address| address == at(2)), []);
        assert_eq!(
            roster.gone(at(2)),
            [Step::Detach(log), Step::Attach(log, at(1))]
        );
    }
}
