//! A pod and the process in it, as the world keeps them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use zen_fabric::{
    coordination::{
        names::{Holder, PodName},
        port::{Action, Input, Link, Moment, RequestId},
    },
    journal::{Bucket, Epoch},
};

use crate::{
    brain::Brain,
    time::{LocalClock, Time},
    worker::Work,
};

/// A place for a process: it outlives each of them.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Its name.
    pub(crate) name: PodName,
    /// Its UID; another one when the pod was made anew.
    pub(crate) uid: Arc<str>,
    /// What the deployment has of it.
    pub(crate) phase: Phase,
    /// Its build.
    pub(crate) build: u32,
    /// Its protocol.
    pub(crate) protocol: u32,
    /// Its zone.
    pub(crate) zone: usize,
    /// It is wanted again when its next process starts.
    pub(crate) returning: bool,
    /// Its next process has another pod UID.
    pub(crate) renewed: bool,
    /// How many processes it has had.
    pub(crate) lives: u32,
    /// The one that runs.
    pub(crate) process: Option<Process>,
}

/// What there is of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is not deployed.
    Absent,
    /// A process runs, or will again soon.
    Wanted,
    /// No process runs; its node answers that nobody listens.
    Dead,
    /// Its node is gone as well: silence.
    Vanished,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Which of its pod's it is: what is addressed to another doesn't reach it.
    pub(crate) life: u32,
    /// Its clock.
    pub(crate) clock: LocalClock,
    /// The core.
    pub(crate) brain: Brain,
    /// Stopped (SIGSTOP): inputs wait.
    pub(crate) paused: bool,
    /// The version of the map that it follows.
    pub(crate) followed: u64,
    /// It stops after so many more actions: between a decision and what follows from it.
    pub(crate) freeze_after: Option<u32>,
    /// It stops at the next thing that its workers ask: between that and its being sent.
    pub(crate) freeze_at_work: bool,
    /// Inputs that wait.
    pub(crate) inbox: VecDeque<Input>,
    /// Actions that were decided before it stopped and are done when it goes on.
    pub(crate) frozen: VecDeque<Action>,
    /// When the core is next called, in world time.
    pub(crate) wake_at: Option<Time>,
    /// Whether effects may start.
    pub(crate) gate: bool,
    /// As whom it acts.
    pub(crate) holder: Option<Holder>,
    /// It was asked to drain.
    pub(crate) draining: bool,
    /// When.
    pub(crate) asked: Time,
    /// When, by its clock, the last renewal of its member Lease was sent that came to be confirmed.
    pub(crate) renewed: Option<Moment>,
    /// When it last went on.
    pub(crate) resumed: Time,
    /// Requests to the API without an answer so far.
    pub(crate) pending: BTreeMap<u64, Waiting>,
    /// Where its watches are: of Leases, of the map.
    pub(crate) watches: [Watch; 2],
    /// Which API server it uses.
    pub(crate) front: usize,
    /// Whom it probes, and what it last told about each.
    pub(crate) peers: BTreeMap<Holder, Peer>,
    /// What it works on: only buckets that have keys.
    pub(crate) work: BTreeMap<Bucket, Work>,
    /// Every bucket that it was told to own, with the epoch.
    pub(crate) owned: BTreeMap<Bucket, Epoch>,
    /// Holders that it has seen to be dead by their own member Lease: itself among them.
    pub(crate) seen_marked: BTreeSet<Holder>,
    /// It has said that it ended.
    pub(crate) ended: bool,
}

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// The core's name for it; absent: a worker's.
    pub(crate) core: Option<RequestId>,
    /// When it was sent, by the process's clock, where it renews the member Lease.
    pub(crate) renews: Option<Moment>,
}

/// A watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// How many changes it has shown; `None` before its first list.
    pub(crate) shown: Option<usize>,
    /// Whether a look is planned.
    pub(crate) due: bool,
    /// It is broken until then, and nobody notices.
    pub(crate) dead_until: Time,
}

/// A peer, as the probes of one process see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// What was last told.
    pub(crate) told: Option<Link>,
    /// Since when it has not answered.
    pub(crate) silent_since: Option<Time>,
}

impl Pod {
    /// The process, if it runs and is that one.
    pub(crate) fn life(&mut self, life: u32) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.life == life)
    }

    /// Whether a process runs.
    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Whether a process runs and is not stopped.
    pub(crate) fn answers(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.paused)
    }
}
