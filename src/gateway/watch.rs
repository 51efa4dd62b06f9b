//! Watches: Ingestors, namespaces and Secrets, as inputs of the catalog.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use secrecy::SecretSlice;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    catalog::{Found, Input, Listing, Name, Unreadable},
    secrets::{SecretRead, WatchKey},
};
use crate::{
    api::Ingestor,
    journal::{IngestorUid, Journal},
    kube::waits::Waits,
};

/// Inputs on their way to the catalog. A list of Ingestors is one; when the catalog is busy the
/// watches wait, and with them the API server.
pub(super) type Inputs = mpsc::Sender<Input>;

/// After a refusal: a role may be granted at any time, the Secret is then to be live as a changed one
/// is, and asking once a second costs the API server little.
const REFUSED: Duration = Duration::from_secs(1);

/// From being told to list Secrets anew until that is done: many Ingestors that are made at once cost
/// one list, and a list takes what ten a second cost at most.
const GATHER: Duration = Duration::from_millis(100);

/// A list of Kubernetes as it comes in: collected until it is whole.
enum Change<K> {
    Listed(Vec<K>),
    Applied(K),
    Deleted(K),
}

fn changes<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Result<Change<K>, watcher::Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    let mut listing = Vec::new();
    watcher(api, config)
        .backoff(Waits::default())
        .filter_map(move |event| {
            let change = match event {
                Err(error) => Some(Err(error)),
                Ok(Event::Init) => {
                    listing = Vec::new();
                    None
                }
                Ok(Event::InitApply(object)) => {
                    listing.push(object);
                    None
                }
                Ok(Event::InitDone) => Some(Ok(Change::Listed(std::mem::take(&mut listing)))),
                Ok(Event::Apply(object)) => Some(Ok(Change::Applied(object))),
                Ok(Event::Delete(object)) => Some(Ok(Change::Deleted(object))),
            };
            std::future::ready(change)
        })
}

/// Sends what `inputs` makes of each change until the catalog or the process ends.
async fn forward<K, F>(
    what: &'static str,
    changes: impl Stream<Item = Result<Change<K>, watcher::Error>> + Send,
    sender: Inputs,
    stop: CancellationToken,
    mut input: F,
) where
    F: FnMut(Change<K>) -> Option<Input> + Send,
    K: Send,
{
    pin_mut!(changes);
    while let Some(Some(change)) = stop.run_until_cancelled(changes.next()).await {
        let input = match change {
            Ok(change) => input(change),
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "watch of {what} interrupted"
                );
                None
            }
        };
        if let Some(input) = input
            && sender.send(input).await.is_err()
        {
            return;
        }
    }
}

/// Watches Ingestors of one namespace, or of all.
pub(super) async fn ingestors(
    client: Client,
    namespace: Option<String>,
    journal: Arc<dyn Journal>,
    sender: Inputs,
    stop: CancellationToken,
) {
    let api: Api<DeserializeGuard<Ingestor>> = match &namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let read = move |object: DeserializeGuard<Ingestor>| match object.0 {
        Ok(ingestor) => {
            let uid = IngestorUid(ingestor.metadata.uid.clone().unwrap_or_default().into());
            let in_force = journal.spec_in_force(&uid);
            Ok(Found { ingestor, in_force })
        }
        Err(invalid) => {
            let name = name(&invalid.metadata);
            warn!(namespace = name.0, name = name.1, error = %invalid.error, "Ingestor can't be read; what is served of it stays as it is");
            let uid = IngestorUid(invalid.metadata.uid.unwrap_or_default().into());
            Err(Unreadable { name, uid })
        }
    };
    let input = move |change| {
        Some(match change {
            Change::Listed(all) => {
                let mut listing = Listing::default();
                for object in all {
                    match read(object) {
                        Ok(found) => listing.found.push(found),
                        Err(unreadable) => listing.unreadable.push(unreadable),
                    }
                }
                match &namespace {
                    None => Input::IngestorsListed(listing),
                    Some(namespace) => Input::IngestorsListedIn(namespace.clone(), listing),
                }
            }
            Change::Applied(object) => match read(object) {
                Ok(found) => Input::IngestorApplied(found),
                Err(unreadable) => Input::IngestorUnreadable(unreadable),
            },
            Change::Deleted(object) => Input::IngestorDeleted(name(object.meta())),
        })
    };
    let changes = changes(api, watcher::Config::default());
    Box::pin(forward("Ingestors", changes, sender, stop, input)).await;
}

