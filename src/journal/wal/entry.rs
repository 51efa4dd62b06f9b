//! What entries say: payloads in little-endian fields, strings and lists behind their length.
//!
//! Reading is total: any bytes give a value or `None`, and nothing is allocated beyond their length.

mod letter;

use std::sync::Arc;

use bytes::Bytes;

pub(super) use self::letter::{LetterEntry, put_letter, read_event_outline, read_letter};
use crate::{
    api::SpecDigest,
    journal::{
        End, Ended, Epoch, Event, Holder, IngestorUid, ItemTally, Items, Key, KeyHash, LetterId,
        LogId, Millis, Origin, PayloadDigest, Position, RecordId, Tally,
    },
};

// === Fields ===

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_u32(out, u32::try_from(count).unwrap_or(u32::MAX));
}

#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn millis(&mut self) -> Option<Millis> {
        self.array().map(|bytes| Millis(i64::from_le_bytes(bytes)))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A count of things that take at least `size` bytes each.
    fn count(&mut self, size: usize) -> Option<usize> {
        let count = usize::try_from(self.u32()?).ok()?;
        (count <= self.0.len() / size).then_some(count)
    }
}

// === Events ===

const HAS_KEY: u8 = 1;
const HAS_TRACEPARENT: u8 = 2;
const IS_REPLAY: u8 = 4;

/// What the index needs of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventHead<'a> {
    pub(super) ingestor: &'a str,
    pub(super) spec: SpecDigest,
    pub(super) payload: PayloadDigest,
    pub(super) accepted_at: Millis,
    pub(super) key: Option<(KeyHash, u64)>,
    pub(super) origin: Origin2,
    pub(super) event_id: &'a str,
}

/// [`Origin`] without a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin2 {
    Request,
    Replay(LetterId),
}

/// The longest payload that `event` can become.
pub(super) fn event_size(event: &Event) -> usize {
    let headers: usize = event
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    event.ingestor.0.len()
        + event.event_id.len()
        + event.traceparent.as_ref().map_or(0, |text| text.len())
        + headers
        + event.query.len()
        + event.body.len()
        // Digests, key, origin, times and lengths.
        + 160
}

pub(super) fn put_event(out: &mut Vec<u8>, event: &Event) {
    put_bytes(out, event.ingestor.0.as_bytes());
    out.extend_from_slice(&event.spec.0);
    out.extend_from_slice(&event.payload.0);
    out.extend_from_slice(&event.accepted_at.0.to_le_bytes());
    let mut flags = 0;
    if event.key.is_some() {
        flags |= HAS_KEY;
    }
    if event.traceparent.is_some() {
        flags |= HAS_TRACEPARENT;
    }
    if matches!(event.origin, Origin::Replay { .. }) {
        flags |= IS_REPLAY;
    }
    out.push(flags);
    if let Some(key) = &event.key {
        out.extend_from_slice(&key.hash.0);
        put_u64(out, window_millis(key));
    }
    if let Origin::Replay { letter } = &event.origin {
        put_letter_id(out, *letter);
    }
    put_bytes(out, event.event_id.as_bytes());
    if let Some(traceparent) = &event.traceparent {
        put_bytes(out, traceparent.as_bytes());
    }
    put_count(out, event.headers.len());
    for (name, value) in &event.headers {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
    put_bytes(out, event.query.as_bytes());
    out.extend_from_slice(&event.body);
}

pub(super) fn window_millis(key: &Key) -> u64 {
    u64::try_from(key.window.as_millis()).unwrap_or(u64::MAX)
}

fn event_head<'a>(fields: &mut Fields<'a>) -> Option<(EventHead<'a>, u8)> {
    let ingestor = fields.text()?;
    let spec = SpecDigest(fields.array()?);
    let payload = PayloadDigest(fields.array()?);
    let accepted_at = fields.millis()?;
    let flags = fields.u8()?;
    let key = if flags & HAS_KEY == 0 {
        None
    } else {
        Some((KeyHash(fields.array()?), fields.u64()?))
    };
    let origin = if flags & IS_REPLAY == 0 {
        Origin2::Request
    } else {
        Origin2::Replay(letter_id(fields)?)
    };
    let event_id = fields.text()?;
    let head = EventHead {
        ingestor,
        spec,
        payload,
        accepted_at,
        key,
        origin,
        event_id,
    };
    Some((head, flags))
}

pub(super) fn read_event_head(payload: &[u8]) -> Option<EventHead<'_>> {
    event_head(&mut Fields(payload)).map(|(head, _)| head)
}

