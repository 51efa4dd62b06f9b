//! What an Ingestor's status is made of, over all logs and their gateways: pure.

use crate::journal::{
    Tally,
    facts::{Facts, SecretState},
};

/// Adds what became of the events in one log to what did in others.
pub(super) fn add(sum: &mut Tally, one: &Tally) {
    let Tally {
        requests,
        replays,
        observed,
        filtered,
        deduplicated,
        dead_lettered,
        damaged,
        items,
        backlog,
        backlog_bytes,
        last_accepted_at,
    } = one;
    let pairs = [
        (&mut sum.requests, requests),
        (&mut sum.replays, replays),
        (&mut sum.observed, observed),
        (&mut sum.filtered, filtered),
        (&mut sum.deduplicated, deduplicated),
        (&mut sum.dead_lettered, dead_lettered),
        (&mut sum.damaged, damaged),
        (&mut sum.items.observed, &items.observed),
        (&mut sum.items.filtered, &items.filtered),
        (&mut sum.items.deduplicated, &items.deduplicated),
        (&mut sum.items.dead_lettered, &items.dead_lettered),
        (&mut sum.backlog, backlog),
        (&mut sum.backlog_bytes, backlog_bytes),
    ];
    for (into, count) in pairs {
        *into = into.saturating_add(*count);
    }
    sum.last_accepted_at = sum.last_accepted_at.max(*last_accepted_at);
}

/// What the gateways know together; `None`: none of them has the Ingestor.
///
/// It serves where any of them does, of the generation that all of them have. What is in a sender's
/// way at one gateway is told: the worst of the secrets, a full share, a refusal.
pub(super) fn merge(all: impl IntoIterator<Item = Facts>) -> Option<Facts> {
    all.into_iter().reduce(|mut merged, one| {
        merged.generation = merged.generation.min(one.generation);
        merged.serving |= one.serving;
        merged.share_full |= one.share_full;
        merged.endpoint = merged.endpoint.or(one.endpoint);
        merged.refused = merged.refused.or(one.refused);
        if one.unused.len() > merged.unused.len() {
            merged.unused = one.unused;
        }
        if badness(&one.secret) > badness(&merged.secret) {
            merged.secret = one.secret;
        }
        merged
    })
}

/// A Secret that isn't there is nobody's, one that may not be read may be there.
const fn badness(secret: &SecretState) -> u8 {
    match secret {
        SecretState::Usable => 0,
        SecretState::Forbidden { .. } => 1,
        SecretState::Missing { .. } => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{ItemTally, Millis};

    #[test]
    fn tallies_are_added_field_by_field() {
        let one = Tally {
            requests: 1,
            replays: 2,
            observed: 3,
            filtered: 4,
            deduplicated: 5,
            dead_lettered: 6,
            damaged: 7,
            items: ItemTally {
                observed: 8,
                filtered: 9,
                deduplicated: 10,
                dead_lettered: 11,
            },
            backlog: 12,
            backlog_bytes: 13,
            last_accepted_at: Some(Millis(14)),
        };
        let mut sum = Tally::default();
        add(&mut sum, &one);
        assert_eq!(sum, one);
        add(&mut sum, &Tally::default());
        assert_eq!(sum, one, "the latest time stays");
        add(&mut sum, &one);
        assert_eq!((sum.requests, sum.items.dead_lettered), (2, 22));
        assert_eq!(
            (sum.backlog_bytes, sum.last_accepted_at),
            (26, Some(Millis(14)))
        );
    }

    #[test]
    fn gateways_serve_together_what_all_have() {
        let serving = Facts {
            generation: Some(3),
            serving: true,
            endpoint: Some("https://one".into()),
            ..Facts::default()
        };
        let missing = SecretState::Missing { name: "s".into() };
        let behind = Facts {
            generation: Some(2),
            secret: missing.clone(),
            share_full: true,
            endpoint: Some("https://two".into()),
            ..Facts::default()
        };
        let merged = merge([serving.clone(), behind.clone()]).unwrap();
        assert_eq!(merged.generation, Some(2));
        assert!(merged.serving && merged.share_full);
        assert_eq!(merged.endpoint.as_deref(), Some("https://one"));
        assert_eq!(merged.secret, missing);
        let turned = merge([behind, serving]).unwrap();
        assert_eq!(
            (turned.generation, turned.secret),
            (merged.generation, missing)
        );
        assert_eq!(merge([]), None);
    }
}
