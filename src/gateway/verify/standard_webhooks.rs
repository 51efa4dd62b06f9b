//! Standard Webhooks, also with Svix' header names: `v1` (HMAC-SHA256) and `v1a` (Ed25519) over
//! `id.timestamp.body`.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//! The id is signed, so it is always checked for replay.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName};
use zeroize::Zeroizing;

use super::{
    ConfigError, DeliveryId, Refusal, Scheme, SecretValue, Signed, Verified, fresh,
    mac::{MacKey, any_matches},
    required,
};
use crate::api::ingestor::HmacAlgorithm;

/// How far the timestamp may be from now: the tolerance of the reference implementations.
const TOLERANCE_SECONDS: i64 = 300;
/// Signatures in one header; during a rotation senders put two there.
const MAX_SIGNATURES: usize = 16;
/// Longest id; senders use some 30 characters.
const MAX_ID: usize = 255;

const WEBHOOK: [HeaderName; 3] = [
    HeaderName::from_static("webhook-id"),
    HeaderName::from_static("webhook-timestamp"),
    HeaderName::from_static("webhook-signature"),
];
const SVIX: [HeaderName; 3] = [
    HeaderName::from_static("svix-id"),
    HeaderName::from_static("svix-timestamp"),
    HeaderName::from_static("svix-signature"),
];

pub(super) const PROOF: [HeaderName; 2] = [
    HeaderName::from_static("webhook-signature"),
    HeaderName::from_static("svix-signature"),
];

/// Keys of a Standard Webhooks endpoint.
#[derive(Clone)]
pub(crate) struct StandardWebhooks {
    symmetric: Vec<MacKey>,
    public: Vec<[u8; 32]>,
}

impl fmt::Debug for StandardWebhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandardWebhooks(..)")
    }
}

impl StandardWebhooks {
    /// Values are `whsec_<base64>` (symmetric), `whpk_<base64>` (an Ed25519 public key) or bare base64 (symmetric).
    pub(super) fn new(secrets: &[SecretValue]) -> Result<Self, ConfigError> {
        let mut this = Self {
            symmetric: Vec::new(),
            public: Vec::new(),
        };
        for secret in secrets {
            let Ok(text) = std::str::from_utf8(secret) else {
                continue;
            };
            let text = text.trim();
            if let Some(encoded) = text.strip_prefix("whpk_") {
                let key = BASE64_STANDARD.decode(encoded).ok();
                this.public
                    .extend(key.and_then(|key| <[u8; 32]>::try_from(key).ok()));
            } else {
                let encoded = text.strip_prefix("whsec_").unwrap_or(text);
                let key = BASE64_STANDARD.decode(encoded).ok().map(Zeroizing::new);
                let key = key.and_then(|key| MacKey::new(HmacAlgorithm::Sha256, &key));
                this.symmetric.extend(key);
            }
        }
        if this.symmetric.is_empty() && this.public.is_empty() {
            return Err(ConfigError::NoUsableSecret(
                "no value is `whsec_` or `whpk_` followed by base64",
            ));
        }
        Ok(this)
    }

    pub(super) fn verify<'a>(&self, request: Signed<'a>) -> Result<Verified<'a>, Refusal> {
        let [id, timestamp, signature] = names(request.headers);
        let signatures = required(request.headers, signature)?;
        let id = required(request.headers, id)?;
        let timestamp = required(request.headers, timestamp)?;
        let id_shaped =
            !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(|b| b.is_ascii_graphic());
        if !id_shaped {
            return Err(Refusal::Malformed);
        }
        fresh(timestamp, request.now, TOLERANCE_SECONDS)?;
        let parts: [&[u8]; 5] = [
            id.as_bytes(),
            b".",
            timestamp.as_bytes(),
            b".",
            request.body,
        ];
        if self.any_valid(signatures, &parts)? {
            Ok(Verified {
                scheme: Scheme::StandardWebhooks,
                id: DeliveryId::Signed(id),
            })
        } else {
            Err(Refusal::BadSignature)
        }
    }

    fn any_valid(&self, signatures: &str, parts: &[&[u8]; 5]) -> Result<bool, Refusal> {
        let mut understood = 0;
        for (n, entry) in signatures
            .split(' ')
            .filter(|entry| !entry.is_empty())
            .enumerate()
        {
            if n >= MAX_SIGNATURES {
                return Err(Refusal::Malformed);
            }
            let (version, encoded) = entry.split_once(',').ok_or(Refusal::Malformed)?;
            // A version that is not known here is the sender's affair; another entry may count.
            if version != "v1" && version != "v1a" {
                continue;
            }
            let Ok(tag) = BASE64_STANDARD.decode(encoded) else {
                continue;
            };
            understood += 1;
            let valid = if version == "v1" {
                any_matches(&self.symmetric, parts, &tag)
            } else {
                let message = parts.concat();
                let by = |key: &[u8; 32]| {
                    UnparsedPublicKey::new(&ED25519, key)
                        .verify(&message, &tag)
                        .is_ok()
                };
                self.public.iter().any(by)
            };
            if valid {
                return Ok(true);
            }
        }
        if understood == 0 {
            return Err(Refusal::Malformed);
        }
        Ok(false)
    }
}

/// The header names that this request uses: the standard's, unless only Svix' are there.
fn names(headers: &HeaderMap) -> &'static [HeaderName; 3] {
    static STANDARD: [HeaderName; 3] = WEBHOOK;
    static OF_SVIX: [HeaderName; 3] = SVIX;
    let [_, _, standard] = &STANDARD;
    let [_, _, svix] = &OF_SVIX;
    if !headers.contains_key(standard) && headers.contains_key(svix) {
        &OF_SVIX
    } else {
        &STANDARD
    }
}
