//! The catalog: Ingestors, namespaces and Secrets as they come, and the routes that follow. Pure.
//!
//! ```text
//!  Input ──apply──▶ what is dirty ──settle──▶ Actions, changed facts, a new table
//! ```
//!
//! Only entries that an input touches are computed again, so that a thousand Ingestors applied one
//! after the other cost a thousand times one.

mod entry;
mod input;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;

use self::entry::Entry;
pub use self::input::{Action, Found, Input, Listing, Settled, Unreadable};
use super::{
    routes::{Route, Spec, Table},
    secrets::{References, SecretRead, WatchKey},
};
use crate::{
    api::{Ingestor, paths},
    journal::{IngestorUid, SpecText},
};

/// Namespace and name.
pub type Name = (String, String);

/// Who claims a path, the owner first.
type Claims = BTreeMap<Name, BTreeSet<(Option<Timestamp>, String)>>;

/// Everything that the routes follow from.
#[derive(Debug)]
pub struct Catalog {
    public_url: String,
    entries: BTreeMap<Name, Entry>,
    /// Ingestors that can't be read; one that could be before has its entry, too.
    unreadable: BTreeMap<Name, IngestorUid>,
    by_uid: HashMap<IngestorUid, Name>,
    claims: Claims,
    namespaces: HashMap<String, String>,
    secrets: HashMap<Name, SecretRead>,
    references: References,
    /// Secrets that got their first or lost their last reference since the last time.
    turned: BTreeSet<Name>,
    dirty: BTreeSet<Name>,
    gone: Vec<IngestorUid>,
    /// What the journal could not forget, and how often.
    not_forgotten: Vec<(IngestorUid, u32)>,
    /// Namespaces whose Ingestors have not been listed yet; `None`: all are to be listed at once.
    unlisted: Option<BTreeSet<String>>,
    namespaces_listed: bool,
    published_synced: bool,
}

impl Catalog {
    /// Nothing is known; `public_url` is what stands before `/hooks` in endpoints, `scope` are the
    /// namespaces whose Ingestors are watched, none standing for all.
    #[must_use]
    pub fn new(public_url: &str, scope: &[String]) -> Self {
        Self {
            public_url: public_url.trim_end_matches('/').to_owned(),
            entries: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            by_uid: HashMap::new(),
            claims: BTreeMap::new(),
            namespaces: HashMap::new(),
            secrets: HashMap::new(),
            references: References::default(),
            turned: BTreeSet::new(),
            dirty: BTreeSet::new(),
            gone: Vec::new(),
            not_forgotten: Vec::new(),
            unlisted: (!scope.is_empty()).then(|| scope.iter().cloned().collect()),
            namespaces_listed: false,
            published_synced: false,
        }
    }

    /// Takes note.
    pub fn apply(&mut self, input: Input) {
        match input {
            Input::IngestorsListed(all) => {
                self.unlisted = Some(BTreeSet::new());
                self.list_ingestors(None, all);
            }
            Input::IngestorsListedIn(namespace, all) => {
                if let Some(unlisted) = &mut self.unlisted {
                    unlisted.remove(&namespace);
                }
                self.list_ingestors(Some(&namespace), all);
            }
            Input::IngestorApplied(found) => self.apply_ingestor(found),
            Input::IngestorUnreadable(unreadable) => self.keep_unreadable(unreadable),
            Input::IngestorDeleted(name) => self.delete_ingestor(&name),
            Input::NamespacesListed(all) => {
                self.namespaces_listed = true;
                let known: Vec<_> = self.namespaces.keys().cloned().collect();
                let all: HashMap<_, _> = all.into_iter().collect();
                for name in known.into_iter().filter(|name| !all.contains_key(name)) {
                    self.namespaces.remove(&name);
                }
                for (name, uid) in all {
                    self.apply_namespace(name, uid);
                }
            }
            Input::NamespaceApplied(name, uid) => self.apply_namespace(name, uid),
            Input::NamespaceDeleted(name) => {
                self.namespaces.remove(&name);
            }
            Input::Secret(name, read) => self.apply_secret(name, read),
            Input::SecretsListed(namespace, all) => self.list_secrets(&namespace, all),
            Input::SecretsForbidden(key) => self.forbid(key),
            Input::SpecPut { ingestor, put } => {
                if let Some(name) = self.by_uid.get(&ingestor)
                    && let Some(entry) = self.entries.get_mut(name)
                {
                    entry.spec_put(put);
                    self.dirty.insert(name.clone());
                }
            }
            Input::NotForgotten { ingestor, attempt } => {
                if !self.knows(&ingestor) {
                    self.not_forgotten.push((ingestor, attempt));
                }
            }
        }
    }

