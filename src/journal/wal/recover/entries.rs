//! What an entry of a log that is read says to the index.

use crate::{
    api::SpecDigest,
    journal::{
        Millis,
        wal::{
            entry::{self, LetterEntry},
            format::{EntryHeader, Kind, Place},
            index::{self, Index, Letters, NewRecord, RecordKey, keys::NewKey},
        },
    },
};

/// Applies an entry of a log that is read; `None`: it is valid but says nothing that is understood.
pub(super) fn apply(
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
            // What is refused here was refused then.
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
pub(in crate::journal::wal) const SPEC_IN_FORCE: u64 = 1;

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

pub(in crate::journal::wal) fn half(digest: &[u8; 32]) -> [u8; 16] {
    digest.first_chunk().copied().unwrap_or_default()
}
