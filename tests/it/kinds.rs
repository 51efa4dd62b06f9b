//! The kinds and their types: the same defaults, and the types read all that a server admits.

use proptest::prelude::*;
use serde_json::{Value, json};
use zen_fabric::{
    api::{Ingestor, Observation, ShardMap, crds},
    embedded::store::{Action, At, Body, Fields, Limits, Request, Store, Target, Write},
    journal::Millis,
    testing::samples,
};

/// A store that knows the kinds.
struct Server {
    store: Store,
    requests: u128,
}

impl Server {
    fn new() -> Self {
        let mut server = Self {
            store: Store::new(Limits::default()),
            requests: 0,
        };
        let at = server.at();
        server.store.prepare(&at);
        for crd in crds() {
            let (code, body) = server.ask(
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                None,
                None,
                Action::Create(serde_json::to_value(crd).unwrap(), Write::default()),
            );
            assert_eq!(code, 201, "{body}");
        }
        server
    }

    fn at(&mut self) -> At {
        self.requests += 1;
        At {
            now: Millis(1_795_428_000_000),
            entropy: self.requests,
        }
    }

    fn ask(
        &mut self,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
        name: Option<&str>,
        action: Action,
    ) -> (u16, Value) {
        let at = self.at();
        let target = Target {
            group: group.to_owned(),
            version: "v1".to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            ..Target::default()
        };
        match self.store.apply(&at, Request { target, action }) {
            Ok(answer) => match answer.body {
                Body::Object(bytes) => (answer.code, serde_json::from_slice(&bytes).unwrap()),
                Body::Status(status) => (answer.code, status),
                Body::List(_) => unreachable!("nothing is listed"),
            },
            Err(refusal) => (refusal.code, refusal.status()),
        }
    }

    fn create(&mut self, plural: &str, object: Value, write: Write) -> (u16, Value) {
        let action = Action::Create(object, write);
        self.ask("zen.watcher.io", plural, Some("default"), None, action)
    }
}

fn strict() -> Write {
    Write {
        fields: Fields::Strict,
        ..Write::default()
    }
}

fn tried() -> Write {
    Write {
        dry_run: true,
        ..strict()
    }
}

/// The cases of a kind; the conformance suite runs them.
fn cases(kind: &str) -> Value {
    serde_saphyr::from_str(&samples::text(&format!("tests/data/kinds/{kind}.yaml"))).unwrap()
}

#[test]
fn every_rule_has_a_case_that_breaks_it() {
    for kind in ["ingestor", "observation", "shardmap"] {
        let cases = cases(kind);
        let tables = ["creates", "updates", "statuses"];
        let rows = tables
            .into_iter()
            .filter_map(|table| cases[table].as_array());
        let said: Vec<&str> = rows
            .flatten()
            .filter(|row| row["refused"].is_string())
            .filter_map(|row| row["says"].as_str())
            .collect();
        let mut messages = Vec::new();
        let crd = crds()
            .into_iter()
            .find(|crd| crd.spec.names.plural == format!("{kind}s"));
        collect_messages(&serde_json::to_value(crd).unwrap(), &mut messages);
        assert!(!messages.is_empty());
        for message in messages {
            assert!(
                said.iter().any(|says| message.contains(says)),
                "{kind}: no case breaks the rule {message:?}"
            );
        }
    }
}

fn collect_messages(value: &Value, messages: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let (Some(_), Some(message)) = (fields.get("rule"), fields.get("message")) {
                messages.push(message.as_str().unwrap().to_owned());
            }
            fields
                .values()
                .for_each(|below| collect_messages(below, messages));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|below| collect_messages(below, messages)),
        _ => {}
    }
}

#[test]
fn defaults_come_from_the_schema_and_agree_with_the_types() {
    let base = cases("ingestor")["base"].take();
    let mut server = Server::new();
    let (code, filled) = server.create("ingestors", base.clone(), strict());
    assert_eq!(code, 201, "{filled}");
    assert_eq!(filled["spec"]["enabled"], true);
    assert_eq!(
        filled["spec"]["source"]["webhook"]["response"]["status"],
        202
    );
    assert_eq!(
        filled["spec"]["dedup"],
        json!({ "strategy": "event", "window": "10m" })
    );
    let typed: Ingestor = serde_json::from_value(base).unwrap();
    let by_server: Ingestor = serde_json::from_value(filled).unwrap();
    assert_eq!(
        typed.spec, by_server.spec,
        "a type's default is the schema's"
    );
}

