//! Lists, page by page, as of one version.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{
    Answer, AsOf, Body, List, Page, Store, Target,
    shelf::{Shelf, Stored},
    shown, storage_form,
};
use crate::embedded::{kind::Kind, refusal::Refusal, selector::Selector};

/// Where the next page begins, and as of which version.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    rv: u64,
    start: String,
}

// === impl Token ===

impl Token {
    fn parse(text: &str) -> Result<Self, Refusal> {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| {
                Refusal::bad_request("continue key is not valid: it was not made by this server")
            })
    }

    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl Store {
    pub(super) fn list(
        &self,
        kind: &Kind,
        target: &Target,
        list: &List,
    ) -> Result<Answer, Refusal> {
        let page = self.page(kind, target, list)?;
        let items = page
            .items
            .iter()
            .map(|(_, stored)| shown(kind, stored))
            .collect();
        Ok(Answer {
            code: 200,
            body: Body::List(Page {
                items,
                version: page.version,
                next: page.next,
                remaining: page.remaining,
            }),
            warnings: Vec::new(),
        })
    }

    /// The objects of one page with their keys.
    pub(super) fn page(
        &self,
        kind: &Kind,
        target: &Target,
        list: &List,
    ) -> Result<Found<'_>, Refusal> {
        let mut selector = Selector::parse(kind, &list.labels, &list.fields)?;
        if let Some(name) = &target.name {
            // A list of one: what a watch of a single object begins with.
            selector = selector.and_name(name);
        }
        let (version, start) = self.snapshot_of(list)?;
        let prefix = target
            .namespace
            .as_ref()
            .map_or_else(String::new, |namespace| format!("{namespace}/"));
        let Some(objects) = self.shelves.get(&kind.shelf) else {
            return Ok(Found {
                version,
                ..Found::default()
            });
        };
        if version < self.revision && version < objects.floor() {
            return Err(if list.token.is_some() {
                Refusal::continue_expired()
            } else {
                Refusal::too_old(version, objects.floor())
            });
        }
        let as_was = objects_at(objects, &prefix, &start, version, self.revision);
        Ok(cut(kind, &selector, list.limit, version, as_was))
    }

    fn snapshot_of(&self, list: &List) -> Result<(u64, String), Refusal> {
        if let Some(token) = list.token.as_deref().filter(|token| !token.is_empty()) {
            if list.as_of != AsOf::Newest && list.as_of != AsOf::NotOlderThan(0) {
                return Err(Refusal::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = Token::parse(token)?;
            return Ok((token.rv.min(self.revision), token.start));
        }
        match list.as_of {
            AsOf::NotOlderThan(version) | AsOf::Exactly(version) if version > self.revision => {
                Err(Refusal::too_large(version, self.revision))
            }
            AsOf::Newest | AsOf::NotOlderThan(_) => Ok((self.revision, String::new())),
            AsOf::Exactly(version) => Ok((version, String::new())),
        }
    }
}

/// A page before it is encoded.
#[derive(Debug, Default)]
pub(super) struct Found<'s> {
    pub(super) items: Vec<(&'s str, &'s Stored)>,
    pub(super) version: u64,
    pub(super) next: Option<String>,
    pub(super) remaining: Option<usize>,
}

/// The objects of a range as they were at a version.
fn objects_at<'s>(
    shelf: &'s Shelf,
    prefix: &str,
    start: &str,
    version: u64,
    newest: u64,
) -> Vec<(&'s str, &'s Stored)> {
    let now = shelf.range(prefix, start);
    if version >= newest {
        return now.collect();
    }
    let mut then = shelf.undo(version);
    let mut objects: Vec<(&str, &Stored)> = now
        .filter_map(|(key, stored)| match then.remove(key) {
            Some(before) => before.map(|before| (key, before)),
            None => Some((key, stored)),
        })
        .collect();
    let gone = then
        .into_iter()
        .filter_map(|(key, before)| Some((key, before?)))
        .filter(|(key, _)| key.starts_with(prefix) && *key >= start);
    objects.extend(gone);
    objects.sort_by_key(|(key, _)| *key);
    objects
}

fn cut<'s>(
    kind: &Kind,
    selector: &Selector,
    limit: usize,
    version: u64,
    objects: Vec<(&'s str, &'s Stored)>,
) -> Found<'s> {
    let mut found = Found {
        version,
        ..Found::default()
    };
    let total = objects.len();
    for (at, (key, stored)) in objects.into_iter().enumerate() {
        if limit > 0 && found.items.len() >= limit {
            found.next = Some(
                Token {
                    rv: version,
                    start: key.to_owned(),
                }
                .text(),
            );
            // A selector leaves the number unknown.
            found.remaining = selector.is_empty().then(|| total.saturating_sub(at));
            break;
        }
        if selector.is_empty() || selector.matches(&storage_form(kind, stored)) {
            found.items.push((key, stored));
        }
    }
    found
}
