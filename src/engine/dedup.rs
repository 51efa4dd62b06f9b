//! Which events are the same: fingerprints, windows, and the name that follows from them.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "values of expressions: whatever is not named is a mismatch, also what is added later"
)]

use crate::{
    api::{
        decision::Identity,
        duration,
        ingestor::{Dedup, Strategy},
    },
    journal::Millis,
};

use super::{
    cel::{Budget, Fault, Key, Program, Scope, Value, Variable, whole},
    field::Reading,
    names,
    pipeline::{CompileError, DedupKind},
};

/// Fields of an Observation that a fingerprint may name, beside `details.<name>`.
const FIELDS: [&str; 11] = [
    "source",
    "category",
    "severity",
    "eventType",
    "detectedAt",
    "resource",
    "resource.apiVersion",
    "resource.kind",
    "resource.namespace",
    "resource.name",
    "details",
];

/// How items are told apart, compiled.
#[derive(Clone, Debug)]
pub(super) enum Compiled {
    /// By event id and index.
    Event,
    /// By fingerprint and window.
    Window {
        fields: Vec<Part>,
        millis: i64,
        counts: bool,
    },
}

/// One part of a fingerprint.
#[derive(Clone, Debug)]
pub(super) struct Part {
    path: std::sync::Arc<str>,
    text: String,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// A field of the Observation; absent is a value like any other.
    Field(Vec<String>),
    Expression(Box<Program>),
}

/// The window that a time of acceptance lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its number since 1970.
    pub number: i64,
    /// Its end, the first millisecond that lies in the next.
    pub end: Millis,
}

impl Window {
    /// The window of `millis` length that `at` lies in. Windows of different fingerprints turn at
    /// different times: each is shifted by its fingerprint.
    #[must_use]
    pub fn of(fingerprint: &[u8; 32], at: Millis, millis: i64) -> Self {
        let length = millis.max(1);
        let [a, b, c, d, e, f, g, ..] = *fingerprint;
        // 56 bits: never negative.
        let hash = i64::from_be_bytes([0, a, b, c, d, e, f, g]);
        let shift = hash % length;
        let number = at.0.saturating_sub(shift).div_euclid(length);
        let end = number
            .saturating_add(1)
            .saturating_mul(length)
            .saturating_add(shift);
        Self {
            number,
            end: Millis(end),
        }
    }
}

impl Compiled {
    pub(super) fn new(dedup: &Dedup, scope: Scope, errors: &mut Vec<CompileError>) -> Self {
        if dedup.strategy == Strategy::Event {
            return Self::Event;
        }
        let window = duration::parse_within(&dedup.window, &duration::DEDUP_WINDOW);
        let millis = match window {
            Ok(window) => i64::try_from(window.as_millis()).unwrap_or(i64::MAX),
            Err(error) => {
                errors.push(CompileError::at("dedup.window", error.to_string()));
                1
            }
        };
        if dedup.fields.is_empty() {
            errors.push(CompileError::at(
                "dedup.fields",
                "the strategies fingerprint and aggregate need at least one field",
            ));
        }
        let scope = scope.with(Variable::Event);
        let parts = dedup.fields.iter().enumerate();
        let fields = parts
            .filter_map(|(index, text)| {
                let path = format!("dedup.fields[{index}]");
                let source = match observation_field(text) {
                    Some(field) => Source::Field(field),
                    None => Source::Expression(Box::new(CompileError::collect(
                        Program::compile(text, scope),
                        &path,
                        errors,
                    )?)),
                };
                Some(Part {
                    path: path.into(),
                    text: text.clone(),
                    source,
                })
            })
            .collect();
        Self::Window {
            fields,
            millis,
            counts: dedup.strategy == Strategy::Aggregate,
        }
    }

    /// The variables that its expressions name.
    pub(super) fn uses(&self) -> Scope {
        match self {
            Self::Event => Scope::default(),
            Self::Window { fields, .. } => {
                let each = fields.iter().map(|part| match &part.source {
                    Source::Field(_) => Scope::default().with(Variable::Event),
                    Source::Expression(program) => program.uses(),
                });
                each.fold(Scope::default(), Scope::union)
            }
        }
    }

