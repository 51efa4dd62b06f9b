//! A shared key in a header, stored as it is or as `sha256:<hex>`.
//!
//! Both sides are hashed before they are compared, so that neither content nor length shows in time.

use std::fmt;

use http::HeaderName;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Accepted, Message, Rejected, Unusable, lower_hex, value};
use crate::api::ingestor::ApiKeyAuth;

/// One entry `apiKey` with the hashes of its keys.
pub struct ApiKey {
    header: HeaderName,
    hashes: Vec<[u8; 32]>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}, {} keys)", self.header, self.hashes.len())
    }
}

impl ApiKey {
    pub(super) fn new(config: &ApiKeyAuth, secrets: &[&[u8]]) -> Result<Self, Unusable> {
        let header = super::hmac::header_name("apiKey.header", &config.header)?;
        let hashes: Vec<_> = secrets
            .iter()
            .filter_map(|secret| hash_of(secret))
            .collect();
        if hashes.is_empty() {
            return Err(Unusable::NoSecret("apiKey"));
        }
        Ok(Self { header, hashes })
    }

    pub(super) fn headers(&self) -> Vec<HeaderName> {
        vec![self.header.clone()]
    }

    pub(super) const fn keys(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn verify<'a>(&self, message: &Message<'a>) -> Result<Accepted<'a>, Rejected> {
        let key = value(message.headers, &self.header).ok_or(Rejected::MissingSignature)?;
        let given: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        // Every hash is compared, so that the time doesn't tell which one matched.
        let matches = self
            .hashes
            .iter()
            .fold(subtle::Choice::from(0), |any, hash| {
                any | hash.ct_eq(&given)
            });
        if key.is_empty() || !bool::from(matches) {
            return Err(Rejected::BadSignature);
        }
        Ok(Accepted {
            scheme: "apiKey",
            signed_id: None,
            unsigned_id: None,
        })
    }
}

/// The stored hash, or that of the stored key; `None` for a hash that can't be read.
fn hash_of(secret: &[u8]) -> Option<[u8; 32]> {
    let Some(hex) = secret.strip_prefix(b"sha256:") else {
        return Some(Sha256::digest(secret).into());
    };
    let mut hash = [0; 32];
    lower_hex(&hex.to_ascii_lowercase(), &mut hash)?;
    Some(hash)
}
