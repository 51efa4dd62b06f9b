//! Where the objects of one resource lie, with the changes of late.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use bytes::Bytes;

use super::Limits;

/// The objects of one resource by `namespace/name`, and what happened to them.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    objects: BTreeMap<Box<str>, Stored>,
    history: VecDeque<Event>,
    /// The bytes that the history holds at most: what an event shares with the object or its
    /// neighbour is counted twice.
    weight: usize,
    /// The version up to which the history is lost.
    floor: u64,
}

/// An object in the form of its storage version.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    /// The definition under which it was written.
    pub(super) epoch: u64,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) revision: u64,
    pub(super) key: Box<str>,
    /// The new state, or the last one of an object that is gone.
    pub(super) after: Stored,
    pub(super) before: Option<Stored>,
    pub(super) gone: bool,
}

impl Event {
    fn weight(&self) -> usize {
        let before = self.before.as_ref().map_or(0, |before| before.bytes.len());
        // What a queue's entry costs beside its bytes, roughly.
        self.after
            .bytes
            .len()
            .saturating_add(before)
            .saturating_add(200)
    }
}

impl Shelf {
    pub(super) fn new(floor: u64) -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            weight: 0,
            floor,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Stored> {
        self.objects.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Objects whose key begins with `prefix`, from `start` on.
    pub(super) fn range<'s, 'p>(
        &'s self,
        prefix: &'p str,
        start: &str,
    ) -> impl Iterator<Item = (&'s str, &'s Stored)> + use<'s, 'p> {
        let from = if start > prefix { start } else { prefix };
        self.objects
            .range::<str, _>((Bound::Included(from), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, stored)| (&**key, stored))
    }

    /// Puts or removes an object and remembers the change.
    pub(super) fn record(
        &mut self,
        revision: u64,
        key: Box<str>,
        after: Stored,
        gone: bool,
        limits: Limits,
    ) {
        let before = if gone {
            self.objects.remove(&key)
        } else {
            self.objects.insert(key.clone(), after.clone())
        };
        let event = Event {
            revision,
            key,
            after,
            before,
            gone,
        };
        self.weight = self.weight.saturating_add(event.weight());
        while self.history.len() >= limits.events.max(1)
            || (self.weight > limits.bytes && !self.history.is_empty())
        {
            self.forget();
        }
        self.history.push_back(event);
    }

    fn forget(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.weight = self.weight.saturating_sub(event.weight());
            self.floor = event.revision;
        }
    }

    /// Puts an object without remembering a change, as when a store is opened.
    pub(super) fn restore(&mut self, key: Box<str>, stored: Option<Stored>) {
        match stored {
            Some(stored) => {
                self.objects.insert(key, stored);
            }
            None => {
                self.objects.remove(&key);
            }
        }
    }

    /// Loses the history: nobody can watch from before `revision` any more.
    pub(super) fn cut(&mut self, revision: u64) {
        self.history.clear();
        self.weight = 0;
        self.floor = revision;
    }

    /// The changes after a version.
    pub(super) fn since(&self, revision: u64) -> impl Iterator<Item = &Event> {
        let from = self
            .history
            .partition_point(|event| event.revision <= revision);
        self.history.range(from..)
    }

    /// What differed at a version that is not older than the floor: the objects as they were then.
    pub(super) fn undo(&self, revision: u64) -> BTreeMap<&str, Option<&Stored>> {
        let mut then = BTreeMap::new();
        for event in self.since(revision) {
            then.entry(&*event.key).or_insert(event.before.as_ref());
        }
        then
    }
}
