//! Remembered idempotency keys: found by hash and by position, forgotten in order of acceptance.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
};

use super::table::{Chunks, Table};
use crate::journal::{
    End, Items, KeyHash, Millis,
    wal::{
        entry,
        format::{Place, SegmentId},
    },
};

const NONE: u32 = u32::MAX;

/// What is known of a key. The event id and the spec lie on disk, at `place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal::wal) struct KeySlot {
    pub(in crate::journal::wal) hash: KeyHash,
    /// Half of the payload's digest: finding another payload with the same half takes 2^128 tries.
    pub(in crate::journal::wal) payload: [u8; 16],
    pub(in crate::journal::wal) position: u64,
    pub(in crate::journal::wal) accepted_at: Millis,
    pub(in crate::journal::wal) expires_at: Millis,
    pub(in crate::journal::wal) ingestor: u32,
    segment: SegmentId,
    offset: u32,
    len: u32,
    /// Bytes that it costs once its record is gone.
    pub(in crate::journal::wal) size: u32,
    /// An [`End`]'s code; 255: none yet.
    end: u8,
    prev: u32,
    next: u32,
}

impl KeySlot {
    pub(in crate::journal::wal) fn place(&self) -> Place {
        Place {
            segment: self.segment,
            offset: self.offset,
            len: self.len,
        }
    }

    /// Whether its record has ended, so that the entry at `place` is kept for the key alone.
    pub(in crate::journal::wal) fn alone(&self) -> bool {
        self.end != 255
    }
}

/// A key to be remembered.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal::wal) struct NewKey {
    pub(in crate::journal::wal) hash: KeyHash,
    pub(in crate::journal::wal) payload: [u8; 16],
    pub(in crate::journal::wal) position: u64,
    pub(in crate::journal::wal) accepted_at: Millis,
    pub(in crate::journal::wal) window: u64,
    pub(in crate::journal::wal) ingestor: u32,
    pub(in crate::journal::wal) place: Place,
    pub(in crate::journal::wal) size: u32,
    pub(in crate::journal::wal) end: Option<(End, Items)>,
}

/// The keys of one Ingestor, oldest first, as a list through the slots.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    count: u32,
}

/// See the module.
#[derive(Debug)]
pub(in crate::journal::wal) struct Keys {
    slots: Chunks<KeySlot>,
    free: Vec<u32>,
    by_hash: Table,
    by_position: Table,
    hasher: RandomState,
    lists: HashMap<u32, List>,
    /// Holders by count, so that the largest is the last.
    largest: BTreeSet<(u32, u32)>,
    /// Items of records that had other than one.
    items: HashMap<u64, Items>,
    per_ingestor: usize,
    total: usize,
    pub(in crate::journal::wal) evicted: u64,
}

impl Keys {
    pub(in crate::journal::wal) fn new(total: usize, per_ingestor: usize) -> Self {
        Self {
            slots: Chunks::new(),
            free: Vec::new(),
            by_hash: Table::new(),
            by_position: Table::new(),
            hasher: RandomState::new(),
            lists: HashMap::new(),
            largest: BTreeSet::new(),
            items: HashMap::new(),
            per_ingestor,
            total,
            evicted: 0,
        }
    }

    pub(in crate::journal::wal) fn len(&self) -> usize {
        self.by_hash.len()
    }

    fn hash_of(&self, ingestor: u32, hash: &KeyHash) -> u64 {
        self.hasher.hash_one((ingestor, hash.0))
    }

