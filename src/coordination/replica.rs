//! One replica: all cores together, behind the four verbs.
//!
//! Each input changes what is known (`view.rs`), and then every core does what is due. None
//! waits for another, none keeps a queue: what is due follows from what is known, so that an input
//! that is lost, doubled or late delays and never confuses.

mod inbox;
pub mod look;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    chance::{Backoff, Chance},
    drain::{Drain, Parts},
    elector::Elector,
    event::{Death, Event, Refused},
    evidence::{Evidence, Role},
    gate::Gate,
    layout::Assign,
    leader::{Desk, Leader},
    names::{Holder, PodName},
    out::{Out, Pending, Purpose},
    owner::Owner,
    port::{Action, Answer, Input, Moment, Object, Op, Record, Stored},
    protocol::Protocol,
    refusals::Refusals,
    register::Register,
    timing::{Timing, TimingError},
    view::{Heard, View},
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
#[derive(Clone, Debug)]
pub struct Replica {
    view: View,
    chance: Chance,
    out: Out,
    register: Register,
    gate: Gate,
    evidence: Evidence,
    elector: Elector,
    leader: Leader,
    owner: Owner,
    drain: Drain,
    assign: Assign,
    /// The map has to be read: a watch showed something odd, or a peer has seen a newer one.
    ask_map: bool,
    /// The highest version that a peer has told of.
    hinted: u64,
    /// When that is to be read, where it isn't seen before.
    hint: Option<Moment>,
    map_backoff: Backoff,
    /// The version of a stored map that is not followed, which was told.
    unfollowed: Option<u64>,
    /// Which peers' messages were refused, and why: told once.
    refused: BTreeSet<(PodName, Refused)>,
    /// How many messages changed nothing.
    ignored: BTreeMap<Refused, u64>,
    refusals: Refusals,
}

