//! Trimming: the oldest segment is read, what is live in it is written again at the head of the log,
//! and the file goes.
//!
//! Oldest first, so that the log is always one unbroken run of segments: a commit is never older
//! than the record that it ends, and nothing but the run is needed to know what is live. Carried
//! entries are written before what was staged in the same round, while everything durable is
//! applied: a record that is carried has no end anywhere in the log before its copy.

use std::{io, sync::Arc};

use tracing::{debug, warn};

use super::{
    engine::{Engine, Io},
    entry::{self, CompactKey, LetterEntry},
    flight::Failure,
    format::{EntryHeader, Kind, Place, SegmentId},
    scan::{Item, Scanner},
    stage::{Moved, Part, Staged, State, What},
};
use crate::journal::{IngestorUid, Millis};

/// A segment that is being trimmed, and how far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trim {
    segment: SegmentId,
    at: Option<(u64, u64)>,
    /// All of it was read, and what was live written again.
    read: bool,
}

/// How much is carried in one group commit at most, so that nobody waits long for it.
const CARRY_MAX: usize = 1024 * 1024;

/// The least that a round reads, so that trimming ends even where little is appended.
const READ_MIN: u64 = 256 * 1024;

impl Engine {
    /// How many bytes of old segments to read now. `None`: none, the disk holds little that is dead.
    ///
    /// The bar is disk ≤ 2 × live + 2 segments, where one of the two is being written and the other
    /// may just have been closed. Trimming begins at 1.5 × live and reads ever more per byte that
    /// was appended or freed: with a share p of the log dead, reading 1/p bytes makes room for one.
    fn trim_budget(&self, io: &Io) -> Option<u64> {
        let active = io.active.as_ref().filter(|_| io.trim_failed.is_none())?;
        let state = self.state();
        let live = state.live_bytes();
        let sealed: u64 = state
            .index
            .segments
            .iter()
            .filter(|(id, _)| **id != active.id)
            .map(|(_, segment)| segment.bytes)
            .sum();
        drop(state);
        // Near the total, what may be dead is what the total leaves.
        let bound = (2 * live)
            .min(
                self.options
                    .total_bytes
                    .saturating_sub(2 * self.options.segment_bytes),
            )
            .max(live);
        let begin = live + (bound - live) / 2;
        if sealed <= begin {
            return None;
        }
        let over = (sealed - begin).saturating_mul(16) / (bound - begin).max(1);
        let room = (self.options.segment_bytes / 4 * 3)
            .saturating_sub(active.used)
            .max(self.options.segment_bytes / 64);
        // What must go before three quarters of this segment are full, in proportion to what was appended.
        let excess = sealed.saturating_sub(bound).saturating_mul(4) / room;
        let factor = over.clamp(1, 16).max(excess).min(1024);
        Some(io.churn.saturating_mul(factor).max(READ_MIN))
    }

    pub(super) fn wants_trim(&self, io: &Io) -> bool {
        self.trim_budget(io).is_some()
    }

    /// One round of trimming: entries to be written before what was staged.
    pub(super) fn trim(&self, io: &mut Io, now: Millis) -> Staged {
        let live = self.state().index.live_bytes;
        io.churn += io.live_before.saturating_sub(live);
        io.live_before = live;
        if io.trim_failed.is_none() {
            self.finish(io, now);
            self.drop_dead(io, now);
        }
        let budget = self.trim_budget(io).or_else(|| self.starved(io));
        io.churn = 0;
        let Some(mut budget) = budget else {
            return Staged::default();
        };
        let mut carried = Staged::default();
        while budget > 0 && carried.control.bytes.len() < CARRY_MAX {
            let Some((id, _)) = self.oldest(io) else {
                break;
            };
            let trim = io.trim.filter(|trim| trim.segment == id).unwrap_or(Trim {
                segment: id,
                at: None,
                read: false,
            });
            if trim.read {
                // Its last entries are in this round; it goes in the next.
                break;
            }
            match self.carry(trim, &mut carried.control, budget) {
                Ok((next, read)) => {
                    io.trim = Some(next);
                    budget = budget.saturating_sub(read.max(1));
                }
                Err(error) => {
                    // It stays; what was carried of it is found elsewhere when it is read again.
                    warn!(%error, segment = id, "reading a segment to trim it failed");
                    io.trim = None;
                    io.trim_failed = Some(now);
                    break;
                }
            }
        }
        carried
    }

