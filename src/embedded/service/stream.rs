//! A watch as a stream of lines.
//!
//! A watch has no buffer of its own: it reads the store's history at its own pace, as far as it is
//! durable. One that is so slow that the history has moved on is told 410 and closed, so that a
//! slow client costs nothing but its connection.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, watch::Receiver},
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Api, render};
use crate::embedded::{
    refusal::Refusal,
    store::{Seen, Watch, What},
    wire::{As, WatchAsk},
};

/// Changes that go into one chunk: bounds the memory of a chunk and the time that the store is
/// held for it.
const BATCH: usize = 128;

/// How often a watch without changes is told the version: as the API server does.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);

/// How long a watch lasts that doesn't say: `--min-request-timeout` of the API server.
const DEFAULT_TIMEOUT: u64 = 1800;

/// The longest that a watch may ask for: a day, so that sums of times stay in range.
const MAX_TIMEOUT: u64 = 86_400;

/// How long before its end a watch gets its last bookmark, from which the next one goes on.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// Where a watch begins.
pub(super) enum Begin {
    /// With the changes after a version.
    After(u64),
    /// With what was there at a version.
    Present(Vec<Bytes>, u64),
    /// Not at all: a watch says so in itself.
    Refused(Refusal),
}

/// The lines of a watch.
pub(super) fn events(
    api: Arc<Api>,
    watch: Watch,
    begin: Begin,
    ask: &WatchAsk,
    (shown, permit): (As, OwnedSemaphorePermit),
) -> impl Stream<Item = Bytes> + Send + use<> {
    let (initial, bookmarks) = (ask.initial, ask.bookmarks);
    let mut timers = Timers::new(ask.timeout);
    async_stream::stream! {
        let _permit = permit;
        let mut lines = Lines { watch, shown, first: true, now: api.clock.now() };
        let mut bell = api.bell(&lines.watch.kind().shelf);
        let mut cursor = match begin {
            Begin::After(version) => version,
            Begin::Refused(refusal) => {
                yield error(&refusal);
                return;
            }
            Begin::Present(objects, version) => {
                // What was read is shown when a crash can't take it back.
                if api.wait_durable(version).await.is_err() {
                    return;
                }
                for chunk in objects.chunks(BATCH) {
                    yield lines.present(chunk);
                }
                if initial {
                    yield lines.bookmark(version, true);
                }
                version
            }
        };
        // Whether the version is to be told once all changes are.
        let mut tell = false;
        loop {
            bell.mark_unchanged();
            lines.now = api.clock.now();
            match next(&api, &lines.watch, cursor) {
                Ok(Next { seen, upto, current }) => {
                    cursor = upto;
                    if !seen.is_empty() {
                        yield lines.changes(&seen);
                    }
                    if seen.len() >= BATCH {
                        continue;
                    }
                    if !current {
                        return;
                    }
                }
                Err(refusal) => {
                    yield error(&refusal);
                    return;
                }
            }
            if std::mem::take(&mut tell) && bookmarks {
                yield lines.bookmark(cursor, false);
            }
            match timers.wait(&mut bell, &api.stop).await {
                Woken::Changed => {}
                Woken::Tick => tell = true,
                Woken::Over => return,
            }
        }
    }
}

/// When a watch does something without a change.
struct Timers {
    end: Pin<Box<Sleep>>,
    /// Absent when the last bookmark is told, or there is no time for one.
    last: Option<Pin<Box<Sleep>>>,
    tick: Pin<Box<Sleep>>,
}

enum Woken {
    Changed,
    Tick,
    Over,
}

impl Timers {
    fn new(timeout: Option<u64>) -> Self {
        let lasts = Duration::from_secs(timeout.unwrap_or(DEFAULT_TIMEOUT).clamp(1, MAX_TIMEOUT));
        let before = lasts
            .checked_sub(LAST_BOOKMARK)
            .filter(|before| !before.is_zero());
        Self {
            end: Box::pin(sleep(lasts)),
            last: before.map(|before| Box::pin(sleep(before))),
            tick: Box::pin(sleep(BOOKMARK_EVERY)),
        }
    }

    async fn wait(&mut self, bell: &mut Receiver<u64>, stop: &CancellationToken) -> Woken {
        let last = async {
            match &mut self.last {
                Some(last) => last.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Woken::Over,
            () = &mut self.end => Woken::Over,
            rung = bell.changed() => if rung.is_ok() { Woken::Changed } else { Woken::Over },
            () = last => {
                self.last = None;
                Woken::Tick
            }
            () = &mut self.tick => {
                self.tick = Box::pin(sleep(BOOKMARK_EVERY));
                Woken::Tick
            }
        }
    }
}

struct Next {
    seen: Vec<Seen>,
    upto: u64,
    /// Whether the kind is still what it was when the watch began.
    current: bool,
}

fn next(api: &Api, watch: &Watch, cursor: u64) -> Result<Next, Refusal> {
    let durable = api.durable.load(Ordering::Acquire);
    let store = api.store();
    let current = store.is_current(watch);
    let (seen, upto) = store.changes(watch, cursor, durable, BATCH)?;
    Ok(Next {
        seen,
        upto,
        current,
    })
}

fn error(refusal: &Refusal) -> Bytes {
    format!("{}\n", json!({"type": "ERROR", "object": refusal.status()})).into()
}

struct Lines {
    watch: Watch,
    shown: As,
    /// Whether the next table is the first, which names the columns.
    first: bool,
    now: crate::journal::Millis,
}

impl Lines {
    fn present(&mut self, objects: &[Bytes]) -> Bytes {
        let seen: Vec<Seen> = objects
            .iter()
            .map(|object| Seen {
                what: What::Added,
                object: object.clone(),
            })
            .collect();
        self.changes(&seen)
    }

    fn changes(&mut self, seen: &[Seen]) -> Bytes {
        let mut chunk = Vec::with_capacity(seen.iter().map(|one| one.object.len() + 40).sum());
        for one in seen {
            let object = render::watched(
                self.watch.kind(),
                &one.object,
                self.shown,
                self.first,
                self.now,
            );
            self.first = false;
            chunk.extend_from_slice(b"{\"type\":\"");
            chunk.extend_from_slice(one.what.name().as_bytes());
            chunk.extend_from_slice(b"\",\"object\":");
            chunk.extend_from_slice(&object);
            chunk.extend_from_slice(b"}\n");
        }
        chunk.into()
    }

    fn bookmark(&mut self, version: u64, initial_end: bool) -> Bytes {
        let kind = self.watch.kind();
        let mut metadata =
            json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if initial_end && let Some(metadata) = metadata.as_object_mut() {
            metadata.insert(
                "annotations".to_owned(),
                json!({"k8s.io/initial-events-end": "true"}),
            );
        }
        let object = match self.shown {
            As::Object | As::Yaml => {
                json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata})
            }
            As::Metadata => json!({"kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            As::Table(_) => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": version.to_string()}, "columnDefinitions": null,
                "rows": [{"cells": [], "object": {"kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1", "metadata": metadata}}]}),
        };
        format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into()
    }
}
