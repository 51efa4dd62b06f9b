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
        BUCKETS, Bucket, End, Epoch, Fenced, Holder, IngestorUid, Items, LetterId, LogId, Millis,
        Position, RecordId, Tally,
    },
};

pub(super) mod keys;
mod moves;
pub(super) mod queue;

use keys::{KeySlot, Keys, NewKey};
use queue::{Queue, Slot};

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

    // === Specs ===

    pub(super) fn spec(&self, digest: &SpecDigest) -> Option<&Spec> {
        let number = usize::try_from(*self.spec_numbers.get(digest)?).ok()?;
        self.specs.get(number)?.as_ref()
    }

    pub(super) fn spec_mut(&mut self, number: u32) -> Option<&mut Spec> {
        self.specs.get_mut(usize::try_from(number).ok()?)?.as_mut()
    }

    pub(super) fn spec_number(&self, digest: &SpecDigest) -> Option<u32> {
        self.spec_numbers.get(digest).copied()
    }

    fn hold_spec(&mut self, digest: SpecDigest) -> u32 {
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
    pub(super) fn put_spec(
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
    pub(super) fn put_in_force(&mut self, number: u32, digest: Option<SpecDigest>, now: Millis) {
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
    pub(super) fn forget(&mut self, number: u32, now: Millis) {
        self.put_in_force(number, None, now);
        if let Some(ingestor) = self.ingestor_mut(number) {
            ingestor.forgotten = true;
        }
        while let Some(left) = self.keys.drop_one(number) {
            self.key_left(&left);
        }
    }

    // === Dead letters ===

    /// A dead-lettered record is in the log. One that `carried` was counted before.
    pub(super) fn letter(&mut self, position: u64, letters: Letters) {
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
    pub(super) fn bound_letters(&mut self, now: Millis) {
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

    fn drop_letter(&mut self, position: u64) {
        if let Some(letters) = self.letters.remove(&position) {
            self.letter_order.remove(&(letters.at, position));
            self.letter_left(&letters);
        }
    }

    pub(super) fn mark_replayed(&mut self, id: LetterId) {
        if id.record.log != self.log {
            return;
        }
        if let Some(letters) = self.letters.get_mut(&id.record.position.0) {
            for (index, replayed) in &mut letters.items {
                *replayed |= *index == id.index;
            }
        }
    }

    // === Epochs ===

    pub(super) fn epoch(&self, bucket: u16) -> Option<&(Epoch, Holder)> {
        self.epochs.get(usize::from(bucket))?.as_ref()
    }

    /// Whether `holder` may take the buckets at `epoch`.
    pub(super) fn may_take(
        &self,
        holder: &Holder,
        epoch: Epoch,
        buckets: &[u16],
    ) -> Result<(), Fenced> {
        for bucket in buckets {
            if let Some((stored, by)) = self.epoch(*bucket)
                && (*stored > epoch || (*stored == epoch && by != holder))
            {
                return Err(Fenced {
                    bucket: Bucket(*bucket),
                    epoch: *stored,
                    holder: by.clone(),
                });
            }
        }
        Ok(())
    }

    /// Takes the buckets.
    ///
    /// # Errors
    /// One is held at a higher epoch, or at this one by another; nothing was changed.
    pub(super) fn take(
        &mut self,
        holder: &Holder,
        epoch: Epoch,
        buckets: &[u16],
    ) -> Result<(), Fenced> {
        self.may_take(holder, epoch, buckets)?;
        for bucket in buckets {
            if let Some(place) = self.epochs.get_mut(usize::from(*bucket)) {
                *place = Some((epoch, holder.clone()));
            }
        }
        Ok(())
    }

    /// Whether commits to this Ingestor under `epoch` still count.
    pub(super) fn may_commit(&self, number: u32, epoch: Epoch) -> Result<(), Fenced> {
        let Some(bucket) = self.ingestor(number).map(|ingestor| ingestor.bucket) else {
            return Ok(());
        };
        self.holds(bucket, epoch)
    }

    pub(super) fn holds(&self, bucket: Bucket, epoch: Epoch) -> Result<(), Fenced> {
        match self.epoch(bucket.0) {
            Some((stored, holder)) if *stored != epoch => Err(Fenced {
                bucket,
                epoch: *stored,
                holder: holder.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Buckets by (epoch, holder), for a snapshot.
    pub(super) fn holders(&self) -> BTreeMap<(Epoch, Holder), Vec<u16>> {
        let mut all: BTreeMap<_, Vec<u16>> = BTreeMap::new();
        for (bucket, held) in (0..BUCKETS).zip(&self.epochs) {
            if let Some(held) = held {
                all.entry(held.clone()).or_default().push(bucket);
            }
        }
        all
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

fn count_end(tally: &mut Tally, end: End, items: &Items) {
    match end {
        End::Filtered => tally.filtered += 1,
        End::Deduplicated => tally.deduplicated += 1,
        End::Observed => tally.observed += 1,
        End::DeadLettered => tally.dead_lettered += 1,
    }
    tally.items.observed += u64::from(items.observed);
    tally.items.filtered += u64::from(items.filtered);
    tally.items.deduplicated += u64::from(items.deduplicated);
    tally.items.dead_lettered += u64::from(items.dead_lettered);
}

/// Makes accepted = ends + damaged + backlog hold where the disk lost entries: records that are
/// missing are damaged; ends that are missing will come again, and are counted then. Says how many
/// were damaged.
fn balance(tally: &mut Tally, backlog: u64) -> u64 {
    let accepted = tally.requests + tally.replays;
    let ends = tally.observed + tally.filtered + tally.deduplicated + tally.dead_lettered;
    let known = ends + tally.damaged + backlog;
    if accepted >= known {
        tally.damaged += accepted - known;
        return accepted - known;
    }
    let mut surplus = known - accepted;
    for end in [
        &mut tally.observed,
        &mut tally.deduplicated,
        &mut tally.filtered,
        &mut tally.dead_lettered,
    ] {
        let less = surplus.min(*end);
        *end -= less;
        surplus -= less;
    }
    tally.requests += surplus;
    0
}

/// The bytes that a key costs once its record is gone.
pub(super) fn key_size(ingestor: &str, event_id: &str) -> u32 {
    let size =
        super::format::ENTRY_HEADER + entry::COMPACT_KEY_FIXED + ingestor.len() + event_id.len();
    u32::try_from(size).unwrap_or(u32::MAX)
}