// === impl Replica ===

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
        let out = Out::new(Arc::clone(&me.fleet), me.protocol);
        let gate = Gate::new(&timing, protocol);
        let map_backoff = Backoff::new(timing.retry, timing.retry_most);
        let view = View::new(me, timing, protocol);
        let mut chance = Chance::new(seed);
        Ok(Self {
            register: Register::new(&view, &mut chance),
            elector: Elector::new(&view),
            leader: Leader::new(&view),
            evidence: Evidence::default(),
            owner: Owner::new(protocol),
            drain: Drain::default(),
            view,
            chance,
            out,
            gate,
            assign,
            ask_map: false,
            hinted: 0,
            hint: None,
            map_backoff,
            unfollowed: None,
            refused: BTreeSet::new(),
            ignored: BTreeMap::new(),
            refusals: Refusals::default(),
        })
    }

    /// Takes one input. `now` never falls.
    pub fn handle(&mut self, now: Moment, input: Input) {
        // What a pause made overdue comes before what was said meanwhile.
        self.gate.step(now, self.register.renewed(), &mut self.out);
        match input {
            Input::Answer { request, answer } => {
                if let Some(pending) = self.out.answered(request) {
                    self.answered(now, &pending, &answer);
                }
            }
            Input::Seen { object, stored } => self.seen(now, &object, stored.as_ref()),
            Input::Current => self.gate.mapped(now),
            Input::Link { holder, link } => self.link(now, holder, link),
            Input::Message { from, message } => self.message(now, &from, message),
            Input::Load(loads) => self.load(loads),
            Input::Released { bucket, epoch } => {
                self.owner
                    .released(now, (bucket, epoch), &self.view, &mut self.out);
            }
            Input::Fenced {
                bucket,
                epoch,
                holder,
            } => self.fenced(bucket, epoch, &holder),
            Input::Surveyed(epoch) => self.leader.remembered(None, epoch.0, None),
            Input::Ready => {
                self.view.ready = true;
                self.view.changes += 1;
            }
            Input::Drain => {
                self.drain.begin(now);
                self.view.draining = true;
                self.view.stays = false;
                self.view.changes += 1;
            }
            Input::Vacate => {
                self.view.draining = true;
                self.view.stays = true;
                self.view.changes += 1;
            }
            Input::Undrain => {
                if self.drain.take_back() {
                    self.view.draining = false;
                    self.view.stays = false;
                    self.view.changes += 1;
                    self.owner.resume();
                }
            }
        }
        self.settle(now);
    }

    /// Does what is due. A spurious call changes nothing.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.settle(now);
    }

    /// The next thing to do; to be drained after each of the above.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.poll()
    }

    /// When [`Replica::handle_timeout`] should be called next; changes with each call of the above.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.out.wake()
    }

    /// What it takes itself to be.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            holder: self.view.holder.clone(),
            term: self.elector.term(),
            version: self.view.map.as_ref().map_or(0, |map| map.version),
            open: self.gate.is_open(),
            draining: self.view.draining,
        }
    }

    /// Every core does what is due.
    fn settle(&mut self, now: Moment) {
        self.out.settle();
        if self.register.has_ended() {
            return;
        }
        self.out.seen(self.view.highest);
        let mapped = Register::mapped(&self.view);
        let death = mapped.or_else(|| self.register.step(now, &self.view, &mut self.out));
        if let Some(death) = death {
            self.die(now, death);
            // The next life begins at once; it has no death to tell of yet.
            let none = self.register.step(now, &self.view, &mut self.out);
            debug_assert!(none.is_none(), "a life that was never claimed can't end");
        }
        self.gate.step(now, self.register.renewed(), &mut self.out);
        self.drain.step(
            now,
            Parts {
                view: &self.view,
                register: &mut self.register,
                elector: &mut self.elector,
                owner: &mut self.owner,
                out: &mut self.out,
            },
        );
        if self.drain.is_leaving() {
            let none = self.register.step(now, &self.view, &mut self.out);
            debug_assert!(none.is_none(), "one that leaves is not surprised");
            return;
        }
        let role = Role {
            leads: self.elector.term().is_some(),
            damped: self.elector.damped(&self.view, now),
        };
        self.evidence.step(now, &self.view, role, &mut self.out);
        self.elector.step(now, &self.view, &mut self.out);
        let leads = self.elector.term().is_some();
        let leader = leads.then_some(&mut self.leader);
        self.refusals.step(now, &self.view, leader, &mut self.out);
        if !leads || !self.drain.gives_lead_away(now, &self.view) {
            self.lead(now);
        }
        self.read_map(now);
        let held = self.owner.held();
        self.owner.step(now, &self.view, self.assign, &mut self.out);
        if self.view.draining && self.owner.held() < held {
            // The drain was looked at before: perhaps this was the last that it waited for.
            self.out.wake_at(now);
        }
    }

    fn lead(&mut self, now: Moment) {
        if let Some(me) = self
            .view
            .holder
            .clone()
            .filter(|_| self.elector.term().is_some())
        {
            let stopped: Vec<_> = self.owner.stopped().collect();
            let version = self.view.map.as_ref().map_or(0, |map| map.version);
            self.leader.released(now, &me, &stopped, version);
        }
        let desk = Desk {
            view: &mut self.view,
            elector: &mut self.elector,
            evidence: &self.evidence,
            assign: self.assign,
            chance: &mut self.chance,
            out: &mut self.out,
        };
        self.leader.step(now, desk);
        // It may have found that its term has to rise first.
        if self.elector.bumping() {
            self.elector.step(now, &self.view, &mut self.out);
        }
    }

    /// Reads the map where its view is in doubt, or was not confirmed between two renewals.
    fn read_map(&mut self, now: Moment) {
        let wait = self.view.timing.renew_member;
        let due = self.gate.last_mapped().map_or(now, |last| last.after(wait));
        let due = match self.hint.filter(|_| self.hinted > self.view.highest) {
            Some(hint) => due.min(hint),
            None => due,
        };
        if !self.ask_map && now < due {
            self.out.wake_at(due);
            return;
        }
        if self.out.busy(&Object::Map) {
            return;
        }
        if let Some(until) = self.map_backoff.waits(now) {
            self.out.wake_at(until);
            return;
        }
        self.ask_map = false;
        self.hint = None;
        self.out.ask(now, Object::Map, Purpose::Read, Op::Read);
    }

    /// This life is over: nothing more is done in its name.
    fn die(&mut self, now: Moment, death: Death) {
        self.view.holder = None;
        self.view.changes += 1;
        self.register.die(now, &mut self.chance);
        self.gate.step(now, None, &mut self.out);
        self.owner.drop_all(&mut self.out);
        self.refusals.clear();
        self.elector.died(now, &mut self.out);
        self.out.tell(Event::Died(death));
    }

    fn seen(&mut self, now: Moment, object: &Object, stored: Option<&Stored>) {
        match object {
            Object::Map => match self.view.observe_map(now, stored, None) {
                Heard::Newer | Heard::Same => self.gate.mapped(now),
                Heard::Late | Heard::Odd => self.ask_map = true,
            },
            Object::Leader => {
                self.view.observe(now, object, stored, None);
                self.elector.seen(&self.view);
            }
            Object::Member(pod) => {
                self.view.observe(now, object, stored, None);
                if *pod == self.view.me.pod
                    && let Some(death) = self.register.seen(&self.view, stored)
                {
                    self.die(now, death);
                }
            }
        }
    }

    fn answered(&mut self, now: Moment, pending: &Pending, answer: &Answer) {
        let Pending {
            object,
            purpose,
            sent,
        } = pending;
        match answer {
            Answer::Done(stored) => self.view.observe(now, object, Some(stored), Some(*sent)),
            Answer::Absent => self.view.observe(now, object, None, Some(*sent)),
            Answer::Exists | Answer::Conflict | Answer::Refused(_) | Answer::Unknown => {}
        }
        let asked = (purpose, *sent);
        match object {
            Object::Map => self.map_answered(now, asked, answer),
            Object::Leader => {
                let chance = (&mut self.chance, &mut self.out);
                self.elector
                    .answered(now, asked, answer, &self.view, chance);
            }
            Object::Member(pod) if *pod == self.view.me.pod => {
                let chance = (&mut self.chance, &mut self.out);
                let death = self
                    .register
                    .answered(now, asked, answer, &mut self.view, chance);
                if let Some(death) = death {
                    self.die(now, death);
                }
            }
            Object::Member(_) => {
                if let Purpose::Check(holder)
                | Purpose::Challenge(holder)
                | Purpose::Mark(holder, _) = purpose
                {
                    let tools = (&self.view.timing, &mut self.chance, &mut self.out);
                    self.evidence.answered(now, holder, asked, answer, tools);
                }
            }
        }
    }

    fn map_answered(&mut self, now: Moment, asked: (&Purpose, Moment), answer: &Answer) {
        let (purpose, sent) = asked;
        let heard = match answer {
            Answer::Done(stored) => self.view.observe_map(now, Some(stored), Some(sent)),
            Answer::Absent => self.view.observe_map(now, None, Some(sent)),
            Answer::Exists | Answer::Conflict | Answer::Refused(_) | Answer::Unknown => Heard::Odd,
        };
        if let (Heard::Odd, Answer::Done(stored)) = (&heard, answer)
            && let Record::Map(spec) = &stored.record
            && self.unfollowed != Some(spec.version)
        {
            self.unfollowed = Some(spec.version);
            let version = spec.version;
            self.out.tell(Event::NotFollowed { version });
        }
        // What was to be learned is still not known.
        self.ask_map |= matches!(answer, Answer::Unknown | Answer::Refused(_));
        match heard {
            Heard::Newer | Heard::Same | Heard::Late => {
                self.map_backoff.reset();
                self.gate.mapped(sent);
            }
            // The view is not confirmed: it is asked again, but not at every turn.
            Heard::Odd => self.map_backoff.failed(now, &mut self.chance),
        }
        let desk = Desk {
            view: &mut self.view,
            elector: &mut self.elector,
            evidence: &self.evidence,
            assign: self.assign,
            chance: &mut self.chance,
            out: &mut self.out,
        };
        self.leader.answered(now, purpose, answer, desk);
    }
}
