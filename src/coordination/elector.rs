//! Who leads: the leader Lease, by compare-and-swap alone.
//!
//! *Guarantees:* every transition is a compare-and-swap on the version that was seen, under a term
//! above the Lease's and the map's; so while the Lease isn't deleted, terms rise and each has one
//! leader. A write that arrives late finds another version and changes nothing. After a lost answer
//! the Lease is read again: what names this holder is its own.
//!
//! *Not guaranteed:* that there is only one process that takes itself for the leader. One that was
//! deposed learns it from the Lease, and what it wrote meanwhile was a compare-and-swap on the map,
//! which refuses a lower term.
//!
//! Expiry is judged by the local monotonic time since the record changed, in contact
//! ([`super::contact`]); clocks of two machines are never compared.

mod opening;

use std::sync::Arc;

use self::opening::Opening;
use super::{
    chance::{Backoff, Chance},
    damping::Damping,
    event::{Deposed, Event},
    names::{Holder, REACHABLE},
    out::{Out, Purpose},
    port::{Answer, Moment, Object, Op, Record, ResourceVersion},
    protocol::planted,
    records::LeaderRecord,
    view::View,
};

/// A leadership as it was last confirmed.
#[derive(Clone, Debug)]
struct Leading {
    record: LeaderRecord,
    resource_version: ResourceVersion,
    renew_at: Moment,
}

/// The leader Lease, from one replica's side.
#[derive(Clone, Debug)]
pub(super) struct Elector {
    leading: Option<Leading>,
    /// The Lease has to be read before anything is decided about it.
    unsure: bool,
    /// The term has to rise.
    bump: bool,
    /// The highest term that this process has had or tried.
    term: u64,
    damping: Damping,
    damped: bool,
    backoff: Backoff,
    opening: Option<Opening>,
}

// === impl Elector ===

impl Elector {
    pub(super) fn new(view: &View) -> Self {
        let timing = &view.timing;
        Self {
            leading: None,
            unsure: true,
            bump: false,
            term: 0,
            damping: Damping::new(timing.lease, timing.damp_most),
            damped: false,
            backoff: Backoff::new(timing.retry, timing.retry_most),
            opening: None,
        }
    }

    /// The term under which this replica leads.
    pub(super) fn term(&self) -> Option<u64> {
        self.leading.as_ref().map(|leading| leading.record.term)
    }

    /// Until when it takes nothing over early.
    pub(super) fn damped(&self, view: &View, now: Moment) -> Option<Moment> {
        // Where nobody else lives, nobody's lead is disturbed.
        let alone = !view.has_company();
        if alone || planted!(view.protocol, NoDamping) {
            return None;
        }
        self.damping.until(now)
    }

    /// The stored map is missing, another's, or refuses the term.
    pub(super) const fn bump(&mut self) {
        self.bump = true;
    }

    /// Whether the term is about to rise: nothing should be written under the present one.
    pub(super) const fn bumping(&self) -> bool {
        self.bump
    }

    /// This replica is no longer the holder that it was.
    pub(super) fn died(&mut self, now: Moment, out: &mut Out) {
        if self.leading.take().is_some() {
            self.damping.deposed(now);
            out.tell(Event::Deposed(Deposed::Died));
        }
        self.bump = false;
    }

    /// The watch showed the Lease: what this leader didn't write is read again.
    pub(super) fn seen(&mut self, view: &View) {
        let (Some(leading), Some(observed)) = (&self.leading, &view.leader) else {
            return;
        };
        let ours = observed.record.as_ref().is_some_and(|record| {
            record.holder == leading.record.holder
                && record.term == leading.record.term
                && record.renewals <= leading.record.renewals + 1
        });
        self.unsure |= !ours;
    }

    /// Gives the Lease away; whether that is under way or done.
    pub(super) fn release(
        &mut self,
        now: Moment,
        view: &View,
        heir: Option<Holder>,
        out: &mut Out,
    ) {
        let Some(leading) = &self.leading else {
            return;
        };
        if out.busy(&Object::Leader) || self.unsure || self.backoff.waits(now).is_some() {
            return;
        }
        let record = LeaderRecord {
            holder: None,
            heir,
            renewals: leading.record.renewals + 1,
            renewed: now,
            pod_uid: Arc::clone(&view.me.pod_uid),
            term: leading.record.term,
        };
        let resource_version = Arc::clone(&leading.resource_version);
        replace(now, Purpose::Release, record, resource_version, out);
    }

    /// Does what is due.
    pub(super) fn step(&mut self, now: Moment, view: &View, out: &mut Out) {
        if view.holder.is_none() {
            return;
        }
        if out.busy(&Object::Leader) {
            return;
        }
        if let Some(until) = self.backoff.waits(now) {
            out.wake_at(until);
            return;
        }
        if self.unsure {
            self.unsure = false;
            out.ask(now, Object::Leader, Purpose::Read, Op::Read);
            return;
        }
        match self.leading.take() {
            Some(leading) => self.keep(now, view, leading, out),
            None => self.run(now, view, out),
        }
    }

    /// Renews, or raises the term.
    fn keep(&mut self, now: Moment, view: &View, leading: Leading, out: &mut Out) {
        if self.bump || now >= leading.renew_at {
            let term = if self.bump {
                self.next_term(view, leading.record.term)
            } else {
                leading.record.term
            };
            let record = LeaderRecord {
                term,
                renewals: leading.record.renewals + 1,
                renewed: now,
                ..leading.record.clone()
            };
            let resource_version = if planted!(view.protocol, RenewWithoutCas) {
                Arc::from("")
            } else {
                Arc::clone(&leading.resource_version)
            };
            replace(now, Purpose::Keep, record, resource_version, out);
        } else {
            out.wake_at(leading.renew_at);
        }
        self.leading = Some(leading);
    }

