//! What the guarded part of the admin server and its callers say to each other, as JSON.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::journal::{LetterId, LetterSummary, LogId, Position, RecordId, Share, Tally};

/// A dead letter's name as people write it: `log/position/index`, the log in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterName(pub LetterId);

/// The text is no name of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no dead letter: want log/position/index, such as 7f3a0c11/4711/0")]
pub struct NoLetterName(pub String);

impl fmt::Display for LetterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.record, self.0.index)
    }
}

impl FromStr for LetterName {
    type Err = NoLetterName;

    fn from_str(text: &str) -> Result<Self, NoLetterName> {
        parse_name(text).ok_or_else(|| NoLetterName(text.to_owned()))
    }
}

fn parse_name(text: &str) -> Option<LetterName> {
    let mut parts = text.split('/');
    let log = parts.next().filter(|log| log.len() == 8)?;
    let log = u32::from_str_radix(log, 16).ok()?;
    let position = parts.next()?.parse().ok()?;
    let index = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(LetterName(LetterId {
        record: RecordId {
            log: LogId(log),
            position: Position(position),
        },
        index,
    }))
}

/// An Ingestor, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Whose {
    /// Its UID.
    pub uid: String,
    /// `namespace/name`; absent when the Ingestor is gone and nothing names it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A dead letter without the event's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Its name, see [`LetterName`].
    pub id: String,
    /// Whose event it was.
    pub ingestor: Whose,
    /// A stable word.
    pub reason: String,
    /// What happened, and what to do.
    pub message: String,
    /// When it was put there, RFC 3339.
    pub at: String,
    /// When the event was accepted, RFC 3339.
    pub accepted_at: String,
    /// The event's id.
    pub event_id: String,
    /// Whether it was replayed.
    pub replayed: bool,
    /// Size of the event's body.
    pub body_bytes: usize,
}

/// A page of dead letters, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The letters.
    pub items: Vec<Summary>,
    /// Where the next page begins; absent: this was the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A dead letter with its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: Summary,
    /// The request's headers, without credentials.
    pub headers: Vec<(String, String)>,
    /// The request's query.
    pub query: String,
    /// The body, when it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// What a replay is asked for with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Whether to replay a letter that was replayed before.
    #[serde(default)]
    pub force: bool,
}

/// What a replay did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// The new record, `log/position`.
    pub record: String,
    /// The event id under which it is processed.
    pub event_id: String,
}

/// One Ingestor's tally.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestorTally {
    /// Whose.
    pub ingestor: Whose,
    /// What has become of its events.
    pub tally: Tally,
    /// Bytes of its uncommitted records.
    pub share_used: u64,
    /// What they may take.
    pub share_limit: u64,
}

/// Every tally, in one snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tallies {
    /// The log they are of, in hexadecimal.
    pub log: String,
    /// By Ingestor.
    pub items: Vec<IngestorTally>,
    /// The sum.
    pub total: Tally,
}

/// A refusal, as a problem document (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, and what to do.
    pub detail: String,
}

impl IngestorTally {
    pub(super) fn of(ingestor: Whose, tally: Tally, share: Share) -> Self {
        Self {
            ingestor,
            tally,
            share_used: share.used,
            share_limit: share.limit,
        }
    }
}

impl Summary {
    pub(super) fn of(letter: LetterSummary, ingestor: Whose) -> Self {
        Self {
            id: LetterName(letter.id).to_string(),
            ingestor,
            reason: letter.letter.reason.as_ref().to_owned(),
            message: letter.letter.message,
            at: rfc3339(letter.at),
            accepted_at: rfc3339(letter.accepted_at),
            event_id: letter.event_id.as_ref().to_owned(),
            replayed: letter.replayed,
            body_bytes: letter.body_bytes,
        }
    }
}

fn rfc3339(at: crate::journal::Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .map_or_else(|_out_of_range| at.0.to_string(), |at| at.to_string())
}

/// Names already looked up while a page is made.
pub(super) type Names = BTreeMap<crate::journal::IngestorUid, Whose>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let text = "7f3a0c11/4711/2";
        let name: LetterName = text.parse().unwrap();
        assert_eq!(name.0.record.log, LogId(0x7f3a_0c11));
        assert_eq!(name.to_string(), text);
        for wrong in [
            "",
            "7f3a0c11",
            "7f3a0c11/1",
            "7f3a0c11/1/2/3",
            "zzzzzzzz/1/2",
            "1/1/1",
            "7f3a0c11/-1/2",
        ] {
            assert!(wrong.parse::<LetterName>().is_err(), "{wrong}");
        }
    }
}
