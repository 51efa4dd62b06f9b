//! GitHub: `X-Hub-Signature-256: sha256=<hex of HMAC-SHA256 of the body>`.
//!
//! <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>. GitHub signs
//! neither a timestamp nor the delivery's id, so freshness can't be checked.

use http::HeaderName;

use super::{
    ConfigError, DeliveryId, Refusal, Scheme, SecretValue, Signed, Verified,
    mac::{MacKey, any_matches},
    required, single, unhex,
};
use crate::api::ingestor::HmacAlgorithm;

const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
/// The SHA-1 signature that GitHub sends along for old receivers.
const OLD_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature");
const DELIVERY: HeaderName = HeaderName::from_static("x-github-delivery");

pub(super) const PROOF: [HeaderName; 2] = [SIGNATURE, OLD_SIGNATURE];

/// Keys of a GitHub webhook.
#[derive(Clone, Debug)]
pub(crate) struct Github {
    keys: Vec<MacKey>,
}

impl Github {
    pub(super) fn new(secrets: &[SecretValue]) -> Result<Self, ConfigError> {
        let keys: Vec<_> = secrets
            .iter()
            .filter_map(|secret| MacKey::new(HmacAlgorithm::Sha256, secret))
            .collect();
        if keys.is_empty() {
            return Err(ConfigError::NoUsableSecret("every value is empty"));
        }
        Ok(Self { keys })
    }

    pub(super) fn verify<'a>(&self, request: Signed<'a>) -> Result<Verified<'a>, Refusal> {
        let signature = required(request.headers, &SIGNATURE)?;
        let hex = signature
            .strip_prefix("sha256=")
            .ok_or(Refusal::Malformed)?;
        let tag: [u8; 32] = unhex(hex).ok_or(Refusal::Malformed)?;
        if !any_matches(&self.keys, &[request.body], &tag) {
            return Err(Refusal::BadSignature);
        }
        let id = match single(request.headers, &DELIVERY)? {
            Some(id) if !id.is_empty() => DeliveryId::Unsigned(id),
            Some(_) | None => DeliveryId::Absent,
        };
        Ok(Verified {
            scheme: Scheme::Github,
            id,
        })
    }
}
