//! Token buckets: one per endpoint, and one per client address for requests that fail.
//!
//! The generic cell rate algorithm (GCRA) keeps one number per bucket: the theoretical arrival
//! time, in nanoseconds since the gateway started. Time is a parameter.

use core::net::IpAddr;
use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Nanoseconds that one request costs.
    cost: u64,
    /// Nanoseconds that may be owed: the burst.
    depth: u64,
}

impl Quota {
    /// `per_second` on the average, `burst` at once; both at least 1.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let cost = 1_000_000_000 / u64::from(per_second.max(1));
        Self {
            cost: cost.max(1),
            depth: cost.max(1).saturating_mul(u64::from(burst.max(1))),
        }
    }

    /// The new arrival time when a request at `now` fits, else how long to wait.
    fn admit(self, arrival: u64, now: u64) -> Result<u64, Duration> {
        let next = arrival.max(now).saturating_add(self.cost);
        let owed = next.saturating_sub(now);
        if owed > self.depth {
            Err(Duration::from_nanos(owed - self.depth))
        } else {
            Ok(next)
        }
    }

    /// How long until the whole burst is available again after it was spent.
    #[must_use]
    pub const fn window(self) -> Duration {
        Duration::from_nanos(self.depth)
    }
}

/// A bucket that many threads share.
#[derive(Debug)]
pub struct Bucket {
    quota: Quota,
    arrival: AtomicU64,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(quota: Quota) -> Self {
        Self {
            quota,
            arrival: AtomicU64::new(0),
        }
    }

    /// Its rate and burst.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes one token at `now`.
    ///
    /// # Errors
    /// How long to wait; nothing was taken.
    pub fn take(&self, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let mut seen = self.arrival.load(Ordering::Relaxed);
        loop {
            let next = self.quota.admit(seen, now)?;
            match self.arrival.compare_exchange_weak(
                seen,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(current) => seen = current,
            }
        }
    }
}

fn nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Shards of the address table: enough that two cores rarely meet.
const SHARDS: usize = 16;

/// Addresses per shard; 65,536 in all take about 2 MiB. Beyond it, the one that owes least leaves:
/// it is the one for which forgetting changes least.
const PER_SHARD: usize = 4_096;

/// How many entries are looked at to find one that may leave, so that a full table costs the same
/// as an empty one.
const LOOKED_AT: usize = 16;

/// The longest that an address can be made to wait. Requests that were checked before others failed
/// may fail in their thousands at one moment, and each of them is owed; but an address that many
/// share is not to be shut out for long after one of them was cut off.
const LONGEST_DEBT: Duration = Duration::from_mins(1);

/// Buckets per client address, charged only by requests that failed a check: providers send all of
/// their traffic from few addresses.
#[derive(Debug)]
pub struct Addresses {
    quota: Quota,
    hasher: RandomState,
    shards: [Mutex<HashMap<IpAddr, u64>>; SHARDS],
    entries: AtomicUsize,
}

