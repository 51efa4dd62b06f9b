//! The Secrets that Ingestors name: read by a watch per namespace, kept only where they are named. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroizing;

use super::verify::SecretValue;
use crate::{api::ingestor::SecretRef, journal::facts::SecretState};

/// The values of one Secret, by key.
type Values = BTreeMap<String, SecretValue>;

/// What is known of the Secrets of one namespace.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Names that an Ingestor of the namespace has.
    named: HashSet<String>,
    /// Values of named Secrets.
    values: HashMap<String, Values>,
    listing: Option<HashMap<String, Values>>,
    access: Access,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Access {
    /// The first list has not come yet.
    #[default]
    Pending,
    Granted,
    Refused,
}

/// What a reference gives.
#[derive(Clone, Debug)]
pub(super) enum Lookup {
    /// The values that are valid.
    Values(Vec<SecretValue>),
    /// Not known yet.
    Pending,
    /// Why there are none.
    Unusable(SecretState),
}

impl Secrets {
    /// Which Secrets are named from now on; says whether one of them was not watched before, so
    /// that the list has to be read again.
    pub(super) fn name(&mut self, named: HashSet<String>) -> bool {
        let more = !named.is_subset(&self.named);
        self.values.retain(|name, _| named.contains(name));
        self.named = named;
        more
    }

    /// A list begins; what is known stays in force until it is complete.
    pub(super) fn list_begins(&mut self) {
        self.listing = Some(HashMap::new());
    }

    /// A Secret of the list.
    pub(super) fn listed(&mut self, secret: Secret) {
        let Some((name, values)) = self.wanted(secret) else {
            return;
        };
        if let Some(listing) = &mut self.listing {
            listing.insert(name, values);
        }
    }

    /// The list is complete: what it did not have is gone.
    pub(super) fn list_ends(&mut self) {
        if let Some(listing) = self.listing.take() {
            self.values = listing;
        }
        self.access = Access::Granted;
    }

    /// A Secret was made or changed.
    pub(super) fn changed(&mut self, secret: Secret) {
        if let Some((name, values)) = self.wanted(secret) {
            self.values.insert(name, values);
        }
    }

    /// A Secret is gone.
    pub(super) fn removed(&mut self, secret: &Secret) {
        if let Some(name) = &secret.metadata.name {
            self.values.remove(name);
        }
    }

    /// The API server refuses to show Secrets: what was known is no longer used.
    pub(super) fn forbidden(&mut self) {
        self.values.clear();
        self.listing = None;
        self.access = Access::Refused;
    }

    /// Whether the first list, or its refusal, has come.
    pub(super) fn is_known(&self) -> bool {
        self.access != Access::Pending
    }

    /// What a reference gives now.
    pub(super) fn lookup(&self, reference: &SecretRef) -> Lookup {
        let name = || reference.name.clone();
        match self.access {
            Access::Pending => return Lookup::Pending,
            Access::Refused => return Lookup::Unusable(SecretState::Forbidden { name: name() }),
            Access::Granted => {}
        }
        let missing = || Lookup::Unusable(SecretState::Missing { name: name() });
        let Some(values) = self.values.get(&reference.name) else {
            return missing();
        };
        match &reference.key {
            None => Lookup::Values(values.values().cloned().collect()),
            Some(key) => match values.get(key) {
                Some(value) => Lookup::Values(vec![value.clone()]),
                None => missing(),
            },
        }
    }

    fn wanted(&self, secret: Secret) -> Option<(String, Values)> {
        let name = secret.metadata.name?;
        if !self.named.contains(&name) {
            return None;
        }
        let data = secret.data.unwrap_or_default();
        Some((
            name,
            data.into_iter()
                .map(|(key, value)| (key, Zeroizing::new(value.0)))
                .collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(name: &str, value: &str) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        secret.data = Some([("k".to_owned(), ByteString(value.as_bytes().to_vec()))].into());
        secret
    }

    fn reference(key: Option<&str>) -> SecretRef {
        SecretRef {
            name: "s".to_owned(),
            key: key.map(str::to_owned),
        }
    }

    fn values(secrets: &Secrets, key: Option<&str>) -> Option<Vec<String>> {
        match secrets.lookup(&reference(key)) {
            Lookup::Values(values) => Some(
                values
                    .iter()
                    .map(|v| String::from_utf8(v.to_vec()).unwrap())
                    .collect(),
            ),
            Lookup::Pending | Lookup::Unusable(_) => None,
        }
    }

    #[test]
    fn a_secret_lives_from_list_through_rotation_to_removal() {
        let mut secrets = Secrets::default();
        assert!(secrets.name(["s".to_owned()].into()));
        assert!(matches!(secrets.lookup(&reference(None)), Lookup::Pending));
        secrets.list_begins();
        secrets.listed(secret("s", "one"));
        secrets.listed(secret("other", "not kept"));
        secrets.list_ends();
        assert_eq!(values(&secrets, None), Some(vec!["one".to_owned()]));
        assert_eq!(secrets.values.len(), 1, "only named Secrets are kept");
        secrets.changed(secret("s", "two"));
        assert_eq!(values(&secrets, Some("k")), Some(vec!["two".to_owned()]));
        assert_eq!(values(&secrets, Some("absent")), None);
        secrets.removed(&secret("s", "two"));
        assert!(matches!(
            secrets.lookup(&reference(None)),
            Lookup::Unusable(SecretState::Missing { .. })
        ));
    }

    #[test]
    fn a_relist_without_the_secret_removes_it_and_a_refusal_closes() {
        let mut secrets = Secrets::default();
        secrets.name(["s".to_owned()].into());
        secrets.list_begins();
        secrets.listed(secret("s", "one"));
        secrets.list_ends();
        secrets.list_begins();
        assert!(
            values(&secrets, None).is_some(),
            "in force until the new list is complete"
        );
        secrets.list_ends();
        assert!(values(&secrets, None).is_none());
        secrets.forbidden();
        assert!(matches!(
            secrets.lookup(&reference(None)),
            Lookup::Unusable(SecretState::Forbidden { .. })
        ));
    }
}
