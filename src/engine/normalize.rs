//! From a body to the fields of an Observation.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "values of expressions: whatever is not named is a mismatch, also what is added later"
)]

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value as Json};

use crate::{
    api::{
        ObservationSpec,
        ingestor::Normalize,
        limits::{API_VERSION, EVENT_TYPE, LABEL, RESOURCE_NAME, SUBDOMAIN},
        observation::{Category, Resource, Severity},
    },
    journal::Millis,
};

use super::{
    cel::{self, Fault, Scope, Value, to_json},
    details,
    field::{Field, Reading, any},
    pipeline::CompileError,
    text::{clip, sanitize},
    times, vocabulary,
};

/// How the fields are made, compiled.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    source: Option<Field>,
    category: Option<Field>,
    severity: Option<Field>,
    event_type: Option<Field>,
    detected_at: Option<Field>,
    resource: Option<[Option<Field>; 4]>,
    details: Vec<(String, Field)>,
}

/// An Observation in the making: what is absent is not known.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    source: String,
    category: Option<Category>,
    severity: Option<Severity>,
    event_type: Option<String>,
    detected_at: Timestamp,
    resource: Option<Resource>,
    details: Vec<(String, Value)>,
}

/// A required field that stayed absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) field: &'static str,
    pub(super) message: String,
}

impl Compiled {
    pub(super) fn new(normalize: &Normalize, scope: Scope, errors: &mut Vec<CompileError>) -> Self {
        let mut field = |name: &str, field, check| {
            Field::new(&format!("normalize.{name}"), field, scope, check, errors)
        };
        let source = normalize.source.as_ref();
        let detected_at = normalize.detected_at.as_ref();
        let mut compiled = Self {
            source: source.and_then(|f| field("source", f, |text| constant(source_of(text)))),
            category: field("category", &normalize.category, |text| {
                constant(category(&Value::text(text)))
            }),
            severity: field("severity", &normalize.severity, |text| {
                constant(severity(&Value::text(text)))
            }),
            event_type: field("eventType", &normalize.event_type, |text| {
                constant(event_type(&Value::text(text)))
            }),
            detected_at: detected_at
                .and_then(|f| field("detectedAt", f, |text| constant(time(&Value::text(text))))),
            resource: None,
            details: Vec::new(),
        };
        compiled.resource = normalize.resource.as_ref().map(|resource| {
            [
                ("apiVersion", &resource.api_version),
                ("kind", &resource.kind),
                ("namespace", &resource.namespace),
                ("name", &resource.name),
            ]
            .map(|(name, f)| field(&format!("resource.{name}"), f.as_ref()?, any))
        });
        for (name, detail) in &normalize.details {
            let compiled_detail = field(&format!("details.{name}"), detail, any);
            compiled
                .details
                .extend(compiled_detail.map(|field| (name.clone(), field)));
        }
        if normalize.details.contains_key(details::MARKER) {
            errors.push(CompileError::at(
                &format!("normalize.details.{}", details::MARKER),
                "the name is the fabric's own: it marks details that were cut",
            ));
        }
        compiled
    }

    /// The variables that its expressions name.
    pub(super) fn uses(&self) -> Scope {
        let required = [
            &self.source,
            &self.category,
            &self.severity,
            &self.event_type,
        ];
        let resource = self.resource.iter().flatten().flatten();
        required
            .into_iter()
            .flatten()
            .chain(&self.detected_at)
            .chain(resource)
            .chain(self.details.iter().map(|(_, field)| field))
            .map(Field::uses)
            .fold(Scope::default(), Scope::union)
    }

    /// The Observation, as far as the event gives it. `ingestor` is the default of `source`.
    pub(super) fn draft(
        &self,
        ingestor: &str,
        accepted_at: Millis,
        reading: &mut Reading<'_>,
    ) -> Draft {
        fn read<T>(
            field: Option<&Field>,
            reading: &mut Reading<'_>,
            make: fn(&Value) -> Result<T, String>,
        ) -> Option<T> {
            field.and_then(|field| field.read(reading, make))
        }
        let source = read(self.source.as_ref(), reading, |value| {
            source_of(&text(value)?)
        });
        let detected_at = read(self.detected_at.as_ref(), reading, time);
        Draft {
            source: source.unwrap_or_else(|| ingestor.to_owned()),
            category: read(self.category.as_ref(), reading, category),
            severity: read(self.severity.as_ref(), reading, severity),
            event_type: read(self.event_type.as_ref(), reading, event_type),
            detected_at: whole_seconds(detected_at.unwrap_or_else(|| timestamp(accepted_at))),
            resource: self.resource(reading),
            details: self.details(reading),
        }
    }

    fn resource(&self, reading: &mut Reading<'_>) -> Option<Resource> {
        let mut part = |field: &Option<Field>, longest: usize| {
            let made = field.as_ref()?.read(reading, text)?;
            (!made.is_empty()).then(|| clip(&made, longest))
        };
        let [api_version, kind, namespace, name] = self.resource.as_ref()?;
        let resource = Resource {
            api_version: part(api_version, API_VERSION),
            kind: part(kind, LABEL),
            namespace: part(namespace, SUBDOMAIN),
            name: part(name, RESOURCE_NAME),
        };
        (resource != Resource::default()).then_some(resource)
    }

    fn details(&self, reading: &mut Reading<'_>) -> Vec<(String, Value)> {
        let mut details = Vec::with_capacity(self.details.len());
        for (name, field) in &self.details {
            let value = field.value(reading).or_else(|| field.default());
            details.extend(value.map(|value| (name.clone(), value)));
        }
        details
    }

