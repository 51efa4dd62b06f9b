//! Verification: whether a request was made by somebody who knows a secret. Pure.
//!
//! One file per scheme. A [`Verifier`] is made once per Ingestor and Secret version, with the keyed
//! state of every HMAC computed, and checks the raw bytes of many requests. Comparison takes the
//! same time wherever two signatures differ; `Debug` never shows a secret.

mod api_key;
mod github;
mod hmac;
pub(in crate::gateway) mod mac;
mod standard_webhooks;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderName};
use zeroize::Zeroizing;

use crate::api::ingestor::Auth;

/// A value of a Secret, wiped when dropped.
pub(crate) type SecretValue = Zeroizing<Vec<u8>>;

/// What a verifier sees of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    /// The headers as they came.
    pub headers: &'a HeaderMap,
    /// The raw body.
    pub body: &'a [u8],
    /// The verifier's clock, in Unix seconds.
    pub now: i64,
}

/// Which scheme accepted a request; also a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scheme {
    /// GitHub.
    Github,
    /// Standard Webhooks or Svix.
    StandardWebhooks,
    /// A configured HMAC.
    Hmac,
    /// A shared key.
    ApiKey,
    /// No verification.
    None,
}

/// A request that was verified, with the delivery's id where the scheme knows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verified<'a> {
    /// Which scheme accepted it.
    pub scheme: Scheme,
    /// The delivery's id.
    pub id: DeliveryId<'a>,
}

/// The id that a scheme gives a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryId<'a> {
    /// Covered by the signature: always checked, and the event's id.
    Signed(&'a str),
    /// A header that the signature does not cover.
    Unsigned(&'a str),
    /// The scheme has none, or the sender left it out.
    Absent,
}

/// Why a request was refused; a metric's label, never an answer: a 401 does not say which step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Refusal {
    /// The header that carries the proof is not there.
    MissingSignature,
    /// A header that belongs to the proof is there twice, or is not of its form.
    Malformed,
    /// No secret gives this signature.
    BadSignature,
    /// The timestamp is too far from now.
    Stale,
}

/// Why a scheme can't be used as it is configured. Names no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Not exactly one scheme is set.
    #[error("exactly one scheme must be set")]
    NotOneScheme,
    /// SHA-1 without the opt-in.
    #[error("sha1 is weak and is used only with allowSha1: true")]
    Sha1,
    /// No value of the Secret can be a key of this scheme.
    #[error("the Secret has no value that this scheme can use: {0}")]
    NoUsableSecret(&'static str),
    /// A header's name is none.
    #[error("`{0}` is no name of a header")]
    HeaderName(String),
    /// The template and its timestamp header don't fit.
    #[error("{0}")]
    Template(&'static str),
}

/// One entry of `auth`, ready to verify.
#[derive(Clone, Debug)]
pub(crate) enum Verifier {
    /// GitHub.
    Github(github::Github),
    /// Standard Webhooks or Svix.
    StandardWebhooks(standard_webhooks::StandardWebhooks),
    /// A configured HMAC.
    Hmac(Box<hmac::ConfiguredHmac>),
    /// A shared key.
    ApiKey(api_key::ApiKey),
    /// No verification.
    None,
}

impl Scheme {
    /// The name in a spec, in metrics and in event ids.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::StandardWebhooks => "standardWebhooks",
            Self::Hmac => "hmac",
            Self::ApiKey => "apiKey",
            Self::None => "none",
        }
    }
}

impl Refusal {
    /// The label in metrics.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MissingSignature => "missing_signature",
            Self::Malformed => "malformed",
            Self::BadSignature => "bad_signature",
            Self::Stale => "stale",
        }
    }
}

impl Verifier {
    /// Makes ready one entry of `auth` with the values of its Secret (none for `none`).
    ///
    /// # Errors
    /// What is wrong with the configuration, or that no value of the Secret is usable.
    pub(crate) fn new(auth: &Auth, secrets: &[SecretValue]) -> Result<Self, ConfigError> {
        let set = [
            auth.github.is_some(),
            auth.standard_webhooks.is_some(),
            auth.hmac.is_some(),
            auth.api_key.is_some(),
            auth.none.is_some(),
        ];
        if set.iter().filter(|set| **set).count() != 1 {
            return Err(ConfigError::NotOneScheme);
        }
        if auth.github.is_some() {
            github::Github::new(secrets).map(Self::Github)
        } else if auth.standard_webhooks.is_some() {
            standard_webhooks::StandardWebhooks::new(secrets).map(Self::StandardWebhooks)
        } else if let Some(config) = &auth.hmac {
            hmac::ConfiguredHmac::new(config, secrets).map(|hmac| Self::Hmac(Box::new(hmac)))
        } else if let Some(config) = &auth.api_key {
            api_key::ApiKey::new(config, secrets).map(Self::ApiKey)
        } else {
            Ok(Self::None)
        }
    }

    /// Checks one request.
    ///
    /// # Errors
    /// Why this entry does not accept it; another entry may.
    pub(crate) fn verify<'a>(&self, request: Signed<'a>) -> Result<Verified<'a>, Refusal> {
        match self {
            Self::Github(scheme) => scheme.verify(request),
            Self::StandardWebhooks(scheme) => scheme.verify(request),
            Self::Hmac(scheme) => scheme.verify(request),
            Self::ApiKey(scheme) => scheme.verify(request),
            Self::None => Ok(Verified {
                scheme: Scheme::None,
                id: DeliveryId::Absent,
            }),
        }
    }

    /// Headers that carry the proof: they are not written to the journal.
    #[must_use]
    pub(crate) fn proof_headers(&self) -> Vec<HeaderName> {
        match self {
            Self::Github(_) => github::PROOF.to_vec(),
            Self::StandardWebhooks(_) => standard_webhooks::PROOF.to_vec(),
            Self::Hmac(scheme) => vec![scheme.header().clone()],
            Self::ApiKey(scheme) => vec![scheme.header().clone()],
            Self::None => Vec::new(),
        }
    }
}

/// The one value of a security header, as text.
///
/// # Errors
/// It is there twice, or is no visible ASCII.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Malformed);
    }
    first
        .to_str()
        .map(Some)
        .map_err(|_not_ascii| Refusal::Malformed)
}

/// The header that carries the proof.
fn required<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Refusal> {
    single(headers, name)?.ok_or(Refusal::MissingSignature)
}

/// Reads Unix seconds and holds them against the clock.
fn fresh(text: &str, now: i64, tolerance_seconds: i64) -> Result<(), Refusal> {
    let digits = !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(Refusal::Malformed);
    }
    let stamp: i64 = text.parse().map_err(|_too_large| Refusal::Malformed)?;
    if now.abs_diff(stamp) > tolerance_seconds.unsigned_abs() {
        return Err(Refusal::Stale);
    }
    Ok(())
}

/// Exactly `N` bytes in hexadecimal digits of either case.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
