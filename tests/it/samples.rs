//! The samples of `examples/`: valid, and each makes of its tool's event what its golden file says.
//!
//! With `UPDATE_GOLDEN=1` the golden files are written anew; look at the difference.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zen_fabric::{
    api::{DecisionSpec, Ingestor, SpecDigest},
    cli::validate::{Input, validate},
    engine::pipeline::{Compiled, Item, Verdict},
    journal::{
        Event, IngestorUid, LogId, Millis, Origin, PayloadDigest, Position, Record, RecordId,
    },
    testing::samples,
};

/// 2026-11-23T10:00:05Z.
pub(crate) const ACCEPTED_AT: Millis = Millis(1_795_428_005_000);

pub(crate) fn compiled(mut ingestor: Ingestor) -> Compiled {
    ingestor.metadata.uid = Some("7d0c2f5e-0000-4000-8000-000000000001".to_owned());
    Compiled::new(DecisionSpec::of(&ingestor, "namespace-uid")).unwrap()
}

pub(crate) fn record(event_id: &str, headers: &BTreeMap<String, String>, body: Bytes) -> Record {
    Record {
        id: RecordId {
            log: LogId(0x7f3a),
            position: Position(4_711),
        },
        event: Event {
            ingestor: IngestorUid("7d0c2f5e-0000-4000-8000-000000000001".into()),
            spec: SpecDigest::of(""),
            event_id: Arc::from(event_id),
            key: None,
            payload: PayloadDigest(Sha256::digest(&body).into()),
            accepted_at: ACCEPTED_AT,
            origin: Origin::Request,
            traceparent: None,
            headers: headers
                .iter()
                .map(|(n, v)| (n.as_str().into(), v.as_str().into()))
                .collect(),
            query: "".into(),
            body,
        },
    }
}

/// What is written, or why not.
pub(crate) fn written(verdict: Verdict) -> Item {
    match verdict {
        Verdict::Write(item) => *item,
        other => panic!("not written: {other:?}"),
    }
}

fn decide(name: &str) -> Vec<Item> {
    let event = samples::event(name);
    let decision =
        compiled(samples::ingestor(name)).decide(&record("event-1", &event.headers, event.body()));
    assert_eq!(
        decision.errors,
        [],
        "{name}: no expression fails on an ordinary event"
    );
    decision.items.into_iter().map(written).collect()
}

#[test]
fn every_sample_is_valid_and_gives_no_warning() {
    for name in samples::SAMPLES.iter().chain(&["quickstart"]) {
        let report = validate(&[Input {
            name: format!("examples/{name}.yaml"),
            text: samples::text(&format!("examples/{name}.yaml")),
        }]);
        assert_eq!(report.to_string(), "1 valid, 0 invalid\n");
    }
}

#[test]
fn every_file_in_examples_is_a_sample() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .collect();
    found.sort();
    let mut known: Vec<&str> = samples::SAMPLES.to_vec();
    known.push("quickstart");
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn each_tools_event_becomes_its_golden_observations() {
    for name in samples::SAMPLES {
        let made: Vec<serde_json::Value> = decide(name)
            .into_iter()
            .map(|item| {
                serde_json::json!({
                    "name": item.name,
                    "labels": item.labels,
                    "spec": item.spec,
                    "dedup": format!("{:?}", item.dedup),
                })
            })
            .collect();
        let text = serde_saphyr::to_string(&made).unwrap();
        let path = format!("tests/data/events/{name}.golden.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(
                concat!(env!("CARGO_MANIFEST_DIR"), "/").to_owned() + &path,
                &text,
            )
            .unwrap();
        }
        assert_eq!(text, samples::text(&path), "{path}");
    }
}

#[test]
fn two_falco_alerts_of_one_rule_are_one_only_when_they_tell_the_same() {
    let event = samples::event("falco");
    let falco = compiled(samples::ingestor("falco"));
    let name = |body: Vec<u8>, id: &str| {
        let decision = falco.decide(&record(id, &event.headers, body.into()));
        written(decision.items.into_iter().next().unwrap()).name
    };
    let body = String::from_utf8(event.body().to_vec()).unwrap();
    let again = body.replace("a1f4f6e2", "b2f4f6e2");
    let other = body.replace("\"proc.cmdline\": \"sh\"", "\"proc.cmdline\": \"sh -c id\"");
    assert_ne!(other, body);
    assert_eq!(name(body.clone().into(), "1"), name(again.into(), "2"));
    assert_ne!(name(body.into(), "1"), name(other.into(), "3"));
}

