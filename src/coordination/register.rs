//! This replica's own member Lease: the register of its life.
//!
//! *Guarantees:* a process acts as a holder only after a compare-and-swap that named it, with a
//! claim of its own, was *confirmed*; one whose answer was lost is never used, the next incarnation
//! is taken instead. Every renewal is a compare-and-swap on the version that was last confirmed, so
//! one that arrives late changes nothing. A holder that sees itself marked, superseded or Down never
//! renews as that holder again.
//!
//! *Assumes* that two processes don't draw the same claim (64 bits at random).
//!
//! *Still possible:* between being marked and seeing it, a holder may start effects; they carry its
//! epoch and are refused wherever its successor has begun.

use std::sync::Arc;

use super::{
    chance::{Backoff, Chance},
    event::{Death, Event},
    names::{Holder, MOST},
    out::{Out, Purpose},
    port::{Action, Answer, Moment, Object, Op, Record, ResourceVersion, Stored},
    protocol::planted,
    records::{Life, MemberRecord},
    view::View,
};

/// Where a life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No incarnation is claimed.
    Unborn,
    /// It lives and renews.
    Live,
    /// The goodbye is to be written.
    Leaving,
    /// It is over for this process.
    Ended,
}

/// What is known of the stored Lease.
#[derive(Clone, Debug)]
enum Stand {
    /// It has to be read: nothing is known, or an answer was lost.
    Unsure,
    /// It is not there.
    Absent,
    /// It is there; `None`: unreadable.
    There(ResourceVersion, Option<MemberRecord>),
}

/// The own member Lease.
#[derive(Clone, Debug)]
pub(super) struct Register {
    phase: Phase,
    stand: Stand,
    /// A watch showed something since the last read was asked for: the answer that is awaited may be
    /// older than that.
    doubt: bool,
    claim: u64,
    /// The highest incarnation that this process has been or tried to be.
    highest: u64,
    renewals: u64,
    /// When the last confirmed renewal was sent.
    renewed: Option<Moment>,
    /// When the next renewal is due.
    due: Moment,
    backoff: Backoff,
}

// === impl Register ===

impl Register {
    pub(super) fn new(view: &View, chance: &mut Chance) -> Self {
        Self {
            phase: Phase::Unborn,
            stand: Stand::Unsure,
            doubt: false,
            claim: chance.next(),
            highest: 0,
            renewals: 0,
            renewed: None,
            due: Moment(0),
            backoff: Backoff::new(view.timing.retry, view.timing.retry_most),
        }
    }

    /// The goodbye is due: nothing is owned any more.
    pub(super) fn leave(&mut self) {
        if self.phase == Phase::Live {
            self.phase = Phase::Leaving;
            self.backoff.reset();
        }
    }

    /// There is no time left to be told of the goodbye.
    pub(super) fn end(&mut self, out: &mut Out) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            out.push(Action::Ended);
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether others can read that this replica drains.
    pub(super) const fn tells_drain(&self) -> bool {
        match &self.stand {
            Stand::There(_, Some(record)) => record.draining,
            Stand::There(_, None) | Stand::Absent | Stand::Unsure => false,
        }
    }

    /// A watch shows the Lease. What is surprising is read again before it means anything, but for
    /// what can never become untrue: a mark, a later incarnation.
    pub(super) fn seen(&mut self, view: &View, stored: Option<&Stored>) -> Option<Death> {
        let Some(Stored {
            record: Record::Member(record),
            resource_version,
            ..
        }) = stored
        else {
            self.doubt = true;
            return None;
        };
        if let Some(death) = self.verdict(view, record) {
            return Some(death);
        }
        let late = record.claim == self.claim
            && record.renewals <= self.renewals
            && record.challenge.is_none();
        let known = matches!(&self.stand, Stand::There(known, _) if known == resource_version);
        self.doubt |= !late && !known;
        None
    }

