//! All of GitHub's payloads through the sample mapping: each becomes exactly one Observation, and
//! the golden table says which.
//!
//! With `UPDATE_GOLDEN=1` the table is written anew; look at the difference.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use zen_fabric::{
    engine::pipeline::Item,
    testing::samples::{self, GithubPayload, Outcome},
};

use crate::samples::{compiled, record, written};

fn outcome(payload: &GithubPayload, item: &Item) -> Outcome {
    let word = |value: serde_json::Value| value.as_str().unwrap().to_owned();
    Outcome {
        event: payload.event.clone(),
        action: payload.action.clone(),
        event_type: item.spec.event_type.clone(),
        resource: item
            .spec
            .resource
            .as_ref()
            .and_then(|r| r.kind.clone())
            .unwrap(),
        severity: word(serde_json::to_value(item.spec.severity).unwrap()),
        category: word(serde_json::to_value(item.spec.category).unwrap()),
    }
}

fn items() -> Vec<(GithubPayload, Item)> {
    let github = compiled(samples::ingestor("github"));
    samples::github_payloads()
        .into_iter()
        .enumerate()
        .map(|(number, payload)| {
            let headers = [
                ("content-type", "application/json"),
                ("x-github-event", &payload.event),
            ];
            let headers = headers.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
            let id = format!("delivery-{number}");
            let decision = github.decide(&record(&id, &headers, payload.body.clone()));
            assert_eq!(decision.errors, [], "{} {}", payload.event, payload.action);
            let mut items = decision.items.into_iter();
            let item = written(items.next().unwrap());
            assert!(items.next().is_none(), "exactly one");
            (payload, item)
        })
        .collect()
}

#[test]
fn all_of_the_packages_payloads_are_here() {
    let payloads = samples::github_payloads();
    let types: BTreeSet<&str> = payloads.iter().map(|p| p.event.as_str()).collect();
    assert_eq!((payloads.len(), types.len()), (329, 58));
}

#[test]
fn each_payload_becomes_one_observation_as_the_golden_table_says() {
    let mut outcomes: BTreeMap<Outcome, usize> = BTreeMap::new();
    for (payload, item) in items() {
        *outcomes.entry(outcome(&payload, &item)).or_default() += 1;
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let mut text = format!("{}\n", Outcome::HEADER);
        for (outcome, payloads) in &outcomes {
            writeln!(text, "{}", outcome.line(*payloads)).unwrap();
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/octokit/golden.tsv");
        std::fs::write(path, text).unwrap();
    }
    let golden = samples::github_outcomes();
    assert_eq!(golden.values().sum::<usize>(), 329);
    for (outcome, payloads) in &golden {
        assert_eq!(
            outcomes.get(outcome),
            Some(payloads),
            "{}",
            outcome.line(*payloads)
        );
    }
    assert_eq!(
        outcomes.len(),
        golden.len(),
        "no outcome beside the golden ones"
    );
}

#[test]
fn each_payload_names_what_it_is_about() {
    for (payload, item) in items() {
        let name = item.spec.resource.and_then(|r| r.name).unwrap_or_default();
        assert!(
            !name.is_empty() && name != "unknown",
            "{} {}",
            payload.event,
            payload.action
        );
    }
}
