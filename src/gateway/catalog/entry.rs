//! One Ingestor in the catalog: its endpoint, its decision specs, its route.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::jiff::Timestamp;

use super::{Found, Name, claim_of, name_of, spec_of};
use crate::{
    api::{
        DecisionSpec, Ingestor, SpecDigest,
        ingestor::{Auth, Strategy},
    },
    engine::pipeline::Compiled,
    gateway::{
        limits::{Bucket, Quota},
        problem::Kind,
        routes::{self, Endpoint, Refused, Route, Spec, State, secret_ref},
        secrets::SecretRead,
        verify::{SecretBytes, Unusable, Verifier},
    },
    journal::{
        IngestorUid,
        facts::{Facts, Refusal, SecretState, Unused},
    },
};

/// One Ingestor.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) uid: IngestorUid,
    pub(super) path: Arc<str>,
    pub(super) created: Option<Timestamp>,
    pub(super) route: Option<Arc<Route>>,
    ingestor: Ingestor,
    endpoint: Result<Arc<Endpoint>, Refused>,
    bucket: Option<Arc<Bucket>>,
    share_full: Arc<AtomicBool>,
    /// The spec in force.
    spec: Option<Spec>,
    /// What the journal is being told.
    putting: Option<Spec>,
    /// Why the newest spec is not in force.
    refused: Option<Refusal>,
    /// The newest generation whose decision spec is in force, or refused.
    decided: Option<i64>,
    facts: Option<Facts>,
}

impl Entry {
    pub(super) fn new(uid: IngestorUid, found: Found) -> Self {
        let spec = found.in_force.as_ref().map(spec_of);
        Self {
            uid,
            path: Arc::from(""),
            created: None,
            route: None,
            endpoint: Err(Refused::default()),
            bucket: None,
            share_full: Arc::new(AtomicBool::new(false)),
            spec,
            putting: None,
            refused: None,
            decided: None,
            facts: None,
            ingestor: found.ingestor.clone(),
        }
        .with(found.ingestor)
    }

    /// The same entry for a changed Ingestor; the bucket stays while its limit does.
    pub(super) fn with(mut self, ingestor: Ingestor) -> Self {
        let (namespace, path) = claim_of(&ingestor).unwrap_or_default();
        self.path = routes::path(&namespace, &path);
        let created = ingestor.metadata.creation_timestamp.as_ref();
        self.created = created.map(|time| time.0);
        self.endpoint = Endpoint::of(&ingestor).map(Arc::new);
        if let Ok(endpoint) = &self.endpoint {
            let rate = endpoint.rate;
            let quota = Quota::new(rate.requests_per_second, rate.burst);
            let kept = self.bucket.take().filter(|bucket| bucket.quota() == quota);
            self.bucket = Some(kept.unwrap_or_else(|| Arc::new(Bucket::new(quota))));
        }
        self.ingestor = ingestor;
        self
    }

    pub(super) fn claim(&self) -> Option<Name> {
        claim_of(&self.ingestor)
    }

    /// The Secrets that it references, with their namespace.
    pub(super) fn secret_names(&self) -> impl Iterator<Item = Name> {
        let (namespace, _) = name_of(&self.ingestor);
        let endpoint = self.endpoint.as_ref().ok();
        let secrets = endpoint.into_iter().flat_map(|endpoint| endpoint.secrets());
        secrets.map(move |reference| (namespace.clone(), reference.name.clone()))
    }

    pub(super) const fn waits_for_journal(&self) -> bool {
        self.putting.is_some()
    }

    /// Compares today's decision spec with the one in force: the text to put into the journal, when
    /// it is another and compiles. One at a time, so that the last one put is the newest.
    pub(super) fn decide(&mut self, namespace_uid: &str) -> Option<Arc<str>> {
        if self.putting.is_some() || self.endpoint.is_err() {
            return None;
        }
        let wanted = DecisionSpec::of(&self.ingestor, namespace_uid);
        let text = match wanted.to_text() {
            Ok(text) => text,
            Err(error) => {
                self.refused = Some(Refusal::Configuration(error.to_string()));
                self.decided = self.ingestor.metadata.generation;
                return None;
            }
        };
        let digest = SpecDigest::of(&text);
        if self.spec.as_ref().is_some_and(|spec| spec.digest == digest) {
            self.refused = None;
            self.decided = self.ingestor.metadata.generation;
            return None;
        }
        if let Err(errors) = Compiled::new(wanted) {
            let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
            self.refused = Some(Refusal::Expression(all.join("; ")));
            self.decided = self.ingestor.metadata.generation;
            return None;
        }
        self.refused = None;
        self.putting = Some(spec(digest, &text));
        Some(text.into())
    }

    /// The journal's answer; after a failure the spec is decided anew.
    pub(super) fn spec_put(&mut self, put: Option<SpecDigest>) {
        let putting = self.putting.take();
        if let Some(spec) = putting.filter(|spec| put == Some(spec.digest)) {
            self.spec = Some(spec);
        }
    }

