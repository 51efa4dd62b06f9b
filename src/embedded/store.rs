//! The API's model: objects, versions and the rules by which they change.
//!
//! Sans-IO: no clock, no randomness, no threads. [`Store::apply`] answers one request at one
//! moment, [`Store::take_changes`] gives what is to be made durable, [`Store::changes`] what a
//! watch shows. The server in this room and the simulated cluster use this very store.
//!
//! Versions are one counter for all resources, as in etcd. Each resource remembers its changes of
//! late within [`Limits`]; a watch or a list from before them is answered 410.

mod admit;
mod delete;
mod expiry;
mod list;
mod persist;
mod request;
mod shelf;
mod strategy;
mod watch;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use bytes::Bytes;
use serde::Serialize as _;
use serde_json::{Value, json};

use self::{
    expiry::Expiry,
    shelf::{Shelf, Stored},
};
pub use self::{
    request::{
        Action, Answer, AsOf, At, Body, Delete, Fields, List, Page, Part, Request, Seen, Target,
        What, Write,
    },
    watch::Watch,
};
use super::{
    definition,
    kind::{BuiltIn, Kind},
    meta,
    refusal::Refusal,
    registry::Registry,
};

/// How much of the past each resource remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Changes; at the several thousand writes a second that the server sustains, about a second's
    /// worth: a watch that is served at all is behind by less.
    pub events: usize,
    /// Bytes of the objects before and after.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            events: 4096,
            bytes: 8 * 1024 * 1024,
        }
    }
}

/// A change that is to be made durable.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version that it made.
    pub revision: u64,
    /// The resource.
    pub shelf: Arc<str>,
    /// `namespace/name`.
    pub key: Box<str>,
    /// The new state; absent for an object that is gone.
    pub object: Option<Bytes>,
}

// === impl Change ===

impl Change {
    /// The resources whose watches this concerns: a definition's are also those of what it defines.
    pub(super) fn concerns(&self) -> impl Iterator<Item = Arc<str>> {
        let defined = (&*self.shelf == DEFINITIONS).then(|| Arc::from(&*self.key));
        std::iter::once(Arc::clone(&self.shelf)).chain(defined)
    }
}

/// The store. A clone is another one that begins with the same objects.
#[derive(Clone, Debug)]
pub struct Store {
    limits: Limits,
    revision: u64,
    /// The version at which this store was opened: of what was before, no history is left.
    opened: u64,
    registry: Registry,
    shelves: BTreeMap<Arc<str>, Shelf>,
    /// Namespaces and definitions that wait for their objects to go.
    leaving: BTreeSet<Box<str>>,
    expiry: Expiry,
    changes: Vec<Change>,
}

pub(super) const NAMESPACES: &str = "namespaces";
pub(super) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

