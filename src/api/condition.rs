//! Conditions by the Kubernetes convention, with types and reasons from enums.
//!
//! Pure: [`findings`] says what holds, from what is known; [`merge`] turns that into the list of a
//! status, so that `lastTransitionTime` moves only when a status does.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

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

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell yet.
    Unknown,
}

impl Status {
    /// The value on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which aspect.
    pub condition: ConditionType,
    /// Whether it holds.
    pub status: Status,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
}

/// Why a spec is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An older Ingestor of the namespace has the path.
    PathConflict {
        /// The path.
        path: String,
        /// The name of the Ingestor that has it.
        holder: String,
    },
    /// An expression of the decision spec doesn't compile.
    InvalidExpression(String),
    /// The configuration of a source, scheme or limit is refused.
    InvalidConfiguration(String),
}

/// Whether the referenced Secrets can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Secrets {
    /// All of them, or none is needed.
    #[default]
    Usable,
    /// The named one does not exist, or lacks what is needed.
    Missing(String),
    /// The gateway may not read the named one.
    Forbidden(String),
}

/// What a gateway reports of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The generation that is routed; `None`: no route.
    pub generation: Option<i64>,
    /// Whether requests are accepted.
    pub serving: bool,
    /// Whether the referenced Secrets can be used.
    pub secrets: Secrets,
    /// Whether the Ingestor's share of the journal is full.
    pub share_full: bool,
}

/// Everything that the conditions of an Ingestor depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.enabled`.
    pub enabled: bool,
    /// Whether `auth` has an entry `none`.
    pub auth_none: bool,
    /// `maxPerMinute: 0`.
    pub paused: bool,
    /// Why the newest spec is not in force.
    pub refusal: Option<Refusal>,
    /// What the gateway reports; `None`: nothing yet.
    pub endpoint: Option<Endpoint>,
    /// What the API server answers where writes are held back.
    pub writes_held: Option<String>,
    /// The first error of an expression that failed on recent events.
    pub expression_error: Option<String>,
    /// How many events lie in the dead letters.
    pub dead_letters: u64,
}

/// What holds, in the order in which it is shown. `Unauthenticated` is there only where `auth` has `none`.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = vec![accepted(facts), ready(facts), degraded(facts)];
    if facts.auth_none {
        all.push(finding(
            ConditionType::Unauthenticated,
            Status::True,
            Reason::AuthNone,
            "auth has `none`: anybody who reaches the endpoint can send events",
        ));
    }
    all
}

fn finding(
    condition: ConditionType,
    status: Status,
    reason: Reason,
    message: impl Into<String>,
) -> Finding {
    Finding {
        condition,
        status,
        reason,
        message: message.into(),
    }
}

fn refusal(refusal: &Refusal) -> (Reason, String) {
    match refusal {
        Refusal::PathConflict { path, holder } => (
            Reason::PathConflict,
            format!(
                "the path {path} belongs to the older Ingestor {holder}: choose another path, or delete that one"
            ),
        ),
        Refusal::InvalidExpression(message) => (Reason::InvalidExpression, message.clone()),
        Refusal::InvalidConfiguration(message) => (Reason::InvalidConfiguration, message.clone()),
    }
}

fn accepted(facts: &Facts) -> Finding {
    let condition = ConditionType::Accepted;
    match &facts.refusal {
        Some(why) => {
            let (reason, message) = refusal(why);
            finding(condition, Status::False, reason, message)
        }
        None => finding(
            condition,
            Status::True,
            Reason::AsExpected,
            "the spec is valid and in force",
        ),
    }
}

