//! What an entry of a dead letter says.

use super::{
    Fields, end,
    event::{EventHead, HAS_TRACEPARENT, event_head},
    put_bytes, put_count, put_end, put_u32, put_u64,
};
use crate::journal::{End, Epoch, Items, Letter, Millis};

/// A dead-lettered record: its end, its letters, and its event whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal::wal) struct LetterEntry<'a> {
    /// `None`: carried by trimming, its end was counted before.
    pub(in crate::journal::wal) epoch: Option<Epoch>,
    pub(in crate::journal::wal) end: End,
    pub(in crate::journal::wal) items: Items,
    pub(in crate::journal::wal) at: Millis,
    pub(in crate::journal::wal) letters: Vec<(Letter, bool)>,
    /// An event's payload.
    pub(in crate::journal::wal) event: &'a [u8],
}

/// The longest message that is kept; the engine's are far shorter.
const MESSAGE_MAX: usize = 4096;

pub(in crate::journal::wal) fn put_letter(out: &mut Vec<u8>, entry: &LetterEntry<'_>) {
    put_u64(out, entry.epoch.map_or(u64::MAX, |epoch| epoch.0));
    put_end(out, entry.end, &entry.items);
    out.extend_from_slice(&entry.at.0.to_le_bytes());
    put_count(out, entry.letters.len());
    for (letter, replayed) in &entry.letters {
        put_u32(out, letter.index);
        out.push(u8::from(*replayed));
        put_bytes(out, letter.reason.as_bytes());
        let cut = letter.message.floor_char_boundary(MESSAGE_MAX);
        put_bytes(
            out,
            letter.message.get(..cut).unwrap_or_default().as_bytes(),
        );
    }
    out.extend_from_slice(entry.event);
}

pub(in crate::journal::wal) fn read_letter(payload: &[u8]) -> Option<LetterEntry<'_>> {
    let mut fields = Fields(payload);
    let epoch = Some(Epoch(fields.u64()?)).filter(|epoch| epoch.0 != u64::MAX);
    let (end, items) = end(&mut fields)?;
    let at = fields.millis()?;
    let count = fields.count(13)?;
    let mut letters = Vec::with_capacity(count);
    for _ in 0..count {
        let index = fields.u32()?;
        let replayed = fields.u8()? != 0;
        let reason = fields.text()?.into();
        let message = fields.text()?.to_owned();
        letters.push((
            Letter {
                index,
                reason,
                message,
            },
            replayed,
        ));
    }
    Some(LetterEntry {
        epoch,
        end,
        items,
        at,
        letters,
        event: fields.0,
    })
}

/// The head of an event, and the size of its body.
pub(in crate::journal::wal) fn read_event_outline(
    payload: &[u8],
) -> Option<(EventHead<'_>, usize)> {
    let mut fields = Fields(payload);
    let (head, flags) = event_head(&mut fields)?;
    if flags & HAS_TRACEPARENT != 0 {
        fields.text()?;
    }
    for _ in 0..fields.count(8)? {
        let (_name, _value) = (fields.text()?, fields.text()?);
    }
    let _query = fields.text()?;
    Some((head, fields.0.len()))
}
