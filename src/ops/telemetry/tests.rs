use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use tracing::info;

use super::{context, *};
use crate::ops::tasks::Tasks;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn head() -> Parts {
    let request = Request::post("/hooks/team/github").header("traceparent", PARENT);
    request.body(()).unwrap().into_parts().0
}

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
        let span = context::request_span(&head());
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
        let span = context::request_span(&head());
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

/// One call that a collector got: path, value of `x-api-key`, body.
type Calls = Arc<Mutex<Vec<(String, String, Vec<u8>)>>>;

/// A collector as OTLP over gRPC sees it: HTTP/2, an empty message, a status in the trailers.
async fn collector() -> (String, Calls) {
    let calls = Calls::default();
    let keep = Arc::clone(&calls);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    Tasks::new().spawn("collector", async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| {
            let calls = Arc::clone(&keep);
            async move {
                let path = request.uri().path().to_owned();
                let key = request
                    .headers()
                    .get("x-api-key")
                    .map(|key| key.to_str().unwrap().to_owned());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                calls
                    .lock()
                    .unwrap()
                    .push((path, key.unwrap_or_default(), body.to_vec()));
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let body = Full::new(Bytes::from_static(&[0; 5]))
                    .with_trailers(async { Some(Ok(trailers)) });
                let mut answer = Response::new(body);
                answer
                    .headers_mut()
                    .insert("content-type", HeaderValue::from_static("application/grpc"));
                Ok::<_, Infallible>(answer)
            }
        });
        http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
            .unwrap();
    });
    (endpoint, calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_the_collector_before_the_process_ends() {
    let (endpoint, calls) = collector().await;
    let mut traced = config(config::LogFormat::Human);
    traced.otlp_endpoint = Some(endpoint);
    traced.otlp_headers = Some("x-api-key=hunter2".into());
    let (subscriber, telemetry) = Telemetry::build(&traced, io::sink).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let span = context::request_span(&head());
        assert!(!span.is_disabled());
    });
    telemetry.flush(FLUSH_TIMEOUT).await;
    let calls = calls.lock().unwrap();
    let (path, key, body) = calls.first().unwrap();
    assert_eq!(
        path,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    );
    assert_eq!(key, "hunter2");
    let trace = context::parse_traceparent(PARENT)
        .unwrap()
        .trace_id()
        .to_bytes();
    assert!(body.windows(trace.len()).any(|window| window == trace));
}
