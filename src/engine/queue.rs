//! The records of one Ingestor that are being worked on: pure.
//!
//! ```text
//!  record ──admit──▶ items, in one lane per Observation name ──take──▶ batch ──▶ API
//!                    lanes overlap, a lane keeps its order       ◀─finished── ends
//!  all items of a record have their end ──ended──▶ journal ──committed──▶ gone
//! ```

mod pass;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    mem,
    sync::Arc,
    time::Instant,
};

use crate::journal::{End, Ended, Items, Letter, Millis, PayloadDigest, Position, Record};

use self::pass::Passed;
use super::{
    aggregate::ItemId,
    pipeline::{DedupKind, Item, Verdict},
};

/// Where the Observations of an Ingestor are written. The namespace is the tenant: one that only has
/// the same name gets nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The namespace's name.
    pub namespace: Box<str>,
    /// Its UID when the spec was recorded.
    pub uid: Box<str>,
}

/// An item on its way to the API.
#[derive(Clone, Debug)]
pub struct Work {
    /// Which item.
    pub id: ItemId,
    /// When its event was accepted.
    pub accepted_at: Millis,
    /// SHA-256 of its event's body.
    pub payload: PayloadDigest,
    /// Where it is to be written.
    pub home: Arc<Home>,
    /// What is to be written.
    pub item: Arc<Item>,
}

/// Items of one name, in order, for one write.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The Observation's name.
    pub name: Arc<str>,
    /// At least one item; all meet the object in the same way, in the same place.
    pub items: Vec<Work>,
}

/// The end of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemEnd {
    /// It made the Observation.
    Observed,
    /// It is the same as another, or was added to another's Observation.
    Deduplicated,
    /// Retrying can't mend it.
    Dead(Letter),
}

/// The order in which lanes are served: by their oldest item, then by name.
type Place = (Position, u32, Arc<str>);

/// See the module's documentation. What it keeps is bounded by what is admitted.
#[derive(Debug, Default)]
pub struct Window {
    records: BTreeMap<Position, Open>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Lanes that may be taken, by the place of their first item.
    ready: BTreeSet<Place>,
    /// Lanes that wait for a time.
    asleep: BTreeSet<(Instant, Arc<str>)>,
    /// Records whose end is known and not yet handed out.
    ended: Vec<Ended>,
    passed: Passed,
    items: usize,
    bytes: usize,
    in_flight: usize,
}

/// A record without an end in the journal.
#[derive(Debug)]
struct Open {
    /// Items that are to be written, and those of them without an end.
    writes: usize,
    waiting: usize,
    bytes: usize,
    items: Items,
    letters: Vec<Letter>,
    observed: Option<Arc<str>>,
}

/// The items of one name.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Work>,
    state: LaneState,
    /// Written one by one, since a batch was refused and nobody knows for which item.
    singly: bool,
    /// It sleeps after a write, so that the next takes more along, and not because it must.
    gathers: bool,
    /// Later records wait until this one's end is in the journal: its item of this name was given
    /// up, and an aggregate that counts later items would cover it.
    behind: Option<Position>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LaneState {
    #[default]
    Ready,
    InFlight,
    Asleep(Instant),
    /// See [`Lane::behind`].
    Behind,
}

impl Window {
    /// Takes a record in with what was decided about it, which has about `bytes`, or passes over it;
    /// one that is in already is ignored.
    pub fn admit(
        &mut self,
        record: &Record,
        home: &Arc<Home>,
        verdicts: Vec<Verdict>,
        bytes: usize,
    ) {
        let position = record.id.position;
        if self.records.contains_key(&position) || self.passed.takes(position, &verdicts) {
            return;
        }
        let mut open = Open::new(bytes);
        for verdict in verdicts {
            match verdict {
                Verdict::Filtered { .. } => open.items.filtered += 1,
                Verdict::Dead(letter) => open.dead(letter),
                Verdict::Write(item) => {
                    open.writes += 1;
                    open.waiting += 1;
                    self.line_up(Work {
                        id: ItemId {
                            record: record.id,
                            index: item.index,
                        },
                        accepted_at: record.event.accepted_at,
                        payload: record.event.payload,
                        home: Arc::clone(home),
                        item: Arc::from(item),
                    });
                }
            }
        }
        self.items += open.writes;
        self.bytes += bytes;
        let over = open.waiting == 0;
        self.records.insert(position, open);
        if over {
            self.end(position);
        }
    }

    fn line_up(&mut self, work: Work) {
        let name: Arc<str> = Arc::from(work.item.name.as_str());
        let place = (work.id.record.position, work.id.index);
        let lane = self.lanes.entry(Arc::clone(&name)).or_default();
        if lane.waiting.is_empty() && lane.state == LaneState::Ready {
            self.ready.insert((place.0, place.1, name));
        }
        lane.waiting.push_back(work);
    }