#[test]
fn the_status_of_an_ingestor_is_admitted_as_the_types_write_it() {
    let mut server = Server::new();
    let (code, mut object) = server.create("ingestors", cases("ingestor")["base"].take(), strict());
    assert_eq!(code, 201, "{object}");
    object["status"] = json!({
        "observedGeneration": 1,
        "endpoint": "https://hooks.example.test/hooks/default/sample",
        "counters": { "accepted": 10, "observed": 7, "filtered": 2, "deduplicated": 1, "deadLettered": 0, "damaged": 0 },
        "backlog": 0,
        "lastEventTime": "2026-11-23T10:00:00Z",
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "AsExpected", "message": "the endpoint serves",
            "observedGeneration": 1, "lastTransitionTime": "2026-11-23T10:00:00Z",
        }],
    });
    let at = server.at();
    let target = Target {
        group: "zen.watcher.io".to_owned(),
        version: "v1".to_owned(),
        plural: "ingestors".to_owned(),
        namespace: Some("default".to_owned()),
        name: Some("sample".to_owned()),
        part: zen_fabric::embedded::store::Part::Status,
    };
    let action = Action::Update(object, strict());
    let answer = server.store.apply(&at, Request { target, action });
    assert!(answer.is_ok(), "{:?}", answer.err());
}

// === the types read what the kinds admit ===

/// Any value of a schema, and now and then one that breaks it.
fn any_value(schema: Value) -> BoxedStrategy<Value> {
    let good = good_value(&schema);
    prop_oneof![
        400 => good,
        1 => prop_oneof![
            Just(Value::Null),
            Just(json!("")),
            Just(json!(0)),
            Just(json!(-1)),
            Just(json!(1.5)),
            Just(json!(5.0)),
            Just(json!(9_007_199_254_740_993_i64)),
            Just(json!([])),
            Just(json!({})),
            Just(json!(true)),
        ],
    ]
    .boxed()
}

fn good_value(schema: &Value) -> BoxedStrategy<Value> {
    if let Some(words) = schema["enum"].as_array() {
        return prop::sample::select(words.clone()).boxed();
    }
    match schema["type"].as_str() {
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("integer") => good_integer(schema),
        Some("string") => good_string(schema),
        Some("array") => {
            let least = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap();
            prop::collection::vec(any_value(schema["items"].clone()), least..least + 3)
                .prop_map(Value::from)
                .boxed()
        }
        Some("object") if schema["additionalProperties"].is_object() => {
            let value = any_value(schema["additionalProperties"].clone());
            prop::collection::btree_map("[a-z]{1,8}", value, 0..3)
                .prop_map(|map| json!(map))
                .boxed()
        }
        Some("object") if schema["x-kubernetes-preserve-unknown-fields"] == true => {
            prop::collection::btree_map("[a-z.]{1,8}", any::<i32>(), 0..3)
                .prop_map(|map| json!(map))
                .boxed()
        }
        Some("object") => good_object(schema),
        other => unreachable!("no such type: {other:?}"),
    }
}

fn good_integer(schema: &Value) -> BoxedStrategy<Value> {
    let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
    let (least, most) = (
        bound("minimum").unwrap_or(0),
        bound("maximum").unwrap_or(1 << 40),
    );
    prop_oneof![Just(least), Just(most), least..=most]
        .prop_map(Value::from)
        .boxed()
}

fn good_string(schema: &Value) -> BoxedStrategy<Value> {
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    let text = if schema["format"] == "date-time" {
        // Every day that every month has.
        r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
    } else if pattern == zen_fabric::api::duration::PATTERN {
        "([1-9]h)?([1-9]m)?([1-9][0-9]s)?"
    } else if schema["maxLength"] == 43 {
        r"(10\.[0-9]\.0\.0/[1-9]|2001:db8:[0-9a-f]{1,4}::/[1-9]{2})"
    } else if pattern.is_empty() {
        r"(true|body\.x|[a-z]{1,6}|\{timestamp\}\{body\}|\PC{0,20})"
    } else {
        pattern.trim_start_matches('^').trim_end_matches('$')
    };
    proptest::string::string_regex(text)
        .unwrap()
        .prop_map(Value::from)
        .boxed()
}

