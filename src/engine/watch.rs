//! Watches Ingestors and namespaces.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        utils::Backoff as _,
        watcher::{self, watcher},
    },
};
use tracing::{info, warn};

use crate::{api::Ingestor, journal::IngestorUid, kube::waits::Waits, ops::ready::Gate};

use super::shared::Shared;

/// Keeps [`Shared::ingestors`] up to date; opens the gate when the first list is complete.
pub(super) async fn ingestors(shared: Arc<Shared>, client: Client, gate: Gate) {
    gate.shut("waiting for the list of Ingestors");
    let api: Api<DeserializeGuard<Ingestor>> = Api::all(client);
    let strip = |object: &mut DeserializeGuard<Ingestor>| object.managed_fields_mut().clear();
    let stream = watcher(api, watcher::Config::default()).modify(strip);
    let mut stream = std::pin::pin!(stream.backoff(Waits::default()));
    while let Some(event) = until_stopped(&shared, stream.next()).await {
        match event {
            Ok(event) => {
                let first = !shared.ingestors.is_complete();
                for uid in shared.ingestors.apply(event) {
                    gone(&shared, &uid);
                }
                if first && shared.ingestors.is_complete() {
                    gate.open();
                }
            }
            Err(error) => warn!(%error, "watch of Ingestors failed; it is tried again"),
        }
    }
}

/// Keeps [`Shared::namespaces`] up to date. Without it every write asks for its namespace: so after a
/// failure nothing that was known is trusted, and all are listed anew.
pub(super) async fn namespaces(shared: Arc<Shared>, client: Client) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let mut waits = Waits::default();
    loop {
        let mut stream = std::pin::pin!(watcher(api.clone(), watcher::Config::default()));
        let error = loop {
            match until_stopped(&shared, stream.next()).await {
                Some(Ok(event)) => {
                    waits.reset();
                    shared.namespaces.apply(event);
                }
                Some(Err(error)) => break error,
                None => return,
            }
        };
        shared.namespaces.forget();
        warn!(%error, "watch of namespaces failed; they are listed anew");
        let wait = waits.next().unwrap_or_default();
        if until_stopped(&shared, tokio::time::sleep(wait).map(Some))
            .await
            .is_none()
        {
            return;
        }
    }
}

async fn until_stopped<T>(shared: &Shared, next: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::select! {
        () = shared.stop.cancelled() => None,
        next = next => next,
    }
}

/// Lets go of what is remembered of an Ingestor that is gone, unless a queue still finishes its
/// backlog and does so at its end. That the journal forgets it is the gateway's affair, which put its
/// spec there: the records keep the specs that they name.
fn gone(shared: &Shared, uid: &IngestorUid) {
    info!(ingestor = %uid, "ingestor is gone; its backlog is finished");
    if !shared.slots.runs(uid) {
        shared.accounts.close(uid);
    }
}