    fn slot(&self, index: u32) -> Option<&KeySlot> {
        self.slots.get(index)
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut KeySlot> {
        self.slots.get_mut(index)
    }

    fn find(&self, ingestor: u32, hash: &KeyHash) -> Option<u32> {
        self.by_hash.find(self.hash_of(ingestor, hash), |index| {
            self.slot(*index)
                .is_some_and(|slot| slot.hash == *hash && slot.ingestor == ingestor)
        })
    }

    fn find_position(&self, position: u64) -> Option<u32> {
        self.by_position
            .find(self.hasher.hash_one(position), |index| {
                self.slot(*index)
                    .is_some_and(|slot| slot.position == position)
            })
    }

    /// The key, if it is remembered and its window is not over.
    pub(in crate::journal::wal) fn get(
        &self,
        ingestor: u32,
        hash: &KeyHash,
        now: Millis,
    ) -> Option<&KeySlot> {
        self.slot(self.find(ingestor, hash)?)
            .filter(|slot| slot.expires_at > now)
    }

    pub(in crate::journal::wal) fn by_position(&self, position: u64) -> Option<&KeySlot> {
        self.slot(self.find_position(position)?)
    }

    /// The end of a record whose key is remembered.
    pub(in crate::journal::wal) fn end_of(&self, position: u64) -> Option<(End, Items)> {
        let end = entry::end_of(self.by_position(position)?.end)?;
        Some((
            end,
            self.items
                .get(&position)
                .copied()
                .unwrap_or_else(|| entry::single(end)),
        ))
    }

    /// Remembers a key. A slot that is returned has left: an expired one of the same hash.
    pub(in crate::journal::wal) fn insert(&mut self, key: &NewKey) -> Option<KeySlot> {
        let before = self.find(key.ingestor, &key.hash);
        // While a log is read, an older key may be met after the one that took its place.
        if before
            .and_then(|index| self.slot(index))
            .is_some_and(|slot| slot.position >= key.position)
        {
            return None;
        }
        let left = before.and_then(|index| self.remove(index));
        let slot = KeySlot {
            hash: key.hash,
            payload: key.payload,
            position: key.position,
            accepted_at: key.accepted_at,
            expires_at: Millis(
                key.accepted_at
                    .0
                    .saturating_add(i64::try_from(key.window).unwrap_or(i64::MAX)),
            ),
            ingestor: key.ingestor,
            segment: key.place.segment,
            offset: key.place.offset,
            len: key.place.len,
            size: key.size,
            end: 255,
            prev: NONE,
            next: NONE,
        };
        let index = self.store(slot);
        let hashed = self.hash_of(key.ingestor, &key.hash);
        let Self {
            by_hash,
            by_position,
            hasher,
            slots,
            ..
        } = self;
        by_hash.insert(hashed, index, |index| {
            slots
                .get(*index)
                .map_or(0, |slot| hasher.hash_one((slot.ingestor, slot.hash.0)))
        });
        by_position.insert(hasher.hash_one(key.position), index, |index| {
            slots
                .get(*index)
                .map_or(0, |slot| hasher.hash_one(slot.position))
        });
        self.link(index, key.ingestor);
        if let Some((end, items)) = key.end {
            self.set_end(key.position, end, items);
        }
        left
    }

    fn store(&mut self, slot: KeySlot) -> u32 {
        if let Some(index) = self.free.pop() {
            if let Some(place) = self.slot_mut(index) {
                *place = slot;
            }
            return index;
        }
        u32::try_from(self.slots.push(slot)).unwrap_or(NONE)
    }

    fn link(&mut self, index: u32, ingestor: u32) {
        let mut list = self.lists.get(&ingestor).copied().unwrap_or(List {
            head: NONE,
            tail: NONE,
            count: 0,
        });
        self.largest.remove(&(list.count, ingestor));
        let tail = list.tail;
        if let Some(slot) = self.slot_mut(index) {
            (slot.prev, slot.next) = (tail, NONE);
        }
        match self.slot_mut(tail) {
            Some(last) => last.next = index,
            None => list.head = index,
        }
        list.tail = index;
        list.count += 1;
        self.largest.insert((list.count, ingestor));
        self.lists.insert(ingestor, list);
    }

    fn remove(&mut self, index: u32) -> Option<KeySlot> {
        let slot = *self.slot(index)?;
        let hashed = self.hash_of(slot.ingestor, &slot.hash);
        self.by_hash.remove(hashed, index);
        let placed = self.hasher.hash_one(slot.position);
        self.by_position.remove(placed, index);
        self.items.remove(&slot.position);
        if let Some(prev) = self.slot_mut(slot.prev) {
            prev.next = slot.next;
        }
        if let Some(next) = self.slot_mut(slot.next) {
            next.prev = slot.prev;
        }
        if let Some(list) = self.lists.get_mut(&slot.ingestor) {
            self.largest.remove(&(list.count, slot.ingestor));
            if list.head == index {
                list.head = slot.next;
            }
            if list.tail == index {
                list.tail = slot.prev;
            }
            list.count -= 1;
            if list.count == 0 {
                self.lists.remove(&slot.ingestor);
            } else {
                self.largest.insert((list.count, slot.ingestor));
            }
        }
        self.free.push(index);
        Some(slot)
    }

    /// The record's end came; from now on its entry is kept for the key alone.
    pub(in crate::journal::wal) fn set_end(
        &mut self,
        position: u64,
        end: End,
        items: Items,
    ) -> Option<KeySlot> {
        let index = self.find_position(position)?;
        let slot = self.slot_mut(index)?;
        slot.end = entry::end_code(end);
        let slot = *slot;
        if items != entry::single(end) {
            self.items.insert(position, items);
        }
        Some(slot)
    }

    /// The record can't be read any more, and its key with it.
    pub(in crate::journal::wal) fn lose(&mut self, position: u64) -> Option<KeySlot> {
        self.remove(self.find_position(position)?)
    }

    pub(in crate::journal::wal) fn relocate(&mut self, position: u64, place: Place) {
        if let Some(slot) = self
            .find_position(position)
            .and_then(|index| self.slot_mut(index))
        {
            (slot.segment, slot.offset, slot.len) = (place.segment, place.offset, place.len);
        }
    }

    /// One key that must leave because there are too many: the oldest of `ingestor` above its quarter,
    /// else the oldest of the largest holder.
    pub(in crate::journal::wal) fn evict(&mut self, ingestor: u32) -> Option<KeySlot> {
        let own = self.lists.get(&ingestor).map_or(0, |list| list.count);
        let holder = if usize::try_from(own).unwrap_or(usize::MAX) > self.per_ingestor {
            ingestor
        } else if self.len() > self.total {
            self.largest.last()?.1
        } else {
            return None;
        };
        let head = self.lists.get(&holder)?.head;
        let left = self.remove(head)?;
        self.evicted += 1;
        Some(left)
    }

    /// One key of `ingestor` whose window is over.
    pub(in crate::journal::wal) fn expire(
        &mut self,
        ingestor: u32,
        now: Millis,
    ) -> Option<KeySlot> {
        let head = self.lists.get(&ingestor)?.head;
        if self.slot(head)?.expires_at > now {
            return None;
        }
        self.remove(head)
    }

    /// One key of an Ingestor that is gone.
    pub(in crate::journal::wal) fn drop_one(&mut self, ingestor: u32) -> Option<KeySlot> {
        let head = self.lists.get(&ingestor)?.head;
        self.remove(head)
    }

    pub(in crate::journal::wal) fn holders(&self) -> Vec<u32> {
        self.lists.keys().copied().collect()
    }

    /// Positions of the keys whose entry lies in `segment`.
    pub(in crate::journal::wal) fn positions_in(&self, segment: SegmentId) -> Vec<u64> {
        let slots = self.by_hash.iter().filter_map(|index| self.slot(*index));
        slots
            .filter(|slot| slot.segment == segment)
            .map(|slot| slot.position)
            .collect()
    }

    pub(in crate::journal::wal) fn oldest(&self) -> Option<Millis> {
        self.lists
            .values()
            .filter_map(|list| Some(self.slot(list.head)?.accepted_at))
            .min()
    }

    /// Orders every list by position, once a log has been read.
    pub(in crate::journal::wal) fn settle(&mut self) {
        let mut all: Vec<(u32, u64, u32)> = Vec::with_capacity(self.len());
        all.extend(self.by_hash.iter().filter_map(|index| {
            let slot = self.slot(*index)?;
            Some((slot.ingestor, slot.position, *index))
        }));
        all.sort_unstable();
        self.lists.clear();
        self.largest.clear();
        for (ingestor, _, index) in all {
            self.link(index, ingestor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(position: u64, ingestor: u32, accepted_at: i64) -> NewKey {
        NewKey {
            hash: KeyHash(u128::from(position).to_le_bytes()),
            payload: [0; 16],
            position,
            accepted_at: Millis(accepted_at),
            window: 100,
            ingestor,
            place: Place {
                segment: 1,
                offset: 0,
                len: 50,
            },
            size: 50,
            end: None,
        }
    }

    #[test]
    fn the_oldest_of_the_largest_holder_leaves() {
        let mut keys = Keys::new(5, 4);
        for position in 1..=3 {
            keys.insert(&key(position, 0, 0));
        }
        for position in 4..=6 {
            keys.insert(&key(position, 1, 0));
        }
        keys.insert(&key(7, 1, 0));
        let left: Vec<u64> = std::iter::from_fn(|| keys.evict(1))
            .map(|slot| slot.position)
            .collect();
        assert_eq!(left, [4, 5]);
        assert_eq!((keys.len(), keys.evicted), (5, 2));
    }

    #[test]
    fn nobody_holds_more_than_a_quarter() {
        let mut keys = Keys::new(100, 2);
        for position in 1..=3 {
            keys.insert(&key(position, 0, 0));
        }
        assert_eq!(keys.evict(0).map(|slot| slot.position), Some(1));
        assert_eq!(keys.evict(0), None);
    }

    #[test]
    fn a_key_is_known_until_its_window_is_over_and_then_makes_room() {
        let mut keys = Keys::new(10, 10);
        keys.insert(&key(1, 0, 1000));
        let hash = key(1, 0, 0).hash;
        assert!(keys.get(0, &hash, Millis(1099)).is_some());
        assert!(keys.get(0, &hash, Millis(1100)).is_none(), "expired");
        assert!(
            keys.get(1, &hash, Millis(1000)).is_none(),
            "another Ingestor's"
        );
        let newer = NewKey {
            hash,
            ..key(2, 0, 2000)
        };
        assert_eq!(keys.insert(&newer).map(|slot| slot.position), Some(1));
        assert_eq!(
            keys.get(0, &hash, Millis(2000)).map(|slot| slot.position),
            Some(2)
        );
        assert!(keys.by_position(1).is_none());
        assert_eq!(
            keys.expire(0, Millis(2100)).map(|slot| slot.position),
            Some(2)
        );
        assert_eq!(keys.len(), 0);
    }

    #[test]
    fn an_end_is_known_as_long_as_the_key() {
        let mut keys = Keys::new(10, 10);
        keys.insert(&key(1, 0, 0));
        assert_eq!(keys.end_of(1), None);
        let items = Items {
            observed: 3,
            filtered: 1,
            ..Items::default()
        };
        keys.set_end(1, End::Observed, items);
        assert_eq!(keys.end_of(1), Some((End::Observed, items)));
    }
}
