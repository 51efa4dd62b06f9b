//! Reading records back: from the newest batches in memory, else from disk, away from the tasks that
//! serve sockets.

use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use super::{
    disk::DiskFile,
    engine::Engine,
    entry,
    format::{self, ENTRY_HEADER, Kind, Place, Seed},
    stage::State,
};
use crate::journal::{DeadLetter, IngestorUid, LetterId, LetterSummary, RecordId, Seen};

/// Entries this near to each other are read in one go: about what the disk reads anyway.
const GAP: u32 = 16 * 1024;

/// And at most so much at once.
const READ_MAX: u64 = 1024 * 1024;

/// Where an entry is to be read from. An open file stays readable when trimming removes it.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Memory(Bytes),
    File(Arc<dyn DiskFile>, Place),
    Gone,
}

impl State {
    pub(super) fn source(&self, place: Place) -> Source {
        if let Some(bytes) = self.cache.get(place) {
            return Source::Memory(bytes);
        }
        match self.files.get(&place.segment) {
            Some(file) => Source::File(Arc::clone(file), place),
            None => Source::Gone,
        }
    }
}

/// An entry's payload, if it is what it was; an error is the disk's, and may pass.
#[derive(Debug)]
pub(super) enum Entry {
    Payload(Kind, Bytes),
    Damaged,
    Failed(std::io::Error),
}

fn check(bytes: &Bytes, seed: Seed) -> Entry {
    match format::decode_entry(bytes, seed) {
        Some((header, payload)) => {
            let end = ENTRY_HEADER + payload.len();
            Entry::Payload(header.kind, bytes.slice(ENTRY_HEADER..end))
        }
        None => Entry::Damaged,
    }
}

/// Reads entries, which lie in ascending order as long as trimming has not moved them.
pub(super) fn read_all(sources: &[Source], seed: Seed) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(sources.len());
    let mut rest = sources;
    while let Some((source, after)) = rest.split_first() {
        match source {
            Source::Memory(bytes) => {
                entries.push(check(bytes, seed));
                rest = after;
            }
            Source::Gone => {
                entries.push(Entry::Damaged);
                rest = after;
            }
            Source::File(file, place) => {
                let run = run(*place, after);
                let (batch, after) = rest.split_at(run);
                read_run(file.as_ref(), *place, batch, seed, &mut entries);
                rest = after;
            }
        }
    }
    entries
}

/// How many of the entries that begin with `first` are read at once.
fn run(first: Place, after: &[Source]) -> usize {
    let mut end = first.offset.saturating_add(first.len);
    let mut run = 1;
    for source in after {
        let Source::File(_, place) = source else {
            break;
        };
        let near =
            place.segment == first.segment && place.offset >= end && place.offset - end <= GAP;
        let total = u64::from(place.offset.saturating_sub(first.offset)) + u64::from(place.len);
        if !near || total > READ_MAX {
            break;
        }
        end = place.offset.saturating_add(place.len);
        run += 1;
    }
    run
}

fn read_run(
    file: &dyn DiskFile,
    first: Place,
    run: &[Source],
    seed: Seed,
    entries: &mut Vec<Entry>,
) {
    let last = run.iter().rev().find_map(|source| match source {
        Source::File(_, place) => Some(*place),
        Source::Memory(_) | Source::Gone => None,
    });
    let end = last.map_or(0, |place| place.offset.saturating_add(place.len));
    let len = usize::try_from(end.saturating_sub(first.offset)).unwrap_or_default();
    let mut bytes = vec![0; len];
    match file.read_at(u64::from(first.offset), &mut bytes) {
        Ok(read) => bytes.truncate(read),
        Err(error) => {
            let kind = error.kind();
            entries.extend(
                run.iter()
                    .map(|_| Entry::Failed(std::io::Error::new(kind, error.to_string()))),
            );
            return;
        }
    }
    let bytes = Bytes::from(bytes);
    for source in run {
        let Source::File(_, place) = source else {
            continue;
        };
        let from = usize::try_from(place.offset.saturating_sub(first.offset)).unwrap_or(usize::MAX);
        let to = from.saturating_add(usize::try_from(place.len).unwrap_or(usize::MAX));
        let inside = to <= bytes.len();
        entries.push(if inside {
            check(&bytes.slice(from..to), seed)
        } else {
            Entry::Damaged
        });
    }
}

/// Runs something that may wait for the disk where it delays no socket; without a runtime, here.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.ok(),
        Err(_) => Some(work()),
    }
}

pub(super) async fn read_off_thread(sources: Vec<Source>, seed: Seed) -> Vec<Entry> {
    if sources
        .iter()
        .all(|source| matches!(source, Source::Memory(_)))
    {
        return read_all(&sources, seed);
    }
    let asked = sources.len();
    let failed = || Entry::Failed(std::io::Error::other("the reader was stopped"));
    let entries = off_thread(move || read_all(&sources, seed)).await;
    entries.unwrap_or_else(|| std::iter::repeat_with(failed).take(asked).collect())
}

