//! Records.

use std::time::Duration;

use bytes::Bytes;

use crate::journal::{
    Event, IngestorUid, Key, KeyHash, LetterId, LogId, Millis, Origin, PayloadDigest, Record,
    RecordId,
};

use super::{Malformed, array, digest, position};
use crate::journal::remote::{BODY, pb};

/// Keys are remembered for at most a hundred years.
const WINDOW_MS: u64 = 100 * 366 * 24 * 3_600 * 1_000;

/// A record of `ingestor` in `log`, and how many bytes of its body are still to come.
pub fn record(
    log: LogId,
    ingestor: &IngestorUid,
    record: pb::Record,
) -> Result<(Record, usize), Malformed> {
    let length = usize::try_from(record.body_length).ok();
    let length = length.filter(|length| *length <= BODY);
    let length = length.ok_or(Malformed("a body has at most 32 MiB"))?;
    let missing = length.checked_sub(record.body.len());
    let missing = missing.ok_or(Malformed("a body is longer than it says"))?;
    let header = |header: pb::Header| (header.name.into(), header.value.into());
    let event = Event {
        ingestor: ingestor.clone(),
        spec: digest(&record.spec)?,
        event_id: record.event_id.into(),
        key: record.key.map(key).transpose()?,
        payload: PayloadDigest(array(&record.payload, "a digest has 32 bytes")?),
        accepted_at: Millis(record.accepted_at),
        origin: match record.replay_of {
            None => Origin::Request,
            Some(id) => Origin::Replay {
                letter: letter_id(id)?,
            },
        },
        traceparent: record.traceparent.map(Into::into),
        headers: record.headers.into_iter().map(header).collect(),
        query: record.query.into(),
        body: record.body,
    };
    let id = RecordId {
        log,
        position: position(record.position)?,
    };
    Ok((Record { id, event }, missing))
}

/// As a message, with at most the first `most` bytes of its body; and the rest of it.
#[must_use]
pub fn from_record(record: Record, most: usize) -> (pb::Record, Bytes) {
    let event = record.event;
    let length = u64::try_from(event.body.len()).unwrap_or(u64::MAX);
    let mut body = event.body;
    let rest = body.split_off(body.len().min(most));
    let header = |(name, value): (Box<str>, Box<str>)| pb::Header {
        name: name.into(),
        value: value.into(),
    };
    let message = pb::Record {
        position: record.id.position.0,
        spec: Bytes::copy_from_slice(&event.spec.0),
        event_id: event.event_id.as_ref().to_owned(),
        key: event.key.map(from_key),
        payload: Bytes::copy_from_slice(&event.payload.0),
        accepted_at: event.accepted_at.0,
        replay_of: match event.origin {
            Origin::Request => None,
            Origin::Replay { letter } => Some(from_letter_id(letter)),
        },
        traceparent: event.traceparent.map(Into::into),
        headers: event.headers.into_iter().map(header).collect(),
        query: event.query.into(),
        body,
        body_length: length,
    };
    (message, rest)
}

fn key(key: pb::Key) -> Result<Key, Malformed> {
    if key.window_ms > WINDOW_MS {
        return Err(Malformed("a key is remembered for a hundred years at most"));
    }
    Ok(Key {
        hash: KeyHash(array(&key.hash, "a key has 16 bytes")?),
        window: Duration::from_millis(key.window_ms),
        named: key.named,
    })
}

fn from_key(key: Key) -> pb::Key {
    let window = u64::try_from(key.window.as_millis()).unwrap_or(WINDOW_MS);
    pb::Key {
        hash: Bytes::copy_from_slice(&key.hash.0),
        window_ms: window.min(WINDOW_MS),
        named: key.named,
    }
}

fn letter_id(id: pb::LetterId) -> Result<LetterId, Malformed> {
    Ok(LetterId {
        record: RecordId {
            log: LogId(id.log),
            position: position(id.position)?,
        },
        index: id.index,
    })
}

const fn from_letter_id(id: LetterId) -> pb::LetterId {
    pb::LetterId {
        log: id.record.log.0,
        position: id.record.position.0,
        index: id.index,
    }
}
