//! Watches Ingestors and namespaces, and tells the journal which Ingestors are gone.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{WatchStreamExt as _, watcher},
};
use tracing::{info, warn};

use crate::{api::Ingestor, journal::IngestorUid, kube::failure::Verb, ops::ready::Gate};

use super::{shared::Shared, verdict};

/// Keeps [`Shared::ingestors`] up to date; opens the gate when the first list is complete.
pub(super) async fn ingestors(shared: Arc<Shared>, client: Client, gate: Gate) {
    gate.shut("waiting for the list of Ingestors");
    let api: Api<DeserializeGuard<Ingestor>> = Api::all(client);
    let strip = |object: &mut DeserializeGuard<Ingestor>| object.managed_fields_mut().clear();
    let stream = watcher(api, watcher::Config::default()).modify(strip);
    let mut stream = std::pin::pin!(stream.default_backoff());
    let mut gone = Vec::new();
    while let Some(event) = until_stopped(&shared, stream.next()).await {
        match event {
            Ok(event) => {
                let first = !shared.ingestors.is_complete();
                gone.extend(shared.ingestors.apply(event));
                if first && shared.ingestors.is_complete() {
                    gate.open();
                    gone.extend(left_behind(&shared).await);
                }
            }
            Err(error) => warn!(%error, "watch of Ingestors failed; it is tried again"),
        }
        // What the journal can't take now is tried again with the next event.
        gone = forget(&shared, gone).await;
    }
}

/// Keeps [`Shared::namespaces`] up to date. Without it every fetch asks for its namespace.
pub(super) async fn namespaces(shared: Arc<Shared>, client: Client) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let stream = watcher(api, watcher::Config::default());
    let mut stream = std::pin::pin!(stream.default_backoff());
    while let Some(event) = until_stopped(&shared, stream.next()).await {
        match event {
            Ok(event) => shared.namespaces.apply(event),
            Err(error) => warn!(%error, "watch of namespaces failed; it is tried again"),
        }
    }
}

async fn until_stopped<T>(shared: &Shared, next: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::select! {
        () = shared.stop.cancelled() => None,
        next = next => next,
    }
}

/// Ingestors that the journal still keeps a spec for, and that went while nobody watched. Each is
/// asked for: the journal may know one that is newer than our list.
async fn left_behind(shared: &Shared) -> Vec<IngestorUid> {
    let mut gone = Vec::new();
    for (uid, _) in shared.journal.tallies() {
        if shared.ingestors.get(&uid).is_none() && is_gone(shared, &uid).await {
            gone.push(uid);
        }
    }
    gone
}

async fn is_gone(shared: &Shared, uid: &IngestorUid) -> bool {
    let Some(text) = shared.journal.spec_in_force(uid) else {
        return false;
    };
    let digest = text.digest;
    let Ok(Some(decider)) = shared.specs.get(digest, || Some(text.text)) else {
        return false;
    };
    let identity = &decider.compiled.spec().ingestor;
    let writer = &shared.writer;
    let read = writer
        .observations()
        .ingestor(&identity.namespace, &identity.name);
    match writer.call(Verb::Get, read).await {
        Ok(ingestor) => ingestor.uid().as_deref() != Some(&*uid.0),
        Err(failure) => verdict::verdict(&failure) == verdict::Verdict::BeginAnew,
    }
}

/// Tells the journal; gives those that it could not take now.
async fn forget(shared: &Shared, gone: Vec<IngestorUid>) -> Vec<IngestorUid> {
    let mut left = Vec::new();
    for uid in gone {
        match shared.journal.forget(&uid).await {
            Ok(()) => {
                info!(ingestor = %uid, "ingestor is gone; its backlog is finished");
                if !shared.slots.runs(&uid) {
                    shared.accounts.close(&uid);
                }
            }
            Err(error) => {
                warn!(ingestor = %uid, %error, "the journal can't forget an Ingestor now");
                left.push(uid);
                // The disk that refused needs a moment, and the watch's events keep.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    left
}
