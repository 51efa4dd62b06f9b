//! The uncommitted records of one Ingestor, in order.

use std::collections::{BTreeMap, VecDeque};

use crate::journal::{
    Millis,
    wal::format::{Place, SegmentId},
};

/// A record without an end. 32 bytes: eight million of them, a full journal of 1 KiB records, are 256 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal::wal) struct Slot {
    pub(in crate::journal::wal) position: u64,
    pub(in crate::journal::wal) accepted_at: Millis,
    segment: SegmentId,
    offset: u32,
    /// 0: it has ended; real entries are longer than their header.
    len: u32,
    pub(in crate::journal::wal) spec: u32,
}

impl Slot {
    pub(in crate::journal::wal) fn new(
        position: u64,
        accepted_at: Millis,
        place: Place,
        spec: u32,
    ) -> Self {
        Self {
            position,
            accepted_at,
            segment: place.segment,
            offset: place.offset,
            len: place.len,
            spec,
        }
    }

    pub(in crate::journal::wal) fn place(&self) -> Place {
        Place {
            segment: self.segment,
            offset: self.offset,
            len: self.len,
        }
    }

    fn move_to(&mut self, place: Place) {
        (self.segment, self.offset, self.len) = (place.segment, place.offset, place.len);
    }
}

/// See the module. Everything but [`Queue::settle`] is amortised O(1) near the front, O(log n) elsewhere.
#[derive(Debug, Default)]
pub(in crate::journal::wal) struct Queue {
    /// By position; some have ended, never the first.
    slots: VecDeque<Slot>,
    live: usize,
    /// Records that trimming wrote again, met out of order while a log is read; empty otherwise.
    late: BTreeMap<u64, Slot>,
    /// Earliest acceptance, while it is known.
    oldest: Option<Millis>,
}

impl Queue {
    pub(in crate::journal::wal) fn len(&self) -> usize {
        self.live + self.late.len()
    }

    pub(in crate::journal::wal) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(in crate::journal::wal) fn push(&mut self, slot: Slot) {
        if self
            .slots
            .back()
            .is_some_and(|last| last.position >= slot.position)
        {
            self.late.insert(slot.position, slot);
            return;
        }
        if self.live == 0 {
            self.oldest = Some(slot.accepted_at);
        } else {
            self.oldest = self.oldest.map(|oldest| oldest.min(slot.accepted_at));
        }
        self.slots.push_back(slot);
        self.live += 1;
    }

    fn index(&self, position: u64) -> Option<usize> {
        let first = self.slots.front()?;
        let index = if first.position == position {
            0
        } else {
            self.slots
                .binary_search_by_key(&position, |slot| slot.position)
                .ok()?
        };
        self.slots
            .get(index)
            .filter(|slot| slot.len != 0)
            .map(|_| index)
    }

    pub(in crate::journal::wal) fn get(&self, position: u64) -> Option<&Slot> {
        match self.index(position) {
            Some(index) => self.slots.get(index),
            None => self.late.get(&position),
        }
    }

    pub(in crate::journal::wal) fn relocate(&mut self, position: u64, place: Place) {
        let slot = match self.index(position) {
            Some(index) => self.slots.get_mut(index),
            None => self.late.get_mut(&position),
        };
        if let Some(slot) = slot {
            slot.move_to(place);
        }
    }

    /// Takes a record out; `None`: it has ended, or never was here.
    pub(in crate::journal::wal) fn end(&mut self, position: u64) -> Option<Slot> {
        let Some(index) = self.index(position) else {
            return self.late.remove(&position);
        };
        let slot = self.slots.get_mut(index)?;
        let ended = *slot;
        slot.len = 0;
        self.live -= 1;
        if self
            .oldest
            .is_some_and(|oldest| oldest >= ended.accepted_at)
        {
            self.oldest = None;
        }
        while self.slots.front().is_some_and(|slot| slot.len == 0) {
            self.slots.pop_front();
        }
        // Ended ones behind a record that is held must not pile up.
        if self.slots.len() > 64 && self.slots.len() / 2 > self.live {
            self.slots.retain(|slot| slot.len != 0);
        }
        if self.slots.capacity() > 1024 && self.slots.len() < self.slots.capacity() / 8 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
        Some(ended)
    }

    /// Records behind `after`, oldest first.
    pub(in crate::journal::wal) fn after(&self, after: Option<u64>) -> impl Iterator<Item = &Slot> {
        let from = after.map_or(0, |after| {
            self.slots.partition_point(|slot| slot.position <= after)
        });
        self.slots.range(from..).filter(|slot| slot.len != 0)
    }

    /// The earliest time of acceptance; a replayed letter may be older than what lies before it.
    pub(in crate::journal::wal) fn oldest(&mut self) -> Option<Millis> {
        if self.oldest.is_none() {
            self.oldest = self.after(None).map(|slot| slot.accepted_at).min();
        }
        self.oldest
    }

    /// Puts what was met out of order into its place, once a log has been read.
    pub(in crate::journal::wal) fn settle(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let mut all: Vec<Slot> = self
            .slots
            .iter()
            .copied()
            .filter(|slot| slot.len != 0)
            .collect();
        all.extend(std::mem::take(&mut self.late).into_values());
        all.sort_unstable_by_key(|slot| slot.position);
        self.live = all.len();
        self.slots = all.into();
        self.oldest = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(position: u64) -> Slot {
        let place = Place {
            segment: 1,
            offset: 0,
            len: 100,
        };
        Slot::new(position, Millis(i64::try_from(position).unwrap()), place, 0)
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(steps in proptest::collection::vec((0_u64..200, any::<bool>()), 0..300)) {
            let (mut queue, mut model) = (Queue::default(), BTreeMap::new());
            for (position, push) in steps {
                if push && !model.contains_key(&position) {
                    queue.push(slot(position));
                    model.insert(position, ());
                } else if !push {
                    prop_assert_eq!(queue.end(position).is_some(), model.remove(&position).is_some());
                }
                prop_assert_eq!(queue.len(), model.len());
                // Ended slots may only be pushed again once they have left; a log never does.
                queue.settle();
            }
            let seen: Vec<u64> = queue.after(None).map(|slot| slot.position).collect();
            let expected: Vec<u64> = model.keys().copied().collect();
            prop_assert_eq!(&seen, &expected);
            prop_assert_eq!(queue.oldest().map(|at| at.0.unsigned_abs()), expected.first().copied());
            let behind: Vec<u64> = queue.after(Some(100)).map(|slot| slot.position).collect();
            let expected: Vec<u64> = model.keys().copied().filter(|p| *p > 100).collect();
            prop_assert_eq!(behind, expected);
        }
    }
}
