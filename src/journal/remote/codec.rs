//! Between messages and what the journal knows. Reading is total: any message gives a value or says
//! what is wrong with it, and nothing is kept that is longer than its message.

mod event;
mod standing;

use std::{num::NonZeroU32, sync::Arc};

use crate::{
    api::SpecDigest,
    coordination::names::{self, MOST},
    journal::{
        BUCKETS, Bucket, Claim, End, Ended, Epoch, Fenced, FetchLimit, Holder, IngestorUid, Items,
        Letter, Position, SubscriptionError,
    },
};

use super::{FETCH_BYTES, FETCH_RECORDS, PIECE, pb};

pub use event::{from_record, record};
pub use standing::{facts, from_facts, from_tally, tally};

/// Longest UID of an Ingestor: a UUID has 36 bytes; others may be longer.
const UID: usize = 256;

/// A message that breaks a rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is malformed: {0}")]
pub struct Malformed(pub &'static str);

// === names and numbers ===

/// A UID.
pub fn ingestor(text: String) -> Result<IngestorUid, Malformed> {
    if text.is_empty() || text.len() > UID {
        return Err(Malformed("an Ingestor's UID has 1 to 256 bytes"));
    }
    Ok(IngestorUid(text.into()))
}

/// `pod#incarnation`.
pub fn holder(text: &str) -> Result<Holder, Malformed> {
    let holder: names::Holder = text
        .parse()
        .map_err(|_not| Malformed("a holder is `pod#incarnation`"))?;
    Ok(Holder::from(&holder))
}

fn bucket(number: u32) -> Result<Bucket, Malformed> {
    match u16::try_from(number) {
        Ok(number) if number < BUCKETS => Ok(Bucket(number)),
        _ => Err(Malformed("a bucket is 0 to 1023")),
    }
}

/// Buckets, each once.
pub fn buckets(numbers: &[u32]) -> Result<Vec<Bucket>, Malformed> {
    if numbers.len() > usize::from(BUCKETS) {
        return Err(Malformed("more buckets than there are"));
    }
    numbers.iter().map(|number| bucket(*number)).collect()
}

/// An epoch, which stays below 2^52.
pub fn epoch(number: u64) -> Result<Epoch, Malformed> {
    if number > MOST {
        return Err(Malformed("an epoch is below 2^52"));
    }
    Ok(Epoch(number))
}

fn position(number: u64) -> Result<Position, Malformed> {
    if number > MOST {
        return Err(Malformed("a position is below 2^52"));
    }
    Ok(Position(number))
}

/// SHA-256 of a spec's text.
pub fn digest(bytes: &[u8]) -> Result<SpecDigest, Malformed> {
    Ok(SpecDigest(array(bytes, "a digest has 32 bytes")?))
}

fn array<const N: usize>(bytes: &[u8], rule: &'static str) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_other| Malformed(rule))
}

// === claims ===

/// What is claimed.
pub fn claims(claims: Vec<pb::Claim>) -> Result<Vec<Claim>, Malformed> {
    if claims.len() > usize::from(BUCKETS) {
        return Err(Malformed("more claims than there are buckets"));
    }
    let read = |claim: pb::Claim| {
        Ok(Claim {
            bucket: bucket(claim.bucket)?,
            epoch: claim.epoch.map(epoch).transpose()?,
        })
    };
    claims.into_iter().map(read).collect()
}

/// As a message.
#[must_use]
pub fn from_claim(claim: &Claim) -> pb::Claim {
    pb::Claim {
        bucket: u32::from(claim.bucket.0),
        epoch: claim.epoch.map(|epoch| epoch.0),
    }
}

/// Who holds a bucket.
pub fn fenced(fenced: pb::Fenced) -> Result<Fenced, Malformed> {
    let holder = if fenced.holder.is_empty() {
        Holder("".into())
    } else {
        holder(&fenced.holder)?
    };
    Ok(Fenced {
        bucket: bucket(fenced.bucket)?,
        epoch: epoch(fenced.epoch)?,
        holder,
    })
}

/// As a message.
#[must_use]
pub fn from_fenced(fenced: &Fenced) -> pb::Fenced {
    pb::Fenced {
        bucket: u32::from(fenced.bucket.0),
        epoch: fenced.epoch.0,
        holder: fenced.holder.0.as_ref().to_owned(),
    }
}

// === fetches and commits ===

/// How much is fetched at most, whatever was asked for.
pub fn limit(records: u32, bytes: u64) -> Result<FetchLimit, Malformed> {
    let records = NonZeroU32::new(records.min(FETCH_RECORDS));
    Ok(FetchLimit {
        records: records.ok_or(Malformed("a fetch is of one record at least"))?,
        bytes: usize::try_from(bytes).map_or(FETCH_BYTES, |bytes| bytes.min(FETCH_BYTES)),
    })
}

/// From behind which position.
pub fn after(after: Option<u64>) -> Result<Option<Position>, Malformed> {
    after.map(position).transpose()
}

fn end(end: i32) -> Result<End, Malformed> {
    match pb::End::try_from(end) {
        Ok(pb::End::Filtered) => Ok(End::Filtered),
        Ok(pb::End::Deduplicated) => Ok(End::Deduplicated),
        Ok(pb::End::Observed) => Ok(End::Observed),
        Ok(pb::End::DeadLettered) => Ok(End::DeadLettered),
        Ok(pb::End::Unspecified) | Err(_) => Err(Malformed("an end that isn't known")),
    }
}

const fn from_end(end: End) -> pb::End {
    match end {
        End::Filtered => pb::End::Filtered,
        End::Deduplicated => pb::End::Deduplicated,
        End::Observed => pb::End::Observed,
        End::DeadLettered => pb::End::DeadLettered,
    }
}

fn items(counts: Option<pb::Counts>) -> Result<Items, Malformed> {
    let counts = counts.unwrap_or_default();
    let count =
        |count: u64| u32::try_from(count).map_err(|_large| Malformed("items are below 2^32"));
    Ok(Items {
        observed: count(counts.observed)?,
        filtered: count(counts.filtered)?,
        deduplicated: count(counts.deduplicated)?,
        dead_lettered: count(counts.dead_lettered)?,
    })
}

fn from_items(items: &Items) -> pb::Counts {
    pb::Counts {
        observed: u64::from(items.observed),
        filtered: u64::from(items.filtered),
        deduplicated: u64::from(items.deduplicated),
        dead_lettered: u64::from(items.dead_lettered),
    }
}

/// The end of a record.
pub fn ended(ended: pb::Ended) -> Result<Ended, Malformed> {
    let letter = |letter: pb::Letter| Letter {
        index: letter.index,
        reason: letter.reason.into(),
        message: letter.message,
    };
    Ok(Ended {
        position: position(ended.position)?,
        end: end(ended.end)?,
        items: items(ended.items)?,
        letters: ended.letters.into_iter().map(letter).collect(),
        observation: ended.observation.map(Into::into),
    })
}

/// As a message. Where an event has so many dead items that their messages don't fit, each is cut to
/// its share: their reasons say the same, shorter.
#[must_use]
pub fn from_ended(ended: Ended) -> pb::Ended {
    let share = PIECE / ended.letters.len().max(1);
    let letter = |letter: Letter| pb::Letter {
        index: letter.index,
        reason: letter.reason.as_ref().to_owned(),
        message: cut(letter.message, share),
    };
    pb::Ended {
        position: ended.position.0,
        end: from_end(ended.end).into(),
        items: Some(from_items(&ended.items)),
        letters: ended.letters.into_iter().map(letter).collect(),
        observation: ended.observation.map(Into::into),
    }
}

fn cut(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        let whole = (0..=longest).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(whole.unwrap_or_default());
    }
    text
}

