//! How Ingestors stand: tallies and facts.

use crate::journal::{
    ItemTally, Millis, Tally,
    facts::{Facts, Refusal, SecretState, Unused},
    remote::pb,
};

use super::Malformed;

/// A tally.
#[must_use]
pub fn tally(tally: &pb::Tally) -> Tally {
    let events = tally.events.unwrap_or_default();
    let items = tally.items.unwrap_or_default();
    Tally {
        requests: tally.requests,
        replays: tally.replays,
        observed: events.observed,
        filtered: events.filtered,
        deduplicated: events.deduplicated,
        dead_lettered: events.dead_lettered,
        damaged: tally.damaged,
        items: ItemTally {
            observed: items.observed,
            filtered: items.filtered,
            deduplicated: items.deduplicated,
            dead_lettered: items.dead_lettered,
        },
        backlog: tally.backlog,
        backlog_bytes: tally.backlog_bytes,
        last_accepted_at: tally.last_accepted_at.map(Millis),
    }
}

/// As a message.
#[must_use]
pub fn from_tally(tally: &Tally) -> pb::Tally {
    pb::Tally {
        requests: tally.requests,
        replays: tally.replays,
        events: Some(pb::Counts {
            observed: tally.observed,
            filtered: tally.filtered,
            deduplicated: tally.deduplicated,
            dead_lettered: tally.dead_lettered,
        }),
        damaged: tally.damaged,
        items: Some(pb::Counts {
            observed: tally.items.observed,
            filtered: tally.items.filtered,
            deduplicated: tally.items.deduplicated,
            dead_lettered: tally.items.dead_lettered,
        }),
        backlog: tally.backlog,
        backlog_bytes: tally.backlog_bytes,
        last_accepted_at: tally.last_accepted_at.map(|at| at.0),
    }
}

/// Facts.
pub fn facts(facts: pb::Facts) -> Result<Facts, Malformed> {
    let secret = match (facts.secret_missing, facts.secret_forbidden) {
        (None, None) => SecretState::Usable,
        (Some(name), None) => SecretState::Missing { name },
        (None, Some(name)) => SecretState::Forbidden { name },
        (Some(_), Some(_)) => return Err(Malformed("a Secret is missing or forbidden")),
    };
    let refused = match (facts.refused_expression, facts.refused_configuration) {
        (None, None) => None,
        (Some(why), None) => Some(Refusal::Expression(why)),
        (None, Some(why)) => Some(Refusal::Configuration(why)),
        (Some(_), Some(_)) => return Err(Malformed("a spec is refused for one reason")),
    };
    let unused = |unused: pb::Unused| {
        Ok(Unused {
            secret: unused.secret,
            values: usize::try_from(unused.values)
                .map_err(|_large| Malformed("a number that no memory holds"))?,
        })
    };
    Ok(Facts {
        generation: facts.generation,
        serving: facts.serving,
        secret,
        unused: facts
            .unused
            .into_iter()
            .map(unused)
            .collect::<Result<_, _>>()?,
        share_full: facts.share_full,
        refused,
        endpoint: facts.endpoint,
    })
}

/// As a message.
#[must_use]
pub fn from_facts(facts: &Facts) -> pb::Facts {
    let (missing, forbidden) = match &facts.secret {
        SecretState::Usable => (None, None),
        SecretState::Missing { name } => (Some(name.clone()), None),
        SecretState::Forbidden { name } => (None, Some(name.clone())),
    };
    let (expression, configuration) = match &facts.refused {
        None => (None, None),
        Some(Refusal::Expression(why)) => (Some(why.clone()), None),
        Some(Refusal::Configuration(why)) => (None, Some(why.clone())),
    };
    let unused = |unused: &Unused| pb::Unused {
        secret: unused.secret.clone(),
        values: u64::try_from(unused.values).unwrap_or(u64::MAX),
    };
    pb::Facts {
        generation: facts.generation,
        serving: facts.serving,
        secret_missing: missing,
        secret_forbidden: forbidden,
        unused: facts.unused.iter().map(unused).collect(),
        share_full: facts.share_full,
        refused_expression: expression,
        refused_configuration: configuration,
        endpoint: facts.endpoint.clone(),
    }
}
