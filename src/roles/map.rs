//! The fleet's `ShardMap`, as a process that only looks at it sees it.

use std::sync::Arc;

use futures::StreamExt as _;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    api::ShardMap,
    config,
    coordination::{
        port::{Object, Record},
        records::ShardMapSpec,
        wire,
    },
    journal::{
        self, Bucket,
        remote::view::{MapView, Named},
    },
    kube::waits::Waits,
    ops::tasks::Tasks,
};

/// What a gateway holds against cores that the fleet has replaced.
#[derive(Debug)]
pub(super) struct View {
    newest: Newest,
    version: watch::Receiver<u64>,
}

impl View {
    /// The view of what `newest` shows.
    pub(super) fn of(newest: Newest, tasks: &Tasks) -> Self {
        let (sender, version) = watch::channel(0);
        let mut shown = newest.clone();
        let stop = tasks.token();
        tasks.spawn("shard map versions", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = shown.changed() => if changed.is_err() {
                        return;
                    }
                }
                let seen = shown.borrow_and_update().as_ref().map(|map| map.version);
                sender.send_replace(seen.unwrap_or_default());
            }
        });
        Self { newest, version }
    }
}

impl MapView for View {
    fn bucket(&self, bucket: Bucket) -> Option<Named> {
        let newest = self.newest.borrow();
        let map = newest.as_ref()?;
        let grant = map.grants.get(&bucket)?;
        Some(Named {
            version: map.version,
            holder: journal::Holder::from(&grant.owner),
            epoch: grant.epoch,
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }
}

/// The newest map that the watch has shown.
pub(super) type Newest = watch::Receiver<Option<Arc<ShardMapSpec>>>;

/// Watches the map of `fleet`. What can't be read is passed over: mending it is the leader's affair.
pub(super) fn follow(client: Client, fleet: &config::Fleet, tasks: &Tasks) -> Newest {
    let (sender, newest) = watch::channel(None);
    let api: Api<ShardMap> = Api::namespaced(client, &fleet.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", fleet.name));
    let stop = tasks.token();
    tasks.spawn("shard map", async move {
        let shown = watcher(api, config)
            .backoff(Waits::default())
            .applied_objects();
        let mut shown = std::pin::pin!(shown);
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = shown.next() => next,
            };
            match next {
                None => return,
                Some(Err(error)) => {
                    warn!(%error, "watch of the ShardMap failed; it is tried again");
                }
                Some(Ok(map)) => {
                    let Ok(value) = serde_json::to_value(&map) else {
                        continue;
                    };
                    if let Record::Map(map) = wire::decode(&Object::Map, &value).record {
                        sender.send_replace(Some(map));
                    }
                }
            }
        }
    });
    newest
}
