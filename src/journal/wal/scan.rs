//! Reads a segment front to back, and says what is torn and what is damaged.

use std::io;

use super::{
    disk::DiskFile,
    format::{
        BATCH_HEADER, BatchHeader, ENTRY_HEADER, EntryHeader, Place, SEGMENT_HEADER, Seed,
        SegmentId,
    },
    index::count,
};

/// How much is read at once: large enough for full disk speed, small beside the memory of the process.
const CHUNK: usize = 256 * 1024;

/// What lies next in a segment.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Batch(BatchHeader),
    Entry {
        header: EntryHeader,
        place: Place,
        payload: &'a [u8],
    },
    /// Something that was durable can't be read; the rest is read on.
    Damage,
    /// The tail of a write that a crash cut; nothing comes behind it.
    Torn {
        at: u64,
        bytes: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scanner<'f> {
    window: Window<'f>,
    seed: Seed,
    segment: SegmentId,
    /// What lies behind is ignored.
    end: u64,
    /// What is invalid before this is damage, behind it torn.
    durable: u64,
    offset: u64,
    /// End of the batch that is being read; at or before `offset` between batches.
    batch_end: u64,
    done: bool,
}

/// A piece of the file in memory.
struct Window<'f> {
    file: &'f dyn DiskFile,
    start: u64,
    bytes: Vec<u8>,
    /// How many of them were read.
    filled: usize,
}

impl std::fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window")
            .field("start", &self.start)
            .field("len", &self.filled)
            .finish()
    }
}

impl<'f> Window<'f> {
    fn new(file: &'f dyn DiskFile) -> Self {
        Self {
            file,
            start: 0,
            bytes: Vec::new(),
            filled: 0,
        }
    }

    /// The bytes at `offset`: `len` of them, fewer only at the end of the file.
    fn at(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let inside = offset
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip.checked_add(len).is_some_and(|end| end <= self.filled));
        let skip = if let Some(skip) = inside {
            skip
        } else {
            (self.start, self.filled) = (offset, 0);
            if self.bytes.len() < len.max(CHUNK) {
                self.bytes = vec![0; len.max(CHUNK)];
            }
            self.filled = self.file.read_at(offset, &mut self.bytes)?;
            0
        };
        let end = skip.saturating_add(len).min(self.filled);
        Ok(self.bytes.get(skip..end).unwrap_or_default())
    }
}

impl<'f> Scanner<'f> {
    pub(super) fn new(
        file: &'f dyn DiskFile,
        seed: Seed,
        segment: SegmentId,
        end: u64,
        durable: u64,
    ) -> Self {
        Self {
            window: Window::new(file),
            seed,
            segment,
            end,
            durable,
            offset: count(SEGMENT_HEADER),
            batch_end: 0,
            done: false,
        }
    }

    /// Goes on where another scanner of the same segment stopped.
    pub(super) fn resume(mut self, at: (u64, u64)) -> Self {
        (self.offset, self.batch_end) = at;
        self
    }

    pub(super) fn progress(&self) -> (u64, u64) {
        (self.offset, self.batch_end)
    }