    /// What a record of the own Lease says about the present holder's life.
    fn verdict(&self, view: &View, record: &MemberRecord) -> Option<Death> {
        let holder = view.holder.as_ref()?;
        if record.holder.incarnation > holder.incarnation {
            return Some(Death::Superseded);
        }
        if record.holder != *holder {
            return None;
        }
        if record.claim != self.claim {
            return Some(Death::Superseded);
        }
        let marked = matches!(record.life, Life::Marked) && !planted!(view.protocol, MarkedGoesOn);
        let gone = record.life == Life::Gone && self.phase == Phase::Live;
        (marked || gone).then_some(Death::Marked)
    }

    /// What the map says about it.
    pub(super) fn mapped(view: &View) -> Option<Death> {
        let (holder, map) = (view.holder.as_ref()?, view.map.as_ref()?);
        let member = map.members.get(&holder.pod)?;
        let over = member.incarnation > holder.incarnation
            || (member.incarnation == holder.incarnation && !member.state.lives());
        (over && !planted!(view.protocol, MarkedGoesOn)).then_some(Death::Down)
    }

    /// This life is over; the next one is to be claimed.
    pub(super) fn die(&mut self, now: Moment, chance: &mut Chance) {
        self.renewed = None;
        self.claim = chance.next();
        self.due = now;
        self.phase = match self.phase {
            Phase::Unborn | Phase::Live => Phase::Unborn,
            // What was to be said is said: it is over.
            Phase::Leaving | Phase::Ended => Phase::Leaving,
        };
    }

    /// Does what is due.
    pub(super) fn step(&mut self, now: Moment, view: &View, out: &mut Out) -> Option<Death> {
        if self.phase == Phase::Ended {
            return None;
        }
        if self.phase == Phase::Leaving && view.holder.is_none() {
            self.end(out);
            return None;
        }
        let object = Object::Member(view.me.pod.clone());
        if out.busy(&object) {
            return None;
        }
        if let Some(until) = self.backoff.waits(now) {
            out.wake_at(until);
            return None;
        }
        if self.doubt || matches!(self.stand, Stand::Unsure) {
            self.doubt = false;
            out.ask(now, object, Purpose::Read, Op::Read);
            return None;
        }
        match self.phase {
            Phase::Unborn => self.claim(now, view, out),
            Phase::Live => return self.renew(now, view, out),
            Phase::Leaving => {
                let record = self.record(now, view, Life::Gone);
                self.write(now, out, Purpose::Goodbye, record);
            }
            Phase::Ended => {}
        }
        None
    }

    /// Takes the next incarnation; needs to know the map's.
    fn claim(&mut self, now: Moment, view: &View, out: &mut Out) {
        let leaves = view.draining && !view.stays;
        if matches!(view.stored_map, super::view::Known::Unread) || leaves {
            return;
        }
        let stored = match &self.stand {
            Stand::There(_, Some(record)) => record.holder.incarnation,
            Stand::There(_, None) | Stand::Absent | Stand::Unsure => 0,
        };
        let mapped = view
            .map
            .as_ref()
            .map_or(0, |map| map.incarnation(&view.me.pod));
        let known = [stored, mapped, self.highest]
            .into_iter()
            .filter(|number| *number < MOST)
            .fold(0, u64::max);
        self.highest = if planted!(view.protocol, IncarnationReused) && stored > 0 {
            stored
        } else {
            known + 1
        };
        self.renewals = 0;
        let record = self.record(now, view, Life::Live);
        self.write(now, out, Purpose::Claim, record);
    }

    fn renew(&mut self, now: Moment, view: &View, out: &mut Out) -> Option<Death> {
        let (asked, told) = match &self.stand {
            Stand::There(_, Some(stored)) => (
                stored.challenge.is_some() || stored.claim != self.claim,
                stored.ready == view.ready && stored.draining == view.draining,
            ),
            Stand::There(_, None) | Stand::Unsure => (true, true),
            Stand::Absent => {
                // Deleted by hand, or long after a mark: only who renewed of late can know that it
                // was not the latter.
                let of_late = self
                    .renewed
                    .is_some_and(|renewed| now.since(renewed) < view.timing.lease);
                if !of_late {
                    return Some(Death::Lost);
                }
                (true, true)
            }
        };
        if !asked && told && now < self.due {
            out.wake_at(self.due);
            return None;
        }
        self.renewals += 1;
        let record = self.record(now, view, Life::Live);
        self.write(now, out, Purpose::Renew, record);
        None
    }

