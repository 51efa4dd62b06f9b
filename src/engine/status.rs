//! What an Ingestor's status says: a pure function of what the owning core and the gateways know.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::{
    api::{
        Ingestor, IngestorStatus,
        condition::{ConditionType, Reason},
        ingestor::Counters,
        paths,
    },
    journal::{
        Millis, Tally,
        facts::{Facts, Refusal, SecretState, Unused},
    },
};

/// What a status is made of.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// The Ingestor as it is today, with the status it has.
    pub ingestor: &'a Ingestor,
    /// What became of its events, as far as its logs can be asked.
    pub tally: Tally,
    /// Whether all of them could be.
    pub whole: bool,
    /// What the gateways know; `None`: nothing yet.
    pub facts: Option<&'a Facts>,
    /// The older Ingestor that has its path.
    pub conflict: Option<&'a paths::Owner>,
    /// Why its writes are held, if they are.
    pub held: Option<&'a str>,
    /// Its last dead letter.
    pub letter: Option<&'a (Millis, String)>,
    /// The last expression that failed.
    pub expression: Option<&'a (Millis, String)>,
    /// The wall clock.
    pub now: Millis,
}

/// So long after the last dead letter or failed expression the condition still tells of it.
const RECENT: i64 = 10 * 60 * 1_000;

/// A condition's message may have 32,768 characters.
const LONGEST_MESSAGE: usize = 4_096;

/// A condition before its times are known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Says {
    kind: ConditionType,
    status: &'static str,
    reason: Reason,
    message: String,
}

/// What changed between two statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing: no write is needed.
    Nothing,
    /// Counters, backlog, time of the last event: soon enough.
    Counters,
    /// Conditions, endpoint or generation: first.
    Conditions,
}

/// The status that the Ingestor is to have.
#[must_use]
pub fn project(known: &Known<'_>) -> IngestorStatus {
    let ingestor = known.ingestor;
    let before = ingestor.status.as_ref();
    let generation = ingestor.metadata.generation;
    let says = [
        Some(accepted(known)),
        Some(ready(known)),
        Some(degraded(known)),
        unauthenticated(known),
    ];
    let old = before.map_or(&[][..], |status| status.conditions.as_slice());
    let mut conditions: Vec<Condition> = says
        .into_iter()
        .flatten()
        .map(|says| says.stamp(old, generation, known.now))
        .collect();
    // Conditions that others added are theirs.
    let ours = ConditionType::ALL.map(ConditionType::as_str);
    let others = old.iter().filter(|c| !ours.contains(&c.type_.as_str()));
    conditions.extend(others.cloned());
    IngestorStatus {
        observed_generation: generation,
        endpoint: known.facts.and_then(|facts| facts.endpoint.clone()),
        owner: before.and_then(|status| status.owner.clone()),
        counters: Some(counters(&known.tally, before)),
        backlog: Some(backlog(known, before)),
        last_event_time: last_event(&known.tally, before),
        conditions,
    }
}

/// How urgent the step from one status to another is. Whose it is counts for nothing: a new owner is
/// written with the next change, so that taking Ingestors over writes nothing by itself.
#[must_use]
pub fn change(before: Option<&IngestorStatus>, after: &IngestorStatus) -> Change {
    let Some(before) = before else {
        return Change::Conditions;
    };
    let counted = before.counters == after.counters
        && before.backlog == after.backlog
        && before.last_event_time == after.last_event_time;
    let same = before.conditions == after.conditions
        && before.endpoint == after.endpoint
        && before.observed_generation == after.observed_generation;
    match (same, counted) {
        (true, true) => Change::Nothing,
        (true, false) => Change::Counters,
        (false, _) => Change::Conditions,
    }
}

fn accepted(known: &Known<'_>) -> Says {
    let says =
        |status, reason, message| Says::new(ConditionType::Accepted, status, reason, message);
    if let Some(owner) = known.conflict {
        let message = format!(
            "the older Ingestor {} has this path; choose another spec.source.webhook.path",
            owner.name
        );
        return says("False", Reason::PathConflict, message);
    }
    let Some(facts) = known.facts else {
        return says(
            "Unknown",
            Reason::Pending,
            "no gateway has it yet".to_owned(),
        );
    };
    if let Some(refused) = &facts.refused {
        let then = match refused {
            Refusal::Expression(_) if facts.serving => {
                "; the last spec that compiled stays in force"
            }
            Refusal::Expression(_) => "",
            Refusal::Configuration(_) => "; the endpoint is closed until that is mended",
        };
        return says("False", reason(refused), format!("{refused}{then}"));
    }
    // One that is disabled is never served: that the gateway has it is seen by the route's absence.
    if !known.ingestor.spec.enabled && facts.generation.is_none() {
        let message = "the spec is valid; spec.enabled is false".to_owned();
        return says("True", Reason::AsExpected, message);
    }
    if facts.generation != known.ingestor.metadata.generation {
        let message = "the gateway doesn't serve this generation yet".to_owned();
        return says("Unknown", Reason::Pending, message);
    }
    says(
        "True",
        Reason::AsExpected,
        "the spec is in force".to_owned(),
    )
}

const fn reason(refused: &Refusal) -> Reason {
    match refused {
        Refusal::Expression(_) => Reason::InvalidExpression,
        Refusal::Configuration(_) => Reason::InvalidConfiguration,
    }
}

