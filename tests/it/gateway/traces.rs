//! One event is one trace: the request, its append, its decision, and the write of its Observation.

use std::sync::{Arc, Mutex};

use kube::{Api, api::ListParams};
use opentelemetry::{
    Value,
    trace::{SpanKind, Status, TracerProvider as _},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tracing::{Dispatch, subscriber::DefaultGuard};
use tracing_subscriber::{
    Layer as _, Registry, filter::LevelFilter, filter::Targets, layer::SubscriberExt as _,
};
use zen_fabric::{
    api::{Observation, annotations::TRACEPARENT},
    ops::telemetry::TRACES,
};

use super::world::{SECRET, World, sign, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SENDER: &str = "b7ad6b7169203331";

/// Collects finished spans.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Spans {
    /// The only finished span of that name in the sender's trace.
    fn find(&self, name: &str) -> Option<SpanData> {
        let spans = self.0.lock().unwrap();
        let mut found = spans
            .iter()
            .filter(|span| span.name == name && span.span_context.trace_id().to_string() == TRACE);
        let first = found.next().cloned();
        assert!(found.next().is_none(), "{name} twice");
        first
    }
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    let mut attributes = span.attributes.iter();
    let found = attributes.find(|attribute| attribute.key.as_str() == key)?;
    Some(found.value.clone())
}

/// While it lives, this thread's spans of traces are collected.
struct Collecting {
    spans: Spans,
    _subscriber: DefaultGuard,
    _second: Dispatch,
}

impl Collecting {
    fn new() -> Self {
        let spans = Spans::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(spans.clone())
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("test"))
            .with_filter(Targets::new().with_target(TRACES, LevelFilter::INFO));
        // With one subscriber in the process, a span that another test's thread meets first would be
        // off for all: nobody but that thread is asked. With two, all are.
        let second = Dispatch::new(Registry::default());
        Self {
            spans,
            _subscriber: tracing::subscriber::set_default(Registry::default().with(layer)),
            _second: second,
        }
    }
}

// On one thread, so that the test's subscriber is everybody's.
#[tokio::test]
async fn an_event_is_one_trace_from_the_request_to_the_observation() {
    let collecting = Collecting::new();
    let spans = &collecting.spans;
    let world = World::new().await;
    world.github().await;
    world.engine().await;

    let signature = sign(SECRET, b"{}");
    let traceparent = format!("00-{TRACE}-{SENDER}-01");
    let headers = [
        ("X-GitHub-Delivery", "one"),
        ("X-Hub-Signature-256", &signature),
        ("traceparent", &traceparent),
    ];
    let answer = world.post("/hooks/team/github", &headers, b"{}").await;
    assert_eq!(answer.status, 202);
    until("the write is told", || spans.find("write").is_some()).await;

    let [request, append, decide, write] =
        ["request", "append", "decide", "write"].map(|name| spans.find(name).unwrap());
    assert_eq!(request.parent_span_id.to_string(), SENDER);
    for span in [&append, &decide, &write] {
        let parent = request.span_context.span_id();
        assert_eq!(span.parent_span_id, parent, "{}", span.name);
    }
    assert_eq!(request.span_kind, SpanKind::Server);
    assert!(
        request.start_time <= append.start_time,
        "the append is in the request"
    );
    assert!(
        append.end_time <= request.end_time,
        "the request ends with its answer"
    );
    // The engine may have the record before the append hears that it is durable.
    assert!(append.start_time <= decide.start_time);
    assert!(decide.end_time <= write.start_time);
    let status = attribute(&request, "http.response.status_code");
    assert_eq!(status, Some(Value::I64(202)));
    assert_eq!(
        attribute(&request, "zen.event.id"),
        Some(Value::from("github/one"))
    );

    let observations: Api<Observation> = Api::namespaced(world.client.clone(), "team");
    let made = observations.list(&ListParams::default()).await.unwrap();
    let annotations = made.items[0].metadata.annotations.as_ref().unwrap();
    let own = request.span_context.span_id();
    assert_eq!(annotations[TRACEPARENT], format!("00-{TRACE}-{own}-01"));
}

#[tokio::test]
async fn a_refused_requests_span_says_why() {
    let collecting = Collecting::new();
    let spans = &collecting.spans;
    let world = World::new().await;
    world.github().await;
    let traceparent = format!("00-{TRACE}-{SENDER}-01");
    let headers = [
        ("X-Hub-Signature-256", "sha256=00"),
        ("traceparent", &traceparent),
    ];
    world
        .post("/hooks/team/github", &headers, b"{}")
        .await
        .is_problem(401);
    until("the request is told", || spans.find("request").is_some()).await;
    let request = spans.find("request").unwrap();
    let status = attribute(&request, "http.response.status_code");
    assert_eq!(status, Some(Value::I64(401)));
    assert_eq!(
        attribute(&request, "error.type"),
        Some(Value::from("unauthorized"))
    );
    assert_eq!(request.status, Status::Unset, "the sender's error");
    assert!(spans.find("append").is_none());
}
