//! What the engine costs per event: reading a body, deciding what it becomes, compiling a spec.

#![expect(
    clippy::panic,
    clippy::duration_suboptimal_units,
    reason = "a bench that cannot start fails"
)]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use zen_fabric::{
    api::{DecisionSpec, SpecDigest},
    engine::{body, pipeline::Compiled},
    journal::{
        Event, IngestorUid, Key, KeyHash, LogId, Millis, Origin, PayloadDigest, Position, Record,
        RecordId,
    },
};

/// A push of 1 KiB, with the parts of a real one that mappings read.
fn push() -> Vec<u8> {
    let body = json!({
        "ref": "refs/heads/main",
        "before": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        "after": "0000000000000000000000000000000000000000",
        "repository": {
            "id": 186_853_002, "name": "Hello-World", "full_name": "Codertocat/Hello-World",
            "private": false, "owner": { "login": "Codertocat", "id": 21_031_067, "type": "User" },
            "html_url": "https://github.com/Codertocat/Hello-World", "default_branch": "main",
        },
        "pusher": { "name": "Codertocat", "email": "21031067+Codertocat@users.noreply.github.com" },
        "sender": { "login": "Codertocat", "id": 21_031_067, "type": "User", "site_admin": false },
        "created": false, "deleted": false, "forced": false, "base_ref": null,
        "commits": [],
        "head_commit": {
            "id": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
            "message": "Adding a .gitignore file", "timestamp": "2019-05-15T15:20:41Z",
            "author": { "name": "Codertocat", "username": "Codertocat" },
            "added": [".gitignore"], "removed": [], "modified": [],
        },
    });
    body.to_string().into_bytes()
}

fn spec() -> DecisionSpec {
    let spec = json!({
        "ingestor": {
            "uid": "11111111-2222-3333-4444-555555555555", "namespace": "team-a",
            "namespaceUid": "ns", "name": "github",
        },
        "normalize": {
            "category": { "value": "security" },
            "eventType": { "expression": "'github_' + headers['x-github-event']" },
            "severity": {
                "expression": "body.?alert.?severity", "map": { "error": "high" }, "default": "info",
            },
            "detectedAt": { "expression": "body.head_commit.timestamp" },
            "resource": {
                "kind": { "value": "Repository" },
                "name": { "expression": "body.repository.full_name" },
            },
            "details": {
                "sender": { "expression": "body.sender.login" },
                "branch": { "expression": "body.ref.replace('refs/heads/', '')" },
            },
        },
        "filters": [{ "name": "main-only", "keepIf": "body.ref == 'refs/heads/main'" }],
        "dedup": { "strategy": "fingerprint", "fields": ["eventType", "resource", "body.after"] },
        "labels": { "team": "a" },
    });
    serde_json::from_value(spec).unwrap_or_else(|error| panic!("{error}"))
}

fn record() -> Record {
    Record {
        id: RecordId {
            log: LogId(1),
            position: Position(1),
        },
        event: Event {
            ingestor: IngestorUid("11111111-2222-3333-4444-555555555555".into()),
            spec: SpecDigest([0; 32]),
            event_id: "72d3162e-cc78-11e3-81ab-4c9367dc0958".into(),
            key: Some(Key {
                hash: KeyHash([0; 16]),
                window: Duration::from_secs(86_400),
                named: false,
            }),
            payload: PayloadDigest([0; 32]),
            accepted_at: Millis(1_795_428_000_000),
            origin: Origin::Request,
            traceparent: None,
            headers: [
                ("content-type", "application/json"),
                ("user-agent", "GitHub-Hookshot/044aadd"),
                ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
                ("x-github-event", "push"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
            query: "".into(),
            body: Bytes::from(push()),
        },
    }
}

fn pipeline(c: &mut Criterion) {
    let record = record();
    let compiled = Compiled::new(spec()).unwrap_or_else(|errors| panic!("{errors:?}"));
    let body = push();
    c.bench_function("body/check 1 KiB", |b| {
        b.iter(|| body::check("application/json", black_box(&body)));
    });
    c.bench_function("body/parse 1 KiB", |b| {
        b.iter(|| body::parse("application/json", black_box(&body)));
    });
    c.bench_function("pipeline/decide a push of 1 KiB", |b| {
        b.iter(|| compiled.decide(black_box(&record)));
    });
    let spec = spec();
    c.bench_function("pipeline/compile a spec", |b| {
        b.iter(|| Compiled::new(black_box(spec.clone())));
    });
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
