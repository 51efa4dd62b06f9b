//! W3C trace context, and the spans of an event's way: from a request into its span, from there into
//! the record, and from the record into what the engine does with it.
//!
//! ```text
//!  sender ──▶ request ──▶ append        the record carries the request's context on
//!                 ├─────▶ decide
//!                 └─────▶ write         one a batch; linked to the others whose items are in it
//! ```

use std::fmt::Write as _;

use http::{StatusCode, request::Parts};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, Status, TraceContextExt as _, TraceState},
};
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::TRACES;

/// The sender's `traceparent`, as it is.
#[must_use]
pub fn traceparent(head: &Parts) -> Option<&str> {
    head.headers.get("traceparent")?.to_str().ok()
}

/// A request's span, as a child of what the sender's `traceparent` names.
///
/// Disabled, at the price of a branch, when traces go nowhere; so are all others here.
#[must_use]
pub fn request_span(head: &Parts) -> Span {
    let span = info_span!(
        target: TRACES, parent: None, "request",
        otel.kind = "server", http.request.method = %head.method,
    );
    if !span.is_disabled() {
        under(&span, traceparent(head));
    }
    span
}

/// Tells what became of a request: its status and, if it was refused, why.
pub fn answered(span: &Span, status: StatusCode, refused: Option<&'static str>) {
    if span.is_disabled() {
        return;
    }
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if let Some(reason) = refused {
        span.set_attribute("error.type", reason);
    }
    // A refused request is the sender's error, not the server's.
    if status.is_server_error() {
        span.set_status(Status::error(refused.unwrap_or_default()));
    }
}

/// Tells which event a request brought.
pub fn brought(span: &Span, ingestor: &str, event_id: &str) {
    if !span.is_disabled() {
        span.set_attribute("zen.ingestor.uid", ingestor.to_owned());
        span.set_attribute("zen.event.id", event_id.to_owned());
    }
}

/// The span of an event's way into the journal, within its request's.
#[must_use]
pub fn append_span() -> Span {
    info_span!(target: TRACES, "append")
}

/// The span of an event's decision, under the request that brought it.
#[must_use]
pub fn decide_span(traceparent: Option<&str>) -> Span {
    let span = info_span!(target: TRACES, parent: None, "decide", otel.kind = "consumer");
    if !span.is_disabled() {
        under(&span, traceparent);
    }
    span
}

/// The span of a write, under the request that brought its first item; the others' are linked.
#[must_use]
pub fn write_span<'a>(name: &str, mut traceparents: impl Iterator<Item = Option<&'a str>>) -> Span {
    let span = info_span!(
        target: TRACES, parent: None, "write",
        otel.kind = "client", zen.observation = name,
    );
    if !span.is_disabled() {
        under(&span, traceparents.next().flatten());
        for other in traceparents.flatten().filter_map(parse_traceparent) {
            span.add_link(other);
        }
    }
    span
}

/// Tells why a write brought nothing in.
pub fn failed(span: &Span, reason: &'static str, message: &str) {
    if !span.is_disabled() {
        span.set_attribute("error.type", reason);
        span.set_status(Status::error(message.to_owned()));
    }
}

/// What the record is to carry on: the span's own context when it has one, else the sender's.
#[must_use]
pub fn carry_on(span: &Span, traceparent: Option<&str>) -> Option<String> {
    if !span.is_disabled() {
        let context = span.context();
        let own = context.span().span_context().clone();
        if own.is_valid() {
            return Some(format_traceparent(&own));
        }
    }
    traceparent
        .filter(|text| parse_traceparent(text).is_some())
        .map(str::to_owned)
}

fn under(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent.and_then(parse_traceparent)
        && let Err(error) = span.set_parent(Context::new().with_remote_span_context(parent))
    {
        tracing::debug!(%error, "the span has no parent");
    }
}

/// Reads a `traceparent` of version 00; `None` for anything else, as the specification asks.
#[must_use]
pub fn parse_traceparent(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let shaped = version == "00"
        && lower_hex(trace, 32)
        && lower_hex(span, 16)
        && lower_hex(flags, 2)
        && parts.next().is_none();
    if !shaped {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

fn format_traceparent(context: &SpanContext) -> String {
    let mut text = String::with_capacity(55);
    let written = write!(
        text,
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        context.trace_flags().to_u8()
    );
    debug_assert!(written.is_ok(), "writing into a String");
    text
}
