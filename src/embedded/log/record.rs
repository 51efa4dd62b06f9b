//! The bytes of the log.

use bytes::Bytes;

use crate::embedded::store::{Change, Store};

const MAGIC: &[u8; 16] = b"zen-fabric-api1\n";

/// The largest record that is believed: an object is at most a request's body, doubled by
/// defaults, and a key.
const MAX_RECORD: usize = 16 * 1024 * 1024;

/// Stands where a record has its length, and is none.
const MARK: [u8; 4] = [0xff; 4];

/// How long a mark is: itself, where it stands, and a checksum.
pub(super) const MARK_LENGTH: usize = 16;

/// Stands before each batch: all before it was durable when it was written.
pub(super) fn mark(at: u64) -> [u8; MARK_LENGTH] {
    let mut mark = [0; MARK_LENGTH];
    let sum = crc32c::crc32c(&at.to_le_bytes()).to_le_bytes();
    let bytes = MARK.into_iter().chain(at.to_le_bytes()).chain(sum);
    for (slot, byte) in mark.iter_mut().zip(bytes) {
        *slot = byte;
    }
    mark
}

fn is_mark(bytes: &[u8], at: usize) -> bool {
    bytes.starts_with(&MARK) && bytes.starts_with(&mark(u64::try_from(at).unwrap_or(u64::MAX)))
}

/// Why a file can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is something else.
    Foreign,
    /// What was durable can't be read from here on, and more was written behind it.
    Damaged(usize),
}

/// How a file begins: what it is, and the version from which it goes on.
pub(super) fn header(revision: u64) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&revision.to_le_bytes());
    header
}

/// Appends a record to `buffer`.
pub(super) fn encode(buffer: &mut Vec<u8>, change: &Change) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&change.revision.to_le_bytes());
    for text in [&*change.shelf, &*change.key] {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(text.as_bytes());
    }
    match &change.object {
        Some(object) => {
            buffer.push(1);
            buffer.extend_from_slice(object);
        }
        None => buffer.push(0),
    }
    let (sum, length) = {
        let payload = buffer.get(start.saturating_add(8)..).unwrap_or_default();
        (
            crc32c::crc32c(payload),
            u32::try_from(payload.len()).unwrap_or(u32::MAX),
        )
    };
    let head = length.to_le_bytes().into_iter().chain(sum.to_le_bytes());
    for (slot, byte) in buffer.iter_mut().skip(start).zip(head) {
        *slot = byte;
    }
}

/// Puts the whole records into the store; gives the last version and where the whole part ends. What
/// is behind it was never durable.
pub(super) fn replay(bytes: &Bytes, store: &mut Store) -> Result<(u64, usize), Unreadable> {
    let total = bytes.len();
    let (mut rest, mut revision) = begin(bytes).ok_or(Unreadable::Foreign)?;
    let mut whole = total.saturating_sub(rest.len());
    loop {
        if is_mark(&rest, whole) {
            drop(rest.split_to(MARK_LENGTH));
        } else if let Some(change) = decode(&mut rest) {
            revision = revision.max(change.revision);
            // An object of its own: a slice would keep the whole file in memory.
            let change = Change {
                object: change.object.map(|object| Bytes::copy_from_slice(&object)),
                ..change
            };
            store.restore(change);
        } else {
            break;
        }
        whole = total.saturating_sub(rest.len());
    }
    let marked = |at: usize| is_mark(bytes.get(at..).unwrap_or_default(), at);
    if (whole..total).any(marked) {
        return Err(Unreadable::Damaged(whole));
    }
    if whole < total {
        tracing::warn!(bytes = total - whole, "cut the torn tail of the object log");
    }
    Ok((revision, whole))
}

fn begin(bytes: &Bytes) -> Option<(Bytes, u64)> {
    let mut rest = bytes
        .strip_prefix(MAGIC.as_slice())
        .map(|rest| bytes.slice_ref(rest))?;
    let revision = u64::from_le_bytes(take(&mut rest, 8)?.as_ref().try_into().ok()?);
    Some((rest, revision))
}

fn decode(rest: &mut Bytes) -> Option<Change> {
    let mut ahead = rest.clone();
    let length = take_u32(&mut ahead)?;
    let sum = take_u32(&mut ahead)?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_RECORD)?;
    let mut payload = take(&mut ahead, length)?;
    if crc32c::crc32c(&payload) != sum {
        return None;
    }
    let revision = u64::from_le_bytes(take(&mut payload, 8)?.as_ref().try_into().ok()?);
    let shelf = take_text(&mut payload)?;
    let key = take_text(&mut payload)?;
    let there = take(&mut payload, 1)?;
    *rest = ahead;
    Some(Change {
        revision,
        shelf: shelf.into(),
        key: key.into(),
        object: (there.as_ref() == [1]).then_some(payload),
    })
}

fn take(rest: &mut Bytes, count: usize) -> Option<Bytes> {
    (rest.len() >= count).then(|| rest.split_to(count))
}

fn take_u32(rest: &mut Bytes) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.as_ref().try_into().ok()?))
}

fn take_text(rest: &mut Bytes) -> Option<String> {
    let length = usize::try_from(take_u32(rest)?).ok()?;
    String::from_utf8(take(rest, length)?.to_vec()).ok()
}