// === impl Store ===

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            // etcd begins at 1, and a version of 0 means "any".
            revision: 1,
            opened: 0,
            registry: Registry::new(),
            shelves: BTreeMap::new(),
            leaving: BTreeSet::new(),
            expiry: Expiry::default(),
            changes: Vec::new(),
        }
    }

    /// Makes the namespaces that every cluster has, where they are missing.
    pub fn prepare(&mut self, at: &At) {
        for (number, name) in ["default", "kube-system"].into_iter().enumerate() {
            let target = Target {
                version: "v1".to_owned(),
                plural: NAMESPACES.to_owned(),
                name: Some(name.to_owned()),
                ..Target::default()
            };
            let at = At {
                entropy: at.entropy.wrapping_add(u128::try_from(number).unwrap_or(0)),
                ..*at
            };
            let object =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            // The only refusal is that it is there already.
            drop(self.apply(
                &at,
                Request {
                    target: Target {
                        name: None,
                        ..target
                    },
                    action: Action::Create(object, Write::default()),
                },
            ));
        }
    }

    /// The newest version.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The served kinds.
    #[must_use]
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The schema of a custom kind as its definition has it, descriptions and all.
    #[must_use]
    pub fn raw_schema(&self, kind: &Kind) -> Option<Value> {
        let stored = self.shelves.get(DEFINITIONS)?.get(&kind.shelf)?;
        let object = decode(&stored.bytes);
        let version = object
            .pointer("/spec/versions")?
            .as_array()?
            .iter()
            .find(|version| version.get("name") == Some(&json!(kind.version)))?;
        version.pointer("/schema/openAPIV3Schema").cloned()
    }

    /// How many objects there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shelves.values().map(Shelf::len).sum()
    }

    /// The kind of a target.
    ///
    /// # Errors
    /// 404 where it is not served, or has no such part.
    pub fn kind(&self, target: &Target) -> Result<Arc<Kind>, Refusal> {
        let kind = self
            .registry
            .get(&target.group, &target.version, &target.plural)
            .ok_or_else(|| Refusal::no_resource(&target.group))?;
        let part = match target.part {
            Part::Whole => true,
            Part::Status => kind.status,
            Part::Finalize => kind.is(BuiltIn::Namespace),
        };
        let placed = target.namespace.is_none() || kind.namespaced;
        match (placed, part) {
            (true, true) => Ok(Arc::clone(kind)),
            (true, false) => Err(Refusal::no_part(
                kind,
                target.name.as_deref().unwrap_or_default(),
            )),
            (false, _) => Err(Refusal::no_page()),
        }
    }

    /// Does one request.
    ///
    /// # Errors
    /// Why it was not done; then nothing has changed.
    pub fn apply(&mut self, at: &At, request: Request) -> Result<Answer, Refusal> {
        let Request { target, action } = request;
        let kind = self.kind(&target)?;
        if let Action::List(list) = &action {
            return self.list(&kind, &target, list);
        }
        if let Action::DeleteCollection(list, delete) = &action {
            if kind.namespaced && target.namespace.is_none() {
                return Err(Refusal::method_not_allowed());
            }
            return self.delete_collection(at, &kind, &target, list, delete);
        }
        if kind.namespaced && target.namespace.is_none() {
            return Err(Refusal::method_not_allowed());
        }
        if let Action::Create(object, write) = action {
            if target.name.is_some() || target.part != Part::Whole {
                return Err(Refusal::method_not_allowed());
            }
            return self.create(at, &kind, target.namespace.as_deref(), object, &write);
        }
        let Some(name) = &target.name else {
            return Err(Refusal::method_not_allowed());
        };
        match action {
            Action::Get(version) => self.get(&kind, target.namespace.as_deref(), name, version),
            Action::Update(object, write) => self.update(at, &kind, &target, object, write),
            Action::Patch(patch, write) => self.patch(at, &kind, &target, &patch, write),
            Action::Delete(delete) => self.delete(at, &kind, &target, &delete),
            Action::List(_) | Action::Create(..) | Action::DeleteCollection(..) => {
                Err(Refusal::method_not_allowed())
            }
        }
    }

    fn get(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        version: Option<u64>,
    ) -> Result<Answer, Refusal> {
        if let Some(version) = version
            && version > self.revision
        {
            return Err(Refusal::too_large(version, self.revision));
        }
        let stored = self
            .stored(kind, &Kind::key(namespace, name))
            .ok_or_else(|| Refusal::not_found(kind, name))?;
        Ok(Answer::object(200, shown(kind, stored)))
    }

    fn stored(&self, kind: &Kind, key: &str) -> Option<&Stored> {
        self.shelves.get(&kind.shelf)?.get(key)
    }

    /// Writes an object in storage form and gives it as stored.
    fn put(&mut self, kind: &Kind, key: &str, mut object: Value) -> Bytes {
        self.revision = self.revision.saturating_add(1);
        meta::set(
            &mut object,
            "resourceVersion",
            json!(self.revision.to_string()),
        );
        let bytes = encode(&object);
        // Written by way of another version, it is looked at again when it is read.
        let epoch = if kind.version == kind.storage_version {
            kind.epoch
        } else {
            0
        };
        let stored = Stored {
            bytes: bytes.clone(),
            epoch,
        };
        let redefined = &*kind.shelf == DEFINITIONS && self.is_redefined(key, &object);
        self.record(&kind.shelf, key, stored, false);
        if redefined {
            self.define(&object);
        }
        bytes
    }

    /// Removes an object and gives its last state.
    fn remove(&mut self, kind: &Kind, key: &str, mut object: Value) -> Bytes {
        self.revision = self.revision.saturating_add(1);
        meta::set(
            &mut object,
            "resourceVersion",
            json!(self.revision.to_string()),
        );
        let bytes = encode(&object);
        let stored = Stored {
            bytes: bytes.clone(),
            epoch: kind.epoch,
        };
        self.record(&kind.shelf, key, stored, true);
        if &*kind.shelf == DEFINITIONS {
            self.undefine(&object);
        }
        bytes
    }

    fn record(&mut self, resource: &Arc<str>, key: &str, stored: Stored, gone: bool) {
        let (revision, opened, limits) = (self.revision, self.opened, self.limits);
        self.changes.push(Change {
            revision,
            shelf: Arc::clone(resource),
            key: key.into(),
            object: (!gone).then(|| stored.bytes.clone()),
        });
        self.shelves
            .entry(Arc::clone(resource))
            .or_insert_with(|| Shelf::new(opened))
            .record(revision, key.into(), stored, gone, limits);
    }

    /// Whether a definition says something else than before: only then are watches of its kinds
    /// ended and stored objects looked at again.
    fn is_redefined(&self, key: &str, object: &Value) -> bool {
        let before = self
            .shelves
            .get(DEFINITIONS)
            .and_then(|shelf| shelf.get(key));
        let before = before
            .map(|stored| decode(&stored.bytes))
            .unwrap_or_default();
        ["/spec", "/status/conditions"]
            .iter()
            .any(|part| before.pointer(part) != object.pointer(part))
    }

    /// Serves the kinds of a definition.
    fn define(&mut self, object: &Value) {
        let Some(resource) = definition::shelf(object) else {
            return;
        };
        let established = object
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|one| {
                one.get("type") == Some(&json!("Established"))
                    && one.get("status") == Some(&json!("True"))
            });
        let epoch = self.registry.next_epoch();
        let kinds = if established {
            definition::kinds(object, epoch).unwrap_or_default()
        } else {
            Vec::new()
        };
        self.registry.replace(&resource, kinds);
    }

    fn undefine(&mut self, object: &Value) {
        let Some(resource) = definition::shelf(object) else {
            return;
        };
        self.registry.replace(&resource, Vec::new());
    }
}

