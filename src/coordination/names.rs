//! What replicas are called: pods, incarnations, holders.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::journal;

/// Everything that counts up (terms, versions, epochs, incarnations) stays below 2^52: JSON numbers
/// hold it exactly.
pub const MOST: u64 = (1 << 52) - 1;

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
