//! The watches, each a task that turns what the API server says into changes of the state.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::reference;
use crate::{
    api::Ingestor,
    gateway::secrets::Secrets,
    journal::{IngestorUid, Journal},
    ops::tasks::Tasks,
};

/// The first pause after a watch failed; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A changed Secret is live within two seconds, also when its watch had just failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A change of what is known.
pub(super) enum Change {
    Nothing,
    IngestorsInit,
    Ingestor(Box<Ingestor>),
    IngestorGone(IngestorUid),
    IngestorsDone {
        known: Vec<IngestorUid>,
    },
    Namespace {
        name: String,
        uid: String,
    },
    NamespaceGone(String),
    NamespacesDone,
    Secrets {
        namespace: String,
        change: SecretChange,
    },
}

/// A change of a namespace's Secrets.
pub(super) enum SecretChange {
    ListBegins,
    Listed(Box<Secret>),
    ListEnds,
    Changed(Box<Secret>),
    Removed(Box<Secret>),
    Forbidden,
}

impl SecretChange {
    pub(super) fn apply_to(self, secrets: &mut Secrets) {
        match self {
            Self::ListBegins => secrets.list_begins(),
            Self::Listed(secret) => secrets.listed(*secret),
            Self::ListEnds => secrets.list_ends(),
            Self::Changed(secret) => secrets.changed(*secret),
            Self::Removed(secret) => secrets.removed(&secret),
            Self::Forbidden => secrets.forbidden(),
        }
    }
}

/// Who watches what.
pub(super) struct Feeds {
    client: Client,
    changes: mpsc::Sender<Change>,
    tasks: Tasks,
    /// The watch of each namespace's Secrets; cancelled when nobody names one any more.
    secrets: HashMap<String, CancellationToken>,
}

impl Feeds {
    /// Starts watching Ingestors and Namespaces.
    pub(super) fn start(
        client: Client,
        journal: Arc<dyn Journal>,
        changes: mpsc::Sender<Change>,
        tasks: Tasks,
    ) -> Self {
        let this = Self {
            client,
            changes,
            tasks,
            secrets: HashMap::new(),
        };
        let stop = this.tasks.token();
        let ingestors = Api::<Ingestor>::all(this.client.clone());
        let changes = this.changes.clone();
        this.tasks.spawn(
            "watch-ingestors",
            forward(ingestors, changes, stop.clone(), move |event| {
                ingestor(event, &*journal)
            }),
        );
        let namespaces = Api::<Namespace>::all(this.client.clone());
        let changes = this.changes.clone();
        this.tasks.spawn(
            "watch-namespaces",
            forward(namespaces, changes, stop, namespace),
        );
        this
    }

    /// Watches the Secrets of every namespace in which an Ingestor names one, and of no other.
    pub(super) fn follow(
        &mut self,
        known: &mut HashMap<String, Secrets>,
        ingestors: &HashMap<IngestorUid, Arc<Ingestor>>,
    ) {
        let mut named: HashMap<&str, HashSet<String>> = HashMap::new();
        for ingestor in ingestors.values() {
            let namespace = ingestor.metadata.namespace.as_deref().unwrap_or_default();
            let auth = ingestor
                .spec
                .source
                .webhook
                .iter()
                .flat_map(|webhook| &webhook.auth);
            let names = auth
                .filter_map(reference)
                .map(|reference| reference.name.clone());
            for name in names {
                named.entry(namespace).or_default().insert(name);
            }
        }
        known.retain(|namespace, _| named.contains_key(namespace.as_str()));
        self.secrets.retain(|namespace, watch| {
            let kept = named.contains_key(namespace.as_str());
            if !kept {
                watch.cancel();
            }
            kept
        });
        for (namespace, names) in named {
            let more = known.entry(namespace.to_owned()).or_default().name(names);
            if more {
                self.watch_secrets(namespace);
            }
        }
    }

    /// Begins with a list, since a Secret that is named only now was passed over before.
    fn watch_secrets(&mut self, namespace: &str) {
        let stop = self.tasks.token().child_token();
        if let Some(former) = self.secrets.insert(namespace.to_owned(), stop.clone()) {
            former.cancel();
        }
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let namespace = namespace.to_owned();
        let of = move |event| secret(&namespace, event);
        self.tasks.spawn(
            "watch-secrets",
            forward(secrets, self.changes.clone(), stop, of),
        );
    }
}

/// Forwards what a watch says, until it is stopped; a failed watch is begun again.
async fn forward<K, F>(api: Api<K>, changes: mpsc::Sender<Change>, stop: CancellationToken, of: F)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
    F: Fn(Result<Event<K>, watcher::Error>) -> Option<Change>,
{
    let kind = K::plural(&K::DynamicType::default()).into_owned();
    let config = watcher::Config::default().any_semantic();
    let mut events = std::pin::pin!(watcher(api, config).backoff(Pause::default()));
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        if let Err(error) = &event {
            warn!(kind, %error, "a watch failed; it is begun again");
        }
        let Some(change) = of(event) else { continue };
        if stop
            .run_until_cancelled(changes.send(change))
            .await
            .is_none_or(|sent| sent.is_err())
        {
            return;
        }
    }
}

fn ingestor(
    event: Result<Event<Ingestor>, watcher::Error>,
    journal: &dyn Journal,
) -> Option<Change> {
    Some(match event.ok()? {
        Event::Init => Change::IngestorsInit,
        Event::InitApply(ingestor) | Event::Apply(ingestor) => {
            Change::Ingestor(Box::new(stripped(ingestor)))
        }
        Event::InitDone => Change::IngestorsDone {
            known: journal
                .tallies()
                .into_iter()
                .map(|(uid, _)| uid)
                .filter(|uid| journal.spec_in_force(uid).is_some())
                .collect(),
        },
        Event::Delete(ingestor) => Change::IngestorGone(IngestorUid(ingestor.metadata.uid?.into())),
    })
}

/// Without what the gateway has no use for: with many Ingestors it is most of their memory.
fn stripped(mut ingestor: Ingestor) -> Ingestor {
    ingestor.metadata.managed_fields = None;
    ingestor.metadata.annotations = None;
    ingestor.status = None;
    ingestor
}

fn namespace(event: Result<Event<Namespace>, watcher::Error>) -> Option<Change> {
    Some(match event.ok()? {
        Event::Init => return None,
        Event::InitApply(namespace) | Event::Apply(namespace) => Change::Namespace {
            name: namespace.metadata.name?,
            uid: namespace.metadata.uid?,
        },
        Event::InitDone => Change::NamespacesDone,
        Event::Delete(namespace) => Change::NamespaceGone(namespace.metadata.name?),
    })
}

fn secret(namespace: &str, event: Result<Event<Secret>, watcher::Error>) -> Option<Change> {
    let change = match event {
        Ok(Event::Init) => SecretChange::ListBegins,
        Ok(Event::InitApply(secret)) => SecretChange::Listed(Box::new(secret)),
        Ok(Event::InitDone) => SecretChange::ListEnds,
        Ok(Event::Apply(secret)) => SecretChange::Changed(Box::new(secret)),
        Ok(Event::Delete(secret)) => SecretChange::Removed(Box::new(secret)),
        Err(error) if is_forbidden(&error) => SecretChange::Forbidden,
        Err(_) => return None,
    };
    Some(Change::Secrets {
        namespace: namespace.to_owned(),
        change,
    })
}

fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 403,
        watcher::Error::WatchError(status) => status.code == 403,
        _ => false,
    }
}

/// 50 ms, doubled up to a second, from the start again after a success.
#[derive(Clone, Copy, Debug)]
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {
        *self = Self::default();
    }
}
