//! A shared key in a header, stored as it is or as `sha256:<hex>`.

use std::fmt;

use http::HeaderName;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::{
    ConfigError, DeliveryId, Refusal, Scheme, SecretValue, Signed, Verified, required, unhex,
};
use crate::api::ingestor::ApiKeyAuth;

/// Marks a value that is the hash of a key.
const HASHED: &str = "sha256:";

/// Keys of an endpoint, each as its hash: comparing hashes takes the same time for any key.
#[derive(Clone)]
pub(crate) struct ApiKey {
    header: HeaderName,
    hashes: Vec<[u8; 32]>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl ApiKey {
    pub(super) fn new(config: &ApiKeyAuth, secrets: &[SecretValue]) -> Result<Self, ConfigError> {
        let header = HeaderName::from_bytes(config.header.as_bytes())
            .map_err(|_invalid| ConfigError::HeaderName(config.header.clone()))?;
        let hashes: Vec<_> = secrets.iter().filter_map(|secret| hash(secret)).collect();
        if hashes.is_empty() {
            return Err(ConfigError::NoUsableSecret("every value is empty"));
        }
        Ok(Self { header, hashes })
    }

    pub(super) const fn header(&self) -> &HeaderName {
        &self.header
    }

    pub(super) fn verify<'a>(&self, request: Signed<'a>) -> Result<Verified<'a>, Refusal> {
        let key = required(request.headers, &self.header)?;
        if key.is_empty() {
            return Err(Refusal::MissingSignature);
        }
        let given: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let found = self
            .hashes
            .iter()
            .fold(Choice::from(0), |found, hash| found | hash.ct_eq(&given));
        if bool::from(found) {
            Ok(Verified {
                scheme: Scheme::ApiKey,
                id: DeliveryId::Absent,
            })
        } else {
            Err(Refusal::BadSignature)
        }
    }
}

/// The hash that a value of the Secret stands for; `None` for an empty one.
fn hash(secret: &[u8]) -> Option<[u8; 32]> {
    if secret.is_empty() {
        return None;
    }
    let hashed = std::str::from_utf8(secret)
        .ok()
        .and_then(|text| text.strip_prefix(HASHED));
    match hashed {
        Some(hex) => unhex(hex.trim()),
        None => Some(Sha256::digest(secret).into()),
    }
}
