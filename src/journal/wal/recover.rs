//! Reads a log at start: which segments belong to it, where it ends, what it holds.

mod entries;

use std::{collections::BTreeMap, io, sync::Arc};

use tracing::{info, warn};

use super::{
    disk::{Disk, DiskFile},
    format::{self, Cut, SEGMENT_HEADER, Seed, SegmentHeader, SegmentId},
    index::{Index, Segment, count},
    options::Options,
    scan::{Item, Scanner, durable_mark, holds_entries},
};
use crate::journal::{LogId, Millis};

#[cfg(feature = "testing")]
use super::options::Mutant;

use self::entries::apply;
pub(super) use self::entries::{SPEC_IN_FORCE, half};

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
    /// A segment of the log is not there.
    #[error(
        "{file} of the journal is missing, though {older}, which is older, is there; put it back, or move {older} and what is older away: what only they hold is lost then"
    )]
    Missing {
        /// The file that is missing.
        file: String,
        /// The newest of those that came before it.
        older: String,
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
    unmixed(&candidates, newest.log)?;
    let chain = chain(&candidates, newest, seed)?;
    let mut reader = LogReader {
        index: Index::new(newest.log, options),
        seed,
        next_position: 1,
        torn_bytes: 0,
    };
    let mut previous = None;
    let mut files = BTreeMap::new();
    let mut tails = Vec::new();
    for link in &chain {
        let read = reader
            .read(link)
            .map_err(failed(format!("reading {}", format::file_name(link.id))))?;
        if let Some(from) = read.unsure_from {
            tails.push((link, from, read.end));
        }
        previous = Some(Cut {
            segment: link.id,
            len: read.end,
        });
        files.insert(link.id, Arc::clone(&link.file));
    }
    reader.index.settle(now);
    settle(options, tails)?;
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

/// All segments are of one log.
fn unmixed(candidates: &BTreeMap<SegmentId, Candidate>, log: LogId) -> Result<(), RecoverError> {
    let foreign = |candidate: &Candidate| candidate.header.is_some_and(|header| header.log != log);
    match candidates.iter().find(|(_, candidate)| foreign(candidate)) {
        Some((id, _)) => Err(RecoverError::Mixed {
            file: format::file_name(*id),
        }),
        None => Ok(()),
    }
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
            unbroken(candidates, id, seed)?;
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

/// The log begins behind `missing`, which was trimmed: so nothing older holds entries. Trimming
/// removes the oldest first, one durably after the other.
fn unbroken(
    candidates: &BTreeMap<SegmentId, Candidate>,
    missing: SegmentId,
    seed: Seed,
) -> Result<(), RecoverError> {
    for (id, candidate) in candidates.range(..missing).rev() {
        let older = format::file_name(*id);
        let holds = holds_entries(candidate.file.as_ref(), seed, *id)
            .map_err(failed(format!("reading {older}")))?;
        if holds {
            return Err(RecoverError::Missing {
                file: format::file_name(missing),
                older,
            });
        }
    }
    Ok(())
}

/// The parts of segments of which nothing says that they were durable.
#[cfg_attr(
    not(feature = "testing"),
    expect(unused_variables, reason = "for a planted mistake")
)]
fn settle(options: &Options, tails: Vec<(&Link, u64, u64)>) -> Result<(), RecoverError> {
    for (link, from, end) in tails {
        #[cfg(feature = "testing")]
        let from = if options.is(Mutant::TrustCleanPages) {
            end
        } else {
            from
        };
        make_durable(link.file.as_ref(), from, end).map_err(failed(format!(
            "making {} durable",
            format::file_name(link.id)
        )))?;
    }
    Ok(())
}

/// What a crash left unsynced must not be served before it is durable. A sync alone doesn't do that:
/// after one that failed the system takes the pages for clean, and the next says "done" without
/// having written them. So they are written again.
fn make_durable(file: &dyn DiskFile, from: u64, end: u64) -> io::Result<()> {
    const CHUNK: usize = 256 * 1024;
    let mut bytes = vec![0; CHUNK];
    let mut at = from;
    while at < end {
        let most = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
        let read = file.read_at(at, bytes.get_mut(..most).unwrap_or_default())?;
        if read == 0 {
            break;
        }
        file.write_at(at, bytes.get(..read).unwrap_or_default())?;
        at += count(read);
    }
    file.sync()
}

/// How a segment was read.
struct Read {
    end: u64,
    /// Nothing in the log says that it was durable from here on.
    unsure_from: Option<u64>,
}

struct LogReader {
    index: Index,
    seed: Seed,
    next_position: u64,
    torn_bytes: u64,
}

impl LogReader {
    /// Reads one segment, and says where it ends.
    fn read(&mut self, link: &Link) -> io::Result<Read> {
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
        // The first batch is written with the header, before anything is synced.
        let sure = if durable > count(SEGMENT_HEADER) {
            durable
        } else {
            0
        };
        let unsure_from = link.cut.is_none().then_some(sure);
        Ok(Read { end, unsure_from })
    }
}
