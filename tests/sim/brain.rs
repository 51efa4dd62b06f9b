//! What drives a process: this protocol, or one that is compared with it.

use zen_fabric::coordination::{
    port::{Action, Input, Moment},
    replica::{Replica, Standing},
};

use crate::naive::Naive;

/// What drives a process.
#[derive(Debug)]
pub(crate) enum Brain {
    /// The product.
    Replica(Box<Replica>),
    /// A Lease that is patched when one's own clock says that it is over.
    Naive(Box<Naive>),
}

impl Brain {
    pub(crate) fn handle(&mut self, now: Moment, input: Input) {
        match self {
            Self::Replica(core) => core.handle(now, input),
            Self::Naive(core) => core.handle(now, &input),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Moment) {
        match self {
            Self::Replica(core) => core.handle_timeout(now),
            Self::Naive(core) => core.handle_timeout(now),
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        match self {
            Self::Replica(core) => core.poll_action(),
            Self::Naive(core) => core.poll_action(),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        match self {
            Self::Replica(core) => core.poll_timeout(),
            Self::Naive(core) => core.poll_timeout(),
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        match self {
            Self::Replica(core) => core.standing(),
            Self::Naive(core) => core.standing(),
        }
    }
}
