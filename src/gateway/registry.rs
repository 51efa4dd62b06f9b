//! Keeps the route table true: watches Ingestors, Namespaces and the Secrets that they name.
//!
//! ```text
//!  watches ──changes──▶ state ──dirty Ingestors──▶ decision specs into the journal ──▶ new table
//! ```
//!
//! One task owns the state; many changes at once make one new table.

mod feeds;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use kube::Client;
use tokio::sync::mpsc;
use tracing::{info, warn};

use self::feeds::{Change, Feeds};
use super::{
    metrics::Metrics,
    routes::{self, EndpointLimit, Gate, InForce, LimitClock, Route, RouteError, Table},
    secrets::{Lookup, Secrets},
    table::Shared,
    verify::Verifier,
};
use crate::{
    api::{
        DecisionSpec, Ingestor, SpecDigest,
        ingestor::{Auth, SecretRef},
        paths,
    },
    engine::pipeline::Compiled,
    journal::{
        IngestorUid, Journal,
        facts::{Facts, SecretState},
    },
    ops::{ready::Gate as ReadyGate, tasks::Tasks},
};

/// Changes on their way from the watches; when it is full the watches wait.
const QUEUE: usize = 1_024;

/// How many changes at most make one new table, so that a flood can't keep the table from readers.
const BATCH: usize = 512;

/// When a journal that refused a decision spec is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What the registry needs to know.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Before `/hooks`, in the facts.
    pub(super) public_url: String,
    /// The largest body that an Ingestor may ask for.
    pub(super) max_body: usize,
}

/// The task's parts.
pub(super) struct Registry {
    pub(super) options: Options,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Metrics,
    pub(super) ready: ReadyGate,
    pub(super) clock: LimitClock,
}

/// What is known.
#[derive(Default)]
struct State {
    ingestors: HashMap<IngestorUid, Arc<Ingestor>>,
    /// Ingestors of the list that is being read.
    listing: Option<HashSet<IngestorUid>>,
    /// Everybody who asks for a path.
    contenders: HashMap<Box<str>, HashSet<IngestorUid>>,
    namespaces: HashMap<String, String>,
    secrets: HashMap<String, Secrets>,
    specs: HashMap<IngestorUid, SpecState>,
    routes: HashMap<Box<str>, Arc<Route>>,
    dirty: HashSet<IngestorUid>,
    ingestors_listed: bool,
    namespaces_listed: bool,
}

/// What became of an Ingestor's newest decision spec.
#[derive(Default)]
struct SpecState {
    newest: Option<SpecDigest>,
    in_force: Option<InForce>,
    refused: Option<String>,
}

