//! Decision specs: their texts, which records name them, which is in force.

use std::sync::Arc;

use super::{Index, Spec};
use crate::{
    api::SpecDigest,
    journal::{Millis, wal::format::Place},
};

impl Index {
    pub(in crate::journal::wal) fn spec(&self, digest: &SpecDigest) -> Option<&Spec> {
        let number = usize::try_from(*self.spec_numbers.get(digest)?).ok()?;
        self.specs.get(number)?.as_ref()
    }

    pub(in crate::journal::wal) fn spec_mut(&mut self, number: u32) -> Option<&mut Spec> {
        self.specs.get_mut(usize::try_from(number).ok()?)?.as_mut()
    }

    pub(in crate::journal::wal) fn spec_number(&self, digest: &SpecDigest) -> Option<u32> {
        self.spec_numbers.get(digest).copied()
    }

    pub(super) fn hold_spec(&mut self, digest: SpecDigest) -> u32 {
        let number = self.spec_numbers.get(&digest).copied().unwrap_or_else(|| {
            // Its text lies further on in a log that is read, or was lost: the place stays empty.
            self.add_spec(Spec {
                digest,
                text: "".into(),
                place: Place {
                    segment: 0,
                    offset: 0,
                    len: 0,
                },
                ingestor: 0,
                records: 0,
                in_force: 0,
                last_used: Millis(i64::MAX),
            })
        });
        if let Some(spec) = self.spec_mut(number) {
            spec.records += 1;
        }
        number
    }

    fn add_spec(&mut self, spec: Spec) -> u32 {
        let free = self.specs.iter().position(Option::is_none);
        let index = free.unwrap_or(self.specs.len());
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        self.spec_numbers.insert(spec.digest, number);
        match self.specs.get_mut(index) {
            Some(place) => *place = Some(spec),
            None => self.specs.push(Some(spec)),
        }
        number
    }

    /// A spec's text is in the log.
    pub(in crate::journal::wal) fn put_spec(
        &mut self,
        ingestor: u32,
        digest: SpecDigest,
        text: Arc<str>,
        place: Place,
        now: Millis,
    ) {
        let number = self.spec_numbers.get(&digest).copied().unwrap_or_else(|| {
            self.add_spec(Spec {
                digest,
                text: "".into(),
                place: Place {
                    segment: 0,
                    offset: 0,
                    len: 0,
                },
                ingestor,
                records: 0,
                in_force: 0,
                last_used: now,
            })
        });
        let Some(spec) = self.spec_mut(number) else {
            return;
        };
        let before = spec.place;
        (spec.text, spec.place, spec.ingestor, spec.last_used) = (text, place, ingestor, now);
        if before.len > 0 {
            self.lose(before.segment, before.len);
        }
        self.gain(place.segment, place.len);
    }

    /// A spec is in force for an Ingestor.
    pub(in crate::journal::wal) fn put_in_force(
        &mut self,
        number: u32,
        digest: Option<SpecDigest>,
        now: Millis,
    ) {
        let new = digest.and_then(|digest| self.spec_numbers.get(&digest).copied());
        let Some(ingestor) = self.ingestor_mut(number) else {
            return;
        };
        let old = std::mem::replace(&mut ingestor.in_force, new);
        if new.is_some() {
            ingestor.forgotten = false;
        }
        if let Some(spec) = new.and_then(|new| self.spec_mut(new)) {
            spec.in_force += 1;
        }
        if let Some(spec) = old.and_then(|old| self.spec_mut(old)) {
            spec.in_force = spec.in_force.saturating_sub(1);
            spec.last_used = now;
        }
    }

    /// The Ingestor is gone: its spec and keys may leave.
    pub(in crate::journal::wal) fn forget(&mut self, number: u32, now: Millis) {
        self.put_in_force(number, None, now);
        if let Some(ingestor) = self.ingestor_mut(number) {
            ingestor.forgotten = true;
        }
        while let Some(left) = self.keys.drop_one(number) {
            self.key_left(&left);
        }
    }
}
