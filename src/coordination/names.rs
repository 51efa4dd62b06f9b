//! What replicas are called: pods, incarnations, holders.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::journal;

/// Everything that counts up (terms, versions, epochs, incarnations) stays below 2^52: JSON numbers
/// hold it exactly.
pub const MOST: u64 = (1 << 52) - 1;

/// Numbers that somebody claims to have seen count below this: an editor's slip near the maximum
/// must not use up all that is left. 2^20 versions of room are years of a busy fleet.
pub const REACHABLE: u64 = MOST - (1 << 20);

/// A pod's name: a DNS subdomain, so `#` can't occur in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodName(pub Arc<str>);

impl fmt::Debug for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of a pod's process: `pod#incarnation`. A process that comes back is another holder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The pod.
    pub pod: PodName,
    /// Its incarnation, from 1.
    pub incarnation: u64,
}

/// Text that is not `pod#incarnation`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `pod#incarnation`")]
pub struct NotAHolder(pub String);

// === impl Holder ===

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.pod, self.incarnation)
    }
}

impl FromStr for Holder {
    type Err = NotAHolder;

    fn from_str(text: &str) -> Result<Self, NotAHolder> {
        let wrong = || NotAHolder(text.chars().take(300).collect());
        let (pod, number) = text.split_once('#').ok_or_else(wrong)?;
        let plain = !number.starts_with(['0', '+']) && !pod.is_empty() && pod.len() <= 253;
        let incarnation: u64 = number
            .parse()
            .ok()
            .filter(|n| *n <= MOST)
            .ok_or_else(wrong)?;
        if !plain {
            return Err(wrong());
        }
        Ok(Self {
            pod: PodName(Arc::from(pod)),
            incarnation,
        })
    }
}

impl From<&Holder> for journal::Holder {
    fn from(holder: &Holder) -> Self {
        Self(Arc::from(holder.to_string()))
    }
}

/// Orders builds: the greater is the newer. Runs of digits compare as numbers, so that `0.10.0` is
/// newer than `0.9.1`; what only leading zeros tell apart is equal.
#[must_use]
pub fn newer(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        let ((a, rest), (b, others_rest)) = (part(one), part(other));
        let by_value = match (a.first(), b.first()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                a.len().cmp(&b.len()).then_with(|| a.cmp(b))
            }
            (None, None) => return Ordering::Equal,
            _ => a.cmp(b),
        };
        if by_value.is_ne() {
            return by_value;
        }
        (one, other) = (rest, others_rest);
    }
}

/// The first run of digits, without leading zeros, or the first other byte; and what is behind it.
fn part(text: &[u8]) -> (&[u8], &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (run, rest) = text.split_at_checked(digits.max(1)).unwrap_or((text, &[]));
    let zeros = run.iter().take_while(|byte| **byte == b'0').count();
    // One zero stays where there is nothing else.
    let kept = run.get(zeros.min(run.len().saturating_sub(1))..);
    (kept.unwrap_or(run), rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_in_builds_are_numbers() {
        let mut builds = [
            "0.10.0",
            "0.9.1",
            "",
            "0.9",
            "0.9.1-rc2",
            "0.9.1-rc10",
            "1.0.0",
            "b",
            "0.9.0",
        ];
        builds.sort_by(|a, b| newer(a, b));
        let rising = [
            "",
            "0.9",
            "0.9.0",
            "0.9.1",
            "0.9.1-rc2",
            "0.9.1-rc10",
            "0.10.0",
            "1.0.0",
            "b",
        ];
        assert_eq!(builds, rising);
        assert_eq!(newer("1.01", "1.1"), Ordering::Equal);
        assert_eq!(newer("0", "00"), Ordering::Equal);
        assert_eq!(newer("0", "1"), Ordering::Less);
        let vast = "9".repeat(400);
        assert_eq!(newer(&vast, &format!("1{vast}")), Ordering::Less);
    }

    proptest! {
        #[test]
        fn builds_are_ordered(a in "[0-2a.]{0,6}", b in "[0-2a.]{0,6}", c in "[0-2a.]{0,6}") {
            prop_assert_eq!(newer(&a, &b), newer(&b, &a).reverse());
            prop_assert_eq!(newer(&a, &a), Ordering::Equal);
            if newer(&a, &b).is_le() && newer(&b, &c).is_le() {
                prop_assert!(newer(&a, &c).is_le());
            }
        }
    }
}
