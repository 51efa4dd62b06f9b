//! What was logged already: once per peer and reason.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// So many pairs are remembered; beyond that only counters tell. Whoever scans the port from many
/// addresses fills neither memory nor log.
const MOST: usize = 1_024;

/// Peers and reasons that were logged.
#[derive(Debug)]
pub(crate) struct Told<R>(Mutex<BTreeSet<(String, R)>>);

impl<R> Default for Told<R> {
    fn default() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }
}

impl<R: Ord> Told<R> {
    /// Whether this is to be logged: the first time, until the bound is reached.
    pub(crate) fn first(&self, peer: &str, why: R) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < MOST && told.insert((peer.to_owned(), why))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::refusal::Reason, *};

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
