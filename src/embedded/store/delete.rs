//! Removing objects, and what goes with namespaces and definitions.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Answer, At, Body, DEFINITIONS, Delete, List, NAMESPACES, Page, Store, Target, decode, shown,
    storage_form, strategy,
};
use crate::embedded::{
    definition,
    kind::{BuiltIn, Kind},
    meta,
    refusal::Refusal,
};

/// Namespaces without which a cluster is none.
const LASTING: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Store {
    pub(super) fn delete(
        &mut self,
        at: &At,
        kind: &Kind,
        target: &Target,
        delete: &Delete,
    ) -> Result<Answer, Refusal> {
        let name = target.name.as_deref().unwrap_or_default();
        if kind.is(BuiltIn::Namespace) && LASTING.contains(&name) {
            let why = "this namespace may not be deleted";
            return Err(Refusal::forbidden(kind, name, why, &Value::Null));
        }
        let key = Kind::key(target.namespace.as_deref(), name);
        let stored = self
            .stored(kind, &key)
            .ok_or_else(|| Refusal::not_found(kind, name))?;
        let object = storage_form(kind, stored);
        preconditions(kind, name, &object, delete)?;
        let uid = meta::text(&object, "uid").to_owned();
        if !delete.dry_run {
            self.leave(at, kind, &key, object);
        }
        if let Some(stored) = self.stored(kind, &key).filter(|_| !delete.dry_run) {
            return Ok(Answer::object(200, shown(kind, stored)));
        }
        let mut details = json!({"name": name, "kind": kind.plural, "uid": uid});
        if let Some(details) = details.as_object_mut().filter(|_| !kind.group.is_empty()) {
            details.insert("group".to_owned(), json!(kind.group));
        }
        Ok(Answer {
            code: 200,
            body: Body::Status(json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": details,
            })),
            warnings: Vec::new(),
        })
    }

    pub(super) fn delete_collection(
        &mut self,
        at: &At,
        kind: &Kind,
        target: &Target,
        list: &List,
        delete: &Delete,
    ) -> Result<Answer, Refusal> {
        if kind.is(BuiltIn::Namespace) {
            return Err(Refusal::method_not_allowed());
        }
        let page = self.page(kind, target, list)?;
        let found: Vec<(Box<str>, Value)> = page
            .items
            .iter()
            .map(|(key, stored)| ((*key).into(), storage_form(kind, stored)))
            .collect();
        let items = page
            .items
            .iter()
            .map(|(_, stored)| shown(kind, stored))
            .collect();
        let next = page.next;
        if !delete.dry_run {
            for (key, object) in found {
                self.leave(at, kind, &key, object);
            }
        }
        Ok(Answer {
            code: 200,
            body: Body::List(Page {
                items,
                version: self.revision,
                next,
                remaining: None,
            }),
            warnings: Vec::new(),
        })
    }

    /// Removes an object, or marks it where a finalizer holds it.
    fn leave(&mut self, at: &At, kind: &Kind, key: &str, object: Value) {
        if kind.is(BuiltIn::Namespace) {
            self.mark(at, kind, key, object);
            self.leaving.insert(key.into());
            self.settle_leaving(at);
        } else if kind.is(BuiltIn::Definition) {
            self.leave_definition(at, kind, key, object);
        } else if meta::finalizers(&object).is_empty() {
            self.remove(kind, key, object);
            self.settle_leaving(at);
        } else {
            self.mark(at, kind, key, object);
        }
    }

    /// Marks an object as on its way out, once.
    fn mark(&mut self, at: &At, kind: &Kind, key: &str, mut object: Value) {
        if meta::is_terminating(&object) {
            return;
        }
        let now = strategy::timestamp(at.now);
        meta::set(&mut object, "deletionTimestamp", json!(now));
        if kind.is(BuiltIn::Namespace) {
            if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
                status.insert("phase".to_owned(), json!("Terminating"));
            }
        } else {
            meta::set(&mut object, "deletionGracePeriodSeconds", json!(0));
        }
        let generation = object
            .pointer("/metadata/generation")
            .and_then(Value::as_i64);
        if let Some(generation) = generation {
            meta::set(
                &mut object,
                "generation",
                json!(generation.saturating_add(1)),
            );
        }
        self.put(kind, key, object);
    }

    fn leave_definition(&mut self, at: &At, kind: &Kind, key: &str, mut object: Value) {
        let empty = self.shelves.get(key).is_none_or(|shelf| shelf.len() == 0);
        if empty && meta::finalizers(&object).is_empty() {
            self.remove(kind, key, object);
            return;
        }
        if !meta::is_terminating(&object) && !empty {
            let mut finalizers = meta::finalizers(&object);
            finalizers.push(definition::CLEANUP.to_owned());
            meta::set(&mut object, "finalizers", json!(finalizers));
            definition::terminating(&mut object, &strategy::timestamp(at.now));
        }
        self.mark(at, kind, key, object);
        self.leaving.insert(key.into());
        self.settle_leaving(at);
    }

    /// Goes on with namespaces and definitions whose deletion was begun before a restart.
    pub(super) fn resume_leaving(&mut self, at: &At) {
        for shelf in [NAMESPACES, DEFINITIONS] {
            let terminating: Vec<Box<str>> = self
                .shelves
                .get(shelf)
                .into_iter()
                .flat_map(|shelf| shelf.range("", ""))
                .filter(|(_, stored)| meta::is_terminating(&decode(&stored.bytes)))
                .map(|(key, _)| key.into())
                .collect();
            self.leaving.extend(terminating);
        }
        self.settle_leaving(at);
    }

    /// Does for namespaces and definitions on their way out what the controllers of a real cluster
    /// do: removes their content, then them.
    pub(super) fn settle_leaving(&mut self, at: &At) {
        // A definition is named by plural.group, a namespace has no dot in its name.
        for name in self.leaving.clone() {
            if !self.leaving.remove(&name) {
                // Settled on the way, by what another one took with it.
                continue;
            }
            let stays = if name.contains('.') {
                self.settle_definition(at, &name)
            } else {
                self.settle_namespace(at, &name)
            };
            if stays {
                self.leaving.insert(name);
            }
        }
    }

    fn settle_namespace(&mut self, at: &At, name: &str) -> bool {
        let Some(kind) = self.registry.get("", "v1", NAMESPACES).cloned() else {
            return false;
        };
        let prefix = format!("{name}/");
        for kind in self.registry.shelves() {
            if kind.namespaced {
                self.empty(at, &kind, &prefix);
            }
        }
        let empty = self
            .shelves
            .values()
            .all(|shelf| shelf.range(&prefix, "").next().is_none());
        let Some(stored) = self.stored(&kind, name) else {
            return false;
        };
        let object = decode(&stored.bytes);
        if empty && meta::finalizers(&object).is_empty() {
            self.remove(&kind, name, object);
            return false;
        }
        true
    }

    fn settle_definition(&mut self, at: &At, name: &str) -> bool {
        let kind = self
            .registry
            .iter()
            .find(|kind| &*kind.shelf == name)
            .cloned();
        if let Some(kind) = kind {
            self.empty(at, &kind, "");
        }
        let Some(definitions) = self
            .registry
            .get("apiextensions.k8s.io", "v1", "customresourcedefinitions")
            .cloned()
        else {
            return false;
        };
        let empty = self.shelves.get(name).is_none_or(|shelf| shelf.len() == 0);
        let Some(stored) = self.stored(&definitions, name).cloned() else {
            return false;
        };
        let mut object = decode(&stored.bytes);
        if !empty {
            return true;
        }
        let mut finalizers = meta::finalizers(&object);
        finalizers.retain(|one| one != definition::CLEANUP);
        if finalizers.is_empty() {
            meta::clear(&mut object, "finalizers");
            self.remove(&definitions, name, object);
            return false;
        }
        meta::set(&mut object, "finalizers", json!(finalizers));
        if object != decode(&stored.bytes) {
            self.put(&definitions, name, object);
        }
        true
    }

    /// Removes what lies on a shelf under a prefix, but for what a finalizer holds.
    fn empty(&mut self, at: &At, kind: &Arc<Kind>, prefix: &str) {
        let found: Vec<(Box<str>, Value)> = self
            .shelves
            .get(&kind.shelf)
            .into_iter()
            .flat_map(|shelf| shelf.range(prefix, ""))
            .map(|(key, stored)| (key.into(), storage_form(kind, stored)))
            .collect();
        for (key, object) in found {
            if meta::finalizers(&object).is_empty() {
                self.remove(kind, &key, object);
            } else {
                self.mark(at, kind, &key, object);
            }
        }
    }
}

fn preconditions(kind: &Kind, name: &str, object: &Value, delete: &Delete) -> Result<(), Refusal> {
    let found = meta::text(object, "uid");
    if let Some(uid) = delete.uid.as_deref().filter(|uid| *uid != found) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({found}). The object might have been deleted and then recreated"
        );
        return Err(Refusal::precondition(kind, name, &why));
    }
    let found = meta::text(object, "resourceVersion");
    if let Some(version) = delete
        .version
        .as_deref()
        .filter(|version| *version != found)
    {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({found}). The object might have been modified"
        );
        return Err(Refusal::precondition(kind, name, &why));
    }
    Ok(())
}