pub(super) fn read_event(payload: &[u8]) -> Option<Event> {
    let mut fields = Fields(payload);
    let (head, flags) = event_head(&mut fields)?;
    let traceparent = if flags & HAS_TRACEPARENT == 0 {
        None
    } else {
        Some(fields.text()?.into())
    };
    let count = fields.count(8)?;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        headers.push((fields.text()?.into(), fields.text()?.into()));
    }
    Some(Event {
        ingestor: IngestorUid(head.ingestor.into()),
        spec: head.spec,
        event_id: head.event_id.into(),
        key: head.key.map(|(hash, window)| Key {
            hash,
            window: std::time::Duration::from_millis(window),
        }),
        payload: head.payload,
        accepted_at: head.accepted_at,
        origin: match head.origin {
            Origin2::Request => Origin::Request,
            Origin2::Replay(letter) => Origin::Replay { letter },
        },
        traceparent,
        headers,
        query: fields.text()?.into(),
        // Copied, so that one record doesn't keep a whole batch in memory.
        body: Bytes::copy_from_slice(fields.0),
    })
}

fn put_letter_id(out: &mut Vec<u8>, id: LetterId) {
    put_u32(out, id.record.log.0);
    put_u64(out, id.record.position.0);
    put_u32(out, id.index);
}

fn letter_id(fields: &mut Fields<'_>) -> Option<LetterId> {
    let log = LogId(fields.u32()?);
    let position = Position(fields.u64()?);
    Some(LetterId {
        record: RecordId { log, position },
        index: fields.u32()?,
    })
}

// === Ends ===

/// Marks that the record had one item, of its end.
const SINGLE: u8 = 0x80;

const ENDS: [End; 4] = [
    End::Filtered,
    End::Deduplicated,
    End::Observed,
    End::DeadLettered,
];

pub(super) const fn end_code(end: End) -> u8 {
    match end {
        End::Filtered => 0,
        End::Deduplicated => 1,
        End::Observed => 2,
        End::DeadLettered => 3,
    }
}

pub(super) fn end_of(code: u8) -> Option<End> {
    ENDS.get(usize::from(code)).copied()
}

/// The items of a record that had one.
pub(super) fn single(end: End) -> Items {
    let mut items = Items::default();
    match end {
        End::Filtered => items.filtered = 1,
        End::Deduplicated => items.deduplicated = 1,
        End::Observed => items.observed = 1,
        End::DeadLettered => items.dead_lettered = 1,
    }
    items
}

fn put_end(out: &mut Vec<u8>, end: End, items: &Items) {
    if *items == single(end) {
        out.push(end_code(end) | SINGLE);
        return;
    }
    out.push(end_code(end));
    for count in [
        items.observed,
        items.filtered,
        items.deduplicated,
        items.dead_lettered,
    ] {
        put_u32(out, count);
    }
}

fn end(fields: &mut Fields<'_>) -> Option<(End, Items)> {
    let code = fields.u8()?;
    let end = end_of(code & !SINGLE)?;
    if code & SINGLE != 0 {
        return Some((end, single(end)));
    }
    let items = Items {
        observed: fields.u32()?,
        filtered: fields.u32()?,
        deduplicated: fields.u32()?,
        dead_lettered: fields.u32()?,
    };
    Some((end, items))
}

/// One end of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlainEnd {
    pub(super) position: u64,
    pub(super) end: End,
    pub(super) items: Items,
}

pub(super) fn put_commit<'a>(
    out: &mut Vec<u8>,
    ingestor: &IngestorUid,
    epoch: Epoch,
    ends: impl ExactSizeIterator<Item = &'a Ended>,
) {
    put_bytes(out, ingestor.0.as_bytes());
    put_u64(out, epoch.0);
    put_count(out, ends.len());
    for ended in ends {
        put_u64(out, ended.position.0);
        put_end(out, ended.end, &ended.items);
    }
}

pub(super) fn read_commit(payload: &[u8]) -> Option<(&str, Epoch, Vec<PlainEnd>)> {
    let mut fields = Fields(payload);
    let ingestor = fields.text()?;
    let epoch = Epoch(fields.u64()?);
    let count = fields.count(9)?;
    let mut ends = Vec::with_capacity(count);
    for _ in 0..count {
        let position = fields.u64()?;
        let (end, items) = end(&mut fields)?;
        ends.push(PlainEnd {
            position,
            end,
            items,
        });
    }
    Some((ingestor, epoch, ends))
}

// === Specs, epochs, forgotten Ingestors ===

