//! What an object must be before it is written.

use serde_json::{Value, json};

use super::{Fields, Write, strategy};
use crate::embedded::{
    definition,
    kind::{BuiltIn, Kind, Traits},
    meta,
    refusal::{Fault, FieldError, Refusal},
};

/// Checks that what came in is an object of the kind, brings it into canonical form and gives
/// the warnings.
pub(super) fn admit(
    kind: &Kind,
    object: &mut Value,
    namespace: Option<&str>,
    write: &Write,
    patched: Option<&str>,
) -> Result<Vec<String>, Refusal> {
    check_type(kind, object)?;
    let mut unknown = meta::normalize(kind, object)?;
    unknown.extend(kind.schema.prune(object));
    unknown.sort();
    let repeated = write
        .repeated
        .iter()
        .map(|path| format!("duplicate field {path:?}"));
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    let faults: Vec<String> = repeated.chain(unknown).collect();
    let mut warnings: Vec<String> = kind.deprecation.clone().into_iter().collect();
    if !faults.is_empty() {
        match write.fields {
            Fields::Ignore => {}
            Fields::Warn => warnings.extend(faults),
            Fields::Strict => return Err(strict(kind, &faults, patched)),
        }
    }
    kind.schema.fill_defaults(object);
    if kind.is(BuiltIn::Definition) {
        definition::fill_defaults(object);
    }
    let found = meta::text(object, "namespace").to_owned();
    match namespace {
        Some(namespace) if found.is_empty() => {
            meta::set(object, "namespace", json!(namespace));
        }
        Some(namespace) if found != namespace => {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        None if !found.is_empty() && kind.is(BuiltIn::Namespace) => {
            meta::clear(object, "namespace");
        }
        None if !found.is_empty() => {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Some(_) | None => {}
    }
    Ok(warnings)
}

fn check_type(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    let (expected, found) = (
        kind.api_version(),
        object.get("apiVersion").and_then(Value::as_str),
    );
    match found {
        Some(found) if found == expected => {}
        // Built-in kinds are decoded as what the path says when the body says nothing.
        None | Some("") if !kind.is_custom() => {}
        found => {
            return Err(Refusal::bad_request(format!(
                "the API version in the data ({}) does not match the expected API version ({expected})",
                found.unwrap_or_default()
            )));
        }
    }
    let found = object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if found != kind.kind && (kind.is_custom() || !found.is_empty()) {
        if !kind.is_custom() {
            return Err(Refusal::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): no kind {found:?} is registered",
                kind.kind
            )));
        }
        let why = format!("must be {}", kind.kind);
        let error = FieldError::invalid("kind", &json!(found), why);
        let qualified = format!("{found}.{}", kind.group);
        let name = meta::text(object, "name");
        return Err(Refusal::invalid_as(
            &qualified,
            &kind.group,
            found,
            name,
            &[error],
        ));
    }
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!(expected));
        map.insert("kind".to_owned(), json!(kind.kind));
        Ok(())
    } else {
        Err(Refusal::bad_request("the body must be an object"))
    }
}

fn strict(kind: &Kind, faults: &[String], patched: Option<&str>) -> Refusal {
    let why = format!("strict decoding error: {}", faults.join(", "));
    match patched {
        Some(text) => {
            let error = FieldError::invalid("patch", &json!(text), why);
            Refusal::invalid_as("", "", "", "", &[error])
        }
        None => Refusal::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            kind.kind, kind.version, kind.kind
        )),
    }
}

/// All faults of an object; rules are looked at only when its structure is sound.
pub(super) fn check(
    kind: &Kind,
    object: &Value,
    old: Option<&Value>,
    name: &str,
) -> Result<(), Refusal> {
    let mut errors = meta::check(kind, object, old);
    let structure = kind.schema.check(object, old);
    if let Traits::BuiltIn(_) = kind.traits
        && let Some(error) = structure
            .iter()
            .find(|error| error.fault == Fault::TypeInvalid)
    {
        if let Some(at) = error
            .body
            .find("must be of type byte")
            .and_then(|_| illegal_base64(object))
        {
            return Err(Refusal::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: illegal base64 data at input byte {at}",
                kind.kind, kind.version, kind.kind
            )));
        }
        return Err(Refusal::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: json: cannot unmarshal {} into Go struct field {}.{}",
            kind.kind,
            kind.version,
            kind.kind,
            error.body.trim_start_matches("Invalid value: "),
            kind.kind,
            error.path
        )));
    }
    errors.extend(structure);
    errors.extend(strategy::check(kind, object, old));
    let blocked = errors.iter().any(|error| error.fault.blocks_rules());
    if blocked && kind.schema.has_rules() {
        errors.push(FieldError::invalid_shown(
            "<nil>",
            "null",
            "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ));
    } else if !blocked {
        errors.extend(kind.schema.check_rules(object, old));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid(kind, name, &errors))
    }
}

/// Where the data of a Secret or a `ConfigMap` stops being base64, as Go's decoder counts.
fn illegal_base64(object: &Value) -> Option<usize> {
    let data = ["data", "binaryData"]
        .into_iter()
        .filter_map(|field| object.get(field)?.as_object());
    data.flat_map(serde_json::Map::values)
        .filter_map(Value::as_str)
        .find_map(|text| {
            let foreign = text
                .bytes()
                .position(|byte| !(byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)));
            foreign.or_else(|| (text.len() % 4 != 0).then_some(text.len()))
        })
}
