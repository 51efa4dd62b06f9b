//! The control loop: what the watches see becomes routes, and the journal learns of specs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kube::Client;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    catalog::{Action, Catalog, Input, Name},
    handler::Shared,
    secrets::WatchKey,
    watch,
};
use crate::{
    api::DecisionSpec,
    journal::{AppendError, IngestorUid, Journal, SpecText},
    ops::ready::Gate,
};

/// Inputs that wait for the loop. A list is one input; beyond it the watches wait.
const INPUTS: usize = 1_024;

/// Most inputs taken before a table is built: one build for many changes, and none waits long.
const BATCH: usize = 256;

/// Before what the journal refused is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How often that wait is doubled, for what nobody waits for: up to 64 s.
const MOST_DOUBLINGS: u32 = 7;

/// The control loop's state.
pub(super) struct Control {
    shared: Arc<Shared>,
    client: Client,
    catalog: Catalog,
    gate: Gate,
    sender: mpsc::Sender<Input>,
    inputs: mpsc::Receiver<Input>,
    /// Journal calls under way: at most two per Ingestor.
    journaling: FuturesUnordered<BoxFuture<'static, Option<Input>>>,
    secrets: BTreeMap<WatchKey, SecretWatch>,
    strangers_forgotten: bool,
    ready: bool,
}

