//! What trimming does to the index: entries that lie elsewhere now, segments whose rest is lost.

use super::{Index, SegmentId};
use crate::{api::SpecDigest, journal::wal::format::Place};

impl Index {
    pub(in crate::journal::wal) fn move_record(
        &mut self,
        number: u32,
        position: u64,
        from: Place,
        to: Place,
    ) {
        let slot = self
            .ingestor(number)
            .and_then(|ingestor| ingestor.queue.get(position).copied());
        if let Some(slot) = slot.filter(|slot| slot.place() == from) {
            self.relocate_record(number, position, &slot, to);
        }
    }

    pub(in crate::journal::wal) fn move_key(&mut self, position: u64, from: Place, to: Place) {
        if let Some(key) = self
            .keys
            .by_position(position)
            .copied()
            .filter(|key| key.place() == from)
        {
            self.lose(from.segment, key.size);
            self.gain(to.segment, key.size);
            self.keys.relocate(position, to);
        }
    }

    pub(in crate::journal::wal) fn move_letter(&mut self, position: u64, from: Place, to: Place) {
        let Some(letters) = self
            .letters
            .get_mut(&position)
            .filter(|letters| letters.place == from)
        else {
            return;
        };
        letters.place = to;
        self.letter_bytes =
            (self.letter_bytes + u64::from(to.len)).saturating_sub(u64::from(from.len));
        self.lose(from.segment, from.len);
        self.gain(to.segment, to.len);
    }

    pub(in crate::journal::wal) fn move_spec(
        &mut self,
        digest: &SpecDigest,
        from: Place,
        to: Place,
    ) {
        let spec = self
            .spec_number(digest)
            .and_then(|number| self.spec_mut(number));
        if let Some(spec) = spec.filter(|spec| spec.place == from) {
            spec.place = to;
            self.lose(from.segment, from.len);
            self.gain(to.segment, to.len);
        }
    }

    /// A segment was read whole, and what is still in it could not be read: it is lost. Says how much.
    pub(in crate::journal::wal) fn lose_segment(&mut self, segment: SegmentId) -> usize {
        let mut lost = 0;
        let mut records = Vec::new();
        for (number, ingestor) in (0..).zip(&self.ingestors) {
            let gone = ingestor
                .queue
                .after(None)
                .filter(|slot| slot.place().segment == segment);
            records.extend(gone.map(|slot| (number, slot.position)));
        }
        for (number, position) in records {
            self.damage(number, position);
            lost += 1;
        }
        let keys: Vec<u64> = self.keys.positions_in(segment);
        for position in keys {
            if let Some(key) = self.keys.lose(position) {
                self.key_left(&key);
                lost += 1;
            }
        }
        let gone = self
            .letters
            .iter()
            .filter(|(_, letters)| letters.place.segment == segment);
        let letters: Vec<u64> = gone.map(|(position, _)| *position).collect();
        for position in letters {
            self.drop_letter(position);
            lost += 1;
        }
        // A spec's text is in memory; only its place on disk is gone, until it is put again.
        lost
    }
}