fn ready(facts: &Facts) -> Finding {
    let no =
        |reason, message: String| finding(ConditionType::Ready, Status::False, reason, message);
    if !facts.enabled {
        return no(
            Reason::Disabled,
            "spec.enabled is false: the endpoint answers 404".to_owned(),
        );
    }
    if let Some(why @ Refusal::PathConflict { .. }) = &facts.refusal {
        let (reason, message) = refusal(why);
        return no(reason, message);
    }
    let Some(endpoint) = &facts.endpoint else {
        return pending("no gateway has reported on this Ingestor yet");
    };
    match (&endpoint.secrets, &facts.refusal) {
        (Secrets::Missing(name), _) => no(
            Reason::SecretMissing,
            format!(
                "the Secret {name} does not exist, or lacks what the scheme needs: the endpoint answers 503 until it is there"
            ),
        ),
        (Secrets::Forbidden(name), _) => no(
            Reason::SecretForbidden,
            format!(
                "the gateway may not read the Secret {name}: bind its role in this namespace; the endpoint answers 503 until then"
            ),
        ),
        (Secrets::Usable, Some(_)) if endpoint.serving => finding(
            ConditionType::Ready,
            Status::True,
            Reason::AsExpected,
            "the endpoint serves under the last spec that was in force",
        ),
        (Secrets::Usable, Some(why)) => {
            let (reason, message) = refusal(why);
            no(reason, message)
        }
        (Secrets::Usable, None) if endpoint.generation.is_none_or(|g| g < facts.generation) => {
            pending("the gateway has not loaded this generation yet")
        }
        (Secrets::Usable, None) if endpoint.serving => finding(
            ConditionType::Ready,
            Status::True,
            Reason::AsExpected,
            "the endpoint serves",
        ),
        (Secrets::Usable, None) => no(
            Reason::Pending,
            "the gateway has a route and does not serve it yet".to_owned(),
        ),
    }
}

fn pending(message: &str) -> Finding {
    finding(
        ConditionType::Ready,
        Status::Unknown,
        Reason::Pending,
        message,
    )
}

/// Everything that holds back or goes wrong, the worst first: its reason is the condition's, and the
/// message tells of all of them.
fn degraded(facts: &Facts) -> Finding {
    let share_full = facts.endpoint.as_ref().is_some_and(|e| e.share_full);
    let troubles: Vec<(Reason, String)> = [
        facts.writes_held.as_ref().map(|answer| {
            (
                Reason::WritesHeld,
                format!("writing Observations is held back and retried: {answer}"),
            )
        }),
        share_full.then(|| {
            (
                Reason::BacklogFull,
                "the Ingestor's share of the journal is full: the endpoint answers 429".to_owned(),
            )
        }),
        facts.paused.then(|| {
            (
                Reason::Paused,
                "maxPerMinute is 0: events are accepted and wait in the journal".to_owned(),
            )
        }),
        facts.expression_error.as_ref().map(|error| {
            (
                Reason::ExpressionErrors,
                format!("an expression failed on recent events: {error}"),
            )
        }),
        (facts.dead_letters > 0).then(|| {
            (
                Reason::DeadLetters,
                format!(
                    "{} events lie in the dead letters: see `zen-fabric events list`",
                    facts.dead_letters
                ),
            )
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    let Some((reason, _)) = troubles.first() else {
        return finding(
            ConditionType::Degraded,
            Status::False,
            Reason::AsExpected,
            "nothing holds events back",
        );
    };
    let reason = *reason;
    let messages: Vec<String> = troubles.into_iter().map(|(_, message)| message).collect();
    finding(
        ConditionType::Degraded,
        Status::True,
        reason,
        messages.join("; "),
    )
}

/// Longest message of a condition, as the CRD has it; what is longer is cut.
const MESSAGE: usize = 32_768;

/// The list for a status: one entry per finding. `lastTransitionTime` is that of `previous` where the
/// status is the same, else `now`. Entries of types that this crate knows and nobody found are
/// dropped; those of other writers stay as they are.
#[must_use]
pub fn merge(
    previous: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: &Time,
) -> Vec<Condition> {
    let ours = findings.iter().map(|found| {
        let since = previous
            .iter()
            .find(|old| {
                old.type_ == found.condition.as_str() && old.status == found.status.as_str()
            })
            .map_or(now, |old| &old.last_transition_time);
        Condition {
            type_: found.condition.as_str().to_owned(),
            status: found.status.as_str().to_owned(),
            reason: found.reason.as_str().to_owned(),
            message: found.message.chars().take(MESSAGE).collect(),
            observed_generation: generation,
            last_transition_time: since.clone(),
        }
    });
    let foreign = previous
        .iter()
        .filter(|old| ConditionType::ALL.iter().all(|t| t.as_str() != old.type_))
        .cloned();
    ours.chain(foreign).collect()
}

#[cfg(test)]
mod tests;