    /// What follows.
    #[must_use]
    pub fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        let mut changed = self.published_synced != self.ingestors_listed();
        for uid in std::mem::take(&mut self.gone) {
            changed = true;
            settled.facts.push((uid.clone(), None));
            self.not_forgotten.push((uid, 0));
        }
        let forget = std::mem::take(&mut self.not_forgotten).into_iter();
        let forget = forget.map(|(ingestor, attempt)| Action::Forget { ingestor, attempt });
        settled.actions.extend(forget);
        for name in std::mem::take(&mut self.dirty) {
            let owns = self.owns(&name);
            let namespace_uid = self.namespaces.get(&name.0);
            let Some(entry) = self.entries.get_mut(&name) else {
                continue;
            };
            if let Some(text) = namespace_uid.and_then(|uid| entry.decide(uid)) {
                let ingestor = entry.uid.clone();
                settled.actions.push(Action::PutSpec { ingestor, text });
            }
            let had_route = entry.route.is_some();
            let facts = entry.rebuild(owns, &self.secrets, &self.public_url);
            changed |= had_route || entry.route.is_some();
            if let Some(facts) = facts {
                settled.facts.push((entry.uid.clone(), Some(facts)));
            }
        }
        for name in std::mem::take(&mut self.turned) {
            if !self.is_referenced(&name) {
                // What nobody references is wiped from memory.
                self.secrets.remove(&name);
            } else if !self.secrets.contains_key(&name) {
                settled.unread.insert(name);
            }
        }
        if changed {
            self.published_synced = self.ingestors_listed();
            settled.table = Some(self.table());
        }
        settled
    }

    /// The Secrets to watch.
    #[must_use]
    pub fn watches(&self) -> BTreeSet<WatchKey> {
        self.references.watches()
    }

    /// Whether all Ingestors and namespaces have been read.
    #[must_use]
    pub fn listed(&self) -> bool {
        self.ingestors_listed() && self.namespaces_listed
    }

    /// The watch that sees a Secret.
    #[must_use]
    pub fn watch_of(&self, secret: &Name) -> WatchKey {
        self.references.watch_of(&secret.0, &secret.1)
    }

    /// What is still waited for before every endpoint is as its Ingestor says; `None`: nothing.
    #[must_use]
    pub fn waiting(&self) -> Option<&'static str> {
        let secret_unread =
            |name: &Name| self.is_referenced(name) && !self.secrets.contains_key(name);
        if !self.ingestors_listed() {
            Some("Ingestors are being read")
        } else if !self.namespaces_listed {
            Some("namespaces are being read")
        } else if self.entries.values().any(Entry::waits_for_journal) {
            Some("decision specs are being recorded")
        } else if self
            .entries
            .values()
            .any(|entry| entry.secret_names().any(|name| secret_unread(&name)))
        {
            Some("Secrets are being read")
        } else {
            None
        }
    }

    /// Whether an Ingestor of this UID lives, readable or not.
    #[must_use]
    pub fn knows(&self, ingestor: &IngestorUid) -> bool {
        self.by_uid.contains_key(ingestor) || self.unreadable.values().any(|uid| uid == ingestor)
    }

    fn ingestors_listed(&self) -> bool {
        self.unlisted.as_ref().is_some_and(BTreeSet::is_empty)
    }

    fn table(&self) -> Table {
        let routes = self.entries.values().filter_map(|entry| {
            let route = entry.route.as_ref()?;
            Some((Arc::clone(&entry.path), Arc::<Route>::clone(route)))
        });
        Table::new(routes, self.ingestors_listed())
    }

    fn list_ingestors(&mut self, namespace: Option<&str>, all: Listing) {
        let readable = all.found.iter().map(|found| name_of(&found.ingestor));
        let unreadable = all.unreadable.iter().map(|one| one.name.clone());
        let listed: BTreeSet<Name> = readable.chain(unreadable).collect();
        let known = self.entries.keys().chain(self.unreadable.keys());
        let gone: BTreeSet<_> = known
            .filter(|name| namespace.is_none_or(|of| name.0 == of) && !listed.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.delete_ingestor(&name);
        }
        for unreadable in all.unreadable {
            self.keep_unreadable(unreadable);
        }
        for found in all.found {
            self.apply_ingestor(found);
        }
    }

    fn keep_unreadable(&mut self, unreadable: Unreadable) {
        let Unreadable { name, uid } = unreadable;
        self.make_way(&name, &uid);
        self.unreadable.insert(name, uid);
    }

    /// Deletes an Ingestor of that name and another UID.
    fn make_way(&mut self, name: &Name, uid: &IngestorUid) {
        let entry = self.entries.get(name).map(|entry| &entry.uid);
        let known = entry.or_else(|| self.unreadable.get(name));
        if known.is_some_and(|known| known != uid) {
            self.delete_ingestor(name);
        }
    }

    fn apply_ingestor(&mut self, found: Found) {
        let name = name_of(&found.ingestor);
        let uid = found.ingestor.metadata.uid.clone().unwrap_or_default();
        let uid = IngestorUid(uid.into());
        self.make_way(&name, &uid);
        self.unreadable.remove(&name);
        self.release(&name);
        let entry = match self.entries.remove(&name) {
            Some(entry) => entry.with(found.ingestor),
            None => Entry::new(uid.clone(), found),
        };
        for secret in entry.secret_names() {
            self.references.add(&secret.0, &secret.1, &name.1);
            self.turned.insert(secret);
        }
        if let Some(path) = entry.claim() {
            self.claims
                .entry(path.clone())
                .or_default()
                .insert((entry.created, name.1.clone()));
            self.touch_claimants(&path);
        }
        self.by_uid.insert(uid, name.clone());
        self.entries.insert(name.clone(), entry);
        self.dirty.insert(name);
    }

    fn delete_ingestor(&mut self, name: &Name) {
        self.release(name);
        let entry = self.entries.remove(name).map(|entry| entry.uid);
        if let Some(uid) = &entry {
            self.by_uid.remove(uid);
        }
        let unreadable = self.unreadable.remove(name);
        self.gone.extend(entry.or(unreadable));
    }

    /// Takes an entry's claim and references back.
    fn release(&mut self, name: &Name) {
        let Some(entry) = self.entries.get(name) else {
            return;
        };
        let secrets: Vec<_> = entry.secret_names().collect();
        let claim = entry.claim().map(|path| (path, entry.created));
        for secret in secrets {
            self.references.remove(&secret.0, &secret.1, &name.1);
            self.turned.insert(secret);
        }
        if let Some((path, created)) = claim {
            if let Some(claims) = self.claims.get_mut(&path) {
                claims.remove(&(created, name.1.clone()));
            }
            self.touch_claimants(&path);
        }
    }

    fn is_referenced(&self, secret: &Name) -> bool {
        let mut users = self.references.users(&secret.0, &secret.1);
        users.next().is_some()
    }

    fn touch_claimants(&mut self, path: &Name) {
        if let Some(claims) = self.claims.get(path) {
            // Only the first two can have changed places.
            let names = claims.iter().take(2).map(|(_, name)| name.clone());
            self.dirty.extend(names.map(|name| (path.0.clone(), name)));
            if claims.is_empty() {
                self.claims.remove(path);
            }
        }
    }

    fn owns(&self, name: &Name) -> bool {
        let claim = self.entries.get(name).and_then(Entry::claim);
        let claims = claim.and_then(|path| self.claims.get(&path));
        claims
            .and_then(BTreeSet::first)
            .is_some_and(|(_, owner)| *owner == name.1)
    }

    fn apply_namespace(&mut self, name: String, uid: String) {
        if self.namespaces.get(&name) == Some(&uid) {
            return;
        }
        let from = (name.clone(), String::new());
        let inside = self.entries.range(from..).map(|(name, _)| name);
        let inside: Vec<_> = inside.take_while(|(of, _)| *of == name).cloned().collect();
        self.dirty.extend(inside);
        self.namespaces.insert(name, uid);
    }

    fn apply_secret(&mut self, name: Name, read: SecretRead) {
        let users: Vec<_> = self
            .references
            .users(&name.0, &name.1)
            .map(|user| (name.0.clone(), user.clone()))
            .collect();
        if users.is_empty() {
            // Should somebody reference it again before the value is wiped, an old one must not do.
            self.secrets.remove(&name);
            return;
        }
        self.dirty.extend(users);
        self.secrets.insert(name, read);
    }

    fn list_secrets(&mut self, namespace: &str, mut all: BTreeMap<String, SecretRead>) {
        let references = &self.references;
        self.secrets.retain(|(of, secret), _| {
            of != namespace || references.users(of, secret).next().is_some()
        });
        let names: Vec<_> = references.of_namespace(namespace).cloned().collect();
        for name in names {
            let read = all.remove(&name).unwrap_or(SecretRead::Missing);
            self.apply_secret((namespace.to_owned(), name), read);
        }
    }

    fn forbid(&mut self, key: WatchKey) {
        match key.name {
            Some(secret) => self.apply_secret((key.namespace, secret), SecretRead::Forbidden),
            None => self.references.only_by_name(&key.namespace),
        }
    }
}

fn name_of(ingestor: &Ingestor) -> Name {
    let metadata = &ingestor.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// The claim of an Ingestor: namespace and path.
fn claim_of(ingestor: &Ingestor) -> Option<Name> {
    paths::path_of(ingestor).map(|(namespace, path)| (namespace.to_owned(), path.to_owned()))
}

/// What the gateway needs to know of a spec's text.
fn spec_of(text: &SpecText) -> Spec {
    entry::spec(text.digest, &text.text)
}
