//! The pipeline: explode, normalize, filter, dedup.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{DecisionSpec, annotations, limits, observation::Applied},
    journal::{Event, Letter, Origin, Record},
};

use super::{
    body,
    cel::{Budget, Inputs, Scope, Value, Variable},
    dedup, explode,
    field::Reading,
    filter, names,
    normalize::{self, timestamp, whole_seconds},
    pipeline::{CompileError, Decision, DedupKind, ExpressionError, Item, Verdict, WHOLE},
    text::clip,
};

/// Longest event id in an annotation: a contract's key has at most 255 characters, and a scheme's
/// own id is as long as its provider likes. The label `zen.io/event` covers the whole.
const EVENT_ID: usize = 512;

/// A decision spec, compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    spec: DecisionSpec,
    explode: Option<explode::Compiled>,
    normalize: normalize::Compiled,
    filters: Vec<filter::Compiled>,
    dedup: dedup::Compiled,
    /// The variables that some expression names; the others are not made.
    uses: Scope,
}

impl Compiled {
    pub(super) fn new(spec: DecisionSpec) -> Result<Self, Vec<CompileError>> {
        let mut errors = Vec::new();
        let scope = match spec.explode {
            Some(_) => Scope::REQUEST.with(Variable::Item),
            None => Scope::REQUEST,
        };
        let text = spec.explode.as_deref();
        let explode = text.and_then(|text| explode::Compiled::new(text, &mut errors));
        let normalize = normalize::Compiled::new(&spec.normalize, scope, &mut errors);
        let all = spec.filters.iter().enumerate();
        let filters: Vec<_> = all
            .filter_map(|(index, f)| filter::Compiled::new(index, f, scope, &mut errors))
            .collect();
        let dedup = dedup::Compiled::new(&spec.dedup, scope, &mut errors);
        bounds(&spec, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let uses = [
            explode.as_ref().map(explode::Compiled::uses),
            Some(normalize.uses()),
            Some(dedup.uses()),
        ]
        .into_iter()
        .flatten()
        .chain(filters.iter().map(filter::Compiled::uses))
        .fold(Scope::default(), Scope::union);
        Ok(Self {
            spec,
            explode,
            normalize,
            filters,
            dedup,
            uses,
        })
    }

    pub(super) const fn spec(&self) -> &DecisionSpec {
        &self.spec
    }

    pub(super) fn decide(&self, record: &Record) -> Decision {
        let mut errors = Vec::new();
        let mut budget = Budget::default();
        let items = self
            .inputs(&record.event)
            .and_then(|inputs| self.items(inputs, record, &mut budget, &mut errors));
        Decision {
            items: items.unwrap_or_else(|letter| vec![Verdict::Dead(letter)]),
            errors,
        }
    }

    /// The variables of the request that some expression names.
    fn inputs(&self, event: &Event) -> Result<Inputs, Letter> {
        let mut inputs = Inputs::default();
        let mut set = |variable, make: &dyn Fn() -> Value| {
            if self.uses.has(variable) {
                inputs.set(variable, make());
            }
        };
        set(Variable::Headers, &|| body::joined(&event.headers));
        set(Variable::HeaderValues, &|| body::listed(&event.headers));
        set(Variable::Query, &|| {
            body::joined(&body::pairs(&event.query).unwrap_or_default())
        });
        set(Variable::QueryValues, &|| {
            body::listed(&body::pairs(&event.query).unwrap_or_default())
        });
        set(Variable::Source, &|| Value::text(&self.spec.ingestor.name));
        set(Variable::Now, &|| {
            Value::Timestamp(timestamp(event.accepted_at))
        });
        if self.uses.has(Variable::Body) {
            let header = event
                .headers
                .iter()
                .find(|(name, _)| &**name == "content-type");
            let content_type = header.map_or("", |(_, value)| value);
            let value = body::parse(content_type, &event.body).map_err(|error| {
                letter(
                    WHOLE,
                    "BodyUnreadable",
                    format!("the body of {} can't be read: {error}", event.event_id),
                )
            })?;
            inputs.set(Variable::Body, value);
        }
        Ok(inputs)
    }

    fn items(
        &self,
        mut inputs: Inputs,
        record: &Record,
        budget: &mut Budget,
        errors: &mut Vec<ExpressionError>,
    ) -> Result<Vec<Verdict>, Letter> {
        let items = match &self.explode {
            None => None,
            Some(explode) => Some(
                explode
                    .items(&inputs, budget)
                    .map_err(|error| letter(WHOLE, error.reason(), error.to_string()))?,
            ),
        };
        let count = items.as_ref().map_or(1, |items| items.len());
        let only = match record.event.origin {
            Origin::Replay { letter } if letter.index != WHOLE => Some(letter.index),
            Origin::Replay { .. } | Origin::Request => None,
        };
        // At most a thousand.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if let Some(only) = only.filter(|only| *only >= count) {
            let message = format!(
                "item {only} is to be replayed, and today's spec makes {count} items of this event"
            );
            return Err(letter(only, "ItemGone", message));
        }
        let mut verdicts = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        for index in only.map_or(0..count, |only| only..only + 1) {
            let at = usize::try_from(index).unwrap_or(usize::MAX);
            if let Some(item) = items.as_ref().and_then(|items| items.get(at)) {
                inputs.set(Variable::Item, item.clone());
            }
            let mut reading = Reading {
                inputs: &mut inputs,
                budget: &mut *budget,
                errors: &mut *errors,
                reasons: Vec::new(),
            };
            verdicts.push(self.item(record, index, &mut reading));
        }
        Ok(verdicts)
    }

