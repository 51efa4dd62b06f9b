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
                named: false,
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

#[test]
fn every_example_compiles() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for document in std::fs::read_to_string(&path).unwrap().split("\n---\n") {
            if !document.contains("kind: Ingestor") {
                continue;
            }
            let ingestor: crate::api::Ingestor = serde_saphyr::from_str(document).unwrap();
            let compiled = Compiled::new(DecisionSpec::of(&ingestor, "ns-1"));
            assert!(
                compiled.is_ok(),
                "{}: {:#?}",
                path.display(),
                compiled.unwrap_err()
            );
            found += 1;
        }
    }
    assert!(found >= 6, "{found}");
}

/// The same in every process, on every machine: the digest was made by another process.
#[test]
fn a_decision_does_not_depend_on_the_process() {
    let mapping = json!({
        "explode": "body.items",
        "normalize": {
            "severity": { "expression": "item.level", "default": "info" },
            "resource": { "name": { "expression": "item.labels.map(k, k).join('/')" } },
            "details": {
                "all": { "expression": "item" },
                "headers": { "expression": "headers" },
                "sorted": { "expression": "item.labels.map(k, item.labels[k])" },
            },
        },
        "dedup": { "strategy": "aggregate", "fields": ["item.labels", "details", "severity"] },
    });
    let body = json!({ "items": [
        { "level": "high", "labels": { "z": 1, "a": 2.5, "m": null, "k": [true] } },
        { "level": "?", "labels": { "one": "1", "two": "2", "three": "3", "four": "4" } },
        { "labels": {} },
    ] });
    let decision = compiled(mapping).decide(&record(&body.to_string()));
    assert_eq!(words(&decision.items), ["write 0", "write 1", "write 2"]);
    let digest = names::digest(&[format!("{decision:?}").as_bytes()]);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "9eebecc98d18dc96dc532064528eba03ea50180f70925bebd564f4efb149f973"
    );
}

fn expression() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "body", "body.a", "body.?a", "body.b.c", "item", "item.a", "headers", "headers['x']", "query.q",
            "queryValues", "now", "source", "event", "event.severity", "'HIGH'", "'Ops'", "7.5", "1795428000",
            "body.map(x, x)", "[body, body, body]", "string(body)", "null", "[1, 2, 3]", "body == item", "true",
            "'x'.matches('x')", "{'k': body}", "body +", "nope", "lists.range(1200)", "lists.range(2000000)",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,20}",
    ]
}

fn field() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        prop::sample::select(vec!["security", "high", "push", "Ops!", ""])
            .prop_map(|v| json!({ "value": v })),
        (expression(), prop::option::of("low|security|x")).prop_map(
            |(text, default)| match default {
                Some(default) =>
                    json!({ "expression": text, "map": { "HIGH": "low" }, "default": default }),
                None => json!({ "expression": text }),
            }
        ),
    ]
}

fn any_spec() -> impl Strategy<Value = serde_json::Value> {
    let normalize = (field(), field(), field(), field(), field(), field());
    let filters = prop::collection::vec(expression(), 0..2);
    let dedup = (
        prop::sample::select(vec!["event", "fingerprint", "aggregate"]),
        prop::collection::vec(prop_oneof![expression(), Just("resource".to_owned())], 1..3),
        prop::sample::select(vec!["10s", "10m", "1h30m", "24h", "x"]),
    );
    (prop::option::of(expression()), normalize, filters, dedup).prop_map(
        |(explode, (category, severity, event_type, at, name, detail), filters, dedup)| {
            let filters: Vec<_> = filters
                .iter()
                .map(|f| json!({ "name": "f", "keepIf": f }))
                .collect();
            let mut spec = json!({
                "normalize": {
                    "category": category, "severity": severity, "eventType": event_type,
                    "detectedAt": at, "resource": { "name": name }, "details": { "d": detail },
                },
                "filters": filters,
                "dedup": { "strategy": dedup.0, "fields": dedup.1, "window": dedup.2 },
            });
            if let Some(explode) = explode {
                spec["explode"] = explode.into();
            }
            spec
        },
    )
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"a\"", "1", "null", "\"HIGH\"", "\u{fc}",
    ]);
    prop_oneof![
        prop::sample::select(vec![
            r#"{"a":"HIGH","b":{"c":[1,2]}}"#,
            r#"[{"a":1},{"a":"low"},null]"#,
            "null",
            "\"x\"",
            "[]",
            "1e308",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(parts, 0..12).prop_map(|parts| parts.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_spec_decides_any_event_within_bounds_and_always_alike(
        fields in any_spec(),
        body in any_body(),
        content_type in prop::sample::select(vec!["application/json", "text/plain", "application/x-www-form-urlencoded"]),
        query in "[a-z=&%+0-9]{0,20}",
        at in any::<i64>(),
        event_id in "\\PC{0,300}",
    ) {
        let Ok(compiled) = Compiled::new(spec(&fields)) else { return Ok(()) };
        let mut event = record("");
        event.event.body = Bytes::from(body);
        event.event.headers[0].1 = content_type.into();
        event.event.query = query.into();
        event.event.accepted_at = Millis(at);
        event.event.event_id = event_id.into();
        let decision = compiled.decide(&event);
        prop_assert_eq!(&Compiled::new(spec(&fields)).unwrap().decide(&event), &decision);
        prop_assert!(decision.items.len() <= 1_000);
        let name = regex::Regex::new("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$").unwrap();
        let event_type = regex::Regex::new("^[a-z0-9_]{1,128}$").unwrap();
        for (index, verdict) in decision.items.iter().enumerate() {
            if let Verdict::Write(item) = verdict {
                prop_assert_eq!(usize::try_from(item.index).unwrap(), index);
                prop_assert!(item.name.len() <= 63 && name.is_match(&item.name));
                prop_assert!(event_type.is_match(&item.spec.event_type));
                prop_assert!(serde_json::to_string(&item.spec.details).unwrap().len() <= 65_536);
                prop_assert!(item.annotations.values().map(String::len).sum::<usize>() < 8_192);
                let stored = serde_json::to_value(&item.spec).unwrap();
                let back: ObservationSpec = serde_json::from_value(stored).unwrap();
                prop_assert_eq!(&back, &item.spec);
            }
        }
        // Each item alone, as a replay processes it, comes to what it came to among the others.
        for (index, verdict) in decision.items.iter().enumerate().take(3) {
            if let Verdict::Dead(Letter { index: WHOLE, .. }) = verdict {
                continue;
            }
            let index = u32::try_from(index).unwrap();
            event.event.origin = Origin::Replay { letter: LetterId { record: event.id, index } };
            prop_assert_eq!(&compiled.decide(&event).items, &vec![verdict.clone()]);
        }
    }

    #[test]
    fn a_window_holds_its_times_and_no_others(
        fingerprint in any::<[u8; 32]>(),
        at in -4_000_000_000_000_i64..40_000_000_000_000,
        seconds in 10_i64..86_400,
        later in 0_i64..200_000_000,
    ) {
        use crate::engine::dedup::Window;
        let length = seconds * 1_000;
        let window = Window::of(&fingerprint, Millis(at), length);
        prop_assert!(at < window.end.0 && at >= window.end.0 - length);
        let other = Window::of(&fingerprint, Millis(at + later), length);
        prop_assert_eq!(other.number == window.number, at + later < window.end.0);
        prop_assert_eq!(other.end.0 - window.end.0, (other.number - window.number) * length);
    }
}