    /// Why a required field is absent, in words that name its expression.
    fn missing(field: Option<&Field>, name: &'static str, reading: &Reading<'_>) -> Missing {
        let reason = field.and_then(|field| {
            let mut reasons = reading.reasons.iter();
            reasons.find(|reason| reason.field == field.path)
        });
        let expression = field.map(Field::expression).unwrap_or_default();
        let why = reason.map_or("it gave nothing", |reason| &reason.message);
        Missing {
            field: name,
            message: format!(
                "{name} is required, and its expression `{expression}` gave none on this event: \
                 {why}. Give the field a `default`, or mend the expression, and replay the event"
            ),
        }
    }

    /// The finished Observation of one event.
    ///
    /// # Errors
    /// A required field is absent, or the work for this event is spent.
    pub(super) fn finish(
        &self,
        draft: Draft,
        ttl: Option<u32>,
        reading: &mut Reading<'_>,
    ) -> Result<ObservationSpec, Missing> {
        let missing = |field: &Option<Field>, name| Self::missing(field.as_ref(), name, reading);
        let (category, severity, event_type) =
            match (draft.category, draft.severity, draft.event_type) {
                (Some(category), Some(severity), Some(event_type)) => {
                    (category, severity, event_type)
                }
                (None, _, _) => return Err(missing(&self.category, "category")),
                (_, None, _) => return Err(missing(&self.severity, "severity")),
                (_, _, None) => return Err(missing(&self.event_type, "eventType")),
            };
        Ok(ObservationSpec {
            source: draft.source,
            category,
            severity,
            event_type,
            detected_at: Time(draft.detected_at),
            resource: draft.resource,
            details: self.stored_details(draft.details, reading),
            count: 1,
            first_seen: None,
            last_seen: None,
            applied: Vec::new(),
            ttl_seconds_after_creation: ttl,
        })
    }

    fn stored_details(
        &self,
        values: Vec<(String, Value)>,
        reading: &mut Reading<'_>,
    ) -> Map<String, Json> {
        let mut stored = Map::new();
        for (name, value) in values {
            reading.budget.begin();
            match to_json(&value, reading.budget) {
                Ok(json) => {
                    stored.insert(name, json);
                }
                Err(fault) => {
                    let mut fields = self.details.iter();
                    if let Some((_, field)) = fields.find(|(known, _)| *known == name) {
                        reading.failed(&field.path, Fault::to_string(&fault));
                    }
                }
            }
        }
        details::cut(stored)
    }
}

// === impl Draft ===

impl Draft {
    /// The variable `event`: what is absent is not there.
    pub(super) fn value(&self) -> Value {
        let mut entries = vec![
            ("source", Value::text(&self.source)),
            ("detectedAt", Value::Timestamp(self.detected_at)),
        ];
        let mut push = |name, value: Option<Value>| {
            entries.extend(value.map(|value| (name, value)));
        };
        let category = self.category.map(vocabulary::category_word);
        let severity = self.severity.map(vocabulary::severity_word);
        push("category", category.map(Value::text));
        push("severity", severity.map(Value::text));
        push("eventType", self.event_type.as_deref().map(Value::text));
        if let Some(resource) = &self.resource {
            let parts = [
                ("apiVersion", &resource.api_version),
                ("kind", &resource.kind),
                ("namespace", &resource.namespace),
                ("name", &resource.name),
            ];
            let present = parts
                .into_iter()
                .filter_map(|(name, part)| Some((name, Value::text(part.as_deref()?))));
            push("resource", Some(Value::record(present.collect())));
        }
        let details = self.details.iter();
        let details = details.map(|(name, value)| (name.as_str(), value.clone()));
        push("details", Some(Value::record(details.collect())));
        Value::record(entries)
    }
}

// === readers ===

fn constant<T>(read: Result<T, String>) -> Result<(), String> {
    read.map(drop)
}

fn text(value: &Value) -> Result<String, String> {
    cel::plain(value).ok_or_else(|| format!("it gave a {}, not a text", value.type_name()))
}

fn source_of(text: &str) -> Result<String, String> {
    let made = sanitize(text, '-', LABEL);
    if made.is_empty() {
        return Err("a source has letters, digits and dashes".to_owned());
    }
    Ok(made)
}

fn category(value: &Value) -> Result<Category, String> {
    let word = text(value)?;
    vocabulary::category(&word)
        .ok_or_else(|| format!("{:?} is no category that is known", clip(&word, LABEL)))
}

fn severity(value: &Value) -> Result<Severity, String> {
    let word = text(value)?;
    vocabulary::severity(&word)
        .ok_or_else(|| format!("{:?} is no severity that is known", clip(&word, LABEL)))
}

fn event_type(value: &Value) -> Result<String, String> {
    let made = sanitize(&text(value)?, '_', EVENT_TYPE);
    if made.is_empty() {
        return Err("an event type needs a letter or digit".to_owned());
    }
    Ok(made)
}

fn time(value: &Value) -> Result<Timestamp, String> {
    let read = match value {
        Value::Timestamp(at) => Some(*at),
        Value::String(text) => times::text(text),
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => cel::plain(value)
            .and_then(|text| text.parse().ok())
            .and_then(times::unix),
        _ => None,
    };
    // What every reader of an Observation can add a zone to; the CRD holds the same range.
    let storable = |at: &Timestamp| (-30_610_224_000..=32_503_679_999).contains(&at.as_second());
    read.filter(storable).ok_or_else(|| {
        format!(
            "it gave a {} that is no time: RFC 3339 or Unix seconds between the years 1000 and 2999",
            value.type_name()
        )
    })
}

/// A time of acceptance as a timestamp.
pub(super) fn timestamp(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The API stores whole seconds: what is kept here is what comes back from it.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    let seconds = at.as_millisecond().div_euclid(1_000);
    Timestamp::from_second(seconds).unwrap_or(at)
}
