//! The fleet's `ShardMap`, as a process that only looks at it sees it.

mod follower;

use std::sync::Arc;

use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::{WatchStreamExt as _, watcher},
};
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::watch;
use tracing::warn;

use self::follower::{Follower, Heard, Refused};
use crate::{
    api::ShardMap,
    config,
    coordination::{
        port::{Object, Record, Stored},
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

/// The newest map that the watch has shown, of those that are followed.
pub(super) type Newest = watch::Receiver<Option<Arc<ShardMapSpec>>>;

/// Watches the map of `fleet`. What can't be followed is passed over, and counted in `registry`:
/// mending it is the leader's affair.
///
/// # Errors
/// Its counters are registered already.
pub(super) fn follow(
    client: Client,
    fleet: &config::Fleet,
    registry: &Registry,
    tasks: &Tasks,
) -> prometheus::Result<Newest> {
    let refused = refusals(registry)?;
    let (sender, newest) = watch::channel(None);
    // As any object: one that can't be read would else end the watch, again and again.
    let kind = ApiResource::erase::<ShardMap>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client, &fleet.namespace, &kind);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", fleet.name));
    let stop = tasks.token();
    tasks.spawn("shard map", async move {
        let shown = watcher(api, config)
            .backoff(Waits::default())
            .applied_objects();
        let mut shown = std::pin::pin!(shown);
        let mut follower = Follower::default();
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
                Some(Ok(map)) => match hear(&mut follower, &map) {
                    Heard::Newer(map) => drop(sender.send_replace(Some(map))),
                    Heard::Same => {}
                    Heard::Refused {
                        why,
                        message,
                        first,
                    } => {
                        refused.with_label_values(&[why.label()]).inc();
                        if first {
                            warn!(
                                reason = why.label(), %message,
                                "a ShardMap is not followed; not logged again until one is"
                            );
                        }
                    }
                },
            }
        }
    });
    Ok(newest)
}

fn hear(follower: &mut Follower, map: &DynamicObject) -> Heard {
    let stored = match serde_json::to_value(map) {
        Ok(value) => wire::decode(&Object::Map, &value),
        Err(error) => Stored {
            record: Record::Malformed(error.to_string().into()),
            resource_version: "".into(),
            uid: "".into(),
        },
    };
    follower.hear(stored)
}

fn refusals(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let refused = IntCounterVec::new(
        Opts::new(
            "shard_map_refused_total",
            "ShardMaps that were shown and are not followed, by reason",
        ),
        &["reason"],
    )?;
    registry.register(Box::new(refused.clone()))?;
    for why in Refused::ALL {
        // There from the beginning on, at 0.
        refused.with_label_values(&[why.label()]);
    }
    Ok(refused)
}

#[cfg(test)]
mod tests;
