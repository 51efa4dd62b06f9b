//! The newest batches, as they were written: an engine that keeps up never reads the disk.

use std::collections::VecDeque;

use bytes::Bytes;

use super::format::{Place, SegmentId};

/// A batch in memory.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) segment: SegmentId,
    /// Offset of its first byte in the segment.
    pub(super) start: u32,
    pub(super) bytes: Bytes,
}

/// See the module. The oldest batch leaves.
#[derive(Debug)]
pub(super) struct Cache {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    limit: usize,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.bytes.len();
        self.chunks.push_back(chunk);
        while self.bytes > self.limit
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.bytes -= oldest.bytes.len();
        }
    }

    /// An entry, header and payload.
    pub(super) fn get(&self, place: Place) -> Option<Bytes> {
        let after = self
            .chunks
            .partition_point(|chunk| (chunk.segment, chunk.start) <= (place.segment, place.offset));
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        let from = usize::try_from(place.offset.checked_sub(chunk.start)?).ok()?;
        let to = from.checked_add(usize::try_from(place.len).ok()?)?;
        (chunk.segment == place.segment && to <= chunk.bytes.len())
            .then(|| chunk.bytes.slice(from..to))
    }

    pub(super) fn drop_segment(&mut self, segment: SegmentId) {
        self.chunks.retain(|chunk| chunk.segment != segment);
        self.bytes = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    }

    /// Nothing is uncommitted: nobody will ask.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.bytes = 0;
    }
}
