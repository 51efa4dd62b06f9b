//! Dead letters, bounded by bytes and by age: the oldest leave first.

use super::{Index, Letters, count};
use crate::journal::{LetterId, Millis};

impl Index {
    /// A dead-lettered record is in the log. One that `carried` was counted before.
    pub(in crate::journal::wal) fn letter(&mut self, position: u64, letters: Letters) {
        let number = letters.ingestor;
        let place = letters.place;
        let old = self.letters.remove(&position);
        if let Some(old) = &old {
            self.letter_order.remove(&(old.at, position));
            self.letter_left(old);
        }
        self.letter_bytes += u64::from(place.len);
        self.letter_count += count(letters.items.len());
        self.gain(place.segment, place.len);
        if let Some(ingestor) = self.ingestor_mut(number) {
            ingestor.letters += 1;
        }
        self.letter_order.insert((letters.at, position));
        self.letters.insert(position, letters);
    }

    fn letter_left(&mut self, letters: &Letters) {
        self.letter_bytes = self
            .letter_bytes
            .saturating_sub(u64::from(letters.place.len));
        self.letter_count = self.letter_count.saturating_sub(count(letters.items.len()));
        self.lose(letters.place.segment, letters.place.len);
        if let Some(ingestor) = self.ingestor_mut(letters.ingestor) {
            ingestor.letters = ingestor.letters.saturating_sub(1);
        }
    }

    /// Lets the oldest dead letters leave that are too many or too old.
    pub(in crate::journal::wal) fn bound_letters(&mut self, now: Millis) {
        while let Some((at, position)) = self.letter_order.first().copied() {
            let old = now.0.saturating_sub(at.0) > self.letter_age;
            if !old && self.letter_bytes <= self.letter_limit {
                return;
            }
            if let Some(letters) = self.letters.get(&position) {
                self.letters_evicted += count(letters.items.len());
            }
            self.letter_order.pop_first();
            self.drop_letter(position);
        }
    }

    pub(super) fn drop_letter(&mut self, position: u64) {
        if let Some(letters) = self.letters.remove(&position) {
            self.letter_order.remove(&(letters.at, position));
            self.letter_left(&letters);
        }
    }

    pub(in crate::journal::wal) fn mark_replayed(&mut self, id: LetterId) {
        if id.record.log != self.log {
            return;
        }
        if let Some(letters) = self.letters.get_mut(&id.record.position.0) {
            for (index, replayed) in &mut letters.items {
                *replayed |= *index == id.index;
            }
        }
    }
}
