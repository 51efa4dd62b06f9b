//! What entries say: payloads in little-endian fields, strings and lists behind their length.
//!
//! Reading is total: any bytes give a value or `None`, and nothing is allocated beyond their length.

mod event;
mod fields;
mod key;
mod letter;

use std::sync::Arc;

use crate::{
    api::SpecDigest,
    journal::{
        End, Ended, Epoch, Holder, IngestorUid, ItemTally, Items, LetterId, LogId, Position,
        RecordId, Tally,
    },
};

pub(super) use event::{
    Origin2, event_size, put_event, read_event, read_event_head, window_millis,
};
use fields::{Fields, put_bytes, put_count, put_u32, put_u64};
pub(super) use key::{COMPACT_KEY_FIXED, CompactKey, put_key, read_key};
pub(super) use letter::{LetterEntry, put_letter, read_event_outline, read_letter};

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