    fn record(&self, now: Moment, view: &View, life: Life) -> MemberRecord {
        let me = &view.me;
        MemberRecord {
            holder: Holder {
                pod: me.pod.clone(),
                incarnation: self.highest,
            },
            claim: self.claim,
            pod_uid: Arc::clone(&me.pod_uid),
            address: Arc::clone(&me.address),
            region: Arc::clone(&me.region),
            zone: Arc::clone(&me.zone),
            weight: me.weight,
            build: Arc::clone(&me.build),
            protocol: me.protocol,
            ready: view.ready,
            draining: view.draining,
            seen: view.highest_anywhere(),
            renewals: self.renewals,
            renewed: now,
            life,
            challenge: None,
        }
    }

    fn write(&self, now: Moment, out: &mut Out, purpose: Purpose, record: MemberRecord) {
        let object = Object::Member(record.holder.pod.clone());
        let record = Record::Member(record);
        let op = match &self.stand {
            Stand::There(resource_version, _) => Op::Replace {
                record,
                resource_version: Arc::clone(resource_version),
            },
            Stand::Absent | Stand::Unsure => Op::Create(record),
        };
        out.ask(now, object, purpose, op);
    }

    /// An answer about the own Lease came. A [`Death`] is to be carried out by the caller.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        asked: (&Purpose, Moment),
        answer: &Answer,
        view: &mut View,
        (chance, out): (&mut Chance, &mut Out),
    ) -> Option<Death> {
        let (purpose, sent) = asked;
        let reading = *purpose == Purpose::Read;
        match answer {
            Answer::Done(stored) => {
                let record = match &stored.record {
                    Record::Member(record) if record.holder.pod == view.me.pod => {
                        Some(record.clone())
                    }
                    Record::Member(_)
                    | Record::Leader(_)
                    | Record::Map(_)
                    | Record::Malformed(_) => None,
                };
                self.stand = Stand::There(Arc::clone(&stored.resource_version), record.clone());
                if reading {
                    return record.and_then(|record| self.verdict(view, &record));
                }
                self.backoff.reset();
                self.confirmed(now, sent, purpose, view, out);
            }
            Answer::Absent if reading => self.stand = Stand::Absent,
            Answer::Absent | Answer::Exists | Answer::Conflict => self.stand = Stand::Unsure,
            Answer::Refused(why) => {
                out.tell(Event::WriteRefused(Arc::clone(why)));
                self.unsure(now, chance);
            }
            Answer::Unknown => self.unsure(now, chance),
        }
        None
    }

    fn unsure(&mut self, now: Moment, chance: &mut Chance) {
        self.stand = Stand::Unsure;
        self.backoff.failed(now, chance);
    }

    /// A write of this process is stored.
    fn confirmed(
        &mut self,
        now: Moment,
        sent: Moment,
        purpose: &Purpose,
        view: &mut View,
        out: &mut Out,
    ) {
        if *purpose == Purpose::Goodbye {
            self.end(out);
            return;
        }
        // Died while it was under way: it is not this life's.
        let current = matches!(
            &self.stand,
            Stand::There(_, Some(record)) if record.claim == self.claim
        );
        if !current {
            return;
        }
        if *purpose == Purpose::Claim {
            let holder = Holder {
                pod: view.me.pod.clone(),
                incarnation: self.highest,
            };
            self.phase = Phase::Live;
            view.holder = Some(holder.clone());
            out.push(Action::Became(holder.clone()));
            out.tell(Event::Joined(holder));
        }
        self.renewed = Some(sent);
        self.due = sent.after(view.timing.renew_member);
        view.contact.confirmed(sent, now);
    }

    /// When the last renewal that came to be confirmed was sent.
    pub(super) const fn renewed(&self) -> Option<Moment> {
        self.renewed
    }
}

#[cfg(test)]
mod tests;
