//! Today's Ingestors and namespaces, as the watch shows them: pure, fed with the watch's events.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher::Event,
};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    api::Ingestor,
    journal::{Bucket, IngestorUid},
};

/// What is known; readers never wait for the watch.
#[derive(Debug)]
pub struct Ingestors {
    index: RwLock<Index>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Index {
    by_uid: BTreeMap<IngestorUid, Arc<Ingestor>>,
    /// Being listed anew; takes the place of `by_uid` when the list is complete.
    listing: Option<BTreeMap<IngestorUid, Arc<Ingestor>>>,
    /// UIDs that the list names, also of objects that can't be read.
    listed: HashSet<IngestorUid>,
    complete: bool,
}

impl Default for Ingestors {
    fn default() -> Self {
        Self {
            index: RwLock::default(),
            version: watch::Sender::new(0),
        }
    }
}

impl Ingestors {
    /// Takes in what the watch says; gives the Ingestors that are gone.
    ///
    /// An object that can't be read (written by another release) doesn't stop the watch: what was
    /// known of it before goes on.
    pub fn apply(&self, event: Event<DeserializeGuard<Ingestor>>) -> Vec<IngestorUid> {
        let gone = {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            index.apply(event)
        };
        self.version.send_modify(|version| *version += 1);
        gone
    }

    /// One Ingestor as it is today.
    #[must_use]
    pub fn get(&self, uid: &IngestorUid) -> Option<Arc<Ingestor>> {
        self.read(|index| index.by_uid.get(uid).cloned())
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<(IngestorUid, Arc<Ingestor>)> {
        self.read(|index| {
            let pairs = index.by_uid.iter();
            pairs
                .map(|(uid, it)| (uid.clone(), Arc::clone(it)))
                .collect()
        })
    }

    /// How many there are in each bucket.
    #[must_use]
    pub fn by_bucket(&self) -> BTreeMap<Bucket, u32> {
        self.read(|index| {
            let mut counts = BTreeMap::new();
            for uid in index.by_uid.keys() {
                *counts.entry(Bucket::of(uid)).or_default() += 1;
            }
            counts
        })
    }

    /// Whether the first list is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.read(|index| index.complete)
    }

    /// Changes whenever something changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Index {
    fn apply(&mut self, event: Event<DeserializeGuard<Ingestor>>) -> Vec<IngestorUid> {
        match event {
            Event::Init => {
                self.listing = Some(BTreeMap::new());
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.put(object);
                Vec::new()
            }
            Event::InitDone => self.listed_all(),
            Event::Apply(object) => self.put(object).into_iter().collect(),
            Event::Delete(object) => {
                let uid = match object.0 {
                    Ok(ingestor) => ingestor.metadata.uid,
                    Err(invalid) => invalid.metadata.uid,
                };
                let uid = uid.map(|uid| IngestorUid(uid.into()));
                uid.inspect(|uid| drop(self.by_uid.remove(uid)))
                    .into_iter()
                    .collect()
            }
        }
    }

    /// Puts an object in; gives the one of the same name that it took the place of, if the watch
    /// left out its deletion.
    fn put(&mut self, object: DeserializeGuard<Ingestor>) -> Option<IngestorUid> {
        let listing = self.listing.is_some();
        match object.0 {
            Ok(ingestor) => {
                let uid = IngestorUid(ingestor.metadata.uid.as_deref()?.into());
                self.listed.insert(uid.clone());
                let into = self.listing.as_mut().unwrap_or(&mut self.by_uid);
                into.insert(uid.clone(), Arc::new(ingestor));
                if listing {
                    None
                } else {
                    self.replaced_by(&uid)
                }
            }
            Err(invalid) => {
                let (namespace, name) = (invalid.metadata.namespace, invalid.metadata.name);
                warn!(?namespace, ?name, error = %invalid.error, "ingestor can't be read; what was known of it goes on");
                let uid = IngestorUid(invalid.metadata.uid?.into());
                let before = self.by_uid.get(&uid).cloned();
                if let (Some(list), Some(before)) = (self.listing.as_mut(), before) {
                    list.insert(uid.clone(), before);
                }
                self.listed.insert(uid);
                None
            }
        }
    }

    fn replaced_by(&mut self, uid: &IngestorUid) -> Option<IngestorUid> {
        let key = |it: &Ingestor| (it.metadata.namespace.clone(), it.metadata.name.clone());
        let new = key(self.by_uid.get(uid)?);
        let mut others = self.by_uid.iter();
        let old = others.find(|(other, it)| *other != uid && key(it) == new);
        let old = old.map(|(old, _)| old.clone())?;
        self.by_uid.remove(&old);
        Some(old)
    }

