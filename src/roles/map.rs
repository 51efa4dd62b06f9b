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
    ops::tasks::Tasks,
};

/// The newest map that the watch has shown.
pub(super) type Newest = watch::Receiver<Option<Arc<ShardMapSpec>>>;

/// Watches the map of `fleet`. What can't be read is passed over: mending it is the leader's affair.
pub(super) fn follow(client: Client, fleet: &config::Fleet, tasks: &Tasks) -> Newest {
    let (sender, newest) = watch::channel(None);
    let api: Api<ShardMap> = Api::namespaced(client, &fleet.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", fleet.name));
    let stop = tasks.token();
    tasks.spawn("shard map", async move {
        let shown = watcher(api, config).default_backoff().applied_objects();
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