    /// Takes the lane that waits longest and whose items may be written, at most `most` items.
    /// `rank` orders lanes before their age does; lower comes first.
    pub fn take(&mut self, now: Instant, most: usize, rank: impl Fn(&str) -> u32) -> Option<Batch> {
        self.wake(now);
        // With everything at rank 0, the usual case, the first is the one.
        let mut best: Option<(u32, &Place)> = None;
        for place in &self.ready {
            let rank = rank(&place.2);
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, place));
            }
            if rank == 0 {
                break;
            }
        }
        let place = best?.1.clone();
        self.ready.remove(&place);
        let name = place.2;
        let lane = self.lanes.get_mut(&name)?;
        let most = if lane.singly { 1 } else { most.max(1) };
        let first = lane.waiting.front()?;
        let (kind, home) = (kind(&first.item.dedup), Arc::clone(&first.home));
        let same = |work: &&Work| {
            let here = Arc::ptr_eq(&work.home, &home) || work.home == home;
            here && mem::discriminant(&work.item.dedup) == kind
        };
        let behind = lane.behind;
        let open = |work: &&Work| behind.is_none_or(|at| work.id.record.position <= at);
        let items: Vec<Work> = lane
            .waiting
            .iter()
            .take(most)
            .take_while(open)
            .take_while(same)
            .cloned()
            .collect();
        lane.waiting.drain(..items.len());
        lane.state = LaneState::InFlight;
        self.in_flight += 1;
        Some(Batch { name, items })
    }

    fn wake(&mut self, now: Instant) {
        while let Some((until, _)) = self.asleep.first()
            && *until <= now
        {
            if let Some((_, name)) = self.asleep.pop_first() {
                self.set_ready(&name);
            }
        }
    }

    /// A batch came back: `ends` for its first items, in order; the others wait again, in front.
    /// The lane sleeps until `until`, if given.
    pub fn finished(&mut self, batch: Batch, ends: Vec<ItemEnd>, until: Option<Instant>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Batch { name, mut items } = batch;
        let (mut behind, written) = (None, !ends.is_empty());
        let back = items.split_off(ends.len().min(items.len()));
        for (work, end) in items.into_iter().zip(ends) {
            let position = work.id.record.position;
            let counts = matches!(work.item.dedup, DedupKind::Aggregate { .. });
            if counts && matches!(end, ItemEnd::Dead(_)) {
                behind = Some(position);
            }
            self.item_ended(position, &name, end);
        }
        if let Some(lane) = self.lanes.get_mut(&name) {
            for work in back.into_iter().rev() {
                lane.waiting.push_front(work);
            }
            lane.state = LaneState::Ready;
            lane.gathers = written;
            lane.behind = lane.behind.max(behind);
        }
        match until {
            Some(until) => self.sleep(&name, until),
            None => self.set_ready(&name),
        }
    }

    /// From now on the lane's items are written one by one.
    pub fn singly(&mut self, name: &str) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.singly = true;
        }
    }

    /// Gives a batch back untried, to be taken at `until`.
    pub fn put_back(&mut self, batch: Batch, until: Instant) {
        self.finished(batch, Vec::new(), Some(until));
    }

    /// All lanes that wait for a time may be taken now.
    pub fn wake_all(&mut self) {
        for (_, name) in mem::take(&mut self.asleep) {
            self.set_ready(&name);
        }
    }

    /// Lanes that gather items for their next write may be taken now, where `enough` says so of how
    /// many wait.
    pub fn wake_gathered(&mut self, enough: impl Fn(usize) -> bool) {
        let ready = |name: &str| {
            let lane = self.lanes.get(name);
            lane.is_some_and(|lane| lane.gathers && enough(lane.waiting.len()))
        };
        let asleep = self.asleep.iter();
        let awake: Vec<_> = asleep.filter(|(_, name)| ready(name)).cloned().collect();
        for place in awake {
            self.asleep.remove(&place);
            self.set_ready(&place.1);
        }
    }

    fn sleep(&mut self, name: &Arc<str>, until: Instant) {
        self.set_state(name, LaneState::Asleep(until));
        if self.lanes.contains_key(name) {
            self.asleep.insert((until, Arc::clone(name)));
        }
    }

    fn set_ready(&mut self, name: &Arc<str>) {
        let Some(lane) = self.lanes.get_mut(name) else {
            return;
        };
        let first = lane.waiting.front().map(|work| work.id);
        lane.state = match (first, lane.behind) {
            (Some(first), Some(behind)) if first.record.position > behind => LaneState::Behind,
            // An empty lane stays while later records have to wait for it.
            (None, Some(_)) => LaneState::Behind,
            (Some(_) | None, _) => LaneState::Ready,
        };
        match first {
            Some(id) if lane.state == LaneState::Ready => {
                let place = (id.record.position, id.index, Arc::clone(name));
                self.ready.insert(place);
            }
            None if lane.behind.is_none() => drop(self.lanes.remove(name)),
            Some(_) | None => {}
        }
    }

    fn set_state(&mut self, name: &Arc<str>, state: LaneState) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.state = state;
        }
    }

    fn item_ended(&mut self, position: Position, name: &Arc<str>, end: ItemEnd) {
        let Some(open) = self.records.get_mut(&position) else {
            return;
        };
        open.waiting = open.waiting.saturating_sub(1);
        match end {
            ItemEnd::Observed => {
                open.items.observed += 1;
                open.observed = Some(Arc::clone(name));
            }
            ItemEnd::Deduplicated => open.items.deduplicated += 1,
            ItemEnd::Dead(letter) => open.dead(letter),
        }
        if open.waiting == 0 {
            self.end(position);
        }
    }

    fn end(&mut self, position: Position) {
        if let Some(open) = self.records.get_mut(&position) {
            self.ended.push(open.ended(position));
        }
    }

    /// Records that are to be committed; each is handed out once.
    #[must_use]
    pub fn ended(&mut self) -> Vec<Ended> {
        mem::take(&mut self.ended)
    }

    /// The journal has these ends.
    pub fn committed(&mut self, ends: &[Ended]) {
        let mut freed = BTreeSet::new();
        for end in ends {
            self.forget(end.position);
            // Only a dead-lettered record can have a lane behind it.
            if !end.letters.is_empty() {
                freed.insert(end.position);
            }
        }
        if freed.is_empty() {
            return;
        }
        let is_free = |lane: &Lane| lane.behind.is_some_and(|at| freed.contains(&at));
        let lanes = self.lanes.iter().filter(|(_, lane)| is_free(lane));
        let names: Vec<_> = lanes.map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            let Some(lane) = self.lanes.get_mut(&name) else {
                continue;
            };
            lane.behind = None;
            if lane.state == LaneState::Behind {
                self.set_ready(&name);
            }
        }
    }

    /// A record leaves.
    fn forget(&mut self, position: Position) {
        if let Some(open) = self.records.remove(&position) {
            self.items = self.items.saturating_sub(open.writes);
            self.bytes = self.bytes.saturating_sub(open.bytes);
        }
    }

    /// When the next lane that waits for a time may be taken.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.asleep.first().map(|(until, _)| *until)
    }

    /// Whether a lane may be taken now; call after the time has moved.
    pub fn has_ready(&mut self, now: Instant) -> bool {
        self.wake(now);
        !self.ready.is_empty()
    }

    /// Batches that are under way.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Records that are not committed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Items to be written of the records that are not committed.
    #[must_use]
    pub const fn items(&self) -> usize {
        self.items
    }

    /// Names of which items are here.
    #[must_use]
    pub fn names(&self) -> usize {
        self.lanes.len()
    }

    /// Items of a name that wait, those under way not counted.
    #[must_use]
    pub fn waiting(&self, name: &str) -> usize {
        self.lanes.get(name).map_or(0, |lane| lane.waiting.len())
    }

    /// Size of what was decided about the records that are not committed.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets go of everything: the journal still has it, and gives it again.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

fn kind(dedup: &DedupKind) -> mem::Discriminant<DedupKind> {
    mem::discriminant(dedup)
}

impl Open {
    fn new(bytes: usize) -> Self {
        Self {
            writes: 0,
            waiting: 0,
            bytes,
            items: Items::default(),
            letters: Vec::new(),
            observed: None,
        }
    }

    fn dead(&mut self, letter: Letter) {
        self.items.dead_lettered += 1;
        self.letters.push(letter);
    }

    /// The end of the record: its strongest item's; with no item it is filtered.
    fn ended(&mut self, position: Position) -> Ended {
        let items = self.items;
        let end = if items.dead_lettered > 0 {
            End::DeadLettered
        } else if items.observed > 0 {
            End::Observed
        } else if items.deduplicated > 0 {
            End::Deduplicated
        } else {
            End::Filtered
        };
        let one = end == End::Observed && items.observed == 1;
        let observed = self.observed.take().filter(|_| one);
        Ended {
            position,
            end,
            items,
            letters: mem::take(&mut self.letters),
            observation: observed.map(|name| Box::from(&*name)),
        }
    }
}

#[cfg(test)]
mod tests;