    fn listed_all(&mut self) -> Vec<IngestorUid> {
        self.complete = true;
        let Some(listing) = self.listing.take() else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut self.by_uid, listing);
        let gone = before.into_keys().filter(|uid| !self.listed.contains(uid));
        gone.collect()
    }
}

/// Names and UIDs of the namespaces.
#[derive(Debug, Default)]
pub struct Namespaces {
    uids: RwLock<HashMap<String, Arc<str>>>,
}

impl Namespaces {
    /// Takes in what the watch says.
    pub fn apply(&self, event: Event<PartialObjectMeta<Namespace>>) {
        let mut uids = self.uids.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            // One that is missing is asked for; so nothing is lost by beginning anew.
            Event::Init => uids.clear(),
            Event::InitDone => {}
            Event::Apply(namespace) | Event::InitApply(namespace) => {
                let (name, uid) = (namespace.metadata.name, namespace.metadata.uid);
                if let (Some(name), Some(uid)) = (name, uid) {
                    uids.insert(name, uid.into());
                }
            }
            Event::Delete(namespace) => {
                namespace.metadata.name.map(|name| uids.remove(&name));
            }
        }
    }

    /// The watch has failed: what it has shown may not be so any more.
    pub fn forget(&self) {
        let mut uids = self.uids.write().unwrap_or_else(PoisonError::into_inner);
        uids.clear();
    }

    /// The UID of a namespace, if the watch has shown it.
    #[must_use]
    pub fn uid(&self, name: &str) -> Option<Arc<str>> {
        let uids = self.uids.read().unwrap_or_else(PoisonError::into_inner);
        uids.get(name).cloned()
    }

    /// Whether the watch has shown that the namespace has this UID.
    #[must_use]
    pub fn is(&self, name: &str, uid: &str) -> bool {
        let uids = self.uids.read().unwrap_or_else(PoisonError::into_inner);
        uids.get(name).is_some_and(|known| **known == *uid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str, uid: &str, severity: &Value) -> DeserializeGuard<Ingestor> {
        serde_json::from_value(json!({
            "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor",
            "metadata": { "name": name, "namespace": "team", "uid": uid },
            "spec": {
                "source": {},
                "normalize": {
                    "category": { "value": "security" }, "severity": severity,
                    "eventType": { "value": "x" },
                },
            },
        }))
        .unwrap()
    }

    fn good(name: &str, uid: &str) -> DeserializeGuard<Ingestor> {
        object(name, uid, &json!({ "value": "low" }))
    }

    fn uids(of: &[&str]) -> Vec<IngestorUid> {
        of.iter().map(|uid| IngestorUid((*uid).into())).collect()
    }

    fn list(ingestors: &Ingestors, objects: Vec<DeserializeGuard<Ingestor>>) -> Vec<IngestorUid> {
        ingestors.apply(Event::Init);
        for object in objects {
            assert!(ingestors.apply(Event::InitApply(object)).is_empty());
        }
        ingestors.apply(Event::InitDone)
    }

    #[test]
    fn what_a_new_list_lacks_is_gone_and_not_before_it_is_complete() {
        let ingestors = Ingestors::default();
        assert!(!ingestors.is_complete());
        assert!(list(&ingestors, vec![good("a", "1"), good("b", "2")]).is_empty());
        ingestors.apply(Event::Init);
        assert!(ingestors.get(&IngestorUid("2".into())).is_some());
        ingestors.apply(Event::InitApply(good("a", "1")));
        assert_eq!(ingestors.apply(Event::InitDone), uids(&["2"]));
        assert_eq!(ingestors.all().len(), 1);
    }

    #[test]
    fn one_that_cannot_be_read_goes_on_as_it_was() {
        let ingestors = Ingestors::default();
        list(&ingestors, vec![good("a", "1")]);
        let strange = || object("a", "1", &json!(7));
        assert!(strange().0.is_err());
        assert!(ingestors.apply(Event::Apply(strange())).is_empty());
        assert!(list(&ingestors, vec![strange()]).is_empty());
        assert!(ingestors.get(&IngestorUid("1".into())).is_some());
    }

    #[test]
    fn deleted_and_made_again_is_another() {
        let ingestors = Ingestors::default();
        list(&ingestors, vec![good("a", "1")]);
        assert_eq!(ingestors.apply(Event::Apply(good("a", "2"))), uids(&["1"]));
        assert_eq!(ingestors.apply(Event::Delete(good("a", "2"))), uids(&["2"]));
        assert!(ingestors.all().is_empty());
    }
}
