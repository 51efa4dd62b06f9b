//! Giving everything away, and then going.
//!
//! *Guarantee:* a pod says goodbye only when others can read that it drains, and when the map has it
//! so and it owns nothing any more, or nobody is left who could take it and its own work is finished,
//! or its deadline is over. The leader gives its Lease away first.

use super::{
    elector::Elector,
    event::Event,
    names::{Holder, newer},
    out::Out,
    owner::Owner,
    port::Moment,
    protocol::planted,
    records::MemberState,
    register::Register,
    view::View,
};

/// A drain, from SIGTERM. One that an operator asks for ([`View::stays`]) has no deadline and no
/// goodbye: the pod gives up the lead, and keeps what nobody takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Drain {
    since: Option<Moment>,
    leaving: bool,
}

/// The cores that a drain moves.
pub(super) struct Parts<'a> {
    pub(super) view: &'a View,
    pub(super) register: &'a mut Register,
    pub(super) elector: &'a mut Elector,
    pub(super) owner: &'a mut Owner,
    pub(super) out: &'a mut Out,
}

// === impl Drain ===

impl Drain {
    /// It is asked for.
    pub(super) fn begin(&mut self, now: Moment) {
        self.since.get_or_insert(now);
    }

    /// It is taken back; whether that is still possible.
    pub(super) fn take_back(&mut self) -> bool {
        if !self.leaving {
            self.since = None;
        }
        !self.leaving
    }

    /// Whether the goodbye is being written.
    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether the lead is being given away. What this leader would write meanwhile, its heir writes as
    /// well, and begins with: a move that the one lists and the other commits pauses its bucket for as
    /// long as the lead takes to change hands.
    pub(super) fn gives_lead_away(&self, now: Moment, view: &View) -> bool {
        let asked = match self.since {
            Some(since) => now < since.after(view.timing.drain),
            None => view.stays,
        };
        asked && heir(view).is_some()
    }

    /// Does what is due.
    pub(super) fn step(&mut self, now: Moment, parts: Parts<'_>) {
        let Some(since) = self.since else {
            if parts.view.stays {
                lead_no_more(now, parts);
            }
            return;
        };
        let Parts {
            view,
            register,
            elector,
            owner,
            out,
        } = parts;
        if register.has_ended() {
            return;
        }
        let Some(me) = &view.holder else {
            register.end(out);
            return;
        };
        let deadline = since.after(view.timing.drain);
        if self.leaving {
            // The goodbye is a courtesy: without it others find out by themselves.
            let last = deadline.after(view.timing.late);
            if last <= now {
                register.end(out);
            } else {
                out.wake_at(last);
            }
            return;
        }
        let overdue = deadline <= now;
        let heir = heir(view);
        if elector.term().is_some() && !overdue && heir.is_some() {
            elector.release(now, view, heir, out);
            out.wake_at(deadline);
            return;
        }
        let alone = heir.is_none();
        if alone && !overdue {
            owner.finish(out);
        }
        let granted = view
            .map
            .as_ref()
            .is_some_and(|map| map.grants.values().any(|grant| grant.owner == *me));
        // A map that has it as Active may be followed by one that grants it something.
        let state = view.map.as_ref().and_then(|map| map.state(me));
        let passed_over = matches!(
            state,
            None | Some(MemberState::Draining | MemberState::Down)
        );
        let given = owner.held() == 0 && !granted && passed_over && register.tells_drain();
        let done = given || (alone && owner.idle()) || planted!(view.protocol, EarlyGoodbye);
        if !done && !overdue {
            out.wake_at(deadline);
            return;
        }
        if !done {
            let left = owner.held();
            out.tell(Event::DrainOverdue { left });
        }
        if elector.term().is_some() && !overdue {
            elector.release(now, view, None, out);
            out.wake_at(deadline);
            return;
        }
        self.leaving = true;
        owner.drop_all(out);
        register.leave();
        out.wake_at(deadline.after(view.timing.late));
    }
}

/// A pod without work doesn't lead either, where another can.
fn lead_no_more(now: Moment, parts: Parts<'_>) {
    let heir = heir(parts.view);
    if parts.view.holder.is_some() && parts.elector.term().is_some() && heir.is_some() {
        parts.elector.release(now, parts.view, heir, parts.out);
    }
}

/// Who takes the lead from one that drains: the newest build first, then the first by name.
fn heir(view: &View) -> Option<Holder> {
    view.heirs()
        .max_by(|(one, a), (other, b)| newer(&a.build, &b.build).then_with(|| other.cmp(one)))
        .map(|(holder, _)| holder.clone())
}
