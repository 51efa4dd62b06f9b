//! Handshakes under way, and which of them gives way to a newcomer: pure.
//!
//! Whoever holds the most places loses the oldest of them, so that one address crowds out nobody but
//! itself, and what has said nothing for longest goes before what has just come.

use core::net::IpAddr;
use std::collections::{BTreeMap, VecDeque};

/// Handshakes in the order in which they began, each with what ends it.
#[derive(Debug)]
pub(super) struct Pending<T> {
    begun: VecDeque<(IpAddr, T)>,
}

// === impl Pending ===

impl<T> Pending<T> {
    pub(super) const fn new() -> Self {
        Self {
            begun: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.begun.len()
    }

    /// A handshake with this address begins.
    pub(super) fn begins(&mut self, address: IpAddr, handle: T) {
        self.begun.push_back((address, handle));
    }

    /// A handshake has ended.
    pub(super) fn ends(&mut self, is_it: impl Fn(&T) -> bool) {
        self.begun.retain(|(_, handle)| !is_it(handle));
    }

    /// Takes out the one that gives way to a newcomer of this address: the oldest of the address that
    /// has the most, the newcomer counted; among equals the oldest of all.
    pub(super) fn gives_way(&mut self, newcomer: IpAddr) -> Option<(IpAddr, T)> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::from([(newcomer, 1)]);
        for (address, _) in &self.begun {
            *counts.entry(*address).or_default() += 1;
        }
        // A newcomer that is alone with its address never gives way while others are there.
        let has = |address: &IpAddr| counts.get(address).copied().unwrap_or_default();
        let most = self.begun.iter().map(|(address, _)| has(address)).max()?;
        let oldest = self
            .begun
            .iter()
            .position(|(address, _)| has(address) == most)?;
        self.begun.remove(oldest)
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn pending(of: &[u8]) -> Pending<usize> {
        let mut pending = Pending::new();
        for (number, last) in of.iter().enumerate() {
            pending.begins(address(*last), number);
        }
        pending
    }

    #[test]
    fn the_oldest_of_the_address_with_the_most_gives_way() {
        let rows: [(&[u8], u8, Option<usize>); 5] = [
            (&[], 1, None),
            (&[1, 2, 2, 3], 4, Some(1)),
            (&[1, 2, 3], 4, Some(0)),
            // The newcomer counts: it takes a place from its own address.
            (&[1, 2, 3], 3, Some(2)),
            (&[1, 2, 2, 1], 1, Some(0)),
        ];
        for (begun, newcomer, gone) in rows {
            let went = pending(begun).gives_way(address(newcomer));
            assert_eq!(went.map(|(_, number)| number), gone, "{begun:?} {newcomer}");
        }
    }

    #[test]
    fn what_has_ended_gives_no_way() {
        let mut pending = pending(&[1, 1]);
        pending.ends(|number| *number == 0);
        assert_eq!(pending.len(), 1);
        assert_eq!(pending.gives_way(address(2)), Some((address(1), 1)));
        assert_eq!(pending.gives_way(address(2)), None);
    }
}