/// Watches names and UIDs of namespaces.
pub(super) async fn namespaces(client: Client, sender: Inputs, stop: CancellationToken) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let input = |change: Change<PartialObjectMeta<Namespace>>| {
        let entry = |object: &PartialObjectMeta<Namespace>| {
            (object.name_any(), object.uid().unwrap_or_default())
        };
        Some(match change {
            Change::Listed(all) => Input::NamespacesListed(all.iter().map(entry).collect()),
            Change::Applied(object) => {
                let (name, uid) = entry(&object);
                Input::NamespaceApplied(name, uid)
            }
            Change::Deleted(object) => Input::NamespaceDeleted(object.name_any()),
        })
    };
    let changes = changes(api, watcher::Config::default());
    forward("namespaces", changes, sender, stop, input).await;
}

/// Watches one Secret, or those of a namespace, and lists anew when it is told to.
pub(super) async fn secrets(
    client: Client,
    key: WatchKey,
    sender: Inputs,
    stop: CancellationToken,
    again: Arc<Notify>,
) {
    let api: Api<Secret> = Api::namespaced(client, &key.namespace);
    let mut config = watcher::Config::default();
    if let Some(secret) = &key.name {
        config = config.fields(&format!("metadata.name={secret}"));
    }
    let watching = async {
        loop {
            let listing = follow_secrets(&api, &config, &key, &sender, &again).await;
            if listing.is_err() {
                return;
            }
            tokio::time::sleep(GATHER).await;
        }
    };
    // Stopped also while it sends: what this watch has read must not come after what its successor
    // reads.
    Box::pin(stop.run_until_cancelled(watching)).await;
}

/// Sends what one watch sees until it is told to list anew; an error when nobody listens any more.
async fn follow_secrets(
    api: &Api<Secret>,
    config: &watcher::Config,
    key: &WatchKey,
    sender: &Inputs,
    again: &Notify,
) -> Result<(), mpsc::error::SendError<Input>> {
    let changes = changes(api.clone(), config.clone());
    pin_mut!(changes);
    let mut listed = false;
    loop {
        let change = tokio::select! {
            biased;
            // A list that is under way is finished first, else a stream of new Ingestors would keep
            // every list from its end.
            () = again.notified(), if listed => return Ok(()),
            change = changes.next() => change,
        };
        match change {
            None => return Ok(()),
            Some(Ok(change)) => {
                if let Change::Listed(_) = &change {
                    listed = true;
                }
                sender.send(secret_input(key, change)).await?;
            }
            Some(Err(error)) if refused(&error) => {
                sender.send(Input::SecretsForbidden(key.clone())).await?;
                tokio::time::sleep(REFUSED).await;
            }
            Some(Err(error)) => {
                warn!(
                    namespace = key.namespace,
                    error = &error as &dyn std::error::Error,
                    "watch of Secrets interrupted"
                );
            }
        }
    }
}

fn secret_input(key: &WatchKey, change: Change<Secret>) -> Input {
    match (change, &key.name) {
        (Change::Listed(all), None) => {
            let read = all
                .into_iter()
                .map(|secret| (secret.name_any(), values(secret)));
            Input::SecretsListed(key.namespace.clone(), read.collect())
        }
        (Change::Listed(all), Some(name)) => {
            let ours = all.into_iter().find(|secret| secret.name_any() == *name);
            let read = ours.map_or(SecretRead::Missing, values);
            Input::Secret((key.namespace.clone(), name.clone()), read)
        }
        (Change::Applied(secret), _) => {
            let name = secret.name_any();
            Input::Secret((key.namespace.clone(), name), values(secret))
        }
        (Change::Deleted(secret), _) => Input::Secret(
            (key.namespace.clone(), secret.name_any()),
            SecretRead::Missing,
        ),
    }
}

/// The values of a Secret, moved to where they are wiped when they go.
fn values(secret: Secret) -> SecretRead {
    let data = secret.data.unwrap_or_default();
    let values: BTreeMap<_, _> = data
        .into_iter()
        .map(|(key, value)| (key, Arc::new(SecretSlice::from(value.0))))
        .collect();
    SecretRead::Values(values)
}

fn refused(error: &watcher::Error) -> bool {
    let api = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => api(error),
        watcher::Error::WatchError(status) => status.code == 403,
        watcher::Error::NoResourceVersion => false,
    }
}

fn name(meta: &kube::core::ObjectMeta) -> Name {
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests;