#[test]
fn a_repeated_notification_of_alertmanager_names_the_same_observations() {
    let event = samples::event("alertmanager");
    let alertmanager = compiled(samples::ingestor("alertmanager"));
    let names = |id: &str, body: Bytes| -> Vec<String> {
        let decision = alertmanager.decide(&record(id, &event.headers, body));
        decision
            .items
            .into_iter()
            .map(|verdict| written(verdict).name)
            .collect()
    };
    assert_eq!(names("1", event.body()), names("2", event.body()));
    let resolved = String::from_utf8(event.body().to_vec()).unwrap().replacen(
        "\"status\": \"firing\",\n        \"labels\"",
        "\"status\": \"resolved\",\n        \"labels\"",
        1,
    );
    assert_ne!(names("1", event.body())[0], names("3", resolved.into())[0]);
}

#[test]
fn a_passing_policy_result_is_no_observation() {
    let event = samples::event("policy-reporter");
    let body = String::from_utf8(event.body().to_vec()).unwrap();
    let passing = body.replace("\"status\": \"fail\"", "\"status\": \"pass\"");
    let decision = compiled(samples::ingestor("policy-reporter")).decide(&record(
        "1",
        &event.headers,
        passing.into(),
    ));
    assert!(
        matches!(&decision.items[..], [Verdict::Filtered { .. }]),
        "{decision:?}"
    );
}

#[test]
fn trivys_wrapped_and_deleted_reports_are_understood() {
    let event = samples::event("trivy-operator");
    let trivy = compiled(samples::ingestor("trivy-operator"));
    let wrapped = |verb: &str| -> Bytes {
        let body = String::from_utf8(event.body().to_vec()).unwrap();
        format!("{{\"verb\":\"{verb}\",\"operatorObject\":{body}}}").into()
    };
    let names = |body: Bytes| -> Vec<String> {
        let decision = trivy.decide(&record("1", &event.headers, body));
        assert_eq!(decision.errors, []);
        decision
            .items
            .into_iter()
            .map(|verdict| written(verdict).name)
            .collect()
    };
    assert_eq!(names(wrapped("update")), names(event.body()));
    assert_eq!(names(wrapped("delete")), [""; 0]);
}

#[test]
fn trivys_other_reports_are_understood() {
    let metadata = r#""metadata":{"name":"r","labels":{"trivy-operator.resource.kind":"Pod","trivy-operator.resource.name":"p","trivy-operator.resource.namespace":"n"}}"#;
    let trivy = compiled(samples::ingestor("trivy-operator"));
    let made = |report: &str| -> Vec<(String, String)> {
        let body = format!("{{{metadata},\"report\":{report}}}");
        let headers = samples::event("trivy-operator").headers;
        let decision = trivy.decide(&record("1", &headers, body.into()));
        assert_eq!(decision.errors, [], "{report}");
        let items = decision.items.into_iter().map(written);
        items
            .map(|item| (item.spec.event_type, format!("{:?}", item.spec.category)))
            .collect()
    };
    let found = |event: &str, category: &str| (event.to_owned(), category.to_owned());
    assert_eq!(
        made(
            r#"{"checks":[
            {"checkID":"KSV001","severity":"MEDIUM","success":false,"title":"t"},
            {"checkID":"KSV002","severity":"HIGH","success":true,"title":"t"}]}"#
        ),
        [found("misconfiguration_found", "Compliance")]
    );
    assert_eq!(
        made(
            r#"{"secrets":[{"ruleID":"aws-key","severity":"CRITICAL","title":"t","target":"/a","match":"***"}]}"#
        ),
        [found("secret_exposed", "Security")]
    );
    assert_eq!(made(r#"{"components":{"bomFormat":"CycloneDX"}}"#), []);
}
