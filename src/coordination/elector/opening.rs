//! When the leader Lease is free, and whose turn it is.

use std::time::Duration;

use super::super::{
    port::Moment,
    protocol::planted,
    view::{Fate, View},
};

/// Why the Lease is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It isn't there, or says nothing readable.
    Missing,
    /// Its holder gave it away.
    Released,
    /// It names a former life of this very pod.
    Own,
    /// Its holder is dead by its member Lease.
    Dead,
    /// Its holder has no member Lease, or its pod's is that of an earlier life: nobody's hand but an
    /// editor's wrote that.
    Nobody,
    /// It was unchanged for a whole duration.
    Stale,
}

/// The Lease is free.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    why: Why,
    /// Since when this replica knows that.
    since: Moment,
    /// Before the Lease expires: subject to damping.
    pub(super) early: bool,
}

// === impl Opening ===

impl Opening {
    /// Whether the Lease is free now. One that was found before keeps its beginning.
    pub(super) fn found(now: Moment, view: &View, before: Option<&Self>) -> Option<Self> {
        let observed = view.leader.as_ref()?;
        let (why, from) = match &observed.record {
            None => (Why::Missing, observed.changed),
            Some(record) => match &record.holder {
                None => (Why::Released, observed.changed),
                Some(holder) => {
                    let own = holder.pod == view.me.pod && record.pod_uid == view.me.pod_uid;
                    if own {
                        (Why::Own, now)
                    } else if view.fate(holder) == Fate::Dead {
                        (Why::Dead, now)
                    } else if Self::stale(now, view).is_some_and(|stale| stale <= now) {
                        (Why::Stale, now)
                    } else if view.fate(holder) == Fate::Unknown && view.is_unborn(holder) {
                        (Why::Nobody, now)
                    } else {
                        return None;
                    }
                }
            },
        };
        let since = before
            .filter(|before| before.why == why && before.since >= observed.changed)
            .map_or(from, |before| before.since);
        Some(Self {
            why,
            since,
            early: matches!(why, Why::Own | Why::Dead),
        })
    }

    /// When the Lease will be stale, if it stays as it is.
    pub(super) fn stale(now: Moment, view: &View) -> Option<Moment> {
        let observed = view.leader.as_ref()?;
        let record = observed.record.as_ref()?;
        record.holder.as_ref()?;
        if planted!(view.protocol, WallClocks) {
            return Some(record.renewed.after(view.timing.lease));
        }
        view.contact.due(now, observed.changed, view.timing.lease)
    }

    /// When it is this replica's turn.
    pub(super) fn turn(&self, view: &View) -> Moment {
        let timing = &view.timing;
        let record = view.leader.as_ref().and_then(|l| l.record.as_ref());
        let term = record.map_or(0, |record| record.term);
        let steps = if planted!(view.protocol, TakeByPatch) {
            // As that crate does it: everybody at once.
            Duration::ZERO
        } else {
            timing.step * view.rank(term)
        };
        let wait = match self.why {
            Why::Own => return self.since,
            Why::Missing => {
                let named = view.map.as_ref().map(|map| &map.leader);
                if named.is_some() && named == view.holder.as_ref() {
                    return self.since;
                }
                timing.create + steps
            }
            Why::Released => {
                let heir = record.and_then(|record| record.heir.as_ref());
                match heir {
                    Some(heir) if Some(heir) == view.holder.as_ref() => return self.since,
                    Some(_) => timing.step + steps,
                    None => steps,
                }
            }
            // A leader has claimed its incarnation before it leads, so its member Lease is there, and
            // only seen late. It is left as long as one that is asked whether it lives.
            Why::Nobody => timing.challenge + steps,
            Why::Dead | Why::Stale => steps,
        };
        self.since.after(wait)
    }
}
