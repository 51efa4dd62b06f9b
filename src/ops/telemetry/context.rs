//! W3C trace context: from a request into its span, and from there into the record.

use std::fmt::Write as _;

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState},
};
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::TRACES;

/// A request's span, as a child of what the sender's `traceparent` names.
///
/// Disabled, at the price of a branch, when traces go nowhere.
#[must_use]
pub fn request_span(traceparent: Option<&str>) -> Span {
    under(
        info_span!(target: TRACES, "request", otel.kind = "server"),
        traceparent,
    )
}

/// The span of an event's processing, under the request that brought it.
#[must_use]
pub fn event_span(traceparent: Option<&str>) -> Span {
    under(
        info_span!(target: TRACES, "event", otel.kind = "consumer"),
        traceparent,
    )
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

fn under(span: Span, traceparent: Option<&str>) -> Span {
    if span.is_disabled() {
        return span;
    }
    if let Some(parent) = traceparent.and_then(parse_traceparent)
        && let Err(error) = span.set_parent(Context::new().with_remote_span_context(parent))
    {
        tracing::debug!(%error, "the span has no parent");
    }
    span
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
