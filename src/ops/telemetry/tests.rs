use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use tracing::info;

use super::{context, *};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Collects log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Collects finished spans.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.extend(batch);
        Ok(())
    }
}

fn config(format: config::LogFormat) -> config::Telemetry {
    config::Telemetry {
        log_format: format,
        ..config::Telemetry::default()
    }
}

#[test]
fn json_lines_are_one_object_each() {
    let lines = Lines::default();
    let writer = lines.clone();
    let (subscriber, _telemetry) =
        Telemetry::build(&config(config::LogFormat::Json), move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        info!(ingestor = "github", "accepted\nnot two lines");
        info!("second");
    });
    let text = lines.text();
    let objects: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["ingestor"], "github");
}

#[test]
fn without_an_endpoint_a_request_span_is_disabled_and_the_context_is_passed_on() {
    let mut everything = config(config::LogFormat::Human);
    everything.log_filter = "trace".to_owned();
    let (subscriber, _telemetry) = Telemetry::build(&everything, Lines::default).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let span = context::request_span(Some(PARENT));
        assert!(span.is_disabled());
        assert_eq!(
            context::carry_on(&span, Some(PARENT)).as_deref(),
            Some(PARENT)
        );
        assert_eq!(context::carry_on(&span, Some("nonsense")), None);
        assert_eq!(context::carry_on(&span, None), None);
    });
}

#[test]
fn a_request_span_continues_the_senders_trace() {
    let spans = Spans::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(spans.clone())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("test"))
        .with_filter(Targets::new().with_target(TRACES, LevelFilter::INFO));
    let carried = tracing::subscriber::with_default(Registry::default().with(layer), || {
        let span = context::request_span(Some(PARENT));
        let _entered = span.enter();
        context::carry_on(&span, Some(PARENT)).unwrap()
    });
    let spans = spans.0.lock().unwrap();
    assert_eq!(spans.len(), 1);
    let own = &spans[0].span_context;
    assert_eq!(
        own.trace_id().to_string(),
        "0af7651916cd43dd8448eb211c80319c"
    );
    assert_eq!(spans[0].parent_span_id.to_string(), "b7ad6b7169203331");
    let carried = context::parse_traceparent(&carried).unwrap();
    assert_eq!(carried.trace_id(), own.trace_id());
    assert_eq!(carried.span_id(), own.span_id());
}

#[test]
fn only_a_well_formed_traceparent_is_read() {
    assert!(context::parse_traceparent(PARENT).is_some());
    for wrong in [
        "",
        "00",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
        "00-0af7651916cd43dd8448eb211c80319ä-b7ad6b7169203331-01",
    ] {
        assert!(context::parse_traceparent(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_wrong_header_for_the_collector_is_named_by_its_place_only() {
    let error = metadata("a=b, secret token").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a header for the collector is not a list of name=value: entry 2"
    );
    let headers = metadata("x-api-key = abc=,b=c").unwrap();
    assert_eq!(headers.get("x-api-key").unwrap(), "abc=");
}
