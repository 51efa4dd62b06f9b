//! GitHub: `X-Hub-Signature-256: sha256=<hex>`, HMAC-SHA256 of the body.
//!
//! <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>. GitHub signs
//! no time and no id; `X-GitHub-Delivery` is an unsigned one.

use std::fmt;

use hmac::{KeyInit as _, Mac as _};
use http::HeaderName;
use sha2::Sha256;

use super::{Accepted, Message, Rejected, Unusable, lower_hex, value};

pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

/// One entry `github` with its keys, hashed ahead.
pub struct Github {
    keys: Vec<hmac::Hmac<Sha256>>,
}

impl fmt::Debug for Github {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Github({} secrets)", self.keys.len())
    }
}

impl Github {
    pub(super) fn new(secrets: &[&[u8]]) -> Result<Self, Unusable> {
        let keys: Vec<_> = secrets
            .iter()
            .filter_map(|secret| hmac::Hmac::new_from_slice(secret).ok())
            .collect();
        if keys.is_empty() {
            return Err(Unusable::NoSecret("github"));
        }
        Ok(Self { keys })
    }

    pub(super) const fn keys(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn verify<'a>(&self, message: &Message<'a>) -> Result<Accepted<'a>, Rejected> {
        let header = value(message.headers, &SIGNATURE).ok_or(Rejected::MissingSignature)?;
        let mut signature = [0; 32];
        header
            .as_bytes()
            .strip_prefix(b"sha256=")
            .and_then(|hex| lower_hex(hex, &mut signature))
            .ok_or(Rejected::BadSignature)?;
        let valid = self.keys.iter().any(|key| {
            let mut mac = key.clone();
            mac.update(message.body);
            mac.verify_slice(&signature).is_ok()
        });
        if !valid {
            return Err(Rejected::BadSignature);
        }
        Ok(Accepted {
            scheme: "github",
            signed_id: None,
            unsigned_id: Some("x-github-delivery"),
        })
    }
}
