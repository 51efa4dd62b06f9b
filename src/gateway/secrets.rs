//! What is known of the Secrets that Ingestors reference, and which of them to watch. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::verify::SecretBytes;

/// What reading a Secret gave.
#[derive(Clone, Debug)]
pub enum SecretRead {
    /// Its values, by key.
    Values(BTreeMap<String, SecretBytes>),
    /// It does not exist.
    Missing,
    /// The gateway may not read it.
    Forbidden,
}

/// A watch: one Secret by name, or a namespace's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchKey {
    /// The namespace.
    pub namespace: String,
    /// One Secret; absent: all, of which only those referenced are kept.
    pub name: Option<String>,
}

/// Referenced Secrets of one namespace up to which each has a watch of its own: the least that can
/// be read, and it works under a role with `resourceNames`. Beyond it, one watch of the namespace
/// is what the API server bears better.
const NAMED_WATCHES: usize = 8;

/// Who references which Secret.
#[derive(Debug, Default)]
pub struct References {
    /// Namespace, Secret, Ingestors.
    users: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    /// Namespaces that may not be watched whole.
    by_name_only: BTreeSet<String>,
}

impl References {
    /// An Ingestor references a Secret of its namespace.
    pub fn add(&mut self, namespace: &str, secret: &str, ingestor: &str) {
        let secrets = self.users.entry(namespace.to_owned()).or_default();
        let users = secrets.entry(secret.to_owned()).or_default();
        users.insert(ingestor.to_owned());
    }

    /// It doesn't any more. True when nobody does.
    pub fn remove(&mut self, namespace: &str, secret: &str, ingestor: &str) -> bool {
        let Some(secrets) = self.users.get_mut(namespace) else {
            return true;
        };
        let Some(users) = secrets.get_mut(secret) else {
            return true;
        };
        users.remove(ingestor);
        let unused = users.is_empty();
        if unused {
            secrets.remove(secret);
        }
        if secrets.is_empty() {
            self.users.remove(namespace);
        }
        unused
    }

    /// Who references a Secret.
    pub fn users(&self, namespace: &str, secret: &str) -> impl Iterator<Item = &String> {
        let secrets = self.users.get(namespace);
        let users = secrets.and_then(|secrets| secrets.get(secret));
        users.into_iter().flatten()
    }

    /// The referenced Secrets of a namespace.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &String> {
        let secrets = self.users.get(namespace);
        secrets.into_iter().flat_map(BTreeMap::keys)
    }

    /// The namespace may not be watched whole: from now on each Secret is watched by name.
    pub fn only_by_name(&mut self, namespace: &str) {
        self.by_name_only.insert(namespace.to_owned());
    }

    /// The watch that sees a Secret.
    #[must_use]
    pub fn watch_of(&self, namespace: &str, secret: &str) -> WatchKey {
        let named = self
            .users
            .get(namespace)
            .is_none_or(|secrets| self.are_named(namespace, secrets));
        WatchKey {
            namespace: namespace.to_owned(),
            name: named.then(|| secret.to_owned()),
        }
    }

    /// Whether each Secret of a namespace has a watch of its own.
    fn are_named(&self, namespace: &str, secrets: &BTreeMap<String, BTreeSet<String>>) -> bool {
        secrets.len() <= NAMED_WATCHES || self.by_name_only.contains(namespace)
    }

    /// The watches that are needed.
    #[must_use]
    pub fn watches(&self) -> BTreeSet<WatchKey> {
        let mut watches = BTreeSet::new();
        for (namespace, secrets) in &self.users {
            let key = |name: Option<&String>| WatchKey {
                namespace: namespace.clone(),
                name: name.cloned(),
            };
            if self.are_named(namespace, secrets) {
                watches.extend(secrets.keys().map(|name| key(Some(name))));
            } else {
                watches.insert(key(None));
            }
        }
        watches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_watched_by_name_and_many_by_namespace() {
        let mut references = References::default();
        for n in 0..NAMED_WATCHES {
            references.add("team", &format!("secret-{n}"), "ingestor");
        }
        assert_eq!(references.watches().len(), NAMED_WATCHES);
        references.add("team", "one-more", "ingestor");
        let watches: Vec<_> = references.watches().into_iter().collect();
        assert_eq!(
            watches,
            [WatchKey {
                namespace: "team".into(),
                name: None
            }]
        );
        references.only_by_name("team");
        assert_eq!(references.watches().len(), NAMED_WATCHES + 1);
    }

    #[test]
    fn a_secret_is_let_go_with_its_last_user() {
        let mut references = References::default();
        references.add("team", "s", "a");
        references.add("team", "s", "b");
        assert!(!references.remove("team", "s", "a"));
        assert_eq!(references.users("team", "s").collect::<Vec<_>>(), ["b"]);
        assert!(references.remove("team", "s", "b"));
        assert!(references.watches().is_empty());
    }
}
