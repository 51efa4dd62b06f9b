//! Fills a history from the API server's watches, from the first list on, through outages.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use http::{Method, Request};
use kube::{Client, core::WatchEvent};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use zen_fabric::{coordination::wire::Place, ops::tasks::Tasks};

use super::{History, Told, What, read};
use crate::{
    api::{INGESTORS, Kind, LEASES, OBSERVATIONS, Objects, SHARDMAPS, name_of},
    clock::At,
};

/// After an error: short beside what is measured, and no load on a server that is away.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A history that several watches fill.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<History>>);

// === impl Shared ===

impl Shared {
    /// Looks at it, or adds to it.
    pub fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches everything that a fleet writes: its Leases and its map in `system`, Ingestors and
/// Observations in `load`.
pub fn everything(client: &Client, system: &Place, load: &str, history: &Shared, tasks: &Tasks) {
    for (kind, namespace) in [
        (LEASES, &*system.namespace),
        (SHARDMAPS, &*system.namespace),
        (INGESTORS, load),
        (OBSERVATIONS, load),
    ] {
        let watch = Watch {
            objects: Objects::new(client.clone(), namespace),
            kind,
            place: system.clone(),
            history: history.clone(),
            known: BTreeMap::new(),
        };
        let stop = tasks.token();
        tasks.spawn("watch", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watch.run(stop.clone()) => {}
            }
        });
    }
}

struct Watch {
    objects: Objects,
    kind: Kind,
    place: Place,
    history: Shared,
    /// By name, at which version: so that a list after a gap tells only what is new.
    known: BTreeMap<String, (u64, Value)>,
}

/// Why a watch ended.
enum Ended {
    /// It can go on where it was.
    Broken,
    /// What comes next is no longer there to be told.
    TooOld,
}

// === impl Watch ===

impl Watch {
    async fn run(mut self, stop: CancellationToken) {
        let mut version = None;
        let mut begun = false;
        while !stop.is_cancelled() {
            if version.is_none() {
                version = self.list(begun).await;
            }
            if let Some(mut at) = version.take() {
                begun = true;
                let ended = self.follow(&mut at).await;
                version = matches!(ended, Ended::Broken).then_some(at);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Lists everything, page by page; the version from which to watch.
    async fn list(&mut self, gap: bool) -> Option<String> {
        let path = self.objects.path(self.kind);
        let mut query = "?limit=500".to_owned();
        let mut present = BTreeMap::new();
        let version = loop {
            let answer = self
                .objects
                .send(Method::GET, &format!("{path}{query}"), None)
                .await;
            let page = answer.done("list").ok()?;
            for item in page
                .get("items")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                present.insert(name_of(item).to_owned(), item.clone());
            }
            let meta = |field: &str| page.pointer(field).and_then(Value::as_str);
            match meta("/metadata/continue").filter(|next| !next.is_empty()) {
                Some(next) => query = format!("?limit=500&continue={next}"),
                None => break meta("/metadata/resourceVersion")?.to_owned(),
            }
        };
        if gap {
            let told = (self.kind.1.to_owned(), At::now());
            self.history.lock().gaps.push(told);
        }
        let gone: Vec<Value> = self
            .known
            .iter()
            .filter(|(name, _)| !present.contains_key(*name))
            .map(|(_, (_, object))| object.clone())
            .collect();
        for object in &gone {
            self.told(object, true, version.parse().ok());
        }
        for object in present.values() {
            let known = self.known.get(name_of(object));
            if known.is_none_or(|(known, _)| *known != read::version(object)) {
                self.told(object, false, None);
            }
        }
        Some(version)
    }

    async fn follow(&mut self, version: &mut String) -> Ended {
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&resourceVersion={version}",
            self.objects.path(self.kind)
        );
        let Ok(request) = Request::get(path).body(Vec::new()) else {
            return Ended::TooOld;
        };
        let mut events = match self.objects.client().request_events::<Value>(request).await {
            Ok(events) => events.boxed(),
            Err(kube::Error::Api(status)) if status.code == 410 => return Ended::TooOld,
            Err(_) => return Ended::Broken,
        };
        while let Some(event) = events.next().await {
            let (object, gone) = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, false),
                Ok(WatchEvent::Deleted(object)) => (object, true),
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    *version = bookmark.metadata.resource_version;
                    continue;
                }
                Ok(WatchEvent::Error(status)) if status.code == 410 => return Ended::TooOld,
                Ok(WatchEvent::Error(_)) | Err(_) => return Ended::Broken,
            };
            if let Some(now) = object
                .pointer("/metadata/resourceVersion")
                .and_then(Value::as_str)
            {
                now.clone_into(version);
            }
            self.told(&object, gone, None);
        }
        Ended::Broken
    }

    /// Notes a change; `version` where the object itself has an older one.
    fn told(&mut self, object: &Value, gone: bool, version: Option<u64>) {
        let now = At::now();
        let version = version.unwrap_or_else(|| read::version(object));
        if self.kind == OBSERVATIONS {
            // Those of a run are many, and what became of each is asked at its end.
            if !gone {
                let (name, made) = read::observation(object, now);
                self.history.lock().observe(name, made);
            }
            return;
        }
        if gone {
            self.known.remove(name_of(object));
        } else {
            let known = (read::version(object), object.clone());
            self.known.insert(name_of(object).to_owned(), known);
        }
        let what: Option<What> = match self.kind {
            LEASES => read::lease(object, gone, &self.place),
            SHARDMAPS => Some(read::map(object, gone)),
            // A deleted Ingestor has no owner to be checked.
            _ if gone => None,
            _ => Some(read::ingestor(object)),
        };
        if let Some(what) = what {
            let told = Told {
                at: now,
                version,
                what,
            };
            self.history.lock().tell(told);
        }
    }
}
