//! What the gateway costs per request: finding a route among few and many, verifying a signature.

#![expect(clippy::panic, reason = "a bench that cannot start fails")]

use std::{
    hint::black_box,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use zen_fabric::{
    api::Ingestor,
    gateway::{
        limits::{Bucket, Quota},
        problem::Kind,
        routes::{self, Endpoint, Route, State, Table},
        sign,
        verify::{self, Message, Verifier},
    },
    journal::IngestorUid,
};

const SECRET: &[u8] = b"It's a Secret to Everybody";

fn ingestor() -> Ingestor {
    let ingestor = json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor",
        "metadata": { "name": "github", "namespace": "team-a" },
        "spec": {
            "source": { "webhook": { "auth": [{ "github": { "secretRef": { "name": "github" } } }] } },
            "normalize": {
                "category": { "value": "operations" }, "eventType": { "value": "push" },
                "severity": { "value": "info" },
                "resource": { "kind": { "value": "Repository" }, "name": { "value": "a" } },
            },
        },
    });
    serde_json::from_value(ingestor).unwrap_or_else(|error| panic!("{error}"))
}

/// A table of so many endpoints, one a namespace.
fn table(count: usize) -> (Table, Vec<Arc<str>>) {
    let endpoint = Endpoint::of(&ingestor()).unwrap_or_else(|error| panic!("{error}"));
    let endpoint = Arc::new(endpoint);
    let paths: Vec<Arc<str>> = (0..count)
        .map(|n| routes::path(&format!("team-{n}"), "github"))
        .collect();
    let routes = paths.iter().enumerate().map(|(n, path)| {
        let route = Route {
            ingestor: IngestorUid(format!("11111111-2222-3333-4444-{n:012}").into()),
            endpoint: Arc::clone(&endpoint),
            state: State::Closed(Kind::Closed),
            bucket: Arc::new(Bucket::new(Quota::new(100, 200))),
            share_full: Arc::new(AtomicBool::new(false)),
        };
        (Arc::clone(path), Arc::new(route))
    });
    (Table::new(routes, true), paths)
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("routes/find");
    for count in [1, 1_000, 100_000] {
        let (table, paths) = table(count);
        // A stride that is prime to every count: neighbours in the table are not asked in a row.
        let mut asked = paths.iter().cycle().step_by(7_919);
        group.bench_function(BenchmarkId::new("hit", count), |b| {
            b.iter(|| {
                table
                    .find(asked.next().map_or("", |path| black_box(path)))
                    .is_ok()
            });
        });
        group.bench_function(BenchmarkId::new("miss", count), |b| {
            b.iter(|| table.find(black_box("/hooks/team-a/none")).is_err());
        });
    }
    group.finish();
}

fn verification(c: &mut Criterion) {
    let auth = ingestor().spec.source.webhook.map(|webhook| webhook.auth);
    let auth = auth.and_then(|auth| auth.into_iter().next());
    let auth = auth.unwrap_or_else(|| panic!("the sample has an entry"));
    let secret = Arc::new(SECRET.to_vec().into_boxed_slice().into());
    let verifier = Verifier::new(&auth, &[secret]).unwrap_or_else(|error| panic!("{error}"));
    let verifiers = [verifier];
    let security: Vec<_> = verifiers
        .iter()
        .flat_map(Verifier::security_headers)
        .collect();
    let mut group = c.benchmark_group("verify/github");
    for size in [1_024, 64 * 1_024, 1_024 * 1_024] {
        let body = vec![b'x'; size];
        let signature = HeaderValue::from_str(&sign::github(SECRET, &body));
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-hub-signature-256",
            signature.unwrap_or_else(|error| panic!("{error}")),
        );
        let message = Message {
            headers: &headers,
            body: &body,
            now: 1_790_000_000,
        };
        assert!(verify::verify(&verifiers, &security, &message).is_ok());
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| verify::verify(&verifiers, &security, black_box(&message)).is_ok());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3));
    targets = lookup, verification
}
criterion_main!(benches);
