//! Events go when nobody has touched them for an hour, as from a real server (`--event-ttl`): else
//! a server that runs for weeks would fill with them.

use std::{collections::VecDeque, time::Duration};

use super::{At, Store, decode};
use crate::{embedded::meta, journal::Millis};

/// `--event-ttl` of the API server.
const TTL: Duration = Duration::from_hours(1);

/// How many writes of events are remembered. Some hundred thousand an hour are far more than
/// anything here makes; when it is full, the oldest event goes early.
const MAX_WRITES: usize = 100_000;

pub(super) const EVENTS: &str = "events";

/// The writes of events, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Expiry(VecDeque<(Millis, Box<str>, u64)>);

impl Store {
    /// Remembers that an event was written, and removes those whose time is over.
    pub(super) fn event_written(&mut self, at: &At, key: &str) {
        let revision = self.revision;
        self.expiry.0.push_back((at.now, key.into(), revision));
        self.expire_events(at);
    }

    /// Events that were there before count from now.
    pub(super) fn restore_events(&mut self, at: &At) {
        let found: Vec<(Box<str>, u64)> = self
            .shelves
            .get(EVENTS)
            .into_iter()
            .flat_map(|shelf| shelf.range("", ""))
            .map(|(key, stored)| (key.into(), version(&decode(&stored.bytes))))
            .collect();
        self.expiry.0.extend(
            found
                .into_iter()
                .map(|(key, version)| (at.now, key, version)),
        );
    }

    fn expire_events(&mut self, at: &At) {
        let ttl = i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX);
        let oldest = at.now.0.saturating_sub(ttl);
        while let Some((written, _, _)) = self.expiry.0.front() {
            if written.0 > oldest && self.expiry.0.len() <= MAX_WRITES {
                return;
            }
            let Some((_, key, revision)) = self.expiry.0.pop_front() else {
                return;
            };
            self.expire(&key, revision);
        }
    }

    /// Removes an event that is still as it was written at `revision`.
    fn expire(&mut self, key: &str, revision: u64) {
        let Some(kind) = self.registry.get("", "v1", EVENTS).cloned() else {
            return;
        };
        let Some(object) = self.stored(&kind, key).map(|stored| decode(&stored.bytes)) else {
            return;
        };
        if version(&object) == revision {
            self.remove(&kind, key, object);
        }
    }
}

fn version(object: &serde_json::Value) -> u64 {
    meta::text(object, "resourceVersion")
        .parse()
        .unwrap_or_default()
}
