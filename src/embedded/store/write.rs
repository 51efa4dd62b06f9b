//! Creating, replacing and changing objects.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Answer, At, NAMESPACES, Part, Store, Stored, Target, Write,
    admit::{admit, check},
    decode, encode,
    expiry::EVENTS,
    shown, storage_form, strategy, viewed,
};
use crate::embedded::{
    kind::{BuiltIn, Kind},
    meta,
    patch::Patch,
    refusal::{FieldError, Refusal},
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
        write: &Write,
    ) -> Result<Answer, Refusal> {
        let mut warnings = admit(kind, &mut object, namespace, write, None)?;
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
            warnings.extend(self.accept_definition(at, &mut object)?);
        }
        let key = Kind::key(namespace, &name);
        if self.stored(kind, &key).is_some() {
            return Err(Refusal::already_exists(kind, &name));
        }
        let stored = if write.dry_run {
            encode(&object)
        } else {
            self.write(at, kind, &key, object)
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
        let mut warnings = admit(kind, &mut object, namespace, &write, None)?;
        check_named(&object, name)?;
        let key = Kind::key(namespace, name);
        let Some(stored) = self.stored(kind, &key).cloned() else {
            if target.part == Part::Whole && strategy::creates_on_update(kind) {
                let mut answer = self.create(at, kind, namespace, object, &write)?;
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
        let warnings = admit(kind, &mut object, namespace, &write, Some(&text))?;
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
            mut warnings,
            patched,
        } = change;
        let name = target.name.as_deref().unwrap_or_default();
        let mut old = viewed(kind, stored);
        check_identity(kind, name, (&object, &old), patched)?;
        // Both are compared in canonical form.
        meta::normalize(kind, &mut old)?;
        strategy::keep_what_is_not_meant(kind, target.part, &mut object, &old);
        strategy::prepare_update(kind, &mut object, &old);
        strategy::bump_generation(kind, &mut object, &old);
        check(kind, &object, Some(&old), name)?;
        strategy::to_storage(kind, &mut object);
        if kind.is(BuiltIn::Definition) && target.part == Part::Whole {
            warnings.extend(self.accept_definition(at, &mut object)?);
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
            self.remove(kind, &key, object)
        } else {
            self.write(at, kind, &key, object)
        };
        // This may have been the last that something on its way out waited for.
        self.settle_leaving(at);
        Ok(Self::written(kind, 200, bytes, warnings))
    }

    fn write(&mut self, at: &At, kind: &Kind, key: &str, object: Value) -> Bytes {
        let bytes = self.put(kind, key, object);
        if &*kind.shelf == EVENTS {
            self.event_written(at, key);
        }
        bytes
    }

    /// What is answered for an object in storage form.
    fn written(kind: &Kind, code: u16, bytes: Bytes, warnings: Vec<String>) -> Answer {
        let stored = Stored {
            bytes,
            epoch: kind.epoch,
        };
        Answer {
            warnings,
            ..Answer::object(code, shown(kind, &stored))
        }
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

    /// Checks a definition, writes into its status what a real server's controllers would, and
    /// gives the warnings.
    fn accept_definition(&self, at: &At, object: &mut Value) -> Result<Vec<String>, Refusal> {
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
        Ok(definition::warnings(object))
    }
}

/// Checks that a change is of the object that its writer has seen.
fn check_identity(
    kind: &Kind,
    name: &str,
    (object, old): (&Value, &Value),
    patched: bool,
) -> Result<(), Refusal> {
    let differs = |field: &str| {
        let (asked, found) = (meta::text(object, field), meta::text(old, field));
        (!asked.is_empty() && asked != found).then_some((asked, found))
    };
    let immutable = |field: &str, asked: &str| {
        let path = format!("metadata.{field}");
        let error = FieldError::invalid(path, &json!(asked), "field is immutable");
        Err(Refusal::invalid(kind, name, &[error]))
    };
    if differs("resourceVersion").is_some() {
        return Err(Refusal::modified(kind, name));
    }
    if let Some((asked, found)) = differs("uid") {
        if patched {
            return immutable("uid", asked);
        }
        let why = format!(
            "Precondition failed: UID in precondition: {asked}, UID in object meta: {found}"
        );
        return Err(Refusal::conflict(kind, name, &why));
    }
    match differs("deletionTimestamp") {
        Some((asked, _)) => immutable("deletionTimestamp", asked),
        None => Ok(()),
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
