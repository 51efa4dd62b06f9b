//! An event as it lies in the log.

use bytes::Bytes;

use super::{
    fields::{Fields, put_bytes, put_count, put_u64},
    letter_id, put_letter_id,
};
use crate::{
    api::SpecDigest,
    journal::{Event, IngestorUid, Key, KeyHash, LetterId, Millis, Origin, PayloadDigest},
};

const HAS_KEY: u8 = 1;
pub(super) const HAS_TRACEPARENT: u8 = 2;
const IS_REPLAY: u8 = 4;
/// With a key: see [`Key::named`].
const IS_NAMED: u8 = 8;

/// What the index needs of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal::wal) struct EventHead<'a> {
    pub(in crate::journal::wal) ingestor: &'a str,
    pub(in crate::journal::wal) spec: SpecDigest,
    pub(in crate::journal::wal) payload: PayloadDigest,
    pub(in crate::journal::wal) accepted_at: Millis,
    pub(in crate::journal::wal) key: Option<(KeyHash, u64)>,
    pub(in crate::journal::wal) named: bool,
    pub(in crate::journal::wal) origin: Origin2,
    pub(in crate::journal::wal) event_id: &'a str,
}

/// [`Origin`] without a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal::wal) enum Origin2 {
    Request,
    Replay(LetterId),
}

/// The longest payload that `event` can become.
pub(in crate::journal::wal) fn event_size(event: &Event) -> usize {
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

pub(in crate::journal::wal) fn put_event(out: &mut Vec<u8>, event: &Event) {
    put_bytes(out, event.ingestor.0.as_bytes());
    out.extend_from_slice(&event.spec.0);
    out.extend_from_slice(&event.payload.0);
    out.extend_from_slice(&event.accepted_at.0.to_le_bytes());
    let mut flags = 0;
    if event.key.is_some() {
        flags |= HAS_KEY;
    }
    if event.key.as_ref().is_some_and(|key| key.named) {
        flags |= IS_NAMED;
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

pub(in crate::journal::wal) fn window_millis(key: &Key) -> u64 {
    u64::try_from(key.window.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn event_head<'a>(fields: &mut Fields<'a>) -> Option<(EventHead<'a>, u8)> {
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
        named: flags & IS_NAMED != 0,
        origin,
        event_id,
    };
    Some((head, flags))
}

pub(in crate::journal::wal) fn read_event_head(payload: &[u8]) -> Option<EventHead<'_>> {
    event_head(&mut Fields(payload)).map(|(head, _)| head)
}

pub(in crate::journal::wal) fn read_event(payload: &[u8]) -> Option<Event> {
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
            named: head.named,
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
