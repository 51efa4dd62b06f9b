//! What a call failed with, as data: pure, so that what it means can be a table.

use std::{fmt, time::Duration};

use kube::core::Status;

/// What was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// A create.
    Create,
    /// A create that the server only pretends to do.
    DryRun,
    /// A quorum read of one object.
    Get,
    /// A list page.
    List,
    /// A compare-and-swap of a whole object.
    Update,
    /// A merge patch of a status.
    Patch,
    /// A delete.
    Delete,
}

impl Verb {
    /// All verbs, for metrics that are made in advance.
    pub const ALL: [Self; 7] = [
        Self::Create,
        Self::DryRun,
        Self::Get,
        Self::List,
        Self::Update,
        Self::Patch,
        Self::Delete,
    ];

    /// The word for messages and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::DryRun => "dry-run",
            Self::Get => "get",
            Self::List => "list",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call that failed. Whether the server changed anything is known only for [`Cause::Refused`]
/// below 500: it did not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{verb} {object}: {cause}")]
pub struct Failure {
    /// What was attempted.
    pub verb: Verb,
    /// On which object: `kind namespace/name`.
    pub object: String,
    /// Why it failed.
    pub cause: Cause,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The server answered with an error.
    #[error("{code} {reason}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The machine-readable reason, such as `AlreadyExists`; may be empty.
        reason: String,
        /// The resource that the answer is about, such as `namespaces`; may be empty.
        resource: String,
        /// The server's words, cut to [`LONGEST_MESSAGE`].
        message: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// No answer in time; the server may have done what was asked.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// No connection, or it broke; the server may have done what was asked.
    #[error("the API server can't be reached: {0}")]
    Unreachable(String),
    /// The server's answer is not what the API promises; it may have done what was asked.
    #[error("the answer can't be understood: {0}")]
    Garbled(String),
}

/// A server's message is kept up to here: it lands in conditions (at most 32 KiB) and dead letters.
pub const LONGEST_MESSAGE: usize = 1_024;

impl Cause {
    /// From an answer with an error status.
    ///
    /// `header` is the answer's `Retry-After` in seconds, which priority and fairness sends with a
    /// body that is no `Status`.
    #[must_use]
    pub fn from_answer(code: u16, header: Option<u64>, body: &[u8]) -> Self {
        let parsed = serde_json::from_slice::<Status>(body).ok();
        let status = parsed.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(body);
            Status::failure(text.trim(), "")
        });
        let details = status.details.as_ref();
        let in_body = details.map_or(0, |details| u64::from(details.retry_after_seconds));
        let seconds = header.into_iter().chain([in_body]).max().unwrap_or(0);
        Self::Refused {
            code,
            reason: cut(&status.reason),
            resource: details.map(|d| cut(&d.kind)).unwrap_or_default(),
            message: cut(&status.message),
            retry_after: (seconds > 0).then(|| Duration::from_secs(seconds)),
        }
    }

    /// The HTTP status, where there was an answer.
    #[must_use]
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::TimedOut(_) | Self::Unreachable(_) | Self::Garbled(_) => None,
        }
    }

    /// How long the server asks to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::TimedOut(_) | Self::Unreachable(_) | Self::Garbled(_) => None,
        }
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST_MESSAGE);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_with_its_resource_and_wait() {
        let body = br#"{"kind":"Status","status":"Failure","code":429,"reason":"TooManyRequests",
            "message":"slow down","details":{"kind":"namespaces","retryAfterSeconds":7}}"#;
        assert_eq!(
            Cause::from_answer(429, Some(2), body),
            Cause::Refused {
                code: 429,
                reason: "TooManyRequests".into(),
                resource: "namespaces".into(),
                message: "slow down".into(),
                retry_after: Some(Duration::from_secs(7)),
            }
        );
    }

    #[test]
    fn plain_text_is_the_message_and_a_long_one_is_cut_at_a_character() {
        let cause = Cause::from_answer(429, Some(1), b"Too many requests\n");
        assert_eq!(cause.retry_after(), Some(Duration::from_secs(1)));
        assert_eq!(cause.to_string(), "429 : Too many requests");
        let long = "\u{e4}".repeat(LONGEST_MESSAGE);
        let Cause::Refused { message, .. } = Cause::from_answer(500, None, long.as_bytes()) else {
            panic!("an answer was given");
        };
        assert_eq!(message.len(), LONGEST_MESSAGE);
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        proptest::proptest!(|(code in 0_u16..1_000, body: Vec<u8>)| {
            drop(Cause::from_answer(code, None, &body));
        });
    }
}
