//! What the log holds, in memory: a function of its entries alone. A live log and one that is read
//! at start apply the same entries by the same functions.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    entry::{self, Origin2, PlainEnd, Standing},
    format::{Place, SegmentId},
    options::Options,
};
use crate::{
    api::SpecDigest,
    journal::{
        BUCKETS, Bucket, End, Epoch, Holder, IngestorUid, Items, LogId, Millis, Position, RecordId,
        Tally,
    },
};

mod epochs;
pub(super) mod keys;
mod letters;
mod moves;
pub(super) mod queue;
mod specs;
mod table;
mod tally;

use keys::{KeySlot, Keys, NewKey};
use queue::{Queue, Slot};
use tally::{balance, count_end};

/// How long a spec that no record names and that is not in force is still known: longer than a
/// request that began under it can take (body timeout 10 s).
const SPEC_GRACE_MS: i64 = 60_000;

/// An Ingestor, by number.
#[derive(Debug)]
pub(super) struct Ingestor {
    pub(super) uid: IngestorUid,
    pub(super) bucket: Bucket,
    pub(super) tally: Tally,
    pub(super) queue: Queue,
    pub(super) in_force: Option<u32>,
    pub(super) forgotten: bool,
    pub(super) letters: u32,
}

/// A spec's text, while something needs it.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) digest: SpecDigest,
    pub(super) text: Arc<str>,
    pub(super) place: Place,
    pub(super) ingestor: u32,
    /// Records without an end that name it.
    records: u64,
    /// For how many Ingestors it is in force.
    in_force: u32,
    /// When it was last in force.
    last_used: Millis,
}

/// A dead-lettered record.
#[derive(Clone, Debug)]
pub(super) struct Letters {
    pub(super) place: Place,
    pub(super) at: Millis,
    pub(super) ingestor: u32,
    /// Index of each letter, and whether it was replayed.
    pub(super) items: Vec<(u32, bool)>,
}

/// A segment on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    /// Its size on disk.
    pub(super) bytes: u64,
    /// Entries in it that are live.
    pub(super) live: u64,
}

/// An event as the index needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewRecord {
    pub(super) position: u64,
    pub(super) ingestor: u32,
    pub(super) spec: SpecDigest,
    pub(super) accepted_at: Millis,
    pub(super) origin: Origin2,
    pub(super) key: Option<RecordKey>,
    pub(super) place: Place,
    /// Whether trimming wrote it again: then it was counted before.
    pub(super) carried: bool,
}

/// The key of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordKey {
    pub(super) hash: crate::journal::KeyHash,
    pub(super) window: u64,
    pub(super) payload: [u8; 16],
    pub(super) size: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Index {
    log: LogId,
    pub(super) ingestors: Vec<Ingestor>,
    numbers: HashMap<IngestorUid, u32>,
    pub(super) specs: Vec<Option<Spec>>,
    spec_numbers: HashMap<SpecDigest, u32>,
    pub(super) keys: Keys,
    pub(super) letters: BTreeMap<u64, Letters>,
    letter_order: BTreeSet<(Millis, u64)>,
    pub(super) letter_bytes: u64,
    pub(super) letter_count: u64,
    pub(super) letters_evicted: u64,
    epochs: Vec<Option<(Epoch, Holder)>>,
    pub(super) segments: BTreeMap<SegmentId, Segment>,
    pub(super) live_bytes: u64,
    pub(super) backlog: u64,
    pub(super) damaged: u64,
    letter_limit: u64,
    letter_age: i64,
}

impl Index {
    pub(super) fn new(log: LogId, options: &Options) -> Self {
        Self {
            log,
            ingestors: Vec::new(),
            numbers: HashMap::new(),
            specs: Vec::new(),
            spec_numbers: HashMap::new(),
            keys: Keys::new(options.keys, options.keys_per_ingestor),
            letters: BTreeMap::new(),
            letter_order: BTreeSet::new(),
            letter_bytes: 0,
            letter_count: 0,
            letters_evicted: 0,
            epochs: vec![None; usize::from(BUCKETS)],
            segments: BTreeMap::new(),
            live_bytes: 0,
            backlog: 0,
            damaged: 0,
            letter_limit: options.letter_bytes,
            letter_age: i64::try_from(options.letter_age.as_millis()).unwrap_or(i64::MAX),
        }
    }

    // === Ingestors ===

    pub(super) fn number_of(&self, uid: &IngestorUid) -> Option<u32> {
        self.numbers.get(uid).copied()
    }

    /// The number of an Ingestor; a new one if it was never seen.
    pub(super) fn number(&mut self, uid: &IngestorUid) -> u32 {
        if let Some(number) = self.numbers.get(uid) {
            return *number;
        }
        let number = u32::try_from(self.ingestors.len()).unwrap_or(u32::MAX);
        self.ingestors.push(Ingestor {
            uid: uid.clone(),
            bucket: Bucket::of(uid),
            tally: Tally::default(),
            queue: Queue::default(),
            in_force: None,
            forgotten: false,
            letters: 0,
        });
        self.numbers.insert(uid.clone(), number);
        number
    }