pub(super) fn put_spec(out: &mut Vec<u8>, ingestor: &IngestorUid, text: &str) {
    put_bytes(out, ingestor.0.as_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn read_spec(payload: &[u8]) -> Option<(&str, &str)> {
    let mut fields = Fields(payload);
    Some((fields.text()?, std::str::from_utf8(fields.0).ok()?))
}

pub(super) fn put_epochs(out: &mut Vec<u8>, holder: &Holder, epoch: Epoch, buckets: &[u16]) {
    put_bytes(out, holder.0.as_bytes());
    put_u64(out, epoch.0);
    put_count(out, buckets.len());
    for bucket in buckets {
        out.extend_from_slice(&bucket.to_le_bytes());
    }
}

pub(super) fn read_epochs(payload: &[u8]) -> Option<(Holder, Epoch, Vec<u16>)> {
    let mut fields = Fields(payload);
    let holder = Holder(Arc::from(fields.text()?));
    let epoch = Epoch(fields.u64()?);
    let count = fields.count(2)?;
    let mut buckets = Vec::with_capacity(count);
    for _ in 0..count {
        buckets.push(fields.u16()?);
    }
    Some((holder, epoch, buckets))
}

// === Keys ===

/// A key whose record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompactKey<'a> {
    pub(super) ingestor: &'a str,
    pub(super) hash: KeyHash,
    pub(super) payload: PayloadDigest,
    pub(super) spec: SpecDigest,
    pub(super) accepted_at: Millis,
    pub(super) window: u64,
    pub(super) end: Option<(End, Items)>,
    pub(super) event_id: &'a str,
}

/// How many bytes of a compact key's payload are not its strings, at most.
pub(super) const COMPACT_KEY_FIXED: usize = 4 + 16 + 32 + 32 + 8 + 8 + 18;

pub(super) fn put_key(out: &mut Vec<u8>, key: &CompactKey<'_>) {
    put_bytes(out, key.ingestor.as_bytes());
    out.extend_from_slice(&key.hash.0);
    out.extend_from_slice(&key.payload.0);
    out.extend_from_slice(&key.spec.0);
    out.extend_from_slice(&key.accepted_at.0.to_le_bytes());
    put_u64(out, key.window);
    match &key.end {
        Some((end, items)) => {
            out.push(1);
            put_end(out, *end, items);
        }
        None => out.push(0),
    }
    out.extend_from_slice(key.event_id.as_bytes());
}

pub(super) fn read_key(payload: &[u8]) -> Option<CompactKey<'_>> {
    let mut fields = Fields(payload);
    Some(CompactKey {
        ingestor: fields.text()?,
        hash: KeyHash(fields.array()?),
        payload: PayloadDigest(fields.array()?),
        spec: SpecDigest(fields.array()?),
        accepted_at: fields.millis()?,
        window: fields.u64()?,
        end: if fields.u8()? == 0 {
            None
        } else {
            Some(end(&mut fields)?)
        },
        event_id: std::str::from_utf8(fields.0).ok()?,
    })
}

// === Tallies ===

/// An Ingestor in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing<'a> {
    pub(super) ingestor: &'a str,
    pub(super) tally: Tally,
    pub(super) in_force: Option<SpecDigest>,
    pub(super) forgotten: bool,
}

pub(super) fn put_standing(out: &mut Vec<u8>, standing: &Standing<'_>) {
    put_bytes(out, standing.ingestor.as_bytes());
    let tally = &standing.tally;
    let items = &tally.items;
    for count in [
        tally.requests,
        tally.replays,
        tally.observed,
        tally.filtered,
        tally.deduplicated,
        tally.dead_lettered,
        tally.damaged,
        items.observed,
        items.filtered,
        items.deduplicated,
        items.dead_lettered,
    ] {
        put_u64(out, count);
    }
    out.extend_from_slice(
        &tally
            .last_accepted_at
            .map_or(i64::MIN, |at| at.0)
            .to_le_bytes(),
    );
    out.push(u8::from(standing.forgotten) | if standing.in_force.is_some() { 2 } else { 0 });
    if let Some(digest) = standing.in_force {
        out.extend_from_slice(&digest.0);
    }
}

pub(super) fn read_standing(payload: &[u8]) -> Option<Standing<'_>> {
    let mut fields = Fields(payload);
    let ingestor = fields.text()?;
    let tally = Tally {
        requests: fields.u64()?,
        replays: fields.u64()?,
        observed: fields.u64()?,
        filtered: fields.u64()?,
        deduplicated: fields.u64()?,
        dead_lettered: fields.u64()?,
        damaged: fields.u64()?,
        items: ItemTally {
            observed: fields.u64()?,
            filtered: fields.u64()?,
            deduplicated: fields.u64()?,
            dead_lettered: fields.u64()?,
        },
        // Both follow from the queue.
        backlog: 0,
        backlog_bytes: 0,
        last_accepted_at: fields
            .millis()
            .map(|at| Some(at).filter(|at| at.0 != i64::MIN))?,
    };
    let flags = fields.u8()?;
    let in_force = if flags & 2 == 0 {
        None
    } else {
        Some(SpecDigest(fields.array()?))
    };
    Some(Standing {
        ingestor,
        tally,
        in_force,
        forgotten: flags & 1 != 0,
    })
}

pub(super) fn read_forget(payload: &[u8]) -> Option<&str> {
    std::str::from_utf8(payload).ok()
}
