//! What a failed call means: pure, and the whole of "Dead letters" as a table.
//!
//! Only what retrying can't mend becomes a dead letter. All else holds, with backoff: what names
//! one object holds that name, what names the surroundings holds the Ingestor.

use std::time::Duration;

use crate::kube::failure::{Cause, Failure, Verb};

/// What is to be done about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The name is taken: look at who has it.
    Look,
    /// The object changed since it was read: read it again.
    ReadAgain,
    /// The object went away: begin anew.
    BeginAnew,
    /// Retrying can't mend it.
    Dead(DeadReason),
    /// The server refuses this object. Dead only if it takes a plain one in its place.
    AskPlain,
    /// One object has bad luck: hold its name. The same for several names holds the Ingestor.
    HoldName(HoldReason),
    /// The surroundings are wrong: hold the Ingestor.
    HoldIngestor(HoldReason),
}

/// Why an item goes to the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadReason {
    /// The Ingestor's namespace does not exist any more.
    NamespaceGone,
    /// A namespace of the same name took its place: another tenant.
    NamespaceReplaced,
    /// The event id was used before with another payload.
    KeyReused,
    /// The server refuses the object, and would take a plain one.
    Refused,
}

impl DeadReason {
    /// The stable word in a dead letter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NamespaceGone => "NamespaceGone",
            Self::NamespaceReplaced => "NamespaceReplaced",
            Self::KeyReused => "KeyReused",
            Self::Refused => "Refused",
        }
    }
}

/// Why something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldReason {
    /// 401: the server doesn't know who we are.
    Unauthenticated,
    /// 403: we may not.
    Forbidden,
    /// 403: the namespace's quota is used up.
    Quota,
    /// 404: the server doesn't serve the kind.
    KindMissing,
    /// 409 that is neither `AlreadyExists` nor a lost race.
    Conflict,
    /// 400, 413 or 422, also for a plain object: a policy, or an older CRD.
    Policy,
    /// 429.
    Throttled,
    /// 5xx.
    ServerError,
    /// No answer in time.
    TimedOut,
    /// No connection.
    Unreachable,
    /// An answer that no API server gives.
    Unexpected,
    /// The decision spec of a record can't be had, or doesn't compile here.
    SpecUnavailable,
}

impl HoldReason {
    /// All reasons, for metrics that are made in advance.
    pub const ALL: [Self; 12] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Quota,
        Self::KindMissing,
        Self::Conflict,
        Self::Policy,
        Self::Throttled,
        Self::ServerError,
        Self::TimedOut,
        Self::Unreachable,
        Self::Unexpected,
        Self::SpecUnavailable,
    ];

    /// The word for messages and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Quota => "quota",
            Self::KindMissing => "kind-missing",
            Self::Conflict => "conflict",
            Self::Policy => "policy",
            Self::Throttled => "throttled",
            Self::ServerError => "server-error",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::Unexpected => "unexpected",
            Self::SpecUnavailable => "spec-unavailable",
        }
    }

    /// Whether it is the server that struggles, not our request: it heals by itself within moments,
    /// and all writes together should go easy on it.
    #[must_use]
    pub const fn is_load(self) -> bool {
        match self {
            Self::Throttled | Self::ServerError | Self::TimedOut | Self::Unreachable => true,
            Self::Unauthenticated
            | Self::Forbidden
            | Self::Quota
            | Self::KindMissing
            | Self::Conflict
            | Self::Policy
            | Self::Unexpected
            | Self::SpecUnavailable => false,
        }
    }

    /// Whether it heals by itself within moments.
    #[must_use]
    pub const fn heals(self) -> bool {
        self.is_load() || matches!(self, Self::Conflict)
    }

    /// The longest wait between two attempts.
    ///
    /// Where it heals by itself, work resumes within 2 s of its recovery: 1 s of waiting and as
    /// much for the attempt. What a person has to mend may be tried every 30 s: 1,000 such
    /// Ingestors then cost the server 33 refusals a second.
    #[must_use]
    pub const fn longest_wait(self) -> Duration {
        if self.heals() {
            Duration::from_secs(1)
        } else {
            Duration::from_secs(30)
        }
    }
}

/// What the failure of a write, or of the read that it needs, means.
#[must_use]
pub fn verdict(failure: &Failure) -> Verdict {
    match &failure.cause {
        Cause::TimedOut(_) => Verdict::HoldName(HoldReason::TimedOut),
        Cause::Unreachable(_) => Verdict::HoldName(HoldReason::Unreachable),
        Cause::Garbled(_) => Verdict::HoldName(HoldReason::Unexpected),
        Cause::Refused {
            code,
            reason,
            resource,
            message,
            retry_after: _,
        } => refused(failure.verb, *code, reason, resource, message),
    }
}

fn refused(verb: Verb, code: u16, reason: &str, resource: &str, message: &str) -> Verdict {
    match (code, reason) {
        (409, "AlreadyExists") => Verdict::Look,
        (409, _) if verb == Verb::Update => Verdict::ReadAgain,
        // A quota's admission lost a race with itself: the next attempt may win.
        (409, _) => Verdict::HoldName(HoldReason::Conflict),
        (404, _) if resource == "namespaces" => Verdict::Dead(DeadReason::NamespaceGone),
        (404, _) if verb == Verb::Get || (verb == Verb::Update && resource == "observations") => {
            Verdict::BeginAnew
        }
        (404, _) => Verdict::HoldIngestor(HoldReason::KindMissing),
        (400 | 413 | 422, _) => Verdict::AskPlain,
        (401, _) => Verdict::HoldIngestor(HoldReason::Unauthenticated),
        (403, _) if message.contains("exceeded quota") => Verdict::HoldIngestor(HoldReason::Quota),
        (403, _) => Verdict::HoldIngestor(HoldReason::Forbidden),
        (429, _) => Verdict::HoldIngestor(HoldReason::Throttled),
        (408 | 504, _) => Verdict::HoldName(HoldReason::TimedOut),
        (500..=599, _) => Verdict::HoldName(HoldReason::ServerError),
        _ => Verdict::HoldIngestor(HoldReason::Unexpected),
    }
}

/// What an item's refusal means, now that a plain Observation was tried in its place.
#[must_use]
pub fn after_plain(plain: Result<(), &Failure>) -> Verdict {
    let Err(failure) = plain else {
        return Verdict::Dead(DeadReason::Refused);
    };
    match verdict(failure) {
        // Also the plain one is refused; or its name is taken, which a dry run of a name that
        // nobody else makes can't be.
        Verdict::AskPlain | Verdict::Look | Verdict::ReadAgain | Verdict::BeginAnew => {
            Verdict::HoldIngestor(HoldReason::Policy)
        }
        other @ (Verdict::Dead(_) | Verdict::HoldName(_) | Verdict::HoldIngestor(_)) => other,
    }
}

#[cfg(test)]
mod tests;