impl Registry {
    /// Runs until the tasks stop.
    pub(super) async fn run(self, client: Client, tasks: Tasks) {
        let stop = tasks.token();
        let (changes, mut queue) = mpsc::channel(QUEUE);
        let mut feeds = Feeds::start(client, Arc::clone(&self.journal), changes, tasks);
        let mut state = State::default();
        let mut retry = false;
        loop {
            let first = if retry {
                tokio::select! {
                    () = stop.cancelled() => return,
                    change = queue.recv() => change,
                    () = tokio::time::sleep(RETRY) => Some(Change::Nothing),
                }
            } else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    change = queue.recv() => change,
                }
            };
            let Some(first) = first else { return };
            state.apply(first);
            for _ in 1..BATCH {
                let Ok(change) = queue.try_recv() else { break };
                state.apply(change);
            }
            feeds.follow(&mut state.secrets, &state.ingestors);
            retry = !self.reconcile(&mut state).await;
            self.report_readiness(&state);
        }
    }

    /// Brings every dirty Ingestor's route up to date; false where the journal refused a spec.
    async fn reconcile(&self, state: &mut State) -> bool {
        let dirty: Vec<IngestorUid> = state.dirty.drain().collect();
        let gone: Vec<_> = dirty.iter().filter(|uid| !state.ingestors.contains_key(*uid)).collect();
        let forgotten = join_all(gone.iter().map(|uid| self.journal.forget(uid))).await;
        for (uid, outcome) in gone.iter().zip(forgotten) {
            state.specs.remove(*uid);
            if let Err(error) = outcome {
                warn!(ingestor = %uid, %error, "the journal did not forget a deleted Ingestor; it is told again at the next start");
            }
        }
        let refused = self.put_specs(state, &dirty).await;
        let mut facts = Vec::with_capacity(dirty.len());
        for uid in dirty {
            state.routes.retain(|_, route| route.ingestor != uid);
            let fact = state.ingestors.get(&uid).map(Arc::clone).map(|ingestor| {
                let (fact, route) = self.route(state, &uid, &ingestor);
                if let Some((key, route)) = route {
                    state.routes.insert(key, Arc::new(route));
                }
                fact
            });
            facts.push((uid, fact));
        }
        self.metrics.routes.set(i64::try_from(state.routes.len()).unwrap_or(i64::MAX));
        self.shared.routes.store(Arc::new(Table {
            routes: state.routes.clone(),
            synced: state.synced(),
        }));
        self.shared.publish(facts);
        let all_put = refused.is_empty();
        state.dirty.extend(refused);
        all_put
    }

    /// Compiles decision specs that are new and makes them durable, many with one sync. Gives the
    /// Ingestors whose spec the journal could not take now.
    async fn put_specs(&self, state: &mut State, dirty: &[IngestorUid]) -> Vec<IngestorUid> {
        let mut puts = Vec::new();
        for uid in dirty {
            let Some(ingestor) = state.ingestors.get(uid) else { continue };
            let namespace = ingestor.metadata.namespace.as_deref().unwrap_or_default();
            let Some(namespace_uid) = state.namespaces.get(namespace) else { continue };
            let spec = DecisionSpec::of(ingestor, namespace_uid);
            let Ok(text) = spec.to_text() else { continue };
            let digest = SpecDigest::of(&text);
            let entry = state.specs.entry(uid.clone()).or_default();
            if entry.newest == Some(digest) {
                continue;
            }
            let kept = self.journal.spec_in_force(uid);
            if kept.as_ref().is_some_and(|kept| kept.digest == digest) {
                *entry = SpecState::in_force(InForce::of(&spec, digest));
                continue;
            }
            match Compiled::new(spec.clone()) {
                Ok(_compiles) => puts.push((uid.clone(), InForce::of(&spec, digest), text)),
                Err(errors) => {
                    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                    entry.newest = Some(digest);
                    entry.refused = Some(lines.join("; "));
                    // After a restart, the last one that compiled comes from the journal.
                    if entry.in_force.is_none() {
                        entry.in_force = kept.and_then(|kept| {
                            let spec: DecisionSpec = serde_json::from_str(&kept.text).ok()?;
                            Some(InForce::of(&spec, kept.digest))
                        });
                    }
                }
            }
        }
        let stored = join_all(
            puts.iter().map(|(uid, _, text)| self.journal.put_spec(uid, text.as_str().into())),
        )
        .await;
        let mut refused = Vec::new();
        for ((uid, in_force, _), outcome) in puts.into_iter().zip(stored) {
            match outcome {
                Ok(_digest) => {
                    state.specs.insert(uid, SpecState::in_force(in_force));
                }
                Err(error) => {
                    warn!(ingestor = %uid, %error, "the decision spec is not in the journal yet");
                    refused.push(uid);
                }
            }
        }
        refused
    }

    /// The facts of one Ingestor, and its route when it serves.
    fn route(
        &self,
        state: &State,
        uid: &IngestorUid,
        ingestor: &Ingestor,
    ) -> (Facts, Option<(Box<str>, Route)>) {
        let generation = ingestor.metadata.generation.unwrap_or_default();
        let mut facts = Facts {
            generation: Some(generation),
            ..Facts::default()
        };
        let spec = state.specs.get(uid);
        facts.refused = spec.and_then(|spec| spec.refused.clone());
        let Some(key) = routes::key(ingestor) else {
            return (facts, None);
        };
        facts.endpoint = Some(format!("{}/hooks/{key}", self.options.public_url));
        if state.owner(&key).as_deref() != Some(&*uid.0) || !ingestor.spec.enabled {
            return (facts, None);
        }
        let namespace = ingestor.metadata.namespace.as_deref().unwrap_or_default();
        let auth = ingestor.spec.source.webhook.as_ref().map_or(&[][..], |webhook| &webhook.auth);
        let (verifiers, secret) = verifiers(auth, state.secrets.get(namespace));
        if let Some(secret) = secret {
            facts.secret = secret;
        }
        let in_force = spec.and_then(|spec| spec.in_force.clone());
        let limit = self.limit(&key, ingestor);
        match build(uid, ingestor, verifiers, in_force, limit, self.options.max_body) {
            Ok(route) => {
                facts.serving = route.spec.is_some() && !route.verifiers.is_empty();
                (facts, Some((key, route)))
            }
            Err(error) => {
                facts.refused = Some(error.to_string());
                (facts, None)
            }
        }
    }

    /// The endpoint's limit: with its state, unless its configuration changed.
    fn limit(&self, key: &str, ingestor: &Ingestor) -> Arc<EndpointLimit> {
        let webhook = ingestor.spec.source.webhook.as_ref();
        let config = webhook.map(|webhook| webhook.rate_limit).unwrap_or_default();
        let served = self.shared.routes.load();
        match served.routes.get(key) {
            Some(route) if route.limit.is_of(config) => Arc::clone(&route.limit),
            _ => Arc::new(EndpointLimit::new(config, self.clock.clone())),
        }
    }

    fn report_readiness(&self, state: &State) {
        if state.synced() {
            self.ready.open();
        } else if !state.ingestors_listed {
            self.ready.shut("the list of Ingestors");
        } else if !state.namespaces_listed {
            self.ready.shut("the list of Namespaces");
        } else {
            self.ready.shut("the Secrets that Ingestors name");
        }
    }
}