    /// Computes route and facts; the facts when they changed.
    pub(super) fn rebuild(
        &mut self,
        owns: bool,
        secrets: &HashMap<Name, SecretRead>,
        public_url: &str,
    ) -> Option<Facts> {
        let mut facts = Facts {
            endpoint: owns.then(|| format!("{public_url}{}", self.path)),
            refused: self.refused.clone(),
            share_full: self.share_full.load(Ordering::Relaxed),
            ..Facts::default()
        };
        self.route = None;
        match (&self.endpoint, &self.bucket) {
            (Ok(endpoint), Some(bucket)) if owns && self.ingestor.spec.enabled => {
                let state = self.state(endpoint, secrets, &mut facts);
                // Not before events are decided by it, else whoever waits for it sends too early.
                facts.generation = self.decided;
                facts.serving = matches!(state, State::Open { .. });
                self.route = Some(Arc::new(Route {
                    ingestor: self.uid.clone(),
                    endpoint: Arc::clone(endpoint),
                    state,
                    bucket: Arc::clone(bucket),
                    share_full: Arc::clone(&self.share_full),
                }));
            }
            (Err(refused), _) => {
                facts.refused = Some(Refusal::Configuration(refused.to_string()));
            }
            _ => {}
        }
        let changed = self.facts.as_ref() != Some(&facts);
        self.facts = Some(facts.clone());
        changed.then_some(facts)
    }

    fn state(
        &self,
        endpoint: &Endpoint,
        secrets: &HashMap<Name, SecretRead>,
        facts: &mut Facts,
    ) -> State {
        let mut verifiers = Vec::new();
        for auth in &endpoint.auth {
            match verifier(&endpoint.namespace, auth, secrets) {
                Ok((verifier, unused)) => {
                    verifiers.push(verifier);
                    facts.unused.extend(unused);
                }
                Err(NoVerifier::Unread) => return State::Closed(Kind::NotInSync),
                Err(NoVerifier::Secret(state)) => {
                    facts.secret = state;
                    return State::Closed(Kind::Closed);
                }
                Err(NoVerifier::Configuration(why)) => {
                    facts.refused = Some(Refusal::Configuration(why));
                    return State::Closed(Kind::Closed);
                }
            }
        }
        let Some(spec) = self.spec.clone() else {
            let settling = self.putting.is_some() || self.refused.is_none();
            return State::Closed(if settling {
                Kind::NotInSync
            } else {
                Kind::Closed
            });
        };
        let security = verifiers.iter().flat_map(Verifier::security_headers);
        State::Open {
            security: security.collect(),
            verifiers,
            spec,
        }
    }
}

enum NoVerifier {
    Unread,
    Secret(SecretState),
    Configuration(String),
}

fn verifier(
    namespace: &str,
    auth: &Auth,
    secrets: &HashMap<Name, SecretRead>,
) -> Result<(Verifier, Option<Unused>), NoVerifier> {
    let Some(reference) = secret_ref(auth) else {
        return Verifier::new(auth, &[])
            .map(|verifier| (verifier, None))
            .map_err(|error| NoVerifier::Configuration(error.to_string()));
    };
    let name = reference.name.clone();
    let missing = |name: String| NoVerifier::Secret(SecretState::Missing { name });
    let values: Vec<SecretBytes> = match secrets.get(&(namespace.to_owned(), name.clone())) {
        None => return Err(NoVerifier::Unread),
        Some(SecretRead::Missing) => return Err(missing(name)),
        Some(SecretRead::Forbidden) => {
            return Err(NoVerifier::Secret(SecretState::Forbidden { name }));
        }
        Some(SecretRead::Values(values)) => match &reference.key {
            None => values.values().cloned().collect(),
            Some(key) => values.get(key).into_iter().cloned().collect(),
        },
    };
    let verifier = Verifier::new(auth, &values).map_err(|error| match error {
        Unusable::NoSecret(_) => missing(name.clone()),
        Unusable::Configuration(error) => NoVerifier::Configuration(error.to_string()),
    })?;
    let unused = values.len().saturating_sub(verifier.keys());
    let unused = (unused > 0).then_some(Unused {
        secret: name,
        values: unused,
    });
    Ok((verifier, unused))
}

/// What the gateway needs to know of a spec's text; one that can't be read gives no name.
pub(super) fn spec(digest: SpecDigest, text: &str) -> Spec {
    let read: Option<DecisionSpec> = serde_json::from_str(text).ok();
    let named =
        |spec: &DecisionSpec| spec.explode.is_none() && spec.dedup.strategy == Strategy::Event;
    Spec {
        digest,
        named: read.as_ref().is_some_and(named),
        identity: read.map(|spec| Arc::new(spec.ingestor)),
    }
}
