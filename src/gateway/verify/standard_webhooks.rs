//! Standard Webhooks: `v1` (HMAC-SHA256) and `v1a` (Ed25519) over `id.timestamp.body`, also with
//! Svix' header names. <https://github.com/standard-webhooks/standard-webhooks>
//!
//! A secret `whsec_<base64>`, or bare base64, verifies `v1`; `whpk_<base64>` is a public key and
//! verifies `v1a` alone: what everybody may know is never taken for an HMAC key.

use std::fmt;

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::{
    Engine as _,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Accepted, MIN_SECRET, Message, Rejected, Unusable, fresh, timestamp, value};

/// The standard's freshness, in seconds.
const TOLERANCE: u32 = 300;

/// Most signatures that are read of a header: one per secret in rotation, and as many of another
/// version.
const MAX_SIGNATURES: usize = 16;

/// Most Ed25519 verifications of one message, some 100 µs each.
const MAX_VERIFICATIONS: usize = 8;

/// Longest id: it becomes part of the event's id.
const MAX_ID: usize = 255;

pub(super) const HEADERS: [HeaderName; 6] = [
    HeaderName::from_static("webhook-id"),
    HeaderName::from_static("webhook-timestamp"),
    HeaderName::from_static("webhook-signature"),
    HeaderName::from_static("svix-id"),
    HeaderName::from_static("svix-timestamp"),
    HeaderName::from_static("svix-signature"),
];

/// Secrets come with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// One entry `standardWebhooks` with its keys.
pub struct StandardWebhooks {
    shared: Vec<hmac::Hmac<Sha256>>,
    public: Vec<ParsedPublicKey>,
}

impl fmt::Debug for StandardWebhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shared, public) = (self.shared.len(), self.public.len());
        write!(
            f,
            "StandardWebhooks({shared} secrets, {public} public keys)"
        )
    }
}

/// The three headers, of one family.
struct Signed<'a> {
    id: &'a str,
    time: &'a [u8],
    signatures: &'a [u8],
}

impl StandardWebhooks {
    pub(super) fn new(secrets: &[&[u8]]) -> Result<Self, Unusable> {
        let mut keys = Self {
            shared: Vec::new(),
            public: Vec::new(),
        };
        for secret in secrets {
            if let Some(public) = secret.strip_prefix(b"whpk_") {
                let bytes = BASE64.decode(public).ok().filter(|bytes| bytes.len() == 32);
                keys.public
                    .extend(bytes.and_then(|bytes| ParsedPublicKey::new(&ED25519, bytes).ok()));
                continue;
            }
            let text = secret.strip_prefix(b"whsec_").unwrap_or(secret);
            let bytes = BASE64.decode(text).ok().map(Zeroizing::new);
            keys.shared.extend(
                bytes
                    .filter(|bytes| bytes.len() >= MIN_SECRET)
                    .and_then(|bytes| hmac::Hmac::new_from_slice(&bytes).ok()),
            );
        }
        if keys.shared.is_empty() && keys.public.is_empty() {
            return Err(Unusable::NoSecret("standardWebhooks"));
        }
        Ok(keys)
    }

    pub(super) const fn keys(&self) -> usize {
        self.shared.len() + self.public.len()
    }

    pub(super) fn verify<'a>(&self, message: &Message<'a>) -> Result<Accepted<'a>, Rejected> {
        let signed = Signed::read(message.headers)?;
        let at = timestamp(signed.time)?;
        fresh(at, message.now, TOLERANCE)?;
        let expected: Vec<[u8; 32]> = self
            .shared
            .iter()
            .map(|key| {
                let mut mac = key.clone();
                for piece in signed.pieces(message.body) {
                    mac.update(piece);
                }
                mac.finalize().into_bytes().into()
            })
            .collect();
        let mut budget = MAX_VERIFICATIONS;
        let valid = signed
            .signatures
            .split(|byte| *byte == b' ')
            .take(MAX_SIGNATURES)
            .filter_map(|entry| {
                let comma = entry.iter().position(|byte| *byte == b',')?;
                let (version, rest) = entry.split_at_checked(comma)?;
                Some((version, BASE64.decode(rest.get(1..)?).ok()?))
            })
            .any(|(version, signature)| match version {
                b"v1" => expected
                    .iter()
                    .any(|mac| bool::from(mac.ct_eq(signature.as_slice()))),
                b"v1a" => self.verify_public(&signed, message.body, &signature, &mut budget),
                _ => false,
            });
        if !valid {
            return Err(Rejected::BadSignature);
        }
        Ok(Accepted {
            scheme: "standardWebhooks",
            signed_id: Some(signed.id),
            unsigned_id: None,
        })
    }

    fn verify_public(
        &self,
        signed: &Signed<'_>,
        body: &[u8],
        signature: &[u8],
        budget: &mut usize,
    ) -> bool {
        if self.public.is_empty() || signature.len() != 64 {
            return false;
        }
        let text = signed.pieces(body).concat();
        self.public.iter().any(|key| {
            let within = *budget > 0;
            *budget = budget.saturating_sub(1);
            within && key.verify_sig(&text, signature).is_ok()
        })
    }
}

impl<'a> Signed<'a> {
    /// The headers of the family whose signature or id came; the standard's names before Svix'.
    fn read(headers: &'a HeaderMap) -> Result<Self, Rejected> {
        let [id, time, signature, svix_id, svix_time, svix_signature] = &HEADERS;
        let standard = headers.contains_key(signature) || headers.contains_key(id);
        let (id, time, signature) = if standard {
            (id, time, signature)
        } else {
            (svix_id, svix_time, svix_signature)
        };
        let signatures = value(headers, signature).ok_or(Rejected::MissingSignature)?;
        let id = value(headers, id).ok_or(Rejected::Malformed)?;
        let time = value(headers, time).ok_or(Rejected::Malformed)?;
        let visible = id.as_bytes().iter().all(u8::is_ascii_graphic);
        let id = id.to_str().ok();
        let id = id.filter(|id| visible && (1..=MAX_ID).contains(&id.len()));
        Ok(Self {
            id: id.ok_or(Rejected::Malformed)?,
            time: time.as_bytes(),
            signatures: signatures.as_bytes(),
        })
    }

    fn pieces<'b>(&self, body: &'b [u8]) -> [&'b [u8]; 5]
    where
        'a: 'b,
    {
        [self.id.as_bytes(), b".", self.time, b".", body]
    }
}