fn build(
    uid: &IngestorUid,
    ingestor: &Ingestor,
    verifiers: Vec<Verifier>,
    spec: Option<InForce>,
    limit: Arc<EndpointLimit>,
    max_body: usize,
) -> Result<Route, RouteError> {
    let webhook = ingestor.spec.source.webhook.as_ref().ok_or(RouteError::NoWebhook)?;
    Ok(Route {
        ingestor: uid.clone(),
        namespace: ingestor.metadata.namespace.as_deref().unwrap_or_default().into(),
        gate: Gate::of(webhook, max_body)?,
        withheld: routes::withheld(&verifiers),
        verifiers,
        limit,
        idempotency: routes::idempotency(webhook)?,
        accepted: routes::accepted_status(webhook)?,
        spec,
    })
}

/// The Secret that an entry names; `None` where it needs none.
fn reference(auth: &Auth) -> Option<&SecretRef> {
    let simple = auth.github.as_ref().or(auth.standard_webhooks.as_ref()).map(|a| &a.secret_ref);
    let hmac = auth.hmac.as_ref().map(|a| &a.secret_ref);
    let key = auth.api_key.as_ref().map(|a| &a.secret_ref);
    simple.or(hmac).or(key)
}

/// All entries made ready, or none with the reason: an endpoint never goes on with a part of what
/// its owner asked for, since a missing Secret would then look like a wrong signature.
fn verifiers(auth: &[Auth], secrets: Option<&Secrets>) -> (Vec<Verifier>, Option<SecretState>) {
    let mut verifiers = Vec::with_capacity(auth.len());
    for entry in auth {
        let values = match reference(entry) {
            None => Vec::new(),
            Some(reference) => match secrets.map_or(Lookup::Pending, |s| s.lookup(reference)) {
                Lookup::Values(values) => values,
                Lookup::Pending => return (Vec::new(), None),
                Lookup::Unusable(state) => return (Vec::new(), Some(state)),
            },
        };
        match Verifier::new(entry, &values) {
            Ok(verifier) => verifiers.push(verifier),
            Err(error) => {
                let name = reference(entry).map(|r| r.name.clone()).unwrap_or_default();
                info!(secret = name, %error, "an entry of auth can't be used");
                return (Vec::new(), Some(SecretState::Missing { name }));
            }
        }
    }
    (verifiers, None)
}

