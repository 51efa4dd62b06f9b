//! Reads a log at start: which segments belong to it, where it ends, what it holds.

use std::{collections::BTreeMap, io, sync::Arc};

use tracing::{info, warn};

use super::{
    disk::{Disk, DiskFile},
    entry::{self, LetterEntry},
    format::{self, Cut, EntryHeader, Kind, Place, SEGMENT_HEADER, Seed, SegmentHeader, SegmentId},
    index::{self, Index, Letters, NewRecord, RecordKey, Segment, count, keys::NewKey},
    options::Options,
    scan::{Item, Scanner, durable_mark},
};
use crate::{
    api::SpecDigest,
    journal::{LogId, Millis},
};

/// Why a log can't be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The disk failed.
    #[error("{attempt} failed")]
    Disk {
        /// What was attempted.
        attempt: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// No segment has a readable header, but one holds data.
    #[error(
        "no segment of the journal has a readable header, but {file} holds data; restore the directory or move it away"
    )]
    Unreadable {
        /// The file.
        file: String,
    },
    /// Segments of two logs lie in one directory.
    #[error("{file} belongs to another log than the newest segment; move one of the two away")]
    Mixed {
        /// The file.
        file: String,
    },
}

/// A log as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) index: Index,
    pub(super) log: LogId,
    pub(super) salt: u64,
    pub(super) next_position: u64,
    pub(super) next_segment: SegmentId,
    /// Where the newest segment ends; `None`: there was none.
    pub(super) previous: Option<Cut>,
    pub(super) files: BTreeMap<SegmentId, Arc<dyn DiskFile>>,
    pub(super) torn_bytes: u64,
}

struct Candidate {
    file: Arc<dyn DiskFile>,
    header: Option<SegmentHeader>,
}

/// A segment of the log, and where it ends as far as the next one knows.
struct Link {
    id: SegmentId,
    file: Arc<dyn DiskFile>,
    next_position: u64,
    cut: Option<u64>,
}

