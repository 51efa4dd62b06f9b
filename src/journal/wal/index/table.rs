//! What a large index is made of, so that it grows a little at a time: whoever appends while one
//! table of hundreds of thousands is hashed anew waits for all of it, some 80 ms.

use std::array;

use hashbrown::HashTable;

/// Parts of a table. A part of a full index (a million keys) holds some 3,900: it is hashed anew in
/// about a millisecond at the most, and the parts reach their limits one after the other.
const PARTS: usize = 256;

/// A hash table of slot numbers in [`PARTS`] parts; hashes are given, as in [`HashTable`].
#[derive(Debug)]
pub(super) struct Table {
    parts: Box<[HashTable<u32>; PARTS]>,
    len: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            parts: Box::new(array::from_fn(|_| HashTable::new())),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The part of a hash, by bits of which a part itself uses none: it takes the lowest for the
    /// place and the highest seven for the tag.
    fn part(hash: u64) -> usize {
        usize::try_from(hash >> 40).unwrap_or_default() % PARTS
    }

    pub(super) fn find(&self, hash: u64, is: impl FnMut(&u32) -> bool) -> Option<u32> {
        self.parts.get(Self::part(hash))?.find(hash, is).copied()
    }

    /// Adds one that is not there; `rehash` gives the hash of another one.
    pub(super) fn insert(&mut self, hash: u64, index: u32, rehash: impl Fn(&u32) -> u64) {
        if let Some(part) = self.parts.get_mut(Self::part(hash)) {
            part.insert_unique(hash, index, rehash);
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, hash: u64, index: u32) {
        let part = self.parts.get_mut(Self::part(hash));
        if let Some(Ok(found)) = part.map(|part| part.find_entry(hash, |other| *other == index)) {
            found.remove();
            self.len -= 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &u32> {
        self.parts.iter().flat_map(HashTable::iter)
    }
}

/// A list that is only added to, in chunks that never move.
#[derive(Debug)]
pub(super) struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Chunks<T> {
    /// Entries of a chunk: for a key's slot of 104 bytes, 416 KiB.
    const LEN: usize = 4_096;

    pub(super) fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let index = usize::try_from(index).ok()?;
        self.chunks.get(index / Self::LEN)?.get(index % Self::LEN)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = usize::try_from(index).ok()?;
        let chunk = self.chunks.get_mut(index / Self::LEN)?;
        chunk.get_mut(index % Self::LEN)
    }

    /// Adds one and gives its index.
    pub(super) fn push(&mut self, item: T) -> usize {
        let full = |chunk: &Vec<T>| chunk.len() == Self::LEN;
        if self.chunks.last().is_none_or(full) {
            self.chunks.push(Vec::with_capacity(Self::LEN));
        }
        let before = (self.chunks.len() - 1) * Self::LEN;
        self.chunks.last_mut().map_or(before, |chunk| {
            chunk.push(item);
            before + chunk.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Spreads as a good hash does.
    fn hash(index: u32) -> u64 {
        u64::from(index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn what_was_added_is_found_until_it_is_removed() {
        let mut table = Table::new();
        for index in 0..10_000 {
            table.insert(hash(index), index, |other| hash(*other));
        }
        for index in (0..10_000).step_by(2) {
            table.remove(hash(index), index);
            table.remove(hash(index), index);
        }
        assert_eq!(table.len(), 5_000);
        for index in 0..10_000 {
            let found = table.find(hash(index), |other| *other == index);
            assert_eq!(found, (index % 2 == 1).then_some(index));
        }
        let left: BTreeSet<u32> = table.iter().copied().collect();
        assert_eq!(left, (1..10_000).step_by(2).collect());
    }

    #[test]
    fn no_part_holds_more_than_its_share() {
        let mut table = Table::new();
        for index in 0..100_000 {
            table.insert(hash(index), index, |other| hash(*other));
        }
        let most = table.parts.iter().map(HashTable::len).max().unwrap();
        assert!(most < 2 * 100_000 / PARTS, "{most}");
    }

    #[test]
    fn chunks_count_on() {
        let mut chunks = Chunks::new();
        for number in 0..10_000_usize {
            assert_eq!(chunks.push(number), number);
        }
        assert_eq!(chunks.get(4_096), Some(&4_096));
        *chunks.get_mut(9_999).unwrap() = 7;
        assert_eq!(chunks.get(9_999), Some(&7));
        assert_eq!(chunks.get(10_000), None);
        assert_eq!(chunks.get(u32::MAX), None);
    }
}
