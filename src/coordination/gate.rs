//! Whether this pod may start effects at all.
//!
//! *Guarantee:* the gate is shut from 10 s after the last renewal of the own member Lease *was
//! sent* that came to be confirmed, and from 10 s after the view of the map was last confirmed; and
//! at once when this process is no holder. It opens again by itself. A slow API server shuts gates;
//! it never ends a process.
//!
//! *What it is not:* safety. A process that is paused between looking at the gate and writing
//! writes late; the epoch refuses that.

use std::time::Duration;

use super::{
    out::Out,
    port::{Action, Moment},
    protocol::{Protocol, planted},
    timing::Timing,
};

/// The write gate.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    wait: Duration,
    open: bool,
    mapped: Option<Moment>,
    protocol: Protocol,
}

// === impl Gate ===

impl Gate {
    pub(super) const fn new(timing: &Timing, protocol: Protocol) -> Self {
        Self {
            wait: timing.gate,
            open: false,
            mapped: None,
            protocol,
        }
    }

    /// The view of the map is confirmed as of then.
    pub(super) fn mapped(&mut self, as_of: Moment) {
        self.mapped = self.mapped.max(Some(as_of));
    }

    /// When the view of the map was last confirmed.
    pub(super) const fn last_mapped(&self) -> Option<Moment> {
        self.mapped
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// `renewed`: when the last renewal that came to be confirmed was sent; `None`: this process is no
    /// holder now.
    pub(super) fn step(&mut self, now: Moment, renewed: Option<Moment>, out: &mut Out) {
        let until = match (renewed, self.mapped) {
            (Some(renewed), Some(mapped)) => Some(renewed.min(mapped).after(self.wait)),
            (None, _) | (_, None) => None,
        };
        let open = until.is_some_and(|until| now < until)
            || (self.open && planted!(self.protocol, GateStaysOpen));
        if let Some(until) = until.filter(|until| now < *until) {
            out.wake_at(until);
        }
        if open != self.open {
            self.open = open;
            out.push(Action::Gate { open });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn secs(secs: u64) -> Moment {
        Moment(secs * 1_000_000)
    }

    fn gates(out: &mut Out) -> Vec<bool> {
        std::iter::from_fn(|| out.poll())
            .filter_map(|action| match action {
                Action::Gate { open } => Some(open),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn it_needs_both_and_shuts_ten_seconds_after_either() {
        let mut out = Out::new(Arc::from("f"), 1);
        let mut gate = Gate::new(&Timing::default(), Protocol::default());
        gate.step(secs(0), Some(secs(0)), &mut out);
        assert_eq!(gates(&mut out), Vec::<bool>::new());
        gate.mapped(secs(1));
        gate.step(secs(1), Some(secs(0)), &mut out);
        assert_eq!(gates(&mut out), [true]);
        assert_eq!(out.wake(), Some(secs(10)));
        gate.step(secs(10), Some(secs(5)), &mut out);
        assert_eq!(gates(&mut out), Vec::<bool>::new());
        gate.step(secs(11), Some(secs(5)), &mut out);
        assert_eq!(gates(&mut out), [false], "the map's view is 10 s old");
        gate.mapped(secs(12));
        gate.step(secs(12), Some(secs(5)), &mut out);
        assert_eq!(gates(&mut out), [true]);
        gate.step(secs(12), None, &mut out);
        assert_eq!(gates(&mut out), [false]);
    }
}
