//! How a segment lies on disk.
//!
//! ```text
//!  segment = header(64) batch*        header: log, salt, id, where the previous segment ends
//!  batch   = header(40) entry*        header: length, count, up to where this segment was durable
//!  entry   = header(24) payload       header: length, kind, position, checksum of the payload
//! ```
//!
//! Every header has a checksum of its own, begun with the log's salt, which never leaves the disk:
//! nobody can send a body that looks like a header to a reader that searches for the next one.

use crate::journal::LogId;

pub(super) const SEGMENT_HEADER: usize = 64;
pub(super) const BATCH_HEADER: usize = 40;
pub(super) const ENTRY_HEADER: usize = 24;

const SEGMENT_MAGIC: [u8; 8] = *b"ZENWAL\x00\x01";
const BATCH_MAGIC: u32 = 0x5a46_4254;

/// A segment's number; also its file's name.
pub(super) type SegmentId = u32;

pub(super) fn file_name(id: SegmentId) -> String {
    format!("{id:08x}.segment")
}

pub(super) fn segment_of(name: &str) -> Option<SegmentId> {
    let digits = name
        .strip_suffix(".segment")
        .filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    /// Of the entry's header; segments are at most 1 GiB and one batch.
    pub(super) offset: u32,
    /// Of header and payload.
    pub(super) len: u32,
}

/// Where a segment ends: what lies behind is ignored for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) segment: SegmentId,
    pub(super) len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log: LogId,
    pub(super) salt: u64,
    pub(super) id: SegmentId,
    pub(super) previous: Option<Cut>,
    pub(super) next_position: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Bytes of entries behind this header.
    pub(super) len: u32,
    pub(super) count: u32,
    /// Whether this is the state at the segment's beginning.
    pub(super) snapshot: bool,
    /// Up to which offset this segment was durable when the batch was written.
    pub(super) durable: u64,
    pub(super) written_at: i64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Event,
    /// An event that trimming wrote again; it was counted when it came.
    CarriedEvent,
    Spec,
    Commit,
    Epochs,
    Key,
    Letter,
    Tally,
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHeader {
    /// Of the payload.
    pub(super) len: u32,
    pub(super) kind: Kind,
    pub(super) position: u64,
    pub(super) payload_crc: u32,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Event,
        Self::CarriedEvent,
        Self::Spec,
        Self::Commit,
        Self::Epochs,
        Self::Key,
        Self::Letter,
        Self::Tally,
        Self::Forget,
    ];

    /// The number on disk.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Event => 1,
            Self::CarriedEvent => 2,
            Self::Spec => 3,
            Self::Commit => 4,
            Self::Epochs => 5,
            Self::Key => 6,
            Self::Letter => 7,
            Self::Tally => 8,
            Self::Forget => 9,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// What every checksum of one log begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn of_log(salt: u64) -> Self {
        Self(crc32c::crc32c(&salt.to_le_bytes()))
    }

    fn of_segment(self, id: SegmentId) -> u32 {
        crc32c::crc32c_append(self.0, &id.to_le_bytes())
    }
}

fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(slot) = out.get_mut(at..at + N) {
        slot.copy_from_slice(&bytes);
    }
}

fn get<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at + N)?.try_into().ok()
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        put(&mut out, 0, SEGMENT_MAGIC);
        put(&mut out, 8, self.log.0.to_le_bytes());
        put(&mut out, 12, self.id.to_le_bytes());
        put(&mut out, 16, self.salt.to_le_bytes());
        // Segment 0 is never made, so 0 means none.
        put(
            &mut out,
            24,
            self.previous.map_or(0, |cut| cut.segment).to_le_bytes(),
        );
        put(
            &mut out,
            32,
            self.previous.map_or(0, |cut| cut.len).to_le_bytes(),
        );
        put(&mut out, 40, self.next_position.to_le_bytes());
        let crc = crc32c::crc32c(out.get(..60).unwrap_or_default());
        put(&mut out, 60, crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let crc = u32::from_le_bytes(get(bytes, 60)?);
        if get(bytes, 0)? != SEGMENT_MAGIC || crc32c::crc32c(bytes.get(..60)?) != crc {
            return None;
        }
        let segment = u32::from_le_bytes(get(bytes, 24)?);
        let len = u64::from_le_bytes(get(bytes, 32)?);
        Some(Self {
            log: LogId(u32::from_le_bytes(get(bytes, 8)?)),
            id: u32::from_le_bytes(get(bytes, 12)?),
            salt: u64::from_le_bytes(get(bytes, 16)?),
            previous: (segment != 0).then_some(Cut { segment, len }),
            next_position: u64::from_le_bytes(get(bytes, 40)?),
        })
    }
}