    /// Takes the Lease where it is free and this replica's turn.
    fn run(&mut self, now: Moment, view: &View, out: &mut Out) {
        let Some(observed) = &view.leader else {
            out.ask(now, Object::Leader, Purpose::Read, Op::Read);
            return;
        };
        if view.leading() == view.holder.as_ref() {
            // Its own, from a lost answer or an editor's hand: a read makes it sure.
            out.ask(now, Object::Leader, Purpose::Read, Op::Read);
            return;
        }
        if !view.may_lead() || view.contact.since(now).is_none() {
            self.opening = None;
            return;
        }
        self.opening = Opening::found(now, view, self.opening.as_ref());
        let Some(opening) = &self.opening else {
            if let Some(until) = Opening::stale(now, view) {
                out.wake_at(until);
            }
            return;
        };
        let mut turn = opening.turn(view);
        if let Some(until) = self.damped(view, now).filter(|_| opening.early) {
            if !self.damped {
                out.tell(Event::Damped);
            }
            self.damped = true;
            turn = turn.max(until);
            if let Some(stale) = Opening::stale(now, view) {
                turn = turn.min(stale);
            }
        } else {
            self.damped = false;
        }
        if now < turn {
            out.wake_at(turn);
            return;
        }
        self.take(now, view, observed.resource_version.clone(), out);
    }

    fn take(&mut self, now: Moment, view: &View, at: Option<ResourceVersion>, out: &mut Out) {
        let stored = view.leader.as_ref().and_then(|l| l.record.as_ref());
        let term = self.next_term(view, stored.map_or(0, |record| record.term));
        let record = LeaderRecord {
            holder: view.holder.clone(),
            pod_uid: Arc::clone(&view.me.pod_uid),
            term,
            renewals: stored.map_or(0, |record| record.renewals) + 1,
            renewed: now,
            heir: None,
        };
        let Some(at) = at else {
            let op = Op::Create(Record::Leader(record));
            out.ask(now, Object::Leader, Purpose::Take, op);
            return;
        };
        let at = if planted!(view.protocol, TakeByPatch) {
            Arc::from("")
        } else {
            at
        };
        replace(now, Purpose::Take, record, at, out);
    }

    /// Above all that could still be written under: the Lease's and the map's.
    fn next_term(&mut self, view: &View, stored: u64) -> u64 {
        let (own, lease) = if planted!(view.protocol, TermFromLeaseAlone) {
            (0, 0)
        } else {
            (self.term, view.lease_term)
        };
        self.term = [stored, view.map_term(), own]
            .into_iter()
            // The last one is passed over once it is not stored any more, or no term would be left.
            .chain((lease + 1 < REACHABLE).then_some(lease))
            .filter(|term| *term < REACHABLE)
            .fold(0, u64::max)
            + 1;
        self.term
    }

    /// An answer about the leader Lease came; the view knows it already.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        asked: (&Purpose, Moment),
        answer: &Answer,
        view: &View,
        (chance, out): (&mut Chance, &mut Out),
    ) {
        match answer {
            Answer::Done(_) | Answer::Absent => {
                self.backoff.reset();
                self.stands(now, asked, view, out);
            }
            Answer::Conflict | Answer::Exists => self.unsure = true,
            Answer::Refused(why) => {
                out.tell(Event::WriteRefused(Arc::clone(why)));
                self.unsure = true;
                self.backoff.failed(now, chance);
            }
            Answer::Unknown => {
                self.unsure = true;
                self.backoff.failed(now, chance);
            }
        }
    }

    /// What is stored decides whether this replica leads.
    fn stands(&mut self, now: Moment, asked: (&Purpose, Moment), view: &View, out: &mut Out) {
        let (purpose, sent) = asked;
        let found = view.leader.as_ref().and_then(|observed| {
            let record = observed.record.clone()?;
            let holder = record.holder.clone()?;
            let at = observed.resource_version.clone()?;
            (Some(&holder) == view.holder.as_ref()).then_some((record, at))
        });
        let before = self.leading.take();
        match found {
            Some((record, resource_version)) => {
                let term = record.term;
                if *purpose == Purpose::Keep {
                    self.bump = false;
                }
                // One that this process has not tried, an editor gave it with the Lease: it may have
                // been another's, and nothing is written under it.
                self.bump |= *purpose == Purpose::Read && term != self.term;
                self.term = self.term.max(term);
                // A record that a read found may be about to expire: it is renewed at once.
                let renew_at = if *purpose == Purpose::Read {
                    now
                } else {
                    sent.after(view.timing.renew_leader)
                };
                if before.is_none_or(|before| before.record.term != term) {
                    out.tell(Event::Leads { term });
                }
                self.opening = None;
                self.leading = Some(Leading {
                    record,
                    resource_version,
                    renew_at,
                });
            }
            None if before.is_some() => {
                self.bump = false;
                if *purpose == Purpose::Release {
                    out.tell(Event::Deposed(Deposed::Released));
                } else {
                    // Deleted by hand is nobody's verdict; another's name is.
                    if view.leading().is_some() {
                        self.damping.deposed(now);
                    }
                    out.tell(Event::Deposed(Deposed::Lost));
                }
            }
            None => {}
        }
    }
}

fn replace(
    now: Moment,
    purpose: Purpose,
    record: LeaderRecord,
    resource_version: ResourceVersion,
    out: &mut Out,
) {
    let op = Op::Replace {
        record: Record::Leader(record),
        resource_version,
    };
    out.ask(now, Object::Leader, purpose, op);
}

#[cfg(test)]
mod tests;
