use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    engine::names,
    journal::{
        Event, IngestorUid, Key, KeyHash, LetterId, LogId, Origin, PayloadDigest, Position,
        RecordId,
    },
};

fn spec(fields: &serde_json::Value) -> DecisionSpec {
    let mut spec = json!({
        "ingestor": { "uid": "uid-1", "namespace": "team-a", "namespaceUid": "ns-1", "name": "github" },
        "normalize": {
            "category": { "value": "security" },
            "severity": { "value": "high" },
            "eventType": { "value": "push" },
        },
        "dedup": {},
    });
    for (key, value) in fields.as_object().unwrap() {
        if key == "normalize" {
            for (name, field) in value.as_object().unwrap() {
                spec["normalize"][name] = field.clone();
            }
        } else {
            spec[key] = value.clone();
        }
    }
    serde_json::from_value(spec).unwrap()
}

fn compiled(fields: serde_json::Value) -> Compiled {
    Compiled::new(spec(&fields)).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn errors(fields: serde_json::Value) -> Vec<String> {
    let errors = Compiled::new(spec(&fields)).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

fn record(body: &str) -> Record {
    Record {
        id: RecordId {
            log: LogId(0x7f3a),
            position: Position(4_711),
        },
        event: Event {
            ingestor: IngestorUid("uid-1".into()),
            spec: crate::api::SpecDigest([0; 32]),
            event_id: "delivery-1".into(),
            key: Some(Key {
                hash: KeyHash([0; 16]),
                window: Duration::from_secs(60),
            }),
            payload: PayloadDigest([0xab; 32]),
            accepted_at: Millis(1_795_428_000_123),
            origin: Origin::Request,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            headers: vec![
                ("content-type".into(), "application/json".into()),
                ("x-github-event".into(), "push".into()),
                ("accept".into(), "a".into()),
                ("accept".into(), "b".into()),
            ],
            query: "a=1&b=x%20y&a=2".into(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        },
    }
}

fn one(fields: serde_json::Value, body: &str) -> Item {
    let decision = compiled(fields).decide(&record(body));
    assert_eq!(decision.errors, []);
    match decision.items.as_slice() {
        [Verdict::Write(item)] => item.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

fn words(verdicts: &[Verdict]) -> Vec<String> {
    verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::Write(item) => format!("write {}", item.index),
            Verdict::Filtered { filter } => format!("filtered {filter}"),
            Verdict::Dead(letter) => format!("dead {} {}", letter.index, letter.reason),
        })
        .collect()
}

#[test]
fn a_push_becomes_an_observation() {
    let item = one(
        json!({
            "normalize": {
                "eventType": { "expression": "'github_' + headers['x-github-event']" },
                "severity": {
                    "expression": "body.alert.severity",
                    "map": { "error": "high", "warning": "medium" },
                    "default": "info",
                },
                "detectedAt": { "expression": "body.head_commit.timestamp" },
                "resource": {
                    "kind": { "value": "Repository" },
                    "name": { "expression": "body.repository.full_name" },
                },
                "details": { "sender": { "expression": "body.sender" } },
            },
            "labels": { "team": "a" },
            "ttlSecondsAfterCreation": 3600,
        }),
        r#"{"alert":{"severity":"error"},"head_commit":{"timestamp":"2026-11-23T10:00:00+02:00"},
            "repository":{"full_name":"org/repo"},"sender":{"login":"me","id":1}}"#,
    );
    assert_eq!(
        serde_json::to_value(&item.spec).unwrap(),
        json!({
            "source": "github", "category": "security", "severity": "high",
            "eventType": "github_push", "detectedAt": "2026-11-23T08:00:00Z",
            "resource": { "kind": "Repository", "name": "org/repo" },
            "details": { "sender": { "login": "me", "id": 1 } },
            "count": 1, "ttlSecondsAfterCreation": 3600,
        })
    );
    assert_eq!(
        item.name,
        names::event(&spec(&json!({})).ingestor, "delivery-1", 0)
    );
    assert_eq!(item.labels["team"], "a");
    assert_eq!(item.labels["zen.io/source"], "github");
    assert_eq!(item.annotations["zen.io/record"], "00007f3a/4711/0");
    assert_eq!(
        item.annotations["zen.io/received-at"],
        "2026-11-23T10:00:00.123Z"
    );
    assert_eq!(item.annotations["zen.io/payload-sha256"], "ab".repeat(32));
    assert_eq!(item.dedup, DedupKind::Event);
}

#[test]
fn an_expression_that_fails_makes_its_field_absent_and_is_counted_once() {
    let mapping = json!({
        "explode": "body",
        "normalize": {
            "severity": { "expression": "item.severity", "default": "low" },
            "details": { "who": { "expression": "item.user.name" } },
        },
    });
    let decision =
        compiled(mapping).decide(&record(r#"[{"severity":"odd"},{},{"user":{"name":"x"}}]"#));
    assert_eq!(words(&decision.items), ["write 0", "write 1", "write 2"]);
    let fields: Vec<&str> = decision.errors.iter().map(|error| &*error.field).collect();
    assert_eq!(
        fields,
        [
            "normalize.severity.expression",
            "normalize.details.who.expression"
        ]
    );
    assert!(
        decision.errors[0]
            .message
            .contains("\"odd\" is no severity")
    );
}

#[test]
fn a_required_field_that_stays_absent_is_a_dead_letter_that_says_why() {
    let mapping = json!({ "normalize": { "severity": { "expression": "body.alert.severity" } } });
    let decision = compiled(mapping).decide(&record(r#"{"alert":{}}"#));
    let [Verdict::Dead(letter)] = decision.items.as_slice() else {
        panic!("{decision:?}")
    };
    assert_eq!(&*letter.reason, "RequiredFieldAbsent");
    for part in [
        "severity",
        "`body.alert.severity`",
        "body.alert has no field \"severity\"",
    ] {
        assert!(letter.message.contains(part), "{}", letter.message);
    }
}

#[test]
fn filters_see_the_observation_and_only_false_drops() {
    let mapping = json!({
        "normalize": { "severity": { "expression": "body.severity" } },
        "filters": [
            { "name": "broken", "keepIf": "body.nothing == 1" },
            { "name": "no-text", "keepIf": "'yes'" },
            { "name": "not-low", "keepIf": "event.severity != 'low'" },
            { "name": "no-pings", "keepIf": "!has(body.ping)" },
        ],
    });
    let decide = |body| compiled(mapping.clone()).decide(&record(body));
    assert_eq!(
        words(&decide(r#"{"severity":"LOW"}"#).items),
        ["filtered not-low"]
    );
    // It lacks a required field, but a filter says that nobody wants it.
    assert_eq!(words(&decide(r#"{"ping":1}"#).items), ["filtered no-pings"]);
    let kept = decide(r#"{"severity":"high"}"#);
    assert_eq!(words(&kept.items), ["write 0"]);
    assert_eq!(&*kept.errors[0].field, "filters[0].keepIf");
    assert_eq!(&*kept.errors[1].field, "filters[1].keepIf");
}

#[test]
fn an_explosion_has_at_most_a_thousand_items() {
    let explode = || json!({ "explode": "body.results" });
    let results = |count| json!({ "results": vec![1; count] }).to_string();
    assert_eq!(
        compiled(explode())
            .decide(&record(&results(1_000)))
            .items
            .len(),
        1_000
    );
    assert_eq!(compiled(explode()).decide(&record(&results(0))).items, []);
    for (body, word) in [
        (results(1_001), "TooManyItems"),
        (r#"{"results":"x"}"#.to_owned(), "ExplodeFailed"),
        ("{}".to_owned(), "ExplodeFailed"),
        ("{".to_owned(), "BodyUnreadable"),
    ] {
        let decision = compiled(explode()).decide(&record(&body));
        assert_eq!(words(&decision.items), [format!("dead {WHOLE} {word}")]);
    }
}

#[test]
fn a_replay_processes_its_item_alone() {
    let mut replay = record(r#"["a","b","c"]"#);
    let letter = |index| Origin::Replay {
        letter: LetterId {
            record: replay.id,
            index,
        },
    };
    let (second, gone, whole) = (letter(1), letter(7), letter(WHOLE));
    let decide =
        |record: &Record| words(&compiled(json!({ "explode": "body" })).decide(record).items);
    replay.event.origin = second;
    assert_eq!(decide(&replay), ["write 1"]);
    replay.event.origin = gone;
    assert_eq!(decide(&replay), ["dead 7 ItemGone"]);
    replay.event.origin = whole;
    assert_eq!(decide(&replay).len(), 3);
}

#[test]
fn a_fingerprint_joins_events_of_one_window_and_no_others() {
    let mapping = |strategy: &str| {
        json!({
            "normalize": { "resource": { "name": { "expression": "body.repo" } } },
            "dedup": { "strategy": strategy, "fields": ["eventType", "resource", "body.n"], "window": "10m" },
        })
    };
    let name = |body: &str, later: i64| {
        let mut record = record(body);
        record.event.event_id = format!("id-{later}").into();
        record.event.accepted_at.0 += later;
        let decision = compiled(mapping("aggregate")).decide(&record);
        let [Verdict::Write(item)] = decision.items.as_slice() else {
            panic!("{decision:?}")
        };
        let DedupKind::Aggregate { window_end } = item.dedup else {
            panic!()
        };
        (item.name.clone(), window_end.0)
    };
    let (first, end) = name(r#"{"repo":"a","n":{"x":1,"y":2.0}}"#, 0);
    let left = end - record("").event.accepted_at.0;
    assert!((1..=600_000).contains(&left));
    assert_eq!(
        name(r#"{"n":{"y":2,"x":1.0},"repo":"a"}"#, left - 1),
        (first.clone(), end)
    );
    assert_eq!(
        name(r#"{"repo":"a","n":{"x":1,"y":2}}"#, left).1,
        end + 600_000
    );
    assert_ne!(name(r#"{"repo":"a","n":{"x":1,"y":2}}"#, left).0, first);
    assert_ne!(name(r#"{"repo":"a","n":{"x":1,"y":3}}"#, 0).0, first);
    assert_ne!(name(r#"{"repo":"a"}"#, 0).0, first);

    let item = one(mapping("aggregate"), r#"{"repo":"a","n":1}"#);
    assert_eq!(
        serde_json::to_value(&item.spec).unwrap()["applied"],
        json!([{ "log": "00007f3a", "position": 4711, "index": 0 }])
    );
    assert_eq!(item.spec.first_seen, item.spec.last_seen);
    assert!(item.annotations.contains_key("zen.io/window-end"));
    assert_eq!(
        one(mapping("fingerprint"), r#"{"repo":"a","n":1}"#)
            .spec
            .first_seen,
        None
    );
}

#[test]
fn headers_and_query_are_maps() {
    let item = one(
        json!({ "normalize": { "details": {
            "accept": { "expression": "headers.accept" },
            "accepts": { "expression": "headerValues.accept" },
            "a": { "expression": "query.a" },
            "all": { "expression": "queryValues" },
            "source": { "expression": "source" },
            "at": { "expression": "now" },
            "none": { "expression": "headers.?missing" },
        } } }),
        "null",
    );
    assert_eq!(
        serde_json::Value::Object(item.spec.details),
        json!({
            "accept": "a, b", "accepts": ["a", "b"], "a": "1, 2",
            "all": { "a": ["1", "2"], "b": ["x y"] }, "source": "github",
            "at": "2026-11-23T10:00:00.123Z",
        })
    );
}

#[test]
fn times_are_read_in_the_forms_that_senders_use() {
    for (text, seen) in [
        ("'2026-11-23T10:00:00.9Z'", "2026-11-23T10:00:00Z"),
        ("1795428000", "2026-11-23T10:00:00Z"),
        ("1795428000999", "2026-11-23T10:00:00Z"),
        ("'1795428000'", "2026-11-23T10:00:00Z"),
        ("1795428000.5", "2026-11-23T10:00:00Z"),
        ("now - duration('1h')", "2026-11-23T09:00:00Z"),
    ] {
        let item = one(
            json!({ "normalize": { "detectedAt": { "expression": text } } }),
            "null",
        );
        assert_eq!(
            serde_json::to_value(&item.spec.detected_at).unwrap(),
            seen,
            "{text}"
        );
    }
    for text in [
        "'yesterday'",
        "'0001-01-01T00:00:00Z'",
        "[1]",
        "1e300",
        "9223372036854775807",
    ] {
        let mapping = json!({ "normalize": { "detectedAt": { "expression": text } } });
        let decision = compiled(mapping).decide(&record("null"));
        assert_eq!(words(&decision.items), ["write 0"], "{text}");
        assert_eq!(decision.errors.len(), 1, "{text}");
    }
}

#[test]
fn every_error_is_reported_with_its_path() {
    let found = errors(json!({
        "explode": "body.results +",
        "normalize": {
            "severity": { "expression": "boddy.x", "default": "so-so" },
            "category": { "value": "weather" },
            "details": { "sender": { "expression": "body.sender.frobnicate()" }, "zenTruncated": { "value": "" } },
            "resource": { "name": {} },
        },
        "filters": [{ "name": "a", "keepIf": "event.severity = 'low'" }],
        "dedup": { "strategy": "aggregate", "fields": ["eventType", "nope"], "window": "25h" },
        "labels": { "zen.io/x": "y", "a b": "c", "d": "-" },
    }));
    for part in [
        "explode: line 1, column 15: \"the end\"",
        "normalize.severity.expression: line 1, column 1: \"boddy\" is not declared",
        "normalize.severity.default: \"so-so\" is no severity",
        "normalize.category.value: \"weather\" is no category",
        "normalize.details.sender.expression: line 1, column 13: there is no function frobnicate()",
        "normalize.details.zenTruncated: ",
        "normalize.resource.name: exactly one of value and expression",
        "filters[0].keepIf: line 1, column 16: a single \"=\"",
        "dedup.fields[1]: line 1, column 1: \"nope\"",
        "dedup.window: 25h is out of bounds",
        "output.observation.labels[\"zen.io/x\"]: ",
        "output.observation.labels[\"a b\"]: ",
        "output.observation.labels[\"d\"]: ",
    ] {
        let part = part.replace("\"the end\"", "the end");
        assert!(
            found.iter().any(|error| error.contains(&part)),
            "{part}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), 13, "{found:#?}");
}

#[test]
fn item_and_event_are_only_where_they_mean_something() {
    let item = json!({ "normalize": { "severity": { "expression": "item.severity" } } });
    assert!(errors(item)[0].contains("`explode`"));
    let event = json!({ "normalize": { "severity": { "expression": "event.severity" } } });
    assert!(errors(event)[0].contains("only there in filters"));
}