impl BatchHeader {
    pub(super) fn encode(&self, seed: Seed, segment: SegmentId) -> [u8; BATCH_HEADER] {
        let mut out = [0; BATCH_HEADER];
        put(&mut out, 0, BATCH_MAGIC.to_le_bytes());
        put(&mut out, 4, self.len.to_le_bytes());
        put(&mut out, 8, self.count.to_le_bytes());
        put(&mut out, 12, u32::from(self.snapshot).to_le_bytes());
        put(&mut out, 16, self.durable.to_le_bytes());
        put(&mut out, 24, self.written_at.to_le_bytes());
        let crc =
            crc32c::crc32c_append(seed.of_segment(segment), out.get(..36).unwrap_or_default());
        put(&mut out, 36, crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8], seed: Seed, segment: SegmentId) -> Option<Self> {
        if get(bytes, 0)? != BATCH_MAGIC.to_le_bytes() {
            return None;
        }
        let crc = u32::from_le_bytes(get(bytes, 36)?);
        if crc32c::crc32c_append(seed.of_segment(segment), bytes.get(..36)?) != crc {
            return None;
        }
        Some(Self {
            len: u32::from_le_bytes(get(bytes, 4)?),
            count: u32::from_le_bytes(get(bytes, 8)?),
            snapshot: u32::from_le_bytes(get(bytes, 12)?) != 0,
            durable: u64::from_le_bytes(get(bytes, 16)?),
            written_at: i64::from_le_bytes(get(bytes, 24)?),
        })
    }
}

impl EntryHeader {
    pub(super) fn encode(&self, seed: Seed) -> [u8; ENTRY_HEADER] {
        let mut out = [0; ENTRY_HEADER];
        put(&mut out, 0, self.len.to_le_bytes());
        put(&mut out, 4, [self.kind.code()]);
        put(&mut out, 8, self.position.to_le_bytes());
        put(&mut out, 16, self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c_append(seed.0, out.get(..20).unwrap_or_default());
        put(&mut out, 20, crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8], seed: Seed) -> Option<Self> {
        let crc = u32::from_le_bytes(get(bytes, 20)?);
        if crc32c::crc32c_append(seed.0, bytes.get(..20)?) != crc {
            return None;
        }
        let [code] = get(bytes, 4)?;
        Some(Self {
            len: u32::from_le_bytes(get(bytes, 0)?),
            kind: Kind::from_code(code)?,
            position: u64::from_le_bytes(get(bytes, 8)?),
            payload_crc: u32::from_le_bytes(get(bytes, 16)?),
        })
    }
}

/// An entry that was read: its header and payload, both checked.
pub(super) fn decode_entry(bytes: &[u8], seed: Seed) -> Option<(EntryHeader, &[u8])> {
    let header = EntryHeader::decode(bytes, seed)?;
    let end = ENTRY_HEADER + usize::try_from(header.len).ok()?;
    let payload = bytes.get(ENTRY_HEADER..end)?;
    (crc32c::crc32c(payload) == header.payload_crc).then_some((header, payload))
}

/// Appends an entry to `out`, and says how long it is.
pub(super) fn push_entry(
    out: &mut Vec<u8>,
    seed: Seed,
    kind: Kind,
    position: u64,
    payload: &[u8],
    payload_crc: u32,
) -> u32 {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let header = EntryHeader {
        len,
        kind,
        position,
        payload_crc,
    };
    out.extend_from_slice(&header.encode(seed));
    out.extend_from_slice(payload);
    len.saturating_add(24)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_and_any_flipped_bit_is_seen(salt: u64, id in 1..u32::MAX, len: u32, at in 0_usize..(SEGMENT_HEADER - 1) * 8) {
            let header = SegmentHeader {
                log: LogId(7),
                salt,
                id,
                previous: Some(Cut { segment: id - 1, len: u64::from(len) }).filter(|cut| cut.segment > 0),
                next_position: 9,
            };
            let mut bytes = header.encode();
            prop_assert_eq!(SegmentHeader::decode(&bytes), Some(header));
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(SegmentHeader::decode(&bytes), None);

            let seed = Seed::of_log(salt);
            let batch = BatchHeader { len, count: 3, snapshot: false, durable: 5, written_at: -1 };
            let mut bytes = batch.encode(seed, id);
            prop_assert_eq!(BatchHeader::decode(&bytes, seed, id), Some(batch));
            prop_assert_eq!(BatchHeader::decode(&bytes, seed, id ^ 1), None);
            bytes[at % BATCH_HEADER] ^= 0x10;
            prop_assert_eq!(BatchHeader::decode(&bytes, seed, id), None);
        }

        #[test]
        fn an_entry_comes_back_and_any_flipped_bit_is_seen(payload in proptest::collection::vec(any::<u8>(), 0..64), at: usize) {
            let seed = Seed::of_log(1);
            let mut bytes = Vec::new();
            push_entry(&mut bytes, seed, Kind::Event, 5, &payload, crc32c::crc32c(&payload));
            let (header, read) = decode_entry(&bytes, seed).unwrap();
            prop_assert_eq!((header.position, read), (5, payload.as_slice()));
            let at = at % (bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert!(decode_entry(&bytes, seed).is_none());
        }
    }

    #[test]
    fn file_names_come_back_and_others_are_not_ours() {
        assert_eq!(segment_of(&file_name(0xabc)), Some(0xabc));
        assert_eq!(segment_of("lock"), None);
        assert_eq!(segment_of("1.segment"), None);
    }
}
