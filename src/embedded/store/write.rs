//! Creating, replacing and changing objects.

use serde_json::{Value, json};

use super::{
    Answer, At, Fields, NAMESPACES, Part, Store, Stored, Target, Write, decode, encode, shown,
    storage_form, strategy, viewed,
};
use crate::embedded::{
    kind::{BuiltIn, Kind, Traits},
    meta,
    patch::Patch,
    refusal::{Fault, FieldError, Refusal},
};

/// How long the fixed part of a generated name may be, so that the whole stays a DNS label.
const GENERATED_BASE: usize = 58;
/// `k8s.io/apimachinery/pkg/util/rand`: no vowels, so that no words come out.
const GENERATED_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A change on its way to an object.
struct Change<'s> {
    stored: &'s Stored,
    write: Write,
    warnings: Vec<String>,
    /// Whether it came as a patch: then more is a mistake than in an object that was read before.
    patched: bool,
}

impl Store {
    pub(super) fn create(
        &mut self,
        at: &At,
        kind: &Kind,
        namespace: Option<&str>,
        mut object: Value,
        write: Write,
    ) -> Result<Answer, Refusal> {
        let warnings = Self::admit(kind, &mut object, namespace, &write, None)?;
        if !meta::text(&object, "resourceVersion").is_empty() {
            return Err(Refusal::plain(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        if let Some(namespace) = namespace {
            self.check_namespace(kind, namespace, meta::text(&object, "name"))?;
        }
        name_and_stamp(at, kind, namespace, &mut object);
        if kind.status {
            strategy::drop_status(&mut object);
        }
        strategy::prepare_create(kind, &mut object);
        let name = meta::text(&object, "name").to_owned();
        check(kind, &object, None, &name)?;
        strategy::to_storage(kind, &mut object);
        if kind.is(BuiltIn::Definition) {
            self.accept_definition(at, &mut object)?;
        }
        let key = Kind::key(namespace, &name);
        if self.stored(kind, &key).is_some() {
            return Err(Refusal::already_exists(kind, &name));
        }
        let stored = if write.dry_run {
            encode(&object)
        } else {
            self.put(kind, &key, object)
        };
        Ok(Self::written(kind, 201, stored, warnings))
    }

    pub(super) fn update(
        &mut self,
        at: &At,
        kind: &Kind,
        target: &Target,
        mut object: Value,
        write: Write,
    ) -> Result<Answer, Refusal> {
        let namespace = target.namespace.as_deref();
        let name = target.name.as_deref().unwrap_or_default();
        let mut warnings = Self::admit(kind, &mut object, namespace, &write, None)?;
        check_named(&object, name)?;
        let key = Kind::key(namespace, name);
        let Some(stored) = self.stored(kind, &key).cloned() else {
            if target.part == Part::Whole && strategy::creates_on_update(kind) {
                let mut answer = self.create(at, kind, namespace, object, write)?;
                answer.warnings.append(&mut warnings);
                return Ok(answer);
            }
            return Err(Refusal::not_found(kind, name));
        };
        if meta::text(&object, "resourceVersion").is_empty() && strategy::needs_version(kind) {
            let error = FieldError::invalid_shown(
                "metadata.resourceVersion",
                "0",
                "must be specified for an update",
            );
            return Err(Refusal::invalid_as(
                &kind.qualified(),
                &kind.group,
                &kind.plural,
                name,
                &[error],
            ));
        }
        self.replace(
            at,
            kind,
            target,
            object,
            Change {
                stored: &stored,
                write,
                warnings,
                patched: false,
            },
        )
    }

    pub(super) fn patch(
        &mut self,
        at: &At,
        kind: &Kind,
        target: &Target,
        patch: &Patch,
        write: Write,
    ) -> Result<Answer, Refusal> {
        let namespace = target.namespace.as_deref();
        let name = target.name.as_deref().unwrap_or_default();
        let stored = self
            .stored(kind, &Kind::key(namespace, name))
            .cloned()
            .ok_or_else(|| Refusal::not_found(kind, name))?;
        let mut object = viewed(kind, &stored);
        patch.apply(kind, &mut object)?;
        let text = object.to_string();
        let warnings = Self::admit(kind, &mut object, namespace, &write, Some(&text))?;
        check_named(&object, name)?;
        self.replace(
            at,
            kind,
            target,
            object,
            Change {
                stored: &stored,
                write,
                warnings,
                patched: true,
            },
        )
    }

    /// Puts `object` in the place of the stored one.
    fn replace(
        &mut self,
        at: &At,
        kind: &Kind,
        target: &Target,
        mut object: Value,
        change: Change<'_>,
    ) -> Result<Answer, Refusal> {
        let Change {
            stored,
            write,
            warnings,
            patched,
        } = change;
        let name = target.name.as_deref().unwrap_or_default();
        let mut old = viewed(kind, stored);
        let version = meta::text(&object, "resourceVersion");
        if !version.is_empty() && version != meta::text(&old, "resourceVersion") {
            return Err(Refusal::modified(kind, name));
        }
        let (asked, found) = (meta::text(&object, "uid"), meta::text(&old, "uid"));
        if !asked.is_empty() && asked != found && patched {
            let error = FieldError::invalid("metadata.uid", &json!(asked), "field is immutable");
            return Err(Refusal::invalid(kind, name, &[error]));
        }
        if !asked.is_empty() && asked != found {
            let why = format!(
                "Precondition failed: UID in precondition: {asked}, UID in object meta: {found}"
            );
            return Err(Refusal::conflict(kind, name, &why));
        }
        // Both are compared in canonical form.
        meta::normalize(kind, &mut old)?;
        let asked = meta::text(&object, "deletionTimestamp");
        if !asked.is_empty() && asked != meta::text(&old, "deletionTimestamp") {
            let field = "metadata.deletionTimestamp";
            let error = FieldError::invalid(field, &json!(asked), "field is immutable");
            return Err(Refusal::invalid(kind, name, &[error]));
        }
        strategy::keep_what_is_not_meant(kind, target.part, &mut object, &old);
        strategy::prepare_update(kind, &mut object, &old);
        strategy::bump_generation(kind, &mut object, &old);
        check(kind, &object, Some(&old), name)?;
        strategy::to_storage(kind, &mut object);
        if kind.is(BuiltIn::Definition) && target.part == Part::Whole {
            self.accept_definition(at, &mut object)?;
        }
        let key = Kind::key(target.namespace.as_deref(), name);
        meta::set(
            &mut object,
            "resourceVersion",
            json!(meta::text(&old, "resourceVersion")),
        );
        if write.dry_run || object == storage_form(kind, stored) {
            return Ok(Self::written(kind, 200, encode(&object), warnings));
        }
        let bytes = if strategy::is_finished(kind, &object) {
            let bytes = self.remove(kind, &key, object);
            self.settle_leaving(at);
            bytes
        } else {
            self.put(kind, &key, object)
        };
        Ok(Self::written(kind, 200, bytes, warnings))
    }

    /// What is answered for an object in storage form.
    fn written(kind: &Kind, code: u16, bytes: bytes::Bytes, warnings: Vec<String>) -> Answer {
        let stored = Stored {
            bytes,
            epoch: kind.epoch,
        };
        Answer {
            warnings,
            ..Answer::object(code, shown(kind, &stored))
        }
    }

    /// Checks that what came in is an object of the kind, brings it into canonical form and gives
    /// the warnings.
    fn admit(
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
            crate::embedded::definition::fill_defaults(object);
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

    fn check_namespace(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), Refusal> {
        let stored = self
            .shelves
            .get(NAMESPACES)
            .and_then(|shelf| shelf.get(namespace))
            .ok_or_else(|| Refusal::no_namespace(namespace))?;
        // Only those that wait to go are read: a set that is nearly always empty.
        if self.leaving.contains(namespace) && meta::is_terminating(&decode(&stored.bytes)) {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let causes = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]);
            return Err(Refusal::forbidden(kind, name, &why, &causes));
        }
        Ok(())
    }

    /// Checks a definition and writes into its status what a real server's controllers would.
    fn accept_definition(&self, at: &At, object: &mut Value) -> Result<(), Refusal> {
        use crate::embedded::definition;
        let name = meta::text(object, "name").to_owned();
        definition::kinds(object, 0).map_err(|errors| {
            Refusal::invalid_as(
                "CustomResourceDefinition.apiextensions.k8s.io",
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                &name,
                &errors,
            )
        })?;
        let taken = definition::taken(object, &self.registry);
        definition::settle(object, taken.as_deref(), &strategy::timestamp(at.now));
        Ok(())
    }
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

fn check_named(object: &Value, name: &str) -> Result<(), Refusal> {
    let found = meta::text(object, "name");
    if found == name {
        Ok(())
    } else {
        Err(Refusal::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({name})"
        )))
    }
}

fn name_and_stamp(at: &At, kind: &Kind, namespace: Option<&str>, object: &mut Value) {
    for field in meta::SYSTEM {
        meta::clear(object, field);
    }
    let base = meta::text(object, "generateName").to_owned();
    if meta::text(object, "name").is_empty() && !base.is_empty() {
        meta::set(object, "name", json!(generated(&base, at.entropy)));
    }
    if let Some(namespace) = namespace {
        meta::set(object, "namespace", json!(namespace));
    }
    let uid = uuid::Builder::from_random_bytes(at.entropy.to_be_bytes()).into_uuid();
    meta::set(object, "uid", json!(uid.to_string()));
    meta::set(
        object,
        "creationTimestamp",
        json!(strategy::timestamp(at.now)),
    );
    if kind.is_custom() || kind.is(BuiltIn::Definition) {
        meta::set(object, "generation", json!(1));
    }
}

fn generated(base: &str, entropy: u128) -> String {
    let mut name: String = base.chars().take(GENERATED_BASE).collect();
    let mut rest = entropy;
    for _ in 0..5 {
        let letters = u128::try_from(GENERATED_LETTERS.len()).unwrap_or(1);
        let at = usize::try_from(rest % letters).unwrap_or(0);
        rest /= letters;
        name.push(GENERATED_LETTERS.get(at).copied().map_or('x', char::from));
    }
    name
}

/// All faults of an object; rules are looked at only when its structure is sound.
fn check(kind: &Kind, object: &Value, old: Option<&Value>, name: &str) -> Result<(), Refusal> {
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
