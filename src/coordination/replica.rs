//! One replica: all cores together, behind the four verbs.

use std::{collections::VecDeque, sync::Arc};

use super::{
    layout::Assign,
    names::{Holder, PodName},
    port::{Action, Input, Moment},
    protocol::Protocol,
    timing::{Timing, TimingError},
};

/// Who this process is, before it has an incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// The fleet: messages of another are refused.
    pub fleet: Arc<str>,
    /// Its pod.
    pub pod: PodName,
    /// Its Pod's UID.
    pub pod_uid: Arc<str>,
    /// Where peers reach it.
    pub address: Arc<str>,
    /// Its region.
    pub region: Arc<str>,
    /// Its zone.
    pub zone: Arc<str>,
    /// Its weight; 100 is usual.
    pub weight: u32,
    /// Its build; greater is newer.
    pub build: Arc<str>,
    /// Its protocol ([`super::message::PROTOCOL`]).
    pub protocol: u32,
    /// How many buckets there are ([`crate::journal::BUCKETS`]; fewer in small models).
    pub buckets: u16,
}

/// What a replica takes itself to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Under which name it acts; `None` before its incarnation is claimed.
    pub holder: Option<Holder>,
    /// Its term, where it leads.
    pub term: Option<u64>,
    /// The version of the map that it follows.
    pub version: u64,
    /// Whether its gate is open.
    pub open: bool,
    /// Whether it drains.
    pub draining: bool,
}

/// A replica's coordination core.
#[derive(Debug)]
pub struct Replica {
    out: VecDeque<Action>,
    _parts: (Me, Timing, Assign, u64, Protocol),
}

impl Replica {
    /// A replica that has not begun: [`Replica::handle_timeout`] starts it.
    ///
    /// `seed` must differ between processes: jitter and the claim of an incarnation come from it.
    ///
    /// # Errors
    /// When the durations contradict each other.
    pub fn new(
        me: Me,
        timing: Timing,
        assign: Assign,
        seed: u64,
        protocol: Protocol,
    ) -> Result<Self, TimingError> {
        timing.check()?;
        Ok(Self {
            out: VecDeque::new(),
            _parts: (me, timing, assign, seed, protocol),
        })
    }

    /// Takes one input. `now` never falls.
    pub fn handle(&mut self, now: Moment, input: Input) {
        drop((now, input));
    }

    /// Does what is due. A spurious call changes nothing.
    pub fn handle_timeout(&mut self, now: Moment) {
        let _ = now;
    }

    /// The next thing to do; to be drained after each of the above.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    /// When [`Replica::handle_timeout`] should be called next; changes with each call of the above.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        None
    }

    /// What it takes itself to be.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            holder: None,
            term: None,
            version: 0,
            open: false,
            draining: false,
        }
    }
}