    /// The name of the item's Observation, and how it meets one that is there.
    ///
    /// # Errors
    /// When the work for this event is spent.
    pub(super) fn identify(
        &self,
        ingestor: &Identity,
        event_id: &str,
        index: u32,
        accepted_at: Millis,
        reading: &mut Reading<'_>,
    ) -> Result<(String, DedupKind), Fault> {
        match self {
            Self::Event => Ok((names::event(ingestor, event_id, index), DedupKind::Event)),
            Self::Window {
                fields,
                millis,
                counts,
            } => {
                let fingerprint = fingerprint(fields, reading)?;
                let window = Window::of(&fingerprint, accepted_at, *millis);
                let name = names::window(ingestor, &fingerprint, window.number);
                let window_end = window.end;
                let kind = if *counts {
                    DedupKind::Aggregate { window_end }
                } else {
                    DedupKind::Fingerprint { window_end }
                };
                Ok((name, kind))
            }
        }
    }
}

fn observation_field(text: &str) -> Option<Vec<String>> {
    let detail = text.strip_prefix("details.").is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    (detail || FIELDS.contains(&text)).then(|| text.split('.').map(str::to_owned).collect())
}

/// SHA-256 over each field's text and value. A value that is absent, because its expression failed
/// or the Observation has no such field, differs from every other.
fn fingerprint(fields: &[Part], reading: &mut Reading<'_>) -> Result<[u8; 32], Fault> {
    let mut encoded = Vec::with_capacity(256);
    for part in fields {
        let value = match &part.source {
            Source::Field(path) => field_of(reading.event(), path),
            Source::Expression(program) => reading.evaluate(&part.path, program),
        };
        prefixed(b'f', part.text.as_bytes(), &mut encoded);
        match value {
            Some(value) => {
                reading.budget.begin();
                encode(&value, reading.budget, &mut encoded)?;
            }
            None => encoded.push(b'-'),
        }
    }
    Ok(names::digest(&[&encoded]))
}

fn field_of(event: Option<&Value>, path: &[String]) -> Option<Value> {
    let mut value = event?;
    for name in path {
        match value {
            Value::Map(map) => value = map.field(name)?,
            _ => return None,
        }
    }
    Some(value.clone())
}

fn prefixed(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// One encoding per value: a tag per type, a length before what has one, maps in the order of
/// their keys, and numbers that are equal alike.
pub(super) fn encode(value: &Value, budget: &mut Budget, out: &mut Vec<u8>) -> Result<(), Fault> {
    budget.charge(1 + value.weight())?;
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(bool) => out.extend_from_slice(&[b'b', u8::from(*bool)]),
        Value::Int(int) => prefixed(b'i', int.to_string().as_bytes(), out),
        Value::Uint(uint) => prefixed(b'i', uint.to_string().as_bytes(), out),
        Value::Double(double) => match whole(*double) {
            Some(int) => prefixed(b'i', int.to_string().as_bytes(), out),
            // What an unsigned integer may equal.
            None if double.fract() == 0.0 && (0.0..1.844_674_407_370_955_2e19).contains(double) => {
                prefixed(b'i', format!("{double:.0}").as_bytes(), out);
            }
            // Every NaN is the same one here.
            None if double.is_nan() => prefixed(b'd', b"nan", out),
            None => prefixed(b'd', &double.to_bits().to_be_bytes(), out),
        },
        Value::String(text) => prefixed(b's', text.as_bytes(), out),
        Value::Bytes(bytes) => prefixed(b'y', bytes, out),
        Value::List(items) => {
            prefixed(b'l', items.len().to_string().as_bytes(), out);
            for item in items.iter() {
                encode(item, budget, out)?;
            }
        }
        Value::Map(map) => {
            prefixed(b'm', map.len().to_string().as_bytes(), out);
            for (key, item) in map.iter() {
                encode(&Key::value(key), budget, out)?;
                encode(item, budget, out)?;
            }
        }
        Value::Timestamp(at) => prefixed(b't', at.as_nanosecond().to_string().as_bytes(), out),
        Value::Duration(span) => prefixed(b'p', span.as_nanos().to_string().as_bytes(), out),
        Value::Optional(None) => out.push(b'-'),
        Value::Optional(Some(inner)) => encode(inner, budget, out)?,
        Value::Type(name) => prefixed(b'T', name.as_bytes(), out),
    }
    Ok(())
}
