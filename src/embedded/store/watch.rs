//! Changes as a watch shows them.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::{
    List, Part, Seen, Store, Target, What, decode, encode,
    shelf::{Event, Stored},
    shown, viewed,
};
use crate::embedded::{kind::Kind, meta, refusal::Refusal, selector::Selector};

/// What one watch is concerned with.
#[derive(Clone, Debug)]
pub struct Watch {
    kind: Arc<Kind>,
    target: Target,
    prefix: String,
    selector: Selector,
}

// === impl Watch ===

impl Watch {
    /// The kind that is watched.
    #[must_use]
    pub fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }

    /// What a change means to this watch.
    fn see(&self, event: &Event) -> Option<Seen> {
        if !event.key.starts_with(&self.prefix) {
            return None;
        }
        let matches = |stored: &Stored| {
            self.selector.is_empty() || self.selector.matches(&decode(&stored.bytes))
        };
        let before = event.before.as_ref().filter(|before| matches(before));
        let now = !event.gone && matches(&event.after);
        let (what, object) = match (before, now) {
            (None, true) => (What::Added, shown(&self.kind, &event.after)),
            (Some(_), true) => (What::Modified, shown(&self.kind, &event.after)),
            (Some(_), false) if event.gone => (What::Deleted, shown(&self.kind, &event.after)),
            // No longer selected: shown as it was, with the version at which it left.
            (Some(before), false) => (What::Deleted, self.left(before, event.revision)),
            (None, false) => return None,
        };
        Some(Seen { what, object })
    }

    fn left(&self, before: &Stored, revision: u64) -> Bytes {
        let mut object = viewed(&self.kind, before);
        meta::set(&mut object, "resourceVersion", json!(revision.to_string()));
        encode(&object)
    }
}

impl Store {
    /// Prepares a watch.
    ///
    /// # Errors
    /// 404 where the resource is not served, 400 where a selector can't be understood.
    pub fn watch(&self, target: &Target, labels: &str, fields: &str) -> Result<Watch, Refusal> {
        let kind = self.kind(target)?;
        if target.part != Part::Whole {
            return Err(Refusal::method_not_allowed());
        }
        let mut selector = Selector::parse(&kind, labels, fields)?;
        if let Some(name) = &target.name {
            selector = selector.and_name(name);
        }
        let prefix = target
            .namespace
            .as_ref()
            .map_or_else(String::new, |namespace| format!("{namespace}/"));
        Ok(Watch {
            kind,
            target: target.clone(),
            prefix,
            selector,
        })
    }

    /// Whether the kind is still what it was when the watch began; if not, the watch ends and its
    /// client begins anew.
    #[must_use]
    pub fn is_current(&self, watch: &Watch) -> bool {
        self.kind(&watch.target)
            .is_ok_and(|kind| kind.epoch == watch.kind.epoch)
    }

    /// The objects that are there already, as a watch that doesn't name a version begins with, and
    /// the version as of which they are.
    ///
    /// # Errors
    /// As a list of them.
    pub fn present(&self, watch: &Watch, list: &List) -> Result<(Vec<Bytes>, u64), Refusal> {
        let page = self.page(&watch.kind, &watch.target, list)?;
        let items = page
            .items
            .iter()
            .map(|(_, stored)| shown(&watch.kind, stored))
            .collect();
        Ok((items, page.version))
    }

    /// Changes after version `after` and up to `until`, at most `max` of them, and the version up
    /// to which all are given.
    ///
    /// # Errors
    /// 410 where changes after `after` are no longer known.
    pub fn changes(
        &self,
        watch: &Watch,
        after: u64,
        until: u64,
        max: usize,
    ) -> Result<(Vec<Seen>, u64), Refusal> {
        let until = until.min(self.revision);
        let Some(objects) = self.shelves.get(&watch.kind.shelf) else {
            return if after < self.opened {
                Err(Refusal::too_old(after, self.opened))
            } else {
                Ok((Vec::new(), until.max(after)))
            };
        };
        if after < objects.floor() {
            return Err(Refusal::too_old(after, objects.floor()));
        }
        let mut seen = Vec::new();
        for event in objects.since(after) {
            if event.revision > until {
                break;
            }
            if seen.len() >= max {
                return Ok((seen, event.revision.saturating_sub(1)));
            }
            seen.extend(watch.see(event));
        }
        Ok((seen, until.max(after)))
    }
}
