//! The limit per client address, charged only by requests that are refused. Pure.
//!
//! The generic cell rate algorithm (ITU-T I.371): per address one time, the one at which all that
//! was charged has drained. Providers send all of their traffic from few addresses and are never
//! charged; who guesses signatures is. The table is bounded: when it is full of addresses that are
//! all in debt, newcomers share one account, so that it neither grows nor lets a flood through.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Addresses with an account: some 100 bytes each, so 6.5 MiB when full.
const MAX_ACCOUNTS: usize = 65_536;

/// A limiter; times are those of one monotonic clock, since any moment of its own.
#[derive(Debug)]
pub(crate) struct AddressLimit {
    /// What one refused request costs.
    cost: Duration,
    /// How much may be owed.
    tolerance: Duration,
    accounts: HashMap<IpAddr, Duration>,
    shared: Duration,
}

impl AddressLimit {
    /// At most `burst` refused requests at once, and `per_second` in the long run. Zero counts as one.
    #[must_use]
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let cost = Duration::from_secs(1) / per_second.max(1);
        Self {
            cost,
            tolerance: cost * burst.max(1),
            accounts: HashMap::new(),
            shared: Duration::ZERO,
        }
    }

    /// Whether a request of `address` may be looked at; else how long it has to wait. Charges nothing.
    ///
    /// # Errors
    /// When it may come back.
    pub(crate) fn check(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let account = key(address);
        let drained = match self.accounts.get(&account) {
            Some(drained) => *drained,
            None if self.accounts.len() >= MAX_ACCOUNTS => self.shared,
            None => return Ok(()),
        };
        let owed = drained.saturating_sub(now);
        // One more must fit below the tolerance.
        match (owed + self.cost).checked_sub(self.tolerance) {
            Some(wait) if !wait.is_zero() => Err(wait),
            Some(_) | None => Ok(()),
        }
    }

    /// Charges one refused request.
    pub(crate) fn charge(&mut self, address: IpAddr, now: Duration) {
        let account = key(address);
        if !self.accounts.contains_key(&account) && self.accounts.len() >= MAX_ACCOUNTS {
            self.accounts.retain(|_, drained| *drained > now);
            if self.accounts.len() >= MAX_ACCOUNTS {
                self.shared = self.shared.max(now) + self.cost;
                return;
            }
        }
        let drained = self.accounts.entry(account).or_insert(now);
        *drained = (*drained).max(now) + self.cost;
    }

    /// Whether nobody owes anything, so that the check can be left out.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.accounts.is_empty()
    }
}

/// Whom an address belongs to: an IPv6 host has a whole /64 to choose from.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut limit = AddressLimit::new(200, 400);
        let mut now = Duration::from_secs(5);
        for _ in 0..400 {
            assert_eq!(limit.check(address(1), now), Ok(()));
            limit.charge(address(1), now);
        }
        let wait = limit.check(address(1), now).unwrap_err();
        assert_eq!(
            limit.check(address(2), now),
            Ok(()),
            "others are not concerned"
        );
        now += wait;
        assert_eq!(limit.check(address(1), now), Ok(()));
        limit.charge(address(1), now);
        assert!(limit.check(address(1), now).is_err());
    }

    #[test]
    fn the_table_is_bounded_and_a_flood_is_still_limited() {
        let mut limit = AddressLimit::new(1, 2);
        let now = Duration::from_secs(1);
        for n in 0..70_000 {
            limit.charge(address(n), now);
        }
        assert_eq!(limit.accounts.len(), MAX_ACCOUNTS);
        assert!(
            limit.check(address(1_000_000), now).is_err(),
            "newcomers share one account"
        );
        let later = now + Duration::from_secs(100_000);
        limit.charge(address(1_000_000), later);
        assert_eq!(limit.accounts.len(), 1, "who owes nothing leaves");
    }

    #[test]
    fn an_ipv6_host_has_one_account() {
        let mut limit = AddressLimit::new(1, 1);
        limit.charge("2001:db8::1".parse().unwrap(), Duration::from_secs(1));
        let neighbour = "2001:db8::ffff".parse().unwrap();
        assert!(limit.check(neighbour, Duration::from_secs(1)).is_err());
        let other = "2001:db8:0:1::1".parse().unwrap();
        assert!(limit.check(other, Duration::from_secs(1)).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn never_more_than_burst_and_rate(steps in proptest::collection::vec(0_u64..50, 1..300)) {
            let (rate, burst) = (20_u32, 5_u32);
            let mut limit = AddressLimit::new(rate, burst);
            let (mut now, mut passed) = (Duration::ZERO, 0_u32);
            for step in steps {
                now += Duration::from_millis(step);
                if limit.check(address(1), now).is_ok() {
                    limit.charge(address(1), now);
                    passed += 1;
                }
            }
            let most = f64::from(burst) + f64::from(rate) * now.as_secs_f64();
            proptest::prop_assert!(f64::from(passed) <= most + 1e-6);
        }
    }
}
