//! Records that the window passes over: pure.
//!
//! A name that is held keeps its first record here; what comes behind it would fill the window and
//! stop all other names. So when room is needed it goes back to the journal, and later records of
//! that name aren't admitted. Nothing overtakes within a name: a record that is passed over takes all
//! its names along. When a held name goes on, the journal is asked again from the first of them.

use std::{collections::HashSet, sync::Arc};

use crate::journal::Position;

use super::{Verdict, Window};

/// What the window passes over.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Names that are held; one that goes on lets all in again.
    held: HashSet<Arc<str>>,
    /// Names that share a record with one of those.
    along: HashSet<Arc<str>>,
    records: usize,
    first: Option<Position>,
}

impl Passed {
    /// Whether a record of these items is to be passed over; if so, it is noted.
    pub(super) fn takes(&mut self, position: Position, items: &[Verdict]) -> bool {
        if self.first.is_none() {
            return false;
        }
        let names = items.iter().filter_map(|verdict| match verdict {
            Verdict::Write(item) => Some(item.name.as_str()),
            Verdict::Filtered { .. } | Verdict::Dead(_) => None,
        });
        let known = |name: &str| self.held.contains(name) || self.along.contains(name);
        if !names.clone().any(known) {
            return false;
        }
        for name in names {
            if !self.held.contains(name) && !self.along.contains(name) {
                self.along.insert(Arc::from(name));
            }
        }
        self.note(position);
        true
    }

    fn note(&mut self, position: Position) {
        self.records += 1;
        self.first = Some(self.first.map_or(position, |first| first.min(position)));
    }
}

impl Window {
    /// Lets go of what waits behind the first record of each name that is `held`; true if that was
    /// something. A record that has items of several names stays, with what comes before it.
    pub fn pass_over(&mut self, held: impl Fn(&str) -> bool) -> bool {
        let before = self.passed.records;
        let lanes = self.lanes.iter();
        let long = lanes.filter(|(name, lane)| lane.waiting.len() > 1 && held(name));
        let names: Vec<_> = long.map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.shorten(&name);
        }
        self.passed.records > before
    }

    fn shorten(&mut self, name: &Arc<str>) {
        while let Some(lane) = self
            .lanes
            .get_mut(name)
            .filter(|lane| lane.waiting.len() > 1)
        {
            let Some(last) = lane.waiting.back() else {
                return;
            };
            let position = last.id.record.position;
            let alone = self.records.get(&position).map(|open| open.writes == 1);
            if alone != Some(true) {
                return;
            }
            lane.waiting.pop_back();
            self.forget(position);
            self.passed.note(position);
            self.passed.held.insert(Arc::clone(name));
        }
    }

    /// A write of `name` came to an end. If it was one of the names for which records were passed
    /// over, none is any more: the position of the first, from which they are to be fetched again.
    pub fn let_in(&mut self, name: &str) -> Option<Position> {
        if !self.passed.held.contains(name) {
            return None;
        }
        std::mem::take(&mut self.passed).first
    }

    /// How many records are passed over.
    #[must_use]
    pub const fn passed_over(&self) -> usize {
        self.passed.records
    }

    /// How many names with items in the window are `held`.
    pub fn held(&self, held: impl Fn(&str) -> bool) -> usize {
        self.lanes.keys().filter(|name| held(name)).count()
    }
}
