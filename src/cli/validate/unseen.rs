//! What a server can't see: expressions that don't compile or can't matter, and what stands between
//! the documents.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "values of expressions: whatever is not named is a mismatch, also what is added later"
)]

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value as Json;

use super::{
    documents::Document,
    server::{Complaint, DEFAULT_NAMESPACE},
};
use crate::{
    api::{
        DecisionSpec, Ingestor,
        ingestor::{Auth, Field, Filter, SecretRef},
        paths,
    },
    engine::{
        cel::{Budget, Inputs, Program, Scope, Value, Variable},
        pipeline::Compiled,
        vocabulary,
    },
    gateway::routes::Endpoint,
};

/// How bad a complaint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It can't work.
    Error,
    /// It works, and probably not as was meant.
    Warning,
}

/// An Ingestor that the server would accept, with the document that it stands in.
#[derive(Debug)]
pub(super) struct Accepted<'a> {
    pub(super) document: &'a Document,
    pub(super) ingestor: Ingestor,
}

type Complaints = Vec<(Level, Complaint)>;

fn error(field: impl Into<String>, message: impl Into<String>) -> (Level, Complaint) {
    complaint(Level::Error, field, message)
}

fn warning(field: impl Into<String>, message: impl Into<String>) -> (Level, Complaint) {
    complaint(Level::Warning, field, message)
}

fn complaint(
    level: Level,
    field: impl Into<String>,
    message: impl Into<String>,
) -> (Level, Complaint) {
    let complaint = Complaint {
        field: field.into(),
        message: message.into(),
    };
    (level, complaint)
}

/// What is wrong with one Ingestor by itself.
pub(super) fn alone(ingestor: &Ingestor) -> Complaints {
    let mut found = Complaints::new();
    if let Err(errors) = Compiled::new(DecisionSpec::of(ingestor, "")) {
        let errors = errors.into_iter();
        found.extend(errors.map(|e| error(format!("spec.{}", e.field), e.message)));
        return found;
    }
    for (index, filter) in ingestor.spec.filters.iter().enumerate() {
        let at = format!("spec.filters[{index}].keepIf");
        found.extend(pointless(filter, ingestor).map(|(level, message)| {
            complaint(level, at, format!("the filter {} {message}", filter.name))
        }));
    }
    if ingestor.spec.explode.is_some() && !names_item(ingestor) {
        found.push(warning(
            "spec.explode",
            "no expression names `item`: every item of an event gives the same Observation",
        ));
    }
    found.extend(unservable(ingestor));
    found.extend(auth_beside_none(ingestor));
    found
}

/// What a gateway would refuse to serve.
fn unservable(ingestor: &Ingestor) -> Complaints {
    let refused = match Endpoint::of(ingestor) {
        Ok(endpoint) => endpoint.misconfigured().collect(),
        Err(refused) => vec![refused],
    };
    let at = |field| format!("spec.source.webhook.{field}");
    let refused = refused.into_iter();
    refused.map(|it| error(at(it.field), it.why)).collect()
}

fn auth_beside_none(ingestor: &Ingestor) -> Option<(Level, Complaint)> {
    let auth = &ingestor.spec.source.webhook.as_ref()?.auth;
    let none = auth.iter().position(|entry| entry.none.is_some())?;
    (auth.len() > 1).then(|| {
        warning(
            format!("spec.source.webhook.auth[{none}]"),
            "`none` accepts everything: the other entries protect nothing",
        )
    })
}

// === filters ===

/// Why a filter decides nothing: it gives the same for every event.
fn pointless(filter: &Filter, ingestor: &Ingestor) -> Option<(Level, &'static str)> {
    let scope = Scope::REQUEST.with(Variable::Item).with(Variable::Event);
    let program = Program::compile(&filter.keep_if, scope).ok()?;
    let mut inputs = Inputs::default();
    if program.uses().has(Variable::Event) {
        if !only_named_fields(&filter.keep_if) {
            return None;
        }
        inputs.set(Variable::Event, constants(ingestor));
    }
    // What isn't known is an error, which `&&` and `||` make up for just where it can't matter.
    match program.evaluate(&inputs, &mut Budget::default()).ok()? {
        Value::Bool(false) => Some((
            Level::Error,
            "is never true: no event would be kept; correct it, or disable the Ingestor",
        )),
        Value::Bool(true) => Some((Level::Warning, "is always true: leave it out")),
        _ => Some((
            Level::Error,
            "gives neither true nor false: a filter is a condition",
        )),
    }
}

