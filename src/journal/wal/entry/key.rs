//! Keys whose records are gone.

use super::{Fields, end, put_bytes, put_end, put_u64};
use crate::{
    api::SpecDigest,
    journal::{End, Items, KeyHash, Millis, PayloadDigest},
};

const HAS_END: u8 = 1;
const IS_NAMED: u8 = 2;

/// A key whose record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal::wal) struct CompactKey<'a> {
    pub(in crate::journal::wal) ingestor: &'a str,
    pub(in crate::journal::wal) hash: KeyHash,
    pub(in crate::journal::wal) payload: PayloadDigest,
    pub(in crate::journal::wal) spec: SpecDigest,
    pub(in crate::journal::wal) accepted_at: Millis,
    pub(in crate::journal::wal) window: u64,
    pub(in crate::journal::wal) end: Option<(End, Items)>,
    /// See [`Key::named`](crate::journal::Key::named).
    pub(in crate::journal::wal) named: bool,
    pub(in crate::journal::wal) event_id: &'a str,
}

/// How many bytes of a compact key's payload are not its strings, at most.
pub(in crate::journal::wal) const COMPACT_KEY_FIXED: usize = 4 + 16 + 32 + 32 + 8 + 8 + 18;

pub(in crate::journal::wal) fn put_key(out: &mut Vec<u8>, key: &CompactKey<'_>) {
    put_bytes(out, key.ingestor.as_bytes());
    out.extend_from_slice(&key.hash.0);
    out.extend_from_slice(&key.payload.0);
    out.extend_from_slice(&key.spec.0);
    out.extend_from_slice(&key.accepted_at.0.to_le_bytes());
    put_u64(out, key.window);
    let has_end = if key.end.is_some() { HAS_END } else { 0 };
    let is_named = if key.named { IS_NAMED } else { 0 };
    out.push(has_end | is_named);
    if let Some((end, items)) = &key.end {
        put_end(out, *end, items);
    }
    out.extend_from_slice(key.event_id.as_bytes());
}

pub(in crate::journal::wal) fn read_key(payload: &[u8]) -> Option<CompactKey<'_>> {
    let mut fields = Fields(payload);
    let ingestor = fields.text()?;
    let hash = KeyHash(fields.array()?);
    let payload = PayloadDigest(fields.array()?);
    let spec = SpecDigest(fields.array()?);
    let accepted_at = fields.millis()?;
    let window = fields.u64()?;
    let flags = fields.u8()?;
    let end = if flags & HAS_END == 0 {
        None
    } else {
        Some(end(&mut fields)?)
    };
    Some(CompactKey {
        ingestor,
        hash,
        payload,
        spec,
        accepted_at,
        window,
        end,
        named: flags & IS_NAMED != 0,
        event_id: std::str::from_utf8(fields.0).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::wal::entry::single;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        for end in [None, Some((End::Observed, single(End::Observed)))] {
            for named in [false, true] {
                let key = CompactKey {
                    ingestor: "uid",
                    hash: KeyHash([1; 16]),
                    payload: PayloadDigest([2; 32]),
                    spec: SpecDigest([3; 32]),
                    accepted_at: Millis(4),
                    window: 5,
                    end,
                    named,
                    event_id: "github/1",
                };
                let mut written = Vec::new();
                put_key(&mut written, &key);
                assert_eq!(read_key(&written), Some(key));
            }
        }
    }
}
