//! Clocks that run only while this replica is in contact with the API server.
//!
//! *Guarantee:* a Lease is called stale only when it stayed unchanged through an unbroken time in
//! which this replica's own renewals were confirmed, none late. So an API server that is away,
//! stalled or slow for however long, or this process being paused, makes nobody dead.
//!
//! *Assumes* that the local clock is monotonic. Its rate may be wrong: then a Lease is called stale
//! too early or too late, and the compare-and-swap of the mark decides.

use std::time::Duration;

use super::{
    port::Moment,
    protocol::{Protocol, planted},
    timing::Timing,
};

/// Since when this replica's renewals are confirmed without a gap.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    /// No longer than this between two confirmations.
    gap: Duration,
    late: Duration,
    last: Option<Moment>,
    since: Moment,
    protocol: Protocol,
}

// === impl Contact ===

impl Contact {
    pub(super) fn new(timing: &Timing, protocol: Protocol) -> Self {
        Self {
            gap: timing.renew_member + timing.late,
            late: timing.late,
            last: None,
            since: Moment(0),
            protocol,
        }
    }

    /// A renewal that was sent then is confirmed now.
    pub(super) fn confirmed(&mut self, sent: Moment, now: Moment) {
        if self.since(now).is_none() || now.since(sent) > self.late {
            self.since = now;
        }
        self.last = Some(now);
    }

    /// Since when contact is unbroken, if there is any now.
    pub(super) fn since(&self, now: Moment) -> Option<Moment> {
        if planted!(self.protocol, ClocksRunThroughOutage) {
            return Some(Moment(0));
        }
        let last = self.last?;
        (now.since(last) <= self.gap).then_some(self.since)
    }

    /// When a clock that began at `from` will have run for this long, if contact holds.
    pub(super) fn due(&self, now: Moment, from: Moment, wait: Duration) -> Option<Moment> {
        self.since(now).map(|since| since.max(from).after(wait))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(secs: u64) -> Moment {
        Moment(secs * 1_000_000)
    }

    fn contact() -> Contact {
        Contact::new(&Timing::default(), Protocol::default())
    }

    #[test]
    fn a_clock_runs_from_the_change_while_renewals_are_confirmed() {
        let mut contact = contact();
        let lease = Timing::default().lease;
        assert_eq!(contact.due(secs(0), secs(0), lease), None);
        for at in [0, 5, 10, 15] {
            contact.confirmed(secs(at), secs(at));
        }
        assert_eq!(contact.due(secs(16), secs(3), lease), Some(secs(18)));
    }

    #[test]
    fn a_gap_begins_it_anew() {
        let mut contact = contact();
        let lease = Timing::default().lease;
        contact.confirmed(secs(0), secs(0));
        assert_eq!(contact.due(secs(8), secs(0), lease), None, "out of contact");
        contact.confirmed(secs(60), secs(60));
        assert_eq!(contact.due(secs(60), secs(0), lease), Some(secs(75)));
    }

    #[test]
    fn a_late_answer_is_a_gap() {
        let mut contact = contact();
        contact.confirmed(secs(0), secs(0));
        contact.confirmed(secs(3), secs(6));
        assert_eq!(contact.since(secs(6)), Some(secs(6)));
    }

    proptest! {
        /// Whatever pattern confirmations have: nothing is due unless they covered the whole wait.
        #[test]
        fn nothing_is_due_without_cover(steps in prop::collection::vec(1_u64..12, 1..40)) {
            let mut contact = contact();
            let lease = Timing::default().lease;
            let (mut now, mut confirmed) = (0, Vec::new());
            for step in steps {
                now += step;
                contact.confirmed(secs(now), secs(now));
                confirmed.push(now);
                let due = contact.due(secs(now), secs(0), lease).unwrap();
                if due <= secs(now) {
                    let covered = confirmed.windows(2).rev().take_while(|w| w[1] - w[0] <= 7);
                    let run: u64 = covered.map(|w| w[1] - w[0]).sum();
                    prop_assert!(run >= 15, "{confirmed:?}");
                }
            }
        }
    }
}