/// Whether an expression looks at fields of `event` by their names only. Where it asks whether one
/// is there, or takes the whole, leaving out what is not constant would change the answer.
fn only_named_fields(expression: &str) -> bool {
    let bare = Regex::new(
        r"\bevent\b(\.(source|category|severity|eventType|resource\.[a-zA-Z]+)\b)?(\.[a-zA-Z]+\()?",
    );
    let Ok(bare) = bare else { return false };
    let asks = ["?", "has(", "'event'", "\"event\""];
    !asks.iter().any(|word| expression.contains(word))
        && bare.captures_iter(expression).all(|c| c.get(1).is_some())
}

/// The fields of the Observation that are the same for every event.
fn constants(ingestor: &Ingestor) -> Value {
    let normalize = &ingestor.spec.normalize;
    let constant = |field: &Field| field.value.clone();
    let name = |json: Option<Json>| json.and_then(|j| j.as_str().map(str::to_owned));
    let source = match &normalize.source {
        Some(field) => constant(field),
        None => ingestor.metadata.name.clone(),
    };
    let category = constant(&normalize.category)
        .and_then(|word| name(serde_json::to_value(vocabulary::category(&word)).ok()));
    let severity = constant(&normalize.severity)
        .and_then(|word| name(serde_json::to_value(vocabulary::severity(&word)).ok()));
    // Only what is canonical already: how the engine writes another is its own affair.
    let event_type = constant(&normalize.event_type).filter(|text| {
        text.bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    });
    let known = [
        ("source", source),
        ("category", category),
        ("severity", severity),
        ("eventType", event_type),
    ];
    let mut fields: Vec<(&str, Value)> = known
        .iter()
        .filter_map(|(name, text)| Some((*name, Value::text(text.as_deref()?))))
        .collect();
    if let Some(resource) = &normalize.resource {
        let parts = [
            ("apiVersion", &resource.api_version),
            ("kind", &resource.kind),
            ("namespace", &resource.namespace),
            ("name", &resource.name),
        ];
        let parts = parts.into_iter().filter_map(|(name, field)| {
            Some((name, Value::text(field.as_ref()?.value.as_deref()?)))
        });
        fields.push(("resource", Value::record(parts.collect())));
    }
    Value::record(fields)
}

// === item ===

fn names_item(ingestor: &Ingestor) -> bool {
    let normalize = &ingestor.spec.normalize;
    let resource = normalize.resource.iter().flat_map(|resource| {
        [
            &resource.api_version,
            &resource.kind,
            &resource.namespace,
            &resource.name,
        ]
    });
    [
        &normalize.category,
        &normalize.severity,
        &normalize.event_type,
    ]
    .into_iter()
    .chain(&normalize.source)
    .chain(&normalize.detected_at)
    .chain(resource.flatten())
    .chain(normalize.details.values())
    .filter_map(|field| field.expression.as_deref())
    .chain(ingestor.spec.filters.iter().map(|f| f.keep_if.as_str()))
    .chain(ingestor.spec.dedup.fields.iter().map(String::as_str))
    .any(|text| {
        let scope = Scope::REQUEST.with(Variable::Item).with(Variable::Event);
        Program::compile(text, scope).is_ok_and(|program| program.uses().has(Variable::Item))
    })
}

// === between documents ===