    /// The next item; `None`: the segment ends here.
    pub(super) fn next(&mut self) -> io::Result<Option<Item<'_>>> {
        if self.done {
            return Ok(None);
        }
        if self.offset >= self.batch_end {
            self.batch()
        } else {
            self.entry()
        }
    }

    fn batch(&mut self) -> io::Result<Option<Item<'_>>> {
        let at = self.offset;
        let header = if at + count(BATCH_HEADER) <= self.end {
            let bytes = self.window.at(at, BATCH_HEADER)?;
            match BatchHeader::decode(bytes, self.seed, self.segment) {
                None if at >= self.durable && bytes.iter().all(|byte| *byte == 0) => {
                    self.done = true;
                    return Ok(None);
                }
                header => header,
            }
        } else {
            None
        };
        if let Some(header) = header {
            self.offset = at + count(BATCH_HEADER);
            self.batch_end = (self.offset + u64::from(header.len)).min(self.end);
            return Ok(Some(Item::Batch(header)));
        }
        if at >= self.durable {
            self.done = true;
            let bytes = self.end.saturating_sub(at).min(count(BATCH_HEADER));
            return Ok((bytes > 0).then_some(Item::Torn { at, bytes }));
        }
        let next = find_batch(&mut self.window, self.seed, self.segment, at + 1, self.end)?;
        (self.offset, self.batch_end) = (next.unwrap_or(self.end), 0);
        self.done = next.is_none();
        Ok(Some(Item::Damage))
    }

    fn entry(&mut self) -> io::Result<Option<Item<'_>>> {
        let at = self.offset;
        let room = usize::try_from(self.batch_end - at).unwrap_or(usize::MAX);
        let header = EntryHeader::decode(self.window.at(at, ENTRY_HEADER.min(room))?, self.seed);
        let Some(header) = header else {
            return self.bad_entry(None);
        };
        let len = ENTRY_HEADER + usize::try_from(header.len).unwrap_or(usize::MAX - ENTRY_HEADER);
        if len > room {
            return self.bad_entry(None);
        }
        let after = at + count(len);
        let payload = self
            .window
            .at(at, len)?
            .get(ENTRY_HEADER..)
            .unwrap_or_default();
        if crc32c::crc32c(payload) != header.payload_crc || payload.len() + ENTRY_HEADER != len {
            return self.bad_entry(Some(after));
        }
        let place = Place {
            segment: self.segment,
            offset: u32::try_from(at).unwrap_or(u32::MAX),
            len: u32::try_from(len).unwrap_or(u32::MAX),
        };
        self.offset = after;
        // Again, for the borrow ends above.
        let payload = self
            .window
            .at(at, len)?
            .get(ENTRY_HEADER..)
            .unwrap_or_default();
        Ok(Some(Item::Entry {
            header,
            place,
            payload,
        }))
    }

    /// An entry that is invalid; where the next one begins, if its header says so.
    fn bad_entry(&mut self, next: Option<u64>) -> io::Result<Option<Item<'_>>> {
        let at = self.offset;
        if at >= self.durable {
            self.done = true;
            return Ok(Some(Item::Torn {
                at,
                bytes: self.batch_end - at,
            }));
        }
        self.offset = match next {
            Some(next) => next,
            None => self.find_entry(at + 1)?,
        };
        Ok(Some(Item::Damage))
    }

    /// The next valid entry header of this batch, else the batch's end.
    fn find_entry(&mut self, from: u64) -> io::Result<u64> {
        for at in from..self.batch_end {
            let bytes = self.window.at(at, ENTRY_HEADER)?;
            if EntryHeader::decode(bytes, self.seed).is_some() {
                return Ok(at);
            }
        }
        Ok(self.batch_end)
    }
}

/// Up to which offset the batches of a segment say that it was durable; `None`: it has no batch.
pub(super) fn durable_mark(
    file: &dyn DiskFile,
    seed: Seed,
    segment: SegmentId,
) -> io::Result<Option<u64>> {
    let mut mark = None;
    each_batch(file, seed, segment, |header| {
        mark = mark.max(Some(header.durable));
        true
    })?;
    Ok(mark)
}

/// Whether a segment holds more than the snapshot that it began with.
pub(super) fn holds_entries(
    file: &dyn DiskFile,
    seed: Seed,
    segment: SegmentId,
) -> io::Result<bool> {
    let mut found = false;
    each_batch(file, seed, segment, |header| {
        found = !header.snapshot;
        !found
    })?;
    Ok(found)
}

/// Shows the headers of a segment's batches, also behind damage, as long as `more` asks for them.
fn each_batch(
    file: &dyn DiskFile,
    seed: Seed,
    segment: SegmentId,
    mut more: impl FnMut(&BatchHeader) -> bool,
) -> io::Result<()> {
    let end = file.len()?;
    let mut window = Window::new(file);
    let mut at = count(SEGMENT_HEADER);
    while let Some(found) = find_batch(&mut window, seed, segment, at, end)? {
        let header = BatchHeader::decode(window.at(found, BATCH_HEADER)?, seed, segment);
        let Some(header) = header.filter(&mut more) else {
            break;
        };
        at = found + count(BATCH_HEADER) + u64::from(header.len);
    }
    Ok(())
}

/// Searches for a batch header from `from` on.
fn find_batch(
    window: &mut Window<'_>,
    seed: Seed,
    segment: SegmentId,
    from: u64,
    end: u64,
) -> io::Result<Option<u64>> {
    const BLOCK: usize = 4096;
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut at = from;
    while at + count(BATCH_HEADER) <= end {
        // Room that was never written is most of what is searched.
        let block = window.at(at, BLOCK)?;
        if block == ZEROS.get(..block.len()).unwrap_or_default() {
            // A header that begins in this block would not be all zero.
            at += count(block.len().max(1));
            continue;
        }
        let bytes = window.at(at, BATCH_HEADER)?;
        if BatchHeader::decode(bytes, seed, segment).is_some() {
            return Ok(Some(at));
        }
        at += 1;
    }
    Ok(None)
}