impl SpecState {
    const fn in_force(in_force: InForce) -> Self {
        Self {
            newest: Some(in_force.digest),
            in_force: Some(in_force),
            refused: None,
        }
    }
}

// === what changes do ===

impl State {
    fn synced(&self) -> bool {
        self.ingestors_listed
            && self.namespaces_listed
            && self.secrets.values().all(Secrets::is_known)
    }

    fn owner(&self, key: &str) -> Option<String> {
        let contenders = self.contenders.get(key)?;
        let asking = contenders.iter().filter_map(|uid| self.ingestors.get(uid)).map(|i| &**i);
        let (namespace, path) = key.split_once('/')?;
        paths::owners(asking).owner(namespace, path).map(str::to_owned)
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::IngestorsInit => self.listing = Some(HashSet::new()),
            Change::Ingestor(ingestor) => self.put(ingestor),
            Change::IngestorGone(uid) => self.remove(&uid),
            Change::IngestorsDone { known } => {
                if let Some(seen) = self.listing.take() {
                    let here = self.ingestors.keys().cloned();
                    // Those that the journal knows of were deleted while this process was away.
                    let gone: Vec<_> = here.chain(known).filter(|uid| !seen.contains(uid)).collect();
                    gone.iter().for_each(|uid| self.remove(uid));
                }
                self.ingestors_listed = true;
            }
            Change::Namespace { name, uid } => {
                if self.namespaces.insert(name.clone(), uid.clone()) != Some(uid) {
                    self.touch_namespace(&name);
                }
            }
            Change::NamespaceGone(name) => {
                self.namespaces.remove(&name);
            }
            Change::NamespacesDone => self.namespaces_listed = true,
            Change::Secrets { namespace, change } => {
                if let Some(secrets) = self.secrets.get_mut(&namespace) {
                    change.apply_to(secrets);
                    self.touch_namespace(&namespace);
                }
            }
        }
    }

    fn put(&mut self, ingestor: Box<Ingestor>) {
        let Some(uid) = ingestor.metadata.uid.as_deref().map(|uid| IngestorUid(uid.into())) else {
            return;
        };
        if let Some(listing) = &mut self.listing {
            listing.insert(uid.clone());
        }
        let same = self.ingestors.get(&uid).is_some_and(|known| {
            known.metadata.generation == ingestor.metadata.generation && known.spec == ingestor.spec
        });
        if same {
            return;
        }
        self.leave_path(&uid);
        if let Some(key) = routes::key(&ingestor) {
            self.contenders.entry(key.clone()).or_default().insert(uid.clone());
            self.touch_path(&key);
        }
        self.ingestors.insert(uid.clone(), Arc::from(ingestor));
        self.dirty.insert(uid);
    }

    fn remove(&mut self, uid: &IngestorUid) {
        self.leave_path(uid);
        self.ingestors.remove(uid);
        self.dirty.insert(uid.clone());
    }

    /// Takes an Ingestor off the path that it asked for: another may have it now.
    fn leave_path(&mut self, uid: &IngestorUid) {
        let Some(key) = self.ingestors.get(uid).and_then(|ingestor| routes::key(ingestor)) else {
            return;
        };
        if let Some(contenders) = self.contenders.get_mut(&key) {
            contenders.remove(uid);
            if contenders.is_empty() {
                self.contenders.remove(&key);
            }
        }
        self.touch_path(&key);
    }

    fn touch_path(&mut self, key: &str) {
        if let Some(contenders) = self.contenders.get(key) {
            self.dirty.extend(contenders.iter().cloned());
        }
    }

    fn touch_namespace(&mut self, namespace: &str) {
        let of_it = self
            .ingestors
            .iter()
            .filter(|(_, ingestor)| ingestor.metadata.namespace.as_deref() == Some(namespace))
            .map(|(uid, _)| uid.clone());
        self.dirty.extend(of_it);
    }
}
