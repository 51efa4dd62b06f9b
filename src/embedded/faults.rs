//! A bad day, on order: tests make the API answer as a real one does when things go wrong.
//!
//! Off unless asked for: a server without planned faults pays one atomic read for each request.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use super::refusal::Refusal;

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read several.
    List,
    /// Follow changes.
    Watch,
    /// Make one.
    Create,
    /// Replace one.
    Update,
    /// Change one.
    Patch,
    /// Remove one.
    Delete,
    /// Remove several.
    DeleteCollection,
}

/// Which requests a fault meets; what is not set meets all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct On {
    /// The verb.
    pub verb: Option<Verb>,
    /// The resource's plural name.
    pub resource: Option<String>,
    /// The object's name; of a create, the name in its body.
    pub name: Option<String>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 409 with the reason Conflict, as a quota's admission answers even a create. Nothing is done.
    Conflict,
    /// 429 with `Retry-After`. Nothing is done.
    TooManyRequests(Duration),
    /// 500. Nothing is done.
    InternalError,
    /// 504. Nothing is done.
    Timeout,
    /// 403, as a policy or a wrong role answers. Nothing is done.
    Forbidden,
    /// 422, as a policy or an older CRD answers. Nothing is done.
    Invalid,
    /// No answer at all, for as long as the client waits. Nothing is done.
    Silence,
    /// It is done, and the connection breaks before the answer.
    AnswerLost,
}

#[derive(Debug)]
struct Planned {
    on: On,
    fault: Fault,
    left: usize,
}

/// The faults that are planned; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    planned: Arc<Mutex<Vec<Planned>>>,
    active: Arc<AtomicUsize>,
}

// === impl On ===

impl On {
    /// All requests with this verb.
    #[must_use]
    pub fn verb(verb: Verb) -> Self {
        Self {
            verb: Some(verb),
            ..Self::default()
        }
    }

    /// Of these, only those for one resource, by its plural name.
    #[must_use]
    pub fn resource(mut self, plural: impl Into<String>) -> Self {
        self.resource = Some(plural.into());
        self
    }

    /// Of these, only those for one object.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    fn meets(&self, verb: Verb, resource: &str, name: &str) -> bool {
        self.verb.is_none_or(|wanted| wanted == verb)
            && self
                .resource
                .as_deref()
                .is_none_or(|wanted| wanted == resource)
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
    }
}

// === impl Faults ===

impl Faults {
    /// Plans `fault` for the next `count` requests that `on` meets. Of several plans that meet a
    /// request, the oldest counts.
    pub fn plan(&self, count: usize, on: On, fault: Fault) {
        if count == 0 {
            return;
        }
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.push(Planned {
            on,
            fault,
            left: count,
        });
        self.active.store(planned.len(), Ordering::Release);
    }

    /// Forgets what is planned.
    pub fn clear(&self) {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.clear();
        self.active.store(0, Ordering::Release);
    }

    /// How many requests are still to meet a fault.
    #[must_use]
    pub fn pending(&self) -> usize {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.iter().map(|one| one.left).sum()
    }

    pub(super) fn take(&self, verb: Verb, resource: &str, name: &str) -> Option<Fault> {
        if self.active.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        let met = planned
            .iter_mut()
            .find(|one| one.on.meets(verb, resource, name))?;
        met.left = met.left.saturating_sub(1);
        let fault = met.fault;
        planned.retain(|one| one.left > 0);
        self.active.store(planned.len(), Ordering::Release);
        drop(planned);
        Some(fault)
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn refusal(self, resource: &str, name: &str) -> Option<Refusal> {
        Some(match self {
            Self::Conflict => {
                let mut refusal = Refusal::plain(
                    409,
                    "Conflict",
                    format!(
                        "Operation cannot be fulfilled on {resource} {name:?}: please try again"
                    ),
                );
                refusal.details = Some(Box::new(json!({"name": name, "kind": resource})));
                refusal
            }
            Self::TooManyRequests(after) => too_many_requests(after.as_secs()),
            Self::InternalError => {
                Refusal::plain(500, "InternalError", "Internal error occurred: planned")
            }
            Self::Timeout => Refusal::plain(
                504,
                "Timeout",
                "Timeout: request did not complete within requested timeout - context deadline exceeded",
            ),
            Self::Forbidden => Refusal::plain(
                403,
                "Forbidden",
                format!("{resource} {name:?} is forbidden: planned"),
            ),
            Self::Invalid => Refusal::plain(
                422,
                "Invalid",
                format!("{resource} {name:?} is invalid: planned"),
            ),
            Self::Silence | Self::AnswerLost => return None,
        })
    }
}

/// 429, as priority and fairness answers.
pub(super) fn too_many_requests(seconds: u64) -> Refusal {
    let mut refusal = Refusal::plain(
        429,
        "TooManyRequests",
        "Too many requests, please try again later.",
    );
    refusal.details = Some(Box::new(json!({"retryAfterSeconds": seconds})));
    refusal
}
