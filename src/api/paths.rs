//! Who owns which path: a pure function of the Ingestors, shared by the gateway's routes and the
//! engine's conditions, so that both always name the same one.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::Ingestor;

/// The Ingestor that has a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its `metadata.name`.
    pub name: String,
    created: Option<Timestamp>,
}

/// All owners, by namespace and path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    by_path: BTreeMap<(String, String), Owner>,
}

/// Namespace and path of an Ingestor's endpoint; `None` where its source has none.
#[must_use]
pub fn path_of(ingestor: &Ingestor) -> Option<(&str, &str)> {
    let webhook = ingestor.spec.source.webhook.as_ref()?;
    let namespace = ingestor.metadata.namespace.as_deref()?;
    let path = webhook
        .path
        .as_deref()
        .or(ingestor.metadata.name.as_deref())?;
    Some((namespace, path))
}

/// Whether the endpoint accepts requests that nobody signed.
#[must_use]
pub fn accepts_unsigned(ingestor: &Ingestor) -> bool {
    let webhook = ingestor.spec.source.webhook.as_ref();
    webhook.is_some_and(|webhook| webhook.auth.iter().any(|auth| auth.none.is_some()))
}

/// Who owns each path: the oldest by creation, then by name. Whether an Ingestor is enabled plays
/// no part, so that switching one off and on never hands its path to another.
#[must_use]
pub fn owners<'a>(ingestors: impl IntoIterator<Item = &'a Ingestor>) -> Owners {
    let mut by_path: BTreeMap<(String, String), Owner> = BTreeMap::new();
    for ingestor in ingestors {
        let Some((namespace, path)) = path_of(ingestor) else {
            continue;
        };
        let Some(candidate) = Owner::of(ingestor) else {
            continue;
        };
        by_path
            .entry((namespace.to_owned(), path.to_owned()))
            .and_modify(|owner| {
                if candidate.precedes(owner) {
                    *owner = candidate.clone();
                }
            })
            .or_insert(candidate);
    }
    Owners { by_path }
}

impl Owner {
    fn of(ingestor: &Ingestor) -> Option<Self> {
        Some(Self {
            uid: ingestor.metadata.uid.clone()?,
            name: ingestor.metadata.name.clone()?,
            created: ingestor.metadata.creation_timestamp.as_ref().map(|t| t.0),
        })
    }

    fn precedes(&self, other: &Self) -> bool {
        (self.created, &self.name) < (other.created, &other.name)
    }
}

impl Owners {
    /// The UID of the Ingestor that has the path.
    #[must_use]
    pub fn owner(&self, namespace: &str, path: &str) -> Option<&str> {
        let key = (namespace.to_owned(), path.to_owned());
        self.by_path.get(&key).map(|owner| owner.uid.as_str())
    }

    /// Who has the path that `ingestor` asks for, when that is another.
    #[must_use]
    pub fn conflict(&self, ingestor: &Ingestor) -> Option<&Owner> {
        let (namespace, path) = path_of(ingestor)?;
        let owner = self.by_path.get(&(namespace.to_owned(), path.to_owned()))?;
        (Some(owner.uid.as_str()) != ingestor.metadata.uid.as_deref()).then_some(owner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingestor(name: &str, namespace: &str, created: &str, path: Option<&str>) -> Ingestor {
        serde_json::from_value(json!({
            "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor",
            "metadata": {
                "name": name, "namespace": namespace, "uid": format!("uid-{namespace}-{name}"),
                "creationTimestamp": created,
            },
            "spec": {
                "source": { "webhook": { "path": path, "auth": [{ "none": {} }] } },
                "normalize": {
                    "category": { "value": "security" }, "severity": { "value": "info" },
                    "eventType": { "value": "x" },
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_oldest_keeps_the_path_whatever_the_order() {
        let old = ingestor("b", "team", "2026-01-01T00:00:00Z", Some("hook"));
        let young = ingestor("a", "team", "2026-01-02T00:00:00Z", Some("hook"));
        for order in [[&old, &young], [&young, &old]] {
            let owners = owners(order);
            assert_eq!(owners.owner("team", "hook"), Some("uid-team-b"));
            assert_eq!(owners.conflict(&old), None);
            assert_eq!(owners.conflict(&young).unwrap().name, "b");
        }
    }

    #[test]
    fn of_two_made_in_the_same_second_the_first_name_wins() {
        let a = ingestor("a", "team", "2026-01-01T00:00:00Z", Some("hook"));
        let b = ingestor("b", "team", "2026-01-01T00:00:00Z", Some("hook"));
        assert_eq!(owners([&b, &a]).owner("team", "hook"), Some("uid-team-a"));
    }

    #[test]
    fn the_path_defaults_to_the_name_and_namespaces_do_not_meet() {
        let a = ingestor("hook", "one", "2026-01-01T00:00:00Z", None);
        let b = ingestor("x", "two", "2026-01-01T00:00:00Z", Some("hook"));
        let owners = owners([&a, &b]);
        assert_eq!(owners.owner("one", "hook"), Some("uid-one-hook"));
        assert_eq!(owners.owner("two", "hook"), Some("uid-two-x"));
        assert!(accepts_unsigned(&a));
    }
}