/// What the documents say of each other: paths that two Ingestors want, and Secrets that lack what
/// is asked of them.
pub(super) fn together<'a>(
    accepted: &[Accepted<'a>],
    secrets: &[&'a Document],
) -> Vec<(&'a Document, Level, Complaint)> {
    let conflicts = path_conflicts(accepted);
    let keys = secret_keys(secrets);
    let secrets = accepted.iter().flat_map(|one| {
        let document = one.document;
        let found = secret_faults(&one.ingestor, &keys).into_iter();
        found.map(move |(level, complaint)| (document, level, complaint))
    });
    conflicts.into_iter().chain(secrets).collect()
}

fn path_conflicts<'a>(accepted: &[Accepted<'a>]) -> Vec<(&'a Document, Level, Complaint)> {
    // An Ingestor of a file has no age: the name decides, as it does on a server between two that
    // were created in the same second.
    let mut all: Vec<Ingestor> = accepted.iter().map(|one| one.ingestor.clone()).collect();
    for (number, ingestor) in all.iter_mut().enumerate() {
        ingestor.metadata.uid = Some(number.to_string());
        ingestor.metadata.creation_timestamp = None;
    }
    let owners = paths::owners(&all);
    all.iter()
        .zip(accepted)
        .filter_map(|(ingestor, one)| {
            let owner = owners.conflict(ingestor)?;
            // Two documents of one object: the later replaces the earlier, which is said elsewhere.
            if Some(&owner.name) == ingestor.metadata.name.as_ref() {
                return None;
            }
            let (namespace, path) = paths::path_of(ingestor)?;
            let message = format!(
                "the path /hooks/{namespace}/{path} is also that of the Ingestor {}: the older of \
                 two keeps it, and the other serves nothing",
                owner.name
            );
            let (level, complaint) = error("spec.source.webhook.path", message);
            Some((one.document, level, complaint))
        })
        .collect()
}

/// Keys of Secrets, by namespace and name.
type Keys = BTreeMap<(String, String), Vec<String>>;

fn secret_keys(secrets: &[&Document]) -> Keys {
    secrets
        .iter()
        .filter_map(|document| {
            let object = &document.object;
            let text = |pointer| object.pointer(pointer).and_then(Json::as_str);
            let namespace = text("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE);
            let keys = ["/data", "/stringData"]
                .into_iter()
                .filter_map(|pointer| object.pointer(pointer)?.as_object())
                .flat_map(|values| values.keys().cloned())
                .collect();
            Some((
                (namespace.to_owned(), text("/metadata/name")?.to_owned()),
                keys,
            ))
        })
        .collect()
}

fn secret_ref(auth: &Auth) -> Option<(&'static str, &SecretRef)> {
    auth.github
        .as_ref()
        .map(|s| ("github", &s.secret_ref))
        .or_else(|| {
            auth.standard_webhooks
                .as_ref()
                .map(|s| ("standardWebhooks", &s.secret_ref))
        })
        .or_else(|| auth.hmac.as_ref().map(|s| ("hmac", &s.secret_ref)))
        .or_else(|| auth.api_key.as_ref().map(|s| ("apiKey", &s.secret_ref)))
}

/// Complaints about Secrets that stand in the same files; of others nothing is known.
fn secret_faults(ingestor: &Ingestor, keys: &Keys) -> Complaints {
    let namespace = ingestor
        .metadata
        .namespace
        .as_deref()
        .unwrap_or(DEFAULT_NAMESPACE);
    let auth = ingestor
        .spec
        .source
        .webhook
        .iter()
        .flat_map(|webhook| &webhook.auth);
    auth.enumerate()
        .filter_map(|(index, entry)| Some((index, secret_ref(entry)?)))
        .filter_map(|(index, (scheme, wanted))| {
            let at = format!("spec.source.webhook.auth[{index}].{scheme}.secretRef");
            let here = (namespace.to_owned(), wanted.name.clone());
            match (keys.get(&here), &wanted.key) {
                (Some(found), Some(key)) if !found.contains(key) => Some(error(
                    format!("{at}.key"),
                    format!("the Secret {} in these files has no key {key}", wanted.name),
                )),
                (Some(found), None) if found.is_empty() => Some(error(
                    format!("{at}.name"),
                    format!("the Secret {} in these files is empty", wanted.name),
                )),
                (Some(_), _) => None,
                (None, _) => {
                    let (elsewhere, _) = keys.keys().find(|(_, name)| *name == wanted.name)?;
                    Some(warning(
                        format!("{at}.name"),
                        format!(
                            "these files have a Secret {} in namespace {elsewhere}, not in {namespace}; \
                             a Secret is looked for in the Ingestor's namespace only",
                            wanted.name
                        ),
                    ))
                }
            }
        })
        .collect()
}
