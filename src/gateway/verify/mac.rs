//! HMAC with its keyed state computed once; cloned per request, wiped when dropped.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use crate::api::ingestor::HmacAlgorithm;

/// A key of one algorithm.
#[derive(Clone)]
pub(in crate::gateway) enum MacKey {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

impl MacKey {
    /// `None` for an empty key: an unset secret must never verify anything.
    pub(in crate::gateway) fn new(algorithm: HmacAlgorithm, key: &[u8]) -> Option<Self> {
        if key.is_empty() {
            return None;
        }
        // An HMAC takes a key of any length.
        match algorithm {
            HmacAlgorithm::Sha1 => Hmac::new_from_slice(key).ok().map(Self::Sha1),
            HmacAlgorithm::Sha256 => Hmac::new_from_slice(key).ok().map(Self::Sha256),
            HmacAlgorithm::Sha512 => Hmac::new_from_slice(key).ok().map(Self::Sha512),
        }
    }

    /// The HMAC of the parts, one after the other.
    pub(in crate::gateway) fn tag(&self, parts: &[&[u8]]) -> Vec<u8> {
        macro_rules! tag {
            ($mac:expr) => {{
                let mut mac = $mac.clone();
                parts.iter().for_each(|part| mac.update(part));
                mac.finalize().into_bytes().to_vec()
            }};
        }
        match self {
            Self::Sha1(mac) => tag!(mac),
            Self::Sha256(mac) => tag!(mac),
            Self::Sha512(mac) => tag!(mac),
        }
    }

    /// Whether `tag` is the HMAC of the parts, one after the other; in constant time.
    pub(in crate::gateway) fn matches(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        macro_rules! matches {
            ($mac:expr) => {{
                let mut mac = $mac.clone();
                parts.iter().for_each(|part| mac.update(part));
                mac.verify_slice(tag).is_ok()
            }};
        }
        match self {
            Self::Sha1(mac) => matches!(mac),
            Self::Sha256(mac) => matches!(mac),
            Self::Sha512(mac) => matches!(mac),
        }
    }
}

/// Whether any key gives `tag`. Every key is tried, so that the time does not tell which one it was.
pub(in crate::gateway) fn any_matches(keys: &[MacKey], parts: &[&[u8]], tag: &[u8]) -> bool {
    keys.iter()
        .fold(false, |found, key| key.matches(parts, tag) | found)
}