/// A running watch of Secrets.
struct SecretWatch {
    stop: CancellationToken,
    /// Tells it to list anew.
    again: Arc<Notify>,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>, client: Client, gate: Gate, public_url: &str) -> Self {
        let (sender, inputs) = mpsc::channel(INPUTS);
        let namespaces = &shared.options.namespaces;
        Self {
            catalog: Catalog::new(public_url, namespaces),
            shared,
            client,
            gate,
            sender,
            inputs,
            journaling: FuturesUnordered::new(),
            secrets: BTreeMap::new(),
            strangers_forgotten: false,
            ready: false,
        }
    }

    /// Runs until the process stops.
    pub(super) async fn run(mut self) {
        let stop = self.shared.tasks.token();
        self.watch_all(&stop);
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(done) = self.journaling.next() => done,
                input = self.inputs.recv() => input,
            };
            self.catalog_takes(first);
            for _ in 0..BATCH {
                let journaled = self.journaling.next().now_or_never().flatten();
                let Some(input) = journaled.flatten().or_else(|| self.inputs.try_recv().ok())
                else {
                    break;
                };
                self.catalog_takes(Some(input));
            }
            self.settle();
        }
    }

    fn catalog_takes(&mut self, input: Option<Input>) {
        if let Some(input) = input {
            self.catalog.apply(input);
        }
    }

    fn watch_all(&self, stop: &CancellationToken) {
        let tasks = &self.shared.tasks;
        let mut scopes: Vec<Option<String>> = self
            .shared
            .options
            .namespaces
            .iter()
            .cloned()
            .map(Some)
            .collect();
        if scopes.is_empty() {
            scopes.push(None);
        }
        for scope in scopes {
            let journal = Arc::clone(&self.shared.journal);
            let (client, sender) = (self.client.clone(), self.sender.clone());
            let watching = watch::ingestors(client, scope, journal, sender, stop.clone());
            tasks.spawn("gateway-ingestors", watching);
        }
        let (client, sender) = (self.client.clone(), self.sender.clone());
        tasks.spawn(
            "gateway-namespaces",
            watch::namespaces(client, sender, stop.clone()),
        );
    }

    /// Publishes what follows from the inputs.
    fn settle(&mut self) {
        let settled = self.catalog.settle();
        for action in settled.actions {
            self.start(action);
        }
        if let Some(table) = settled.table {
            let routes = i64::try_from(table.len()).unwrap_or(i64::MAX);
            self.shared.metrics.routes.set(routes);
            self.shared.table.store(Arc::new(table));
        }
        self.shared.facts.update(settled.facts);
        self.watch_secrets(&settled.unread);
        self.forget_strangers();
        match self.catalog.waiting() {
            None if self.shared.draining.is_cancelled() => {}
            None => {
                self.ready = true;
                self.gate.open();
            }
            // Once ready, a spec on its way into the journal doesn't make the gateway unready.
            Some(why) if !self.ready => self.gate.shut(why),
            Some(_) => {}
        }
    }

    fn start(&self, action: Action) {
        let journal = Arc::clone(&self.shared.journal);
        let work: BoxFuture<'static, Option<Input>> = match action {
            Action::PutSpec { ingestor, text } => Box::pin(async move {
                let put = match journal.put_spec(&ingestor, text).await {
                    Ok(digest) => Some(digest),
                    Err(error) => {
                        warn!(%ingestor, %error, "decision spec not recorded; trying again");
                        tokio::time::sleep(RETRY).await;
                        None
                    }
                };
                Some(Input::SpecPut { ingestor, put })
            }),
            Action::Forget { ingestor, attempt } => Box::pin(forget(journal, ingestor, attempt)),
        };
        self.journaling.push(work);
    }

    /// Starts and stops watches of Secrets, so that only what is referenced is read. One that goes on
    /// lists anew where it has passed over what is `unread`.
    fn watch_secrets(&mut self, unread: &BTreeSet<Name>) {
        let wanted = self.catalog.watches();
        self.secrets.retain(|key, watch| {
            let kept = wanted.contains(key);
            if !kept {
                watch.stop.cancel();
            }
            kept
        });
        for secret in unread {
            if let Some(watch) = self.secrets.get(&self.catalog.watch_of(secret)) {
                watch.again.notify_one();
            }
        }
        for key in wanted {
            if self.secrets.contains_key(&key) {
                continue;
            }
            let stop = self.shared.tasks.token().child_token();
            let again = Arc::new(Notify::new());
            let (client, sender) = (self.client.clone(), self.sender.clone());
            let (stopping, told) = (stop.clone(), Arc::clone(&again));
            let watching = watch::secrets(client, key.clone(), sender, stopping, told);
            self.shared.tasks.spawn("gateway-secrets", watching);
            self.secrets.insert(key, SecretWatch { stop, again });
        }
    }

    /// Once: Ingestors that were deleted while no gateway ran are forgotten, too. A gateway of some
    /// namespaces leaves those of others alone.
    fn forget_strangers(&mut self) {
        if self.strangers_forgotten || !self.catalog.listed() {
            return;
        }
        self.strangers_forgotten = true;
        for (ingestor, _) in self.shared.journal.tallies() {
            let Some(spec) = self.shared.journal.spec_in_force(&ingestor) else {
                continue;
            };
            if !self.catalog.knows(&ingestor) && self.is_ours(&spec) {
                info!(%ingestor, "Ingestor was deleted while the gateway was away");
                let attempt = 0;
                self.start(Action::Forget { ingestor, attempt });
            }
        }
    }

    /// Whether a spec is of a namespace that this gateway serves.
    fn is_ours(&self, spec: &SpecText) -> bool {
        let namespaces = &self.shared.options.namespaces;
        namespaces.is_empty()
            || serde_json::from_str(&spec.text)
                .is_ok_and(|spec: DecisionSpec| namespaces.contains(&spec.ingestor.namespace))
    }
}

/// Tells the journal that an Ingestor is gone. What it can't take now is tried again, ever more
/// rarely: a disk that refuses may be full for hours. A closing journal is told at the next start.
async fn forget(journal: Arc<dyn Journal>, ingestor: IngestorUid, attempt: u32) -> Option<Input> {
    match journal.forget(&ingestor).await {
        Ok(()) => {
            info!(%ingestor, "Ingestor is gone, and the journal has forgotten it");
            None
        }
        Err(AppendError::Closing) => None,
        Err(error) => {
            warn!(%ingestor, %error, "deleted Ingestor not forgotten by the journal; trying again");
            let wait = RETRY.saturating_mul(1 << attempt.min(MOST_DOUBLINGS));
            tokio::time::sleep(wait).await;
            let attempt = attempt.saturating_add(1);
            Some(Input::NotForgotten { ingestor, attempt })
        }
    }
}