    /// Removes segments in which nothing is live, whether room is needed or not.
    fn drop_dead(&self, io: &mut Io, now: Millis) {
        while let Some((id, true)) = self.oldest(io)
            && self.remove_segment(io, id, now)
        {
            if io.trim.is_some_and(|trim| trim.segment == id) {
                io.trim = None;
            }
        }
    }

    /// Without room for another segment all that can be freed is needed, as far as the rest of the
    /// open one lets it be carried.
    fn starved(&self, io: &Io) -> Option<u64> {
        io.active.as_ref().filter(|_| io.trim_failed.is_none())?;
        let refusal = self.state().refusal.clone();
        (refusal == Some(Failure::NoSpace)).then_some(self.options.segment_bytes)
    }

    /// The oldest segment, and whether nothing in it is live.
    fn oldest(&self, io: &Io) -> Option<(SegmentId, bool)> {
        let state = self.state();
        let (id, segment) = state.index.segments.first_key_value()?;
        (*id != io.newest()?).then_some((*id, segment.live == 0))
    }

    /// Removes the segment that was read whole, once what it held is durable elsewhere.
    fn finish(&self, io: &mut Io, now: Millis) {
        let Some(trim) = io.trim.filter(|trim| trim.read) else {
            return;
        };
        let lost = {
            let mut state = self.state();
            let live = state
                .index
                .segments
                .get(&trim.segment)
                .map_or(0, |segment| segment.live);
            if live == 0 {
                0
            } else {
                state.index.lose_segment(trim.segment)
            }
        };
        if lost > 0 {
            warn!(
                segment = trim.segment,
                entries = lost,
                "entries of the journal could not be read any more"
            );
        }
        if self.restore_specs(trim.segment) {
            return;
        }
        if self.remove_segment(io, trim.segment, now) {
            io.trim = None;
        }
    }

    /// Puts specs again whose entries were lost; their texts are in memory.
    /// The segment stays until they are durable elsewhere.
    fn restore_specs(&self, segment: SegmentId) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let lost: Vec<_> = state
            .index
            .specs
            .iter()
            .flatten()
            .filter(|spec| spec.place.segment == segment)
            .map(|spec| {
                (
                    spec.digest,
                    spec.place,
                    spec.ingestor,
                    Arc::clone(&spec.text),
                )
            })
            .collect();
        let any = !lost.is_empty();
        for (digest, from, ingestor, text) in lost {
            let uid = state
                .index
                .ingestor(ingestor)
                .map(|ingestor| ingestor.uid.clone());
            let mut payload = Vec::new();
            entry::put_spec(
                &mut payload,
                &uid.unwrap_or_else(|| IngestorUid("".into())),
                &text,
            );
            let what = What::Moved {
                from,
                kind: Moved::Spec { digest },
            };
            state
                .staged
                .control
                .push(self, Kind::Spec, 0, &payload, what);
        }
        any
    }

    /// Reads on in a segment, at most `budget` bytes, and writes what is live again.
    fn carry(&self, trim: Trim, out: &mut Part, budget: u64) -> io::Result<(Trim, u64)> {
        let (file, end) = {
            let state = self.state();
            let file = state.files.get(&trim.segment).map(Arc::clone);
            (
                file,
                state
                    .index
                    .segments
                    .get(&trim.segment)
                    .map_or(0, |segment| segment.bytes),
            )
        };
        let done = Trim { read: true, ..trim };
        let Some(file) = file else {
            return Ok((done, 0));
        };
        let mut scanner = Scanner::new(file.as_ref(), self.seed, trim.segment, end, end);
        if let Some(at) = trim.at {
            scanner = scanner.resume(at);
        }
        let from = scanner.progress().0;
        loop {
            match scanner.next()? {
                Some(Item::Entry {
                    header,
                    place,
                    payload,
                }) => {
                    self.state().carry(self, out, &header, place, payload);
                }
                Some(Item::Batch(_) | Item::Damage) => {}
                Some(Item::Torn { .. }) | None => {
                    debug!(segment = trim.segment, "read a segment that is trimmed");
                    return Ok((done, scanner.progress().0.saturating_sub(from)));
                }
            }
            let at = scanner.progress();
            let read = at.0.saturating_sub(from);
            if read >= budget || out.bytes.len() >= CARRY_MAX {
                return Ok((
                    Trim {
                        at: Some(at),
                        ..trim
                    },
                    read,
                ));
            }
        }
    }
}