fn ready(known: &Known<'_>) -> Says {
    let says = |status, reason, message: &str| {
        Says::new(ConditionType::Ready, status, reason, message.to_owned())
    };
    if !known.ingestor.spec.enabled {
        return says("False", Reason::Disabled, "spec.enabled is false");
    }
    if known.conflict.is_some() {
        return says(
            "False",
            Reason::PathConflict,
            "the path belongs to another Ingestor",
        );
    }
    let Some(facts) = known.facts else {
        return says("Unknown", Reason::Pending, "no gateway has it yet");
    };
    if facts.serving {
        return says("True", Reason::AsExpected, &serves(facts));
    }
    match &facts.secret {
        SecretState::Missing { name } => says(
            "False",
            Reason::SecretMissing,
            &format!("secret {name} doesn't exist, or has nothing that the scheme can use"),
        ),
        SecretState::Forbidden { name } => says(
            "False",
            Reason::SecretForbidden,
            &format!("the gateway may not read secret {name}: bind its role in this namespace"),
        ),
        SecretState::Usable => match &facts.refused {
            Some(refused) => says("False", reason(refused), &refused.to_string()),
            None => says("Unknown", Reason::Pending, "the gateway takes it up"),
        },
    }
}

/// Who rotates a Secret learns here that a value of it will not do.
fn serves(facts: &Facts) -> String {
    let unused = facts.unused.iter().map(|Unused { secret, values }| {
        format!(
            "{values} of the values of secret {secret} can't be used: one has 8 bytes at least and is what its scheme reads, and 16 are the most"
        )
    });
    let all: Vec<_> = std::iter::once("the endpoint serves".to_owned())
        .chain(unused)
        .collect();
    all.join("; ")
}

fn degraded(known: &Known<'_>) -> Says {
    let says = |reason, message: &str| {
        Says::new(ConditionType::Degraded, "True", reason, message.to_owned())
    };
    let recent = |told: Option<&(Millis, String)>| {
        told.filter(|(at, _)| known.now.0.saturating_sub(at.0) < RECENT)
            .map(|(_, message)| message.clone())
    };
    if let Some(held) = known.held {
        return says(Reason::WritesHeld, held);
    }
    if known.facts.is_some_and(|facts| facts.share_full) {
        let message = "the backlog fills its share of the journal; the endpoint answers 429";
        return says(Reason::BacklogFull, message);
    }
    if known.ingestor.spec.output.observation.max_per_minute == Some(0) {
        return says(
            Reason::Paused,
            "maxPerMinute is 0; events wait in the journal",
        );
    }
    if let Some(letter) = recent(known.letter) {
        return says(Reason::DeadLetters, &letter);
    }
    if let Some(error) = recent(known.expression) {
        return says(Reason::ExpressionErrors, &error);
    }
    let message = "nothing holds processing back".to_owned();
    Says::new(
        ConditionType::Degraded,
        "False",
        Reason::AsExpected,
        message,
    )
}

fn unauthenticated(known: &Known<'_>) -> Option<Says> {
    paths::accepts_unsigned(known.ingestor).then(|| {
        let message = "auth has an entry `none`: anyone may send".to_owned();
        Says::new(
            ConditionType::Unauthenticated,
            "True",
            Reason::AuthNone,
            message,
        )
    })
}

impl Says {
    fn new(kind: ConditionType, status: &'static str, reason: Reason, message: String) -> Self {
        let end = message.floor_char_boundary(LONGEST_MESSAGE);
        Self {
            kind,
            status,
            reason,
            message: message.get(..end).unwrap_or_default().to_owned(),
        }
    }

    /// The time of the last transition stays while the status stays.
    fn stamp(self, old: &[Condition], generation: Option<i64>, now: Millis) -> Condition {
        let before = old.iter().find(|one| one.type_ == self.kind.as_str());
        let same = before.filter(|one| one.status == self.status);
        Condition {
            type_: self.kind.as_str().to_owned(),
            status: self.status.to_owned(),
            reason: self.reason.as_str().to_owned(),
            message: self.message,
            observed_generation: generation,
            last_transition_time: same
                .map_or_else(|| Time(time(now)), |one| one.last_transition_time.clone()),
        }
    }
}

/// To the second, as the API writes times.
fn time(at: Millis) -> Timestamp {
    Timestamp::from_second(at.0.div_euclid(1_000)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Counters never fall. A log that can't be reached is counted as it was last seen, and a replica that
/// has never reached it doesn't know that; nor does anybody of one that is gone for good. What the
/// status says already stays until the sum of those that are known has passed it.
fn counters(tally: &Tally, before: Option<&IngestorStatus>) -> Counters {
    let told = before.and_then(|status| status.counters.as_ref());
    let of = |count: u64, told: Option<i64>| whole(count).max(told.unwrap_or(0));
    let accepted = tally.requests.saturating_add(tally.replays);
    Counters {
        accepted: of(accepted, told.map(|told| told.accepted)),
        observed: of(tally.observed, told.map(|told| told.observed)),
        filtered: of(tally.filtered, told.map(|told| told.filtered)),
        deduplicated: of(tally.deduplicated, told.map(|told| told.deduplicated)),
        dead_lettered: of(tally.dead_lettered, told.map(|told| told.dead_lettered)),
        damaged: of(tally.damaged, told.map(|told| told.damaged)),
    }
}

/// The backlog of all logs; while one has never been asked, what was told stays.
fn backlog(known: &Known<'_>, before: Option<&IngestorStatus>) -> i64 {
    let told = before.and_then(|status| status.backlog);
    let told = told.filter(|_| !known.whole);
    told.unwrap_or_else(|| whole(known.tally.backlog))
}

fn last_event(tally: &Tally, before: Option<&IngestorStatus>) -> Option<String> {
    let told = before.and_then(|status| status.last_event_time.as_deref());
    let told: Option<Timestamp> = told.and_then(|told| told.parse().ok());
    let at = tally.last_accepted_at.map(time);
    at.max(told).map(|at| at.to_string())
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