impl Addresses {
    /// No address is known yet.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self {
            quota,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
            entries: AtomicUsize::new(0),
        }
    }

    /// How many addresses are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the address still has budget; charges nothing.
    ///
    /// # Errors
    /// How long to wait.
    pub fn check(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        if self.is_empty() {
            return Ok(());
        }
        let key = network_of(address);
        let arrival = self.shard(key).get(&key).copied().unwrap_or_default();
        self.quota.admit(arrival, nanos(now)).map(|_| ())
    }

    /// Charges a failed request, also one that fits no more: it has been made.
    pub fn charge(&self, address: IpAddr, now: Duration) {
        let key = network_of(address);
        let now = nanos(now);
        let mut shard = self.shard(key);
        if !shard.contains_key(&key) {
            if shard.len() >= PER_SHARD {
                let leaves = shard
                    .iter()
                    .take(LOOKED_AT)
                    .min_by_key(|(_, arrival)| **arrival)
                    .map(|(address, _)| *address);
                if let Some(leaves) = leaves {
                    shard.remove(&leaves);
                    self.entries.fetch_sub(1, Ordering::Relaxed);
                }
            }
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
        let arrival = shard.entry(key).or_default();
        let most = now
            .saturating_add(self.quota.depth)
            .saturating_add(nanos(LONGEST_DEBT));
        let next = (*arrival).max(now).saturating_add(self.quota.cost);
        *arrival = next.min(most);
    }

    /// Forgets addresses that owe nothing any more.
    pub fn sweep(&self, now: Duration) {
        let now = nanos(now);
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|_, arrival| *arrival > now);
            self.entries
                .fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
    }

    fn shard(&self, key: IpAddr) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u64>> {
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash % 16).unwrap_or_default();
        let [first, ..] = &self.shards;
        let shard = self.shards.get(index).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 one, which one host has whole.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let bits = v6.to_bits() & (u128::MAX << 64);
            IpAddr::V6(core::net::Ipv6Addr::from_bits(bits))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: Duration = Duration::from_secs(100);

    #[test]
    fn a_burst_passes_and_the_next_waits_for_its_token() {
        let bucket = Bucket::new(Quota::new(10, 3));
        for _ in 0..3 {
            assert_eq!(bucket.take(T0), Ok(()));
        }
        assert_eq!(bucket.take(T0), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(T0 + Duration::from_millis(100)), Ok(()));
    }

    #[test]
    fn only_failures_spend_an_address_and_it_recovers() {
        let addresses = Addresses::new(Quota::new(2, 2));
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..100 {
            assert_eq!(addresses.check(address, T0), Ok(()));
        }
        for _ in 0..3 {
            addresses.charge(address, T0);
        }
        // Two are the burst, and the third is owed.
        assert!(addresses.check(address, T0).is_err());
        assert!(addresses.check("192.0.2.2".parse().unwrap(), T0).is_ok());
        assert!(
            addresses
                .check(address, T0 + Duration::from_secs(1))
                .is_ok()
        );
        addresses.sweep(T0 + Duration::from_secs(2));
        assert!(addresses.is_empty());
    }

    #[test]
    fn what_fails_beyond_the_burst_is_owed_for_a_minute_at_most() {
        let addresses = Addresses::new(Quota::new(2, 2));
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..22 {
            addresses.charge(address, T0);
        }
        let wait = addresses.check(address, T0).unwrap_err();
        assert_eq!(wait, Duration::from_millis(10_500));
        for _ in 0..10_000 {
            addresses.charge(address, T0);
        }
        let wait = addresses.check(address, T0).unwrap_err();
        assert_eq!(wait, LONGEST_DEBT + Duration::from_millis(500));
        assert!(addresses.check(address, T0 + wait).is_ok());
    }

    #[test]
    fn a_host_does_not_gain_by_changing_its_ipv6_suffix() {
        let addresses = Addresses::new(Quota::new(1, 1));
        addresses.charge("2001:db8::1".parse().unwrap(), T0);
        assert!(
            addresses
                .check("2001:db8::ffff".parse().unwrap(), T0)
                .is_err()
        );
        assert!(
            addresses
                .check("2001:db8:0:1::1".parse().unwrap(), T0)
                .is_ok()
        );
    }

    #[test]
    fn the_table_stays_within_its_bound() {
        let addresses = Addresses::new(Quota::new(1, 1));
        for bits in 0..100_000_u32 {
            addresses.charge(IpAddr::from(bits.to_be_bytes()), T0);
        }
        assert!(addresses.len() <= SHARDS * PER_SHARD);
    }

    proptest! {
        #[test]
        fn never_admits_more_than_burst_plus_rate_times_time(
            rate in 1_u32..2_000, burst in 1_u32..500,
            steps in prop::collection::vec(0_u64..20_000_000, 1..600),
        ) {
            let bucket = Bucket::new(Quota::new(rate, burst));
            let mut now = T0;
            let mut admitted = 0_u64;
            for step in steps {
                now += Duration::from_nanos(step);
                admitted += u64::from(bucket.take(now).is_ok());
            }
            // The cost is rounded down to whole nanoseconds, hence the small allowance.
            let elapsed = (now - T0).as_secs_f64();
            let most = f64::from(burst) + elapsed * f64::from(rate) * 1.000_01 + 1.0;
            prop_assert!(f64::from(u32::try_from(admitted).unwrap()) <= most);
        }

        #[test]
        fn refusing_changes_nothing(rate in 1_u32..100, burst in 1_u32..10) {
            let bucket = Bucket::new(Quota::new(rate, burst));
            while bucket.take(T0).is_ok() {}
            let first = bucket.take(T0).unwrap_err();
            for _ in 0..10 {
                prop_assert_eq!(bucket.take(T0), Err(first));
            }
            prop_assert_eq!(bucket.take(T0 + first), Ok(()));
        }
    }
}