    pub(super) fn number_by_name(&mut self, uid: &str) -> u32 {
        self.number(&IngestorUid(uid.into()))
    }

    pub(super) fn ingestor(&self, number: u32) -> Option<&Ingestor> {
        self.ingestors.get(usize::try_from(number).ok()?)
    }

    pub(super) fn ingestor_mut(&mut self, number: u32) -> Option<&mut Ingestor> {
        self.ingestors.get_mut(usize::try_from(number).ok()?)
    }

    #[expect(clippy::unused_self, reason = "a question to the index")]
    pub(super) fn tally(&self, ingestor: &Ingestor) -> Tally {
        Tally {
            backlog: count(ingestor.queue.len()),
            ..ingestor.tally
        }
    }

    /// Whether nothing of it is left to say.
    pub(super) fn is_gone(ingestor: &Ingestor) -> bool {
        let never = ingestor.in_force.is_none() && ingestor.tally == Tally::default();
        ingestor.queue.is_empty() && (never || (ingestor.forgotten && ingestor.letters == 0))
    }

    // === Live bytes ===

    fn gain(&mut self, segment: SegmentId, bytes: u32) {
        self.live_bytes += u64::from(bytes);
        self.segments.entry(segment).or_default().live += 1;
    }

    fn lose(&mut self, segment: SegmentId, bytes: u32) {
        self.live_bytes = self.live_bytes.saturating_sub(u64::from(bytes));
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.live = segment.live.saturating_sub(1);
        }
    }

    // === Events ===

    pub(super) fn record(&mut self, new: &NewRecord) {
        let known = self
            .ingestor(new.ingestor)
            .and_then(|ingestor| ingestor.queue.get(new.position).copied());
        if let Some(slot) = known {
            // Trimming wrote it again, and the segment where it lay is still there.
            self.relocate_record(new.ingestor, new.position, &slot, new.place);
            return;
        }
        let spec = self.hold_spec(new.spec);
        let place = new.place;
        let Some(ingestor) = self.ingestor_mut(new.ingestor) else {
            return;
        };
        ingestor
            .queue
            .push(Slot::new(new.position, new.accepted_at, place, spec));
        let tally = &mut ingestor.tally;
        tally.backlog_bytes += u64::from(place.len);
        if !new.carried {
            match new.origin {
                Origin2::Request => {
                    tally.requests += 1;
                    tally.last_accepted_at = tally.last_accepted_at.max(Some(new.accepted_at));
                }
                Origin2::Replay(_) => tally.replays += 1,
            }
        }
        self.backlog += 1;
        self.gain(place.segment, place.len);
        if let Origin2::Replay(letter) = new.origin {
            self.mark_replayed(letter);
        }
        if let Some(key) = &new.key {
            self.key(&NewKey {
                hash: key.hash,
                payload: key.payload,
                position: new.position,
                accepted_at: new.accepted_at,
                window: key.window,
                ingestor: new.ingestor,
                place,
                size: key.size,
                end: None,
            });
        }
    }

    fn relocate_record(&mut self, number: u32, position: u64, slot: &Slot, place: Place) {
        self.lose(slot.place().segment, slot.place().len);
        self.gain(place.segment, place.len);
        if let Some(ingestor) = self.ingestor_mut(number) {
            ingestor.queue.relocate(position, place);
        }
        if self
            .keys
            .by_position(position)
            .is_some_and(|key| !key.alone())
        {
            self.keys.relocate(position, place);
        }
    }

    /// Records an end; false: it has one, or is unknown, and nothing was changed.
    pub(super) fn end(&mut self, number: u32, ended: &PlainEnd) -> bool {
        let Some(slot) = self.take_out(number, ended.position) else {
            return false;
        };
        if let Some(ingestor) = self.ingestor_mut(number) {
            count_end(&mut ingestor.tally, ended.end, &ended.items);
        }
        self.end_key(slot.position, ended.end, ended.items);
        true
    }

    /// Records an end while a log is read. Its record may have been trimmed since; every end in a log
    /// is the first of its record, so it is counted all the same.
    pub(super) fn end_read(&mut self, number: u32, ended: &PlainEnd) {
        if !self.end(number, ended) {
            if let Some(ingestor) = self.ingestor_mut(number) {
                count_end(&mut ingestor.tally, ended.end, &ended.items);
            }
            self.end_key(ended.position, ended.end, ended.items);
        }
    }

    fn end_key(&mut self, position: u64, end: End, items: Items) {
        if self
            .keys
            .by_position(position)
            .is_some_and(|key| !key.alone())
            && let Some(key) = self.keys.set_end(position, end, items)
        {
            self.gain(key.place().segment, key.size);
        }
    }

    /// A record that can't be read: it is counted, and nobody waits for it.
    pub(super) fn damage(&mut self, number: u32, position: u64) {
        if self.take_out(number, position).is_none() {
            return;
        }
        self.damaged += 1;
        if let Some(ingestor) = self.ingestor_mut(number) {
            ingestor.tally.damaged += 1;
        }
        // Remembered, its key would answer with a record that is lost.
        self.lose_key(position);
    }

    fn take_out(&mut self, number: u32, position: u64) -> Option<Slot> {
        let ingestor = self.ingestor_mut(number)?;
        let slot = ingestor.queue.end(position)?;
        let place = slot.place();
        ingestor.tally.backlog_bytes = ingestor
            .tally
            .backlog_bytes
            .saturating_sub(u64::from(place.len));
        self.backlog = self.backlog.saturating_sub(1);
        self.lose(place.segment, place.len);
        if let Some(spec) = self.spec_mut(slot.spec) {
            spec.records = spec.records.saturating_sub(1);
        }
        Some(slot)
    }

    // === Keys ===

    /// Remembers a key; those that must leave for it do.
    pub(super) fn key(&mut self, key: &NewKey) {
        if let Some(known) = self.keys.by_position(key.position).copied() {
            // Trimming wrote it again.
            if known.alone() {
                self.lose(known.place().segment, known.size);
                self.gain(key.place.segment, known.size);
            } else if let Some((end, items)) = key.end {
                self.keys.set_end(key.position, end, items);
                self.gain(key.place.segment, known.size);
            }
            self.keys.relocate(key.position, key.place);
            return;
        }
        if let Some(left) = self.keys.insert(key) {
            self.key_left(&left);
        }
        if key.end.is_some() && self.keys.by_position(key.position).is_some() {
            self.gain(key.place.segment, key.size);
        }
    }

    /// A key whose entry can't be read any more.
    pub(super) fn lose_key(&mut self, position: u64) {
        if let Some(key) = self.keys.lose(position) {
            self.key_left(&key);
        }
    }

    fn key_left(&mut self, key: &KeySlot) {
        if key.alone() {
            self.lose(key.place().segment, key.size);
        }
    }

    /// Lets keys leave that are too many; not while a log is read, where order is not yet known.
    pub(super) fn bound_keys(&mut self, number: u32) {
        while let Some(left) = self.keys.evict(number) {
            self.key_left(&left);
        }
    }

    // === Time ===

    /// Lets leave what is too old.
    pub(super) fn expire(&mut self, now: Millis) {
        for holder in self.keys.holders() {
            while let Some(left) = self.keys.expire(holder, now) {
                self.key_left(&left);
            }
        }
        self.bound_letters(now);
        for index in 0..self.specs.len() {
            let place = self
                .specs
                .get(index)
                .and_then(Option::as_ref)
                .filter(|spec| {
                    spec.records == 0
                        && spec.in_force == 0
                        && now.0.saturating_sub(spec.last_used.0) > SPEC_GRACE_MS
                });
            let Some((digest, place)) = place.map(|spec| (spec.digest, spec.place)) else {
                continue;
            };
            self.lose(place.segment, place.len);
            self.spec_numbers.remove(&digest);
            if let Some(spec) = self.specs.get_mut(index) {
                *spec = None;
            }
        }
    }

    // === Reading a log ===

    /// Takes an Ingestor's counters from a snapshot, which knows better than the entries before it.
    pub(super) fn stand(&mut self, standing: &Standing<'_>, now: Millis) {
        let number = self.number_by_name(standing.ingestor);
        if let Some(digest) = standing.in_force
            && self.spec_number(&digest).is_none()
        {
            // Its text may come further on.
            self.hold_spec(digest);
            if let Some(spec) = self
                .spec_number(&digest)
                .and_then(|spec| self.spec_mut(spec))
            {
                spec.records = 0;
            }
        }
        self.put_in_force(number, standing.in_force, now);
        if let Some(ingestor) = self.ingestor_mut(number) {
            let backlog_bytes = ingestor.tally.backlog_bytes;
            ingestor.tally = Tally {
                backlog_bytes,
                ..standing.tally
            };
            ingestor.forgotten = standing.forgotten;
        }
    }

    /// Puts everything into its place and makes the sums hold, once a log has been read.
    pub(super) fn settle(&mut self, now: Millis) {
        self.keys.settle();
        self.expire(now);
        for number in self.keys.holders() {
            self.bound_keys(number);
        }
        let mut damaged = 0;
        for ingestor in &mut self.ingestors {
            ingestor.queue.settle();
            damaged += balance(&mut ingestor.tally, count(ingestor.queue.len()));
        }
        self.damaged += damaged;
    }

    pub(super) fn record_id(&self, position: u64) -> RecordId {
        RecordId {
            log: self.log,
            position: Position(position),
        }
    }
}

pub(super) fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The bytes that a key costs once its record is gone.
pub(super) fn key_size(ingestor: &str, event_id: &str) -> u32 {
    let size =
        super::format::ENTRY_HEADER + entry::COMPACT_KEY_FIXED + ingestor.len() + event_id.len();
    u32::try_from(size).unwrap_or(u32::MAX)
}