impl State {
    /// Writes an entry again, if it is live and lies here.
    #[expect(
        clippy::too_many_lines,
        reason = "one arm per kind of entry; each is short"
    )]
    fn carry(
        &mut self,
        engine: &Engine,
        out: &mut Part,
        header: &EntryHeader,
        place: Place,
        payload: &[u8],
    ) -> Option<()> {
        let position = header.position;
        let mut moved = |kind, payload: &[u8], moved| {
            out.push(
                engine,
                kind,
                position,
                payload,
                What::Moved {
                    from: place,
                    kind: moved,
                },
            );
        };
        match header.kind {
            Kind::Event | Kind::CarriedEvent => {
                let head = entry::read_event_head(payload)?;
                let ingestor = self.index.number_by_name(head.ingestor);
                let slot = self.index.ingestor(ingestor)?.queue.get(position).copied();
                if slot.is_some_and(|slot| slot.place() == place) {
                    moved(
                        Kind::CarriedEvent,
                        payload,
                        Moved::Record { ingestor, position },
                    );
                } else if self.key_is_here(position, place) {
                    let (hash, window) = head.key?;
                    let mut compact = Vec::new();
                    let key = CompactKey {
                        ingestor: head.ingestor,
                        hash,
                        payload: head.payload,
                        spec: head.spec,
                        accepted_at: head.accepted_at,
                        window,
                        end: self.index.keys.end_of(position),
                        named: head.named,
                        event_id: head.event_id,
                    };
                    entry::put_key(&mut compact, &key);
                    moved(Kind::Key, &compact, Moved::Key { position });
                }
            }
            Kind::Key => {
                if self.key_is_here(position, place) {
                    moved(Kind::Key, payload, Moved::Key { position });
                }
            }
            Kind::Letter => {
                let letters = self
                    .index
                    .letters
                    .get(&position)
                    .filter(|letters| letters.place == place)?;
                let entry = entry::read_letter(payload)?;
                let replayed = |index| {
                    letters
                        .items
                        .iter()
                        .any(|(item, replayed)| *item == index && *replayed)
                };
                let letters = entry.letters.into_iter().map(|(letter, _)| {
                    let replayed = replayed(letter.index);
                    (letter, replayed)
                });
                let carried = LetterEntry {
                    epoch: None,
                    letters: letters.collect(),
                    ..entry
                };
                let mut again = Vec::with_capacity(payload.len());
                entry::put_letter(&mut again, &carried);
                moved(Kind::Letter, &again, Moved::Letter { position });
            }
            Kind::Spec => {
                let (_, text) = entry::read_spec(payload)?;
                let digest = crate::api::SpecDigest::of(text);
                if self.index.spec(&digest)?.place == place {
                    // Position 0: it was put in force when it came, and may not be any more.
                    out.push(
                        engine,
                        Kind::Spec,
                        0,
                        payload,
                        What::Moved {
                            from: place,
                            kind: Moved::Spec { digest },
                        },
                    );
                }
            }
            // Snapshots say it again at the head of every later segment.
            Kind::Commit | Kind::Epochs | Kind::Tally | Kind::Forget => {}
        }
        Some(())
    }

    fn key_is_here(&self, position: u64, place: Place) -> bool {
        self.index
            .keys
            .by_position(position)
            .is_some_and(|key| key.alone() && key.place() == place)
    }
}
