//! The types and reasons of an Ingestor's conditions, by the Kubernetes convention. What holds when
//! is the engine's projection to say.

use std::fmt;

/// Condition types of an Ingestor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The spec is valid and in force.
    Accepted,
    /// The endpoint serves.
    Ready,
    /// Something holds processing back; nothing is lost.
    Degraded,
    /// The endpoint accepts requests that nobody signed; present only where `auth` has `none`.
    Unauthenticated,
}

/// Why a condition is as it is; CamelCase on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing to complain about.
    AsExpected,
    /// An older Ingestor of the namespace has this path.
    PathConflict,
    /// An expression of the decision spec does not compile.
    InvalidExpression,
    /// The configuration of a source, scheme or limit is refused.
    InvalidConfiguration,
    /// `spec.enabled` is false.
    Disabled,
    /// A referenced Secret does not exist, or lacks the named key.
    SecretMissing,
    /// The gateway may not read the referenced Secret.
    SecretForbidden,
    /// The Ingestor's share of the journal is full.
    BacklogFull,
    /// `maxPerMinute: 0`.
    Paused,
    /// The API server refuses or fails writes; they are retried.
    WritesHeld,
    /// An expression failed on recent events; the field stayed absent.
    ExpressionErrors,
    /// Events went to the dead letters.
    DeadLetters,
    /// `auth` has an entry `none`.
    AuthNone,
    /// Not yet decided.
    Pending,
}

impl ConditionType {
    /// Every type, in the order in which they are shown.
    pub const ALL: [Self; 4] = [
        Self::Accepted,
        Self::Ready,
        Self::Degraded,
        Self::Unauthenticated,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Ready => "Ready",
            Self::Degraded => "Degraded",
            Self::Unauthenticated => "Unauthenticated",
        }
    }
}

impl Reason {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AsExpected => "AsExpected",
            Self::PathConflict => "PathConflict",
            Self::InvalidExpression => "InvalidExpression",
            Self::InvalidConfiguration => "InvalidConfiguration",
            Self::Disabled => "Disabled",
            Self::SecretMissing => "SecretMissing",
            Self::SecretForbidden => "SecretForbidden",
            Self::BacklogFull => "BacklogFull",
            Self::Paused => "Paused",
            Self::WritesHeld => "WritesHeld",
            Self::ExpressionErrors => "ExpressionErrors",
            Self::DeadLetters => "DeadLetters",
            Self::AuthNone => "AuthNone",
            Self::Pending => "Pending",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