impl Engine {
    /// A record that was whole when it was written can't be read any more: it is counted and left
    /// out. False: it can, after all.
    pub(super) fn lose(&self, number: u32, position: u64) -> bool {
        let mut state = self.state();
        let still = state
            .index
            .ingestor(number)
            .and_then(|ingestor| ingestor.queue.get(position).copied());
        let Some(slot) = still else { return true };
        let again = read_all(&[state.source(slot.place())], self.seed);
        // Trimming may have moved it since, or the disk may have recovered.
        let lost = match again.first() {
            Some(Entry::Payload(_, payload)) => entry::read_event(payload).is_none(),
            Some(Entry::Failed(_)) => false,
            Some(Entry::Damaged) | None => true,
        };
        if lost {
            warn!(position, "a record of the journal is damaged");
            state.index.damage(number, position);
        }
        lost
    }

    /// What the journal remembers of a key, from the entry that holds it.
    pub(super) fn seen(record: RecordId, entry: &Entry) -> Option<Seen> {
        let Entry::Payload(kind, payload) = entry else {
            return None;
        };
        let (event_id, spec, named) = match kind {
            Kind::Event | Kind::CarriedEvent => {
                let head = entry::read_event_head(payload)?;
                (head.event_id, head.spec, head.named)
            }
            Kind::Key => {
                let key = entry::read_key(payload)?;
                (key.event_id, key.spec, key.named)
            }
            Kind::Letter
            | Kind::Spec
            | Kind::Commit
            | Kind::Epochs
            | Kind::Tally
            | Kind::Forget => return None,
        };
        Some(Seen {
            record,
            event_id: event_id.into(),
            spec,
            named,
        })
    }

    /// Dead letters behind `after`, at most `limit`; one record is in memory at a time.
    pub(super) fn list_letters(&self, after: Option<LetterId>, limit: usize) -> Vec<LetterSummary> {
        let mut letters = Vec::new();
        let mut from = after.map_or(0, |after| after.record.position.0);
        while letters.len() < limit {
            let Some(position) = self.next_letter(from) else {
                break;
            };
            let kept = self.kept(position);
            let summaries = kept.as_ref().and_then(Kept::summaries).unwrap_or_default();
            let behind = |letter: &LetterSummary| after.is_none_or(|after| letter.id > after);
            letters.extend(summaries.into_iter().filter(behind));
            from = position.saturating_add(1);
        }
        letters.truncate(limit);
        letters
    }

    fn next_letter(&self, from: u64) -> Option<u64> {
        let state = self.state();
        let mut letters = state.index.letters.range(from..);
        letters.next().map(|(position, _)| *position)
    }

    /// One dead letter.
    pub(super) fn read_letter(&self, id: LetterId) -> Option<DeadLetter> {
        if id.record.log != self.log {
            return None;
        }
        self.kept(id.record.position.0)?.letter(id)
    }

    /// The dead letters of one record, as they lie in the log.
    fn kept(&self, position: u64) -> Option<Kept> {
        let (source, items) = {
            let state = self.state();
            let letters = state.index.letters.get(&position)?;
            (state.source(letters.place), letters.items.clone())
        };
        match read_all(&[source], self.seed).pop() {
            Some(Entry::Payload(_, payload)) => Some(Kept {
                record: RecordId {
                    log: self.log,
                    position: crate::journal::Position(position),
                },
                payload,
                items,
            }),
            Some(Entry::Damaged | Entry::Failed(_)) | None => None,
        }
    }
}

/// The dead letters of one record.
struct Kept {
    record: RecordId,
    payload: Bytes,
    /// By index, whether it was replayed.
    items: Vec<(u32, bool)>,
}

impl Kept {
    fn id(&self, index: u32) -> LetterId {
        LetterId {
            record: self.record,
            index,
        }
    }

    fn replayed(&self, index: u32) -> bool {
        self.items.contains(&(index, true))
    }

    fn summaries(&self) -> Option<Vec<LetterSummary>> {
        let entry = entry::read_letter(&self.payload)?;
        let (head, body_bytes) = entry::read_event_outline(entry.event)?;
        let ingestor = IngestorUid(head.ingestor.into());
        let event_id: Arc<str> = head.event_id.into();
        let summaries = entry.letters.into_iter().map(|(letter, _)| LetterSummary {
            id: self.id(letter.index),
            replayed: self.replayed(letter.index),
            letter,
            at: entry.at,
            ingestor: ingestor.clone(),
            event_id: Arc::clone(&event_id),
            accepted_at: head.accepted_at,
            body_bytes,
        });
        Some(summaries.collect())
    }

    fn letter(&self, id: LetterId) -> Option<DeadLetter> {
        let entry = entry::read_letter(&self.payload)?;
        let mut letters = entry.letters.into_iter();
        let (letter, _) = letters.find(|(letter, _)| letter.index == id.index)?;
        Some(DeadLetter {
            id,
            replayed: self.replayed(id.index),
            letter,
            at: entry.at,
            event: entry::read_event(entry.event)?,
        })
    }
}