fn encode(object: &Value) -> Bytes {
    let mut text = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, GoNumbers);
    // A tree of JSON values always has a text, and a vector takes it.
    if object.serialize(&mut serializer).is_err() {
        text.clear();
    }
    Bytes::from(text.into_boxed_slice())
}

/// Numbers as Go's `encoding/json` writes them: a whole one has no fraction, so that `5.0`, which an
/// integer field admits, is `5` for every reader.
struct GoNumbers;

impl serde_json::ser::Formatter for GoNumbers {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // From here on, Go writes an exponent.
        if value.fract() == 0.0 && value.abs() < 1e21 {
            write!(writer, "{value:.0}")
        } else {
            serde_json::ser::CompactFormatter.write_f64(writer, value)
        }
    }
}

fn decode(bytes: &Bytes) -> Value {
    // Only what `encode` wrote is ever stored.
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// A stored object as its storage version has it under today's definition.
fn storage_form(kind: &Kind, stored: &Stored) -> Value {
    let mut object = decode(&stored.bytes);
    if kind.is_custom() && kind.epoch != stored.epoch {
        kind.schema.prune(&mut object);
        kind.schema.fill_defaults(&mut object);
    }
    object
}

/// A stored object as one version of its kind shows it.
fn viewed(kind: &Kind, stored: &Stored) -> Value {
    let mut object = storage_form(kind, stored);
    if kind.is(BuiltIn::Event) {
        strategy::event_to_new(&mut object);
    } else if kind.version != kind.storage_version
        && let Some(map) = object.as_object_mut()
    {
        map.insert("apiVersion".to_owned(), json!(kind.api_version()));
        kind.schema.prune(&mut object);
        kind.schema.fill_defaults(&mut object);
    }
    object
}

/// The bytes of [`viewed`]: those of the store itself wherever that is the same.
fn shown(kind: &Kind, stored: &Stored) -> Bytes {
    let same = kind.epoch == stored.epoch && kind.version == kind.storage_version;
    if same && !kind.is(BuiltIn::Event) {
        stored.bytes.clone()
    } else {
        encode(&viewed(kind, stored))
    }
}

#[cfg(test)]
mod tests;