// === failures ===

/// Why a call failed, as a message; `None`: not the call alone failed, the log is closing.
#[must_use]
pub fn from_error(error: SubscriptionError) -> Option<pb::failed::Why> {
    match error {
        SubscriptionError::Fenced(fenced) => Some(pb::failed::Why::Fenced(from_fenced(&fenced))),
        SubscriptionError::Disk(why) => Some(pb::failed::Why::Disk(cut(why, PIECE))),
        SubscriptionError::Unreachable(why) => Some(pb::failed::Why::Unreachable(cut(why, PIECE))),
        SubscriptionError::Closing => None,
    }
}

/// Why a call failed.
pub fn error(why: Option<pb::failed::Why>) -> Result<SubscriptionError, Malformed> {
    match why {
        Some(pb::failed::Why::Fenced(held)) => Ok(fenced(held)?.into()),
        Some(pb::failed::Why::Disk(why)) => Ok(SubscriptionError::Disk(why)),
        Some(pb::failed::Why::Unreachable(why)) => Ok(SubscriptionError::Unreachable(why)),
        None => Err(Malformed("a failure says why")),
    }
}

/// A text as it is shared.
#[must_use]
pub fn shared(text: String) -> Arc<str> {
    text.into()
}

#[cfg(test)]
pub(super) use tests::event as arbitrary;

#[cfg(test)]
mod tests;
