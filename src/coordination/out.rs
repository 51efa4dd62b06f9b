//! What the cores give out, in order: actions, requests with their purpose, and when to be called.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{
    event::{Event, Evidence},
    message::{Body, Message},
    names::Holder,
    port::{Action, Moment, Object, Op, RequestId},
    records::ShardMapSpec,
};

/// Why a request was made: what its answer means depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To know.
    Read,
    /// A new incarnation.
    Claim,
    /// The member Lease lives on.
    Renew,
    /// The member Lease ends.
    Goodbye,
    /// To become leader.
    Take,
    /// To stay leader, perhaps under a higher term.
    Keep,
    /// To be leader no longer.
    Release,
    /// A new version of the map.
    Map(Arc<ShardMapSpec>),
    /// The map can't be passed: away with it.
    Unmap,
    /// To know how a suspect's Lease stands.
    Check(Holder),
    /// A question to a suspect.
    Challenge(Holder),
    /// A declaration of a suspect's death.
    Mark(Holder, Evidence),
    /// A member Lease that has been dead for long.
    Bury,
}

/// A request without an answer yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) object: Object,
    pub(super) purpose: Purpose,
    pub(super) sent: Moment,
}

/// Collects what the cores want.
///
/// At most one request per object is under way: so the answers about an object come in the order in
/// which they were true, and each is at least as new as what was known when it was asked.
#[derive(Clone, Debug)]
pub(super) struct Out {
    fleet: Arc<str>,
    speaks: u32,
    version: u64,
    actions: VecDeque<Action>,
    wake: Option<Moment>,
    requests: u64,
    pending: BTreeMap<RequestId, Pending>,
}

// === impl Out ===

impl Out {
    pub(super) fn new(fleet: Arc<str>, speaks: u32) -> Self {
        Self {
            fleet,
            speaks,
            version: 0,
            actions: VecDeque::new(),
            wake: None,
            requests: 0,
            pending: BTreeMap::new(),
        }
    }

    /// The version of the map that messages tell from now on.
    pub(super) const fn seen(&mut self, version: u64) {
        self.version = version;
    }

    /// Forgets when to wake: the cores say it again.
    pub(super) const fn settle(&mut self) {
        self.wake = None;
    }

    pub(super) fn wake_at(&mut self, moment: Moment) {
        self.wake = Some(self.wake.map_or(moment, |wake| wake.min(moment)));
    }

    pub(super) const fn wake(&self) -> Option<Moment> {
        self.wake
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.push(Action::Tell(event));
    }

    pub(super) fn send(&mut self, to: &Holder, body: Body) {
        let message = Message {
            fleet: Arc::clone(&self.fleet),
            protocol: self.speaks,
            version: self.version,
            body,
        };
        self.push(Action::Send {
            to: to.clone(),
            message,
        });
    }

    /// Whether an answer about this object is awaited.
    pub(super) fn busy(&self, object: &Object) -> bool {
        self.pending.values().any(|asked| asked.object == *object)
    }

    /// Asks; the caller has made sure that the object isn't [`Out::busy`].
    pub(super) fn ask(&mut self, now: Moment, object: Object, purpose: Purpose, op: Op) {
        self.requests += 1;
        let id = RequestId(self.requests);
        let pending = Pending {
            object: object.clone(),
            purpose,
            sent: now,
        };
        self.pending.insert(id, pending);
        self.push(Action::Request { id, object, op });
    }

    pub(super) fn answered(&mut self, id: RequestId) -> Option<Pending> {
        self.pending.remove(&id)
    }

    pub(super) fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}
