//! Whether an event may be staged: its spec, its key, its dead letter, and the room that is left.

use std::sync::Arc;

use super::{Op, PendingKey, State, What};
use crate::{
    api::SpecDigest,
    journal::{
        AppendError, Event, IngestorUid, Millis, Origin, Position, RecordId,
        wal::{
            engine::Engine,
            entry::{self, Origin2},
            flight::Flight,
            format::{ENTRY_HEADER, EntryHeader, Kind, Place},
            index::{self, NewRecord, RecordKey, count, keys::KeySlot},
            recover::half,
        },
    },
};

/// An event ready to be staged: encoded and checksummed outside of the lock.
#[derive(Debug)]
pub(in crate::journal::wal) struct Prepared {
    ingestor: IngestorUid,
    spec: SpecDigest,
    accepted_at: Millis,
    origin: Origin2,
    key: Option<RecordKey>,
    payload: Vec<u8>,
    crc: u32,
    force: bool,
}

/// What became of an attempt to stage an event.
#[derive(Debug)]
pub(in crate::journal::wal) enum Admission {
    /// Durable when the flight has landed.
    Staged(Arc<Flight>, RecordId),
    /// Something that it depends on is in flight: to be tried again after that.
    After(Arc<Flight>),
    /// The key is remembered.
    Known { slot: KeySlot, same: bool },
}

impl Prepared {
    pub(in crate::journal::wal) fn new(
        event: &Event,
        force: bool,
        limit: usize,
    ) -> Result<Self, AppendError> {
        let size = entry::event_size(event);
        if size > limit {
            return Err(AppendError::TooLarge { size, limit });
        }
        let mut payload = Vec::with_capacity(size);
        entry::put_event(&mut payload, event);
        Ok(Self {
            ingestor: event.ingestor.clone(),
            spec: event.spec,
            accepted_at: event.accepted_at,
            origin: match &event.origin {
                Origin::Request => Origin2::Request,
                Origin::Replay { letter } => Origin2::Replay(*letter),
            },
            key: event.key.as_ref().map(|key| RecordKey {
                hash: key.hash,
                window: entry::window_millis(key),
                payload: half(&event.payload.0),
                size: index::key_size(&event.ingestor.0, &event.event_id),
            }),
            crc: crc32c::crc32c(&payload),
            payload,
            force,
        })
    }
}

impl Engine {
    /// Stages an event, if it may be.
    pub(in crate::journal::wal) fn admit(
        &self,
        prepared: &Prepared,
    ) -> Result<Admission, AppendError> {
        let len = prepared.payload.len() + ENTRY_HEADER;
        let mut guard = self.state();
        let state = &mut *guard;
        state.refused()?;
        let ingestor = state.index.number(&prepared.ingestor);
        if let Some(key) = &prepared.key {
            if let Some(slot) = state
                .index
                .keys
                .get(ingestor, &key.hash, prepared.accepted_at)
            {
                return Ok(Admission::Known {
                    slot: *slot,
                    same: slot.payload == key.payload,
                });
            }
            if let Some(pending) = state.pending_keys.get(&(ingestor, key.hash)) {
                return Ok(Admission::After(Arc::clone(&pending.flight)));
            }
        }
        if state
            .index
            .spec(&prepared.spec)
            .is_none_or(|spec| spec.place.len == 0)
        {
            return Err(AppendError::UnknownSpec(prepared.spec));
        }
        if let Origin2::Replay(letter) = prepared.origin
            && !prepared.force
            && (state.pending_replays.contains(&letter) || state.is_replayed(letter))
        {
            return Err(AppendError::AlreadyReplayed);
        }
        if state.staged.events.bytes.len() + len > self.options.stage_bytes()
            && !state.staged.events.ops.is_empty()
        {
            return Ok(Admission::After(Arc::clone(&state.staged.flight)));
        }
        if state.used_share(ingestor) + count(len) > self.options.share_bytes {
            return Err(AppendError::ShareFull);
        }
        let coming = state.pending_total + count(len);
        if state.live_bytes() + coming > self.options.live_limit()
            || state.disk_bytes() + coming > self.options.total_bytes
        {
            return Err(AppendError::Full);
        }
        let staged = self.stage_event(state, prepared, ingestor);
        self.wake(state);
        Ok(staged)
    }

    fn stage_event(&self, state: &mut State, prepared: &Prepared, ingestor: u32) -> Admission {
        let position = state.next_position;
        state.next_position += 1;
        let header = EntryHeader {
            len: u32::try_from(prepared.payload.len()).unwrap_or(u32::MAX),
            kind: Kind::Event,
            position,
            payload_crc: prepared.crc,
        };
        let events = &mut state.staged.events;
        let offset = events.begin();
        events.bytes.extend_from_slice(&header.encode(self.seed));
        events.bytes.extend_from_slice(&prepared.payload);
        let len = u32::try_from(events.bytes.len() - offset).unwrap_or(u32::MAX);
        let record = NewRecord {
            position,
            ingestor,
            spec: prepared.spec,
            accepted_at: prepared.accepted_at,
            origin: prepared.origin,
            key: prepared.key,
            place: Place {
                segment: 0,
                offset: 0,
                len,
            },
            carried: false,
        };
        events.ops.push(Op {
            offset,
            len,
            what: What::Event(record),
        });
        *state.pending_bytes.entry(ingestor).or_default() += u64::from(len);
        state.pending_total += u64::from(len);
        let flight = Arc::clone(&state.staged.flight);
        if let Some(key) = &prepared.key {
            state.pending_keys.insert(
                (ingestor, key.hash),
                PendingKey {
                    flight: Arc::clone(&flight),
                },
            );
        }
        if let Origin2::Replay(letter) = prepared.origin {
            state.pending_replays.insert(letter);
        }
        Admission::Staged(
            flight,
            RecordId {
                log: self.log,
                position: Position(position),
            },
        )
    }

    /// Stages something that is not an event.
    pub(in crate::journal::wal) fn stage(
        &self,
        state: &mut State,
        kind: Kind,
        position: u64,
        payload: &[u8],
        what: What,
    ) -> Arc<Flight> {
        state
            .staged
            .control
            .push(self, kind, position, payload, what);
        self.wake(state);
        Arc::clone(&state.staged.control_flight)
    }

    /// Wakes the committer, which is asleep only when nothing was staged.
    pub(in crate::journal::wal) fn wake(&self, state: &mut State) {
        if std::mem::take(&mut state.committer_idle) {
            self.work.notify_one();
        }
    }
}
