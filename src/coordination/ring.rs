//! The ring: for each bucket, in which order pods are its choice.
//!
//! Weighted rendezvous hashing: of all pods the one with the least −ln(u)/w is first, where u in
//! (0, 1) is a hash of bucket and pod, and w the pod's weight. A pod is first for a share of the
//! buckets that is its share of the weight (Schindelhauer and Schomaker, "Weighted distributed hash
//! tables", 2005). A pod that goes leaves the order of the others as it is: what was its moves to
//! the second choices, and nothing else moves; one that comes takes its share and nothing else moves.
//!
//! Every replica must come to the same order on every machine. So there is no floating point here:
//! logarithms are integers of 32 fractional bits, shares are compared by multiplying across, and what
//! ties goes by the hash itself, then by name.

use std::{cmp::Ordering, sync::Arc};

use super::names::PodName;
use crate::journal::Bucket;

/// Who sits at the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its name, by which it is hashed.
    pub pod: PodName,
    /// How much of the work is its share, against the others' weights; one of 0 comes last.
    pub weight: u32,
    /// Where it may fail together with others; empty where nobody knows.
    pub zone: Arc<str>,
}

/// The pods in their order for every bucket. Equal seats make equal rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    seats: Vec<Seat>,
    /// Bucket by bucket, indices of `seats`, best first: as many for each bucket as there are seats.
    order: Vec<u16>,
}

// === impl Ring ===

impl Ring {
    /// The ring of these pods, for so many buckets. Seats keep the order in which they come; what ties
    /// goes to the first. Seats beyond the 65,536th are never anybody's choice.
    #[must_use]
    pub fn new(buckets: u16, seats: Vec<Seat>) -> Self {
        let hashes: Vec<u64> = seats
            .iter()
            .map(|seat| fnv1a(seat.pod.0.as_bytes()))
            .collect();
        let even = seats.windows(2).all(|two| match two {
            [a, b] => a.weight == b.weight,
            _ => true,
        });
        let mut order = Vec::with_capacity(seats.len() * usize::from(buckets));
        let mut scored: Vec<(Score, u16)> = Vec::with_capacity(seats.len());
        for bucket in 0..buckets {
            scored.clear();
            let all = (0..=u16::MAX).zip(&seats).zip(&hashes);
            scored.extend(all.map(|((n, seat), hash)| {
                let u = mixed(hash ^ mixed(u64::from(bucket)));
                let score = if even {
                    Score::even(u)
                } else {
                    Score::weighted(u, seat.weight)
                };
                (score, n)
            }));
            scored.sort_unstable();
            order.extend(scored.iter().map(|(_, n)| *n));
        }
        Self { seats, order }
    }

    /// The pods for a bucket, best first.
    pub fn order(&self, bucket: Bucket) -> impl Iterator<Item = &PodName> + Clone {
        self.ranked(bucket).map(|seat| &seat.pod)
    }

    /// The first choice; `None` where nobody sits.
    #[must_use]
    pub fn first(&self, bucket: Bucket) -> Option<&PodName> {
        self.order(bucket).next()
    }

    /// The second choice: the best in another zone than the first, else the best beside it. `None`
    /// where fewer than two sit.
    #[must_use]
    pub fn second(&self, bucket: Bucket) -> Option<&PodName> {
        let mut others = self.ranked(bucket);
        let first = others.next()?;
        let apart = others.clone().find(|seat| seat.zone != first.zone);
        apart.or_else(|| others.next()).map(|seat| &seat.pod)
    }

    /// For a bucket, who sits where: numbers of seats, best first.
    pub(super) fn places(&self, bucket: Bucket) -> &[u16] {
        let start = usize::from(bucket.0) * self.seats.len();
        let places = self.order.get(start..start + self.seats.len());
        places.unwrap_or_default()
    }

    fn ranked(&self, bucket: Bucket) -> impl Iterator<Item = &Seat> + Clone {
        let places = self.places(bucket).iter();
        places.filter_map(|n| self.seats.get(usize::from(*n)))
    }
}

/// −log2(u)/w as a fraction: the smaller, the better. What ties goes by u, the larger first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Score {
    length: u64,
    weight: u32,
    u: u64,
}

// === impl Score ===

impl Score {
    fn weighted(u: u64, weight: u32) -> Self {
        Self {
            length: negative_log2(u),
            weight,
            u,
        }
    }

    /// Among equal weights u alone gives the same order, without a logarithm.
    const fn even(u: u64) -> Self {
        Self {
            length: 0,
            weight: 1,
            u,
        }
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        // One without weight is infinitely far: 0 on the other's side, and never less.
        let mine = u128::from(self.length) * u128::from(other.weight);
        let theirs = u128::from(other.length) * u128::from(self.weight);
        mine.cmp(&theirs).then_with(|| other.u.cmp(&self.u))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Fractional bits of a logarithm: two of a thousand pods are equally good for one bucket in
/// thousands of millions, and the 63 bits of a mantissa, of which each squaring costs one, suffice.
const FRACTION: u32 = 32;

/// −log2(u / 2^64) in fixed point, rounded up, from 1 to 64 · 2^32. Natural or binary logarithm: the
/// order is the same.
fn negative_log2(u: u64) -> u64 {
    let u = u.max(1);
    let zeros = u.leading_zeros();
    // u = m · 2^(63 − zeros) with m in [1, 2): its logarithm bit by bit, by squaring (Knuth, TAOCP
    // 1.2.2, exercise 25).
    let mut mantissa = u << zeros;
    let mut log = u64::from(63 - zeros);
    for _ in 0..FRACTION {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let carry = square >> 64;
        log = (log << 1) | u64::try_from(carry).unwrap_or_default();
        // Below 2^64 after the shift: a square of less than 2 · 2^63 is less than 4 · 2^63.
        mantissa = u64::try_from(square >> carry).unwrap_or(u64::MAX);
    }
    (64 << FRACTION) - log
}

/// 64-bit FNV-1a (the seed is its offset basis).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finalizer of SplitMix64 behind its increment: FNV-1a's high bits hardly know its last byte,
/// by which pods of a set differ.
fn mixed(hash: u64) -> u64 {
    let hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
#[path = "ring/tests.rs"]
mod tests;
