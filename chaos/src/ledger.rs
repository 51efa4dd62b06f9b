//! What was sent, and what was acknowledged: the side of the sender, against which everything that
//! the fleet stores is compared.

use std::collections::BTreeMap;

use zen_fabric::journal::{Bucket, IngestorUid};

use crate::clock::At;

/// What an Ingestor makes of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makes {
    /// One Observation of each.
    Each,
    /// One Observation of all in a window, which counts them.
    Sums,
}

/// An Ingestor under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What it makes.
    pub makes: Makes,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which Ingestor, by its place in [`Ledger::keys`].
    pub key: usize,
    /// When it was sent.
    pub sent: At,
    /// When it was acknowledged; `None`: it was not, and may be stored all the same.
    pub acknowledged: Option<At>,
}

/// Everything that was sent.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The Ingestors.
    pub keys: Vec<Key>,
    entries: BTreeMap<u64, Entry>,
    next: u64,
    /// Answers that were no acknowledgement, by status or error.
    pub refused: BTreeMap<String, u64>,
}

// === impl Key ===

impl Key {
    /// The bucket that it lies in.
    #[must_use]
    pub fn bucket(&self) -> Bucket {
        Bucket::of(&IngestorUid(self.uid.as_str().into()))
    }
}

// === impl Ledger ===

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            ..Self::default()
        }
    }

    /// The next event is about to be sent; to the Ingestors in turn.
    pub fn send(&mut self, now: At) -> (u64, usize) {
        let number = self.next;
        self.next += 1;
        let keys = u64::try_from(self.keys.len()).unwrap_or(1).max(1);
        let key = usize::try_from(number % keys).unwrap_or_default();
        let entry = Entry {
            key,
            sent: now,
            acknowledged: None,
        };
        self.entries.insert(number, entry);
        (number, key)
    }

    /// It was acknowledged.
    pub fn acknowledge(&mut self, number: u64, now: At) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.acknowledged = Some(now);
        }
    }

    /// It was answered otherwise, or not at all.
    pub fn refuse(&mut self, why: String) {
        *self.refused.entry(why).or_default() += 1;
    }

    /// One event.
    #[must_use]
    pub fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(&number)
    }

    /// All events.
    pub fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(number, entry)| (*number, entry))
    }

    /// The number of the next event: what is sent from now on has at least this.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The events from a number on.
    pub fn since(&self, number: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let range = self.entries.range(number..);
        range.map(|(number, entry)| (*number, entry))
    }

    /// How many were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| entry.acknowledged.is_some())
            .count()
    }

    /// How many were sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.entries.len()
    }
}

/// The id of a delivery as GitHub writes them: a UUID, whose last twelve digits count.
#[must_use]
pub fn delivery(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// The number of an event id, which says before a slash where the delivery's id came from.
#[must_use]
pub fn number_of(event_id: &str) -> Option<u64> {
    let id = event_id.rsplit_once('/').map_or(event_id, |(_, id)| id);
    let number = id.strip_prefix("00000000-0000-4000-8000-")?;
    u64::from_str_radix(number, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_go_round_and_are_found_again() {
        let key = |name: &str| Key {
            name: name.to_owned(),
            uid: name.to_owned(),
            makes: Makes::Each,
        };
        let mut ledger = Ledger::new(vec![key("a"), key("b")]);
        assert_eq!(ledger.send(At(1)), (0, 0));
        assert_eq!(ledger.send(At(2)), (1, 1));
        assert_eq!(ledger.send(At(3)), (2, 0));
        ledger.acknowledge(2, At(4));
        ledger.acknowledge(9, At(4));
        ledger.refuse("503".to_owned());
        assert_eq!((ledger.sent(), ledger.acknowledged()), (3, 1));
        assert_eq!(ledger.entry(2).unwrap().acknowledged, Some(At(4)));
        assert_eq!(ledger.next(), 3);
        let since: Vec<u64> = ledger.since(1).map(|(number, _)| number).collect();
        assert_eq!(since, [1, 2]);
        assert_eq!(number_of(&delivery(77)), Some(77));
        assert_eq!(number_of(&format!("github/{}", delivery(77))), Some(77));
        assert_eq!(number_of("github/another"), None);
    }
}
