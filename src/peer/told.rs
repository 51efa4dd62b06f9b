//! What was logged already: once per peer and reason.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use super::refusal::Reason;

/// So many pairs are remembered; beyond that only counters tell. Whoever scans the port from many
/// addresses fills neither memory nor log.
const MOST: usize = 1_024;

/// Peers and reasons that were logged.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<BTreeSet<(String, Reason)>>);

impl Told {
    /// Whether this is to be logged: the first time, until the bound is reached.
    pub(super) fn first(&self, peer: &str, why: Reason) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < MOST && told.insert((peer.to_owned(), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_and_reason_once_and_no_more_than_the_bound() {
        let told = Told::default();
        assert!(told.first("a", Reason::Fleet));
        assert!(!told.first("a", Reason::Fleet));
        assert!(told.first("a", Reason::Expired));
        let more = (0..2 * MOST).filter(|n| told.first(&n.to_string(), Reason::Slow));
        assert_eq!(more.count(), MOST - 2);
    }
}