fn failed(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> RecoverError {
    let attempt = attempt.into();
    move |source| RecoverError::Disk { attempt, source }
}

/// Reads the log. `fresh` names a new one, where there is none.
pub(super) fn recover(
    disk: &dyn Disk,
    options: &Options,
    now: Millis,
    fresh: (LogId, u64),
) -> Result<Found, RecoverError> {
    let candidates = candidates(disk)?;
    let next_segment = candidates.keys().next_back().map_or(1, |last| last + 1);
    let newest = candidates
        .values()
        .rev()
        .find_map(|candidate| candidate.header);
    let Some(newest) = newest else {
        return empty(disk, options, candidates, next_segment, fresh);
    };
    let seed = Seed::of_log(newest.salt);
    for (id, candidate) in &candidates {
        if candidate
            .header
            .is_some_and(|header| header.log != newest.log)
        {
            return Err(RecoverError::Mixed {
                file: format::file_name(*id),
            });
        }
    }
    let chain = chain(&candidates, newest, seed)?;
    let mut reader = LogReader {
        index: Index::new(newest.log, options),
        seed,
        next_position: 1,
        torn_bytes: 0,
    };
    let mut previous = None;
    let mut files = BTreeMap::new();
    for link in &chain {
        let end = reader
            .read(link)
            .map_err(failed(format!("reading {}", format::file_name(link.id))))?;
        previous = Some(Cut {
            segment: link.id,
            len: end,
        });
        files.insert(link.id, Arc::clone(&link.file));
    }
    reader.index.settle(now);
    // What a crash left unsynced must not be served before it is durable.
    for link in chain.iter().rev().take(2) {
        link.file
            .sync()
            .map_err(failed(format!("syncing {}", format::file_name(link.id))))?;
    }
    disk.sync_dir()
        .map_err(failed("syncing the journal's directory"))?;
    for id in candidates.keys().filter(|id| !files.contains_key(id)) {
        info!(
            segment = id,
            "removing a segment that is not part of the log"
        );
        disk.remove(&format::file_name(*id))
            .map_err(failed(format!("removing {}", format::file_name(*id))))?;
    }
    if reader.torn_bytes > 0 {
        info!(
            bytes = reader.torn_bytes,
            "cut the torn tail of the journal"
        );
    }
    if reader.index.damaged > 0 {
        warn!(
            records = reader.index.damaged,
            "records of the journal are damaged"
        );
    }
    Ok(Found {
        index: reader.index,
        log: newest.log,
        salt: newest.salt,
        next_position: reader.next_position,
        next_segment,
        previous,
        files,
        torn_bytes: reader.torn_bytes,
    })
}

fn candidates(disk: &dyn Disk) -> Result<BTreeMap<SegmentId, Candidate>, RecoverError> {
    let mut candidates = BTreeMap::new();
    for name in disk
        .list()
        .map_err(failed("listing the journal's directory"))?
    {
        let Some(id) = format::segment_of(&name) else {
            continue;
        };
        let file = disk
            .open(&name)
            .map_err(failed(format!("opening {name}")))?;
        let mut bytes = [0; SEGMENT_HEADER];
        file.read_at(0, &mut bytes)
            .map_err(failed(format!("reading {name}")))?;
        let header = SegmentHeader::decode(&bytes).filter(|header| header.id == id);
        candidates.insert(id, Candidate { file, header });
    }
    Ok(candidates)
}

/// No readable header. The first segment's header is synced before anything follows it, so data
/// behind an unreadable one means damage, and none that the log was never begun.
fn empty(
    disk: &dyn Disk,
    options: &Options,
    candidates: BTreeMap<SegmentId, Candidate>,
    next_segment: SegmentId,
    (log, salt): (LogId, u64),
) -> Result<Found, RecoverError> {
    for (id, candidate) in candidates {
        let file = format::file_name(id);
        let mut bytes = [0; 4096];
        let read = candidate
            .file
            .read_at(count(SEGMENT_HEADER), &mut bytes)
            .map_err(failed(format!("reading {file}")))?;
        if bytes.iter().take(read).any(|byte| *byte != 0) {
            return Err(RecoverError::Unreadable { file });
        }
        disk.remove(&file)
            .map_err(failed(format!("removing {file}")))?;
    }
    Ok(Found {
        index: Index::new(log, options),
        log,
        salt,
        next_position: 1,
        next_segment,
        previous: None,
        files: BTreeMap::new(),
        torn_bytes: 0,
    })
}

/// The segments of the log, oldest first: from the newest back, each names the one before it.
fn chain(
    candidates: &BTreeMap<SegmentId, Candidate>,
    newest: SegmentHeader,
    seed: Seed,
) -> Result<Vec<Link>, RecoverError> {
    let mut chain = Vec::new();
    // A newer file without a header is one that a crash met while it was made, unless it holds batches.
    for (id, candidate) in candidates.range(newest.id + 1..).rev() {
        let mark = durable_mark(candidate.file.as_ref(), seed, *id)
            .map_err(failed(format!("reading {}", format::file_name(*id))))?;
        if mark.is_some() {
            chain.push(Link {
                id: *id,
                file: Arc::clone(&candidate.file),
                next_position: 0,
                cut: None,
            });
        }
    }
    let mut next = Some((newest.id, None));
    while let Some((id, cut)) = next {
        let Some(candidate) = candidates.get(&id) else {
            break;
        };
        chain.push(Link {
            id,
            file: Arc::clone(&candidate.file),
            next_position: candidate.header.map_or(0, |header| header.next_position),
            cut,
        });
        next = match candidate.header {
            Some(header) => header.previous.map(|cut| (cut.segment, Some(cut.len))),
            None => candidates
                .range(..id)
                .next_back()
                .map(|(before, _)| (*before, None)),
        };
    }
    chain.reverse();
    Ok(chain)
}

struct LogReader {
    index: Index,
    seed: Seed,
    next_position: u64,
    torn_bytes: u64,
}

impl LogReader {
    /// Reads one segment, and says where it ends.
    fn read(&mut self, link: &Link) -> io::Result<u64> {
        self.next_position = self.next_position.max(link.next_position);
        let file = link.file.as_ref();
        let len = file.len()?;
        let (end, durable) = match link.cut {
            Some(cut) => (cut.min(len), cut),
            None => (len, durable_mark(file, self.seed, link.id)?.unwrap_or(0)),
        };
        self.index.segments.entry(link.id).or_default();
        let mut scanner = Scanner::new(file, self.seed, link.id, end, durable);
        let mut written_at = Millis(0);
        let mut read_to = count(SEGMENT_HEADER);
        let mut damaged = 0_u64;
        loop {
            match scanner.next()? {
                None => break,
                Some(Item::Batch(header)) => written_at = Millis(header.written_at),
                Some(Item::Entry {
                    header,
                    place,
                    payload,
                }) => {
                    read_to = u64::from(place.offset) + u64::from(place.len);
                    self.next_position = self.next_position.max(header.position + 1);
                    if apply(&mut self.index, &header, place, payload, written_at).is_none() {
                        damaged += 1;
                    }
                }
                Some(Item::Damage) => damaged += 1,
                Some(Item::Torn { at, bytes }) => {
                    self.torn_bytes += bytes;
                    read_to = read_to.min(at);
                }
            }
        }
        if damaged > 0 {
            warn!(
                segment = link.id,
                places = damaged,
                "a segment of the journal is damaged; the rest was read"
            );
        }
        let end = link
            .cut
            .map_or_else(|| read_to.max(durable.min(len)), |cut| cut.min(len));
        self.index.segments.insert(
            link.id,
            Segment {
                bytes: end,
                ..self
                    .index
                    .segments
                    .get(&link.id)
                    .copied()
                    .unwrap_or_default()
            },
        );
        Ok(end)
    }
}

/// Applies an entry of a log that is read; `None`: it is valid but says nothing that is understood.
fn apply(
    index: &mut Index,
    header: &EntryHeader,
    place: Place,
    payload: &[u8],
    now: Millis,
) -> Option<()> {
    match header.kind {
        Kind::Event | Kind::CarriedEvent => {
            let head = entry::read_event_head(payload)?;
            let ingestor = index.number_by_name(head.ingestor);
            let key = head.key.map(|(hash, window)| RecordKey {
                hash,
                window,
                payload: half(&head.payload.0),
                size: index::key_size(head.ingestor, head.event_id),
            });
            index.record(&NewRecord {
                position: header.position,
                ingestor,
                spec: head.spec,
                accepted_at: head.accepted_at,
                origin: head.origin,
                key,
                place,
                carried: header.kind == Kind::CarriedEvent,
            });
        }
        Kind::Spec => {
            let (ingestor, text) = entry::read_spec(payload)?;
            let number = index.number_by_name(ingestor);
            let digest = SpecDigest::of(text);
            index.put_spec(number, digest, text.into(), place, now);
            if header.position == SPEC_IN_FORCE {
                index.put_in_force(number, Some(digest), now);
            }
        }
        Kind::Commit => {
            let (ingestor, epoch, ends) = entry::read_commit(payload)?;
            let number = index.number_by_name(ingestor);
            if index.may_commit(number, epoch).is_ok() {
                for ended in &ends {
                    index.end_read(number, ended);
                }
            }
        }
        Kind::Epochs => {
            let (holder, epoch, buckets) = entry::read_epochs(payload)?;
            // Refused here, it was refused then.
            drop(index.take(&holder, epoch, &buckets));
        }
        Kind::Key => {
            let key = entry::read_key(payload)?;
            let ingestor = index.number_by_name(key.ingestor);
            index.key(&NewKey {
                hash: key.hash,
                payload: half(&key.payload.0),
                position: header.position,
                accepted_at: key.accepted_at,
                window: key.window,
                ingestor,
                place,
                size: index::key_size(key.ingestor, key.event_id),
                end: key.end,
            });
        }
        Kind::Letter => {
            let letter = entry::read_letter(payload)?;
            apply_letter(index, header.position, place, &letter)?;
        }
        Kind::Tally => index.stand(&entry::read_standing(payload)?, now),
        Kind::Forget => {
            let number = index.number_by_name(entry::read_forget(payload)?);
            index.forget(number, now);
        }
    }
    Some(())
}

/// Marks, in place of a position, a spec entry that puts it in force; trimming writes 0.
pub(super) const SPEC_IN_FORCE: u64 = 1;

fn apply_letter(
    index: &mut Index,
    position: u64,
    place: Place,
    letter: &LetterEntry<'_>,
) -> Option<()> {
    let ingestor = index.number_by_name(entry::read_event_head(letter.event)?.ingestor);
    if let Some(epoch) = letter.epoch {
        let ended = entry::PlainEnd {
            position,
            end: letter.end,
            items: letter.items,
        };
        if index.may_commit(ingestor, epoch).is_err() {
            // As then, nothing is changed.
            return Some(());
        }
        index.end_read(ingestor, &ended);
    }
    let items = letter
        .letters
        .iter()
        .map(|(letter, replayed)| (letter.index, *replayed))
        .collect();
    index.letter(
        position,
        Letters {
            place,
            at: letter.at,
            ingestor,
            items,
        },
    );
    Some(())
}

pub(super) fn half(digest: &[u8; 32]) -> [u8; 16] {
    digest.first_chunk().copied().unwrap_or_default()
}