/// Some of the fields. Of those of which exactly one must be set, one; what goes with the others
/// only is left out beside `value`.
fn good_object(schema: &Value) -> BoxedStrategy<Value> {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let fields: Vec<(String, bool, Value)> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, below)| {
            (
                name.clone(),
                required.contains(&name.as_str()),
                below.clone(),
            )
        })
        .collect();
    let rules = schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten();
    let rule = rules
        .filter(|rule| rule["message"].to_string().contains("exactly one"))
        .map(|rule| rule["rule"].to_string())
        .next()
        .unwrap_or_default();
    let alternative = move |name: &str| rule.contains(&format!("has(self.{name})"));
    let alternatives: Vec<usize> = (0..fields.len())
        .filter(|n| alternative(&fields[*n].0))
        .collect();
    let single = if alternatives.is_empty() {
        Just(usize::MAX).boxed()
    } else {
        prop::sample::select(alternatives).boxed()
    };
    let some = prop::collection::vec(any::<bool>(), fields.len());
    let values: Vec<BoxedStrategy<Value>> = fields
        .iter()
        .map(|(.., below)| any_value(below.clone()))
        .collect();
    (single, some, values)
        .prop_map(move |(single, some, values)| {
            let alone = fields.get(single).is_some_and(|(name, ..)| name == "value");
            let taken =
                fields
                    .iter()
                    .zip(values)
                    .enumerate()
                    .filter(|(n, ((name, required, _), _))| {
                        if alternative(name) {
                            *n == single
                        } else {
                            *required || (some[*n] && !alone)
                        }
                    });
            Value::Object(
                taken
                    .map(|(_, ((name, ..), value))| (name.clone(), value))
                    .collect(),
            )
        })
        .boxed()
}

fn spec_schema(plural: &str) -> Value {
    let crd = crds()
        .into_iter()
        .find(|crd| crd.spec.names.plural == plural)
        .unwrap();
    let crd = serde_json::to_value(crd).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Runs `read` on every spec that the server admits, out of many that are near the schema; gives how
/// many were admitted.
fn admitted(plural: &str, kind: &str, read: fn(Value) -> serde_json::Result<()>) -> u32 {
    const TRIES: u32 = 600;
    let mut server = Server::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let specs = any_value(spec_schema(plural));
    let mut admitted = 0;
    for _ in 0..TRIES {
        let spec = specs.new_tree(&mut runner).unwrap().current();
        let object = json!({
            "apiVersion": "zen.watcher.io/v1", "kind": kind, "metadata": { "name": "any" }, "spec": spec,
        });
        let (code, body) = server.create(plural, object.clone(), tried());
        if code == 201 {
            admitted += 1;
            if let Err(error) = read(body) {
                panic!("the server admits what the type can't read: {error}\n{object:#}");
            }
        }
    }
    admitted
}

#[test]
fn the_type_reads_every_ingestor_that_the_server_admits() {
    let read = |value| serde_json::from_value::<Ingestor>(value).map(drop);
    let count = admitted("ingestors", "Ingestor", read);
    assert!(
        count > 100,
        "only {count} were admitted: the generator is too wild"
    );
}

#[test]
fn the_type_reads_every_observation_that_the_server_admits() {
    let read = |value| serde_json::from_value::<Observation>(value).map(drop);
    let count = admitted("observations", "Observation", read);
    assert!(
        count > 100,
        "only {count} were admitted: the generator is too wild"
    );
}

#[test]
fn the_type_reads_every_shard_map_that_the_server_admits() {
    let read = |value| serde_json::from_value::<ShardMap>(value).map(drop);
    let count = admitted("shardmaps", "ShardMap", read);
    assert!(
        count > 100,
        "only {count} were admitted: the generator is too wild"
    );
}