    fn item(&self, record: &Record, index: u32, reading: &mut Reading<'_>) -> Verdict {
        let event = &record.event;
        let ingestor = &self.spec.ingestor;
        let draft = self
            .normalize
            .draft(&ingestor.name, event.accepted_at, reading);
        if self.uses.has(Variable::Event) {
            reading.inputs.set(Variable::Event, draft.value());
        }
        // A filter that drops an item spares it the dead letters, whatever it lacks.
        if let Some(filter) = filter::dropped_by(&self.filters, reading) {
            return Verdict::Filtered { filter };
        }
        let ttl = self.spec.ttl_seconds_after_creation;
        let mut spec = match self.normalize.finish(draft, ttl, reading) {
            Ok(spec) => spec,
            Err(missing) => {
                return Verdict::Dead(letter(index, "RequiredFieldAbsent", missing.message));
            }
        };
        let identity =
            self.dedup
                .identify(ingestor, &event.event_id, index, event.accepted_at, reading);
        let (name, dedup) = match identity {
            Ok(identity) => identity,
            Err(fault) => {
                let message = format!("the fingerprint can't be made: {fault}");
                return Verdict::Dead(letter(index, "FingerprintFailed", message));
            }
        };
        if let DedupKind::Aggregate { .. } = dedup {
            let seen = Time(whole_seconds(timestamp(event.accepted_at)));
            spec.first_seen = Some(seen.clone());
            spec.last_seen = Some(seen);
            spec.applied = vec![Applied {
                log: record.id.log.to_string(),
                // Below 2^52.
                position: i64::try_from(record.id.position.0).unwrap_or(i64::MAX),
                index: i64::from(index),
            }];
        }
        Verdict::Write(Box::new(Item {
            index,
            name,
            labels: self.labels(event, &spec.source),
            annotations: self.annotations(record, index, dedup),
            spec,
            dedup,
        }))
    }

    fn labels(&self, event: &Event, source: &str) -> BTreeMap<String, String> {
        let mut labels = self.spec.labels.clone();
        let event_label = names::event_label(&self.spec.ingestor, &event.event_id);
        labels.insert(annotations::SOURCE_LABEL.to_owned(), source.to_owned());
        labels.insert(annotations::EVENT_LABEL.to_owned(), event_label);
        labels
    }

    fn annotations(
        &self,
        record: &Record,
        index: u32,
        dedup: DedupKind,
    ) -> BTreeMap<String, String> {
        let event = &record.event;
        let payload: String = event.payload.0.iter().map(|b| format!("{b:02x}")).collect();
        let mut made = BTreeMap::from([
            (
                annotations::RECEIVED_AT,
                timestamp(event.accepted_at).to_string(),
            ),
            (annotations::EVENT_ID, clip(&event.event_id, EVENT_ID)),
            (annotations::RECORD, format!("{}/{index}", record.id)),
            (annotations::PAYLOAD, payload),
            (annotations::INGESTOR_UID, self.spec.ingestor.uid.clone()),
        ]);
        if let Some(traceparent) = &event.traceparent {
            made.insert(annotations::TRACEPARENT, clip(traceparent, EVENT_ID));
        }
        match dedup {
            DedupKind::Event => {}
            DedupKind::Fingerprint { window_end } | DedupKind::Aggregate { window_end } => {
                made.insert(annotations::WINDOW_END, timestamp(window_end).to_string());
            }
        }
        made.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

fn letter(index: u32, reason: &str, message: String) -> Letter {
    Letter {
        index,
        reason: reason.into(),
        message,
    }
}

/// What a server checks too, and what the journal may hold from before it did: without these
/// bounds one spec could make every event expensive.
fn bounds(spec: &DecisionSpec, errors: &mut Vec<CompileError>) {
    let mut most = |field: &str, count: usize, limit: usize| {
        if count > limit {
            errors.push(CompileError::at(
                field,
                format!("{count} entries, more than {limit}"),
            ));
        }
    };
    most("filters", spec.filters.len(), limits::FILTERS);
    most(
        "dedup.fields",
        spec.dedup.fields.len(),
        limits::FINGERPRINT_FIELDS,
    );
    most(
        "normalize.details",
        spec.normalize.details.len(),
        limits::DETAILS,
    );
    most(
        "output.observation.labels",
        spec.labels.len(),
        limits::LABELS,
    );
    for (key, value) in &spec.labels {
        let field = format!("output.observation.labels[{key:?}]");
        if key.starts_with("zen.io/") {
            errors.push(CompileError::at(
                &field,
                "keys with the prefix zen.io/ are the fabric's own",
            ));
        } else if !label_key(key) {
            errors.push(CompileError::at(
                &field,
                "the key is no qualified name, such as example.com/team",
            ));
        } else if !(value.is_empty() || label_part(value)) {
            errors.push(CompileError::at(
                &field,
                "a value has at most 63 letters, digits, dashes, underscores and dots, and begins and ends with a letter or digit",
            ));
        }
    }
}

fn label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let subdomain = |prefix: &str| {
        prefix.len() <= limits::SUBDOMAIN
            && prefix.split('.').all(|part| {
                label_part(part)
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
    };
    label_part(name) && prefix.is_none_or(subdomain)
}

fn label_part(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= limits::LABEL
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
