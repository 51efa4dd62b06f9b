//! Verification: is this request from who holds the secret?
//!
//! Pure: the header, the raw body and the time come in, a verdict goes out. Each scheme has a file;
//! keys are made once per Secret, not per request.

pub mod api_key;
pub mod github;
pub mod hmac;
pub mod standard_webhooks;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretSlice;

use crate::api::ingestor::Auth;

/// Most secrets that one entry of `auth` may have: a rotation needs two, and a forged request
/// costs one hash of its body per secret.
const MAX_SECRETS: usize = 16;

/// Shortest secret, in bytes, that is taken for one. Below it a signature can be guessed within
/// minutes from a single captured request.
const MIN_SECRET: usize = 8;

/// A value of a Secret.
pub type SecretBytes = Arc<SecretSlice<u8>>;

/// What is verified.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The header.
    pub headers: &'a HeaderMap,
    /// The raw body.
    pub body: &'a [u8],
    /// The time, in Unix seconds.
    pub now: i64,
}

/// What a scheme says of a message that it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The scheme, as it is written in `auth`.
    pub scheme: &'static str,
    /// An id that the signature covers.
    pub signed_id: Option<&'a str>,
    /// The header in which the scheme's sender puts an id that it doesn't sign.
    pub unsigned_id: Option<&'static str>,
}

/// Why a message is not accepted; for metrics, never for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejected {
    /// No signature or key came.
    MissingSignature,
    /// A header can't be read, is missing beside the signature, or came twice.
    Malformed,
    /// The signature or key is not one of ours.
    BadSignature,
    /// Signed too long ago, or in the future.
    Stale,
}

/// An entry of `auth` that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misconfigured {
    /// The field, below the entry; empty for the entry itself.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            "" => f.write_str(&self.why),
            field => write!(f, "{field}: {}", self.why),
        }
    }
}

/// Why an entry of `auth` can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The configuration contradicts itself; the Ingestor is not accepted.
    #[error("{0}")]
    Configuration(Misconfigured),
    /// The Secret holds nothing that the scheme can use.
    #[error("the Secret holds nothing that {0} can use")]
    NoSecret(&'static str),
}

impl Unusable {
    fn configuration(field: &'static str, why: impl Into<String>) -> Self {
        let why = why.into();
        Self::Configuration(Misconfigured { field, why })
    }
}

/// One entry of `auth` with its keys.
#[derive(Debug)]
pub enum Verifier {
    /// See [`Auth::github`].
    Github(github::Github),
    /// See [`Auth::standard_webhooks`].
    StandardWebhooks(standard_webhooks::StandardWebhooks),
    /// See [`Auth::hmac`].
    Hmac(hmac::Hmac),
    /// See [`Auth::api_key`].
    ApiKey(api_key::ApiKey),
    /// See [`Auth::none`].
    None,
}

impl Verifier {
    /// The verifier of an entry. `secrets` are the values that its reference names.
    ///
    /// # Errors
    /// The entry can't be served; it must then accept nothing.
    pub fn new(auth: &Auth, secrets: &[SecretBytes]) -> Result<Self, Unusable> {
        let secrets: Vec<&[u8]> = secrets
            .iter()
            .filter_map(usable)
            .take(MAX_SECRETS)
            .collect();
        match auth {
            Auth {
                github: Some(_),
                standard_webhooks: None,
                hmac: None,
                api_key: None,
                none: None,
            } => github::Github::new(&secrets).map(Self::Github),
            Auth {
                github: None,
                standard_webhooks: Some(_),
                hmac: None,
                api_key: None,
                none: None,
            } => standard_webhooks::StandardWebhooks::new(&secrets).map(Self::StandardWebhooks),
            Auth {
                github: None,
                standard_webhooks: None,
                hmac: Some(config),
                api_key: None,
                none: None,
            } => hmac::Hmac::new(config, &secrets).map(Self::Hmac),
            Auth {
                github: None,
                standard_webhooks: None,
                hmac: None,
                api_key: Some(config),
                none: None,
            } => api_key::ApiKey::new(config, &secrets).map(Self::ApiKey),
            Auth {
                github: None,
                standard_webhooks: None,
                hmac: None,
                api_key: None,
                none: Some(_),
            } => Ok(Self::None),
            _ => Err(Unusable::configuration(
                "",
                "an entry of auth names exactly one scheme",
            )),
        }
    }

    /// Whether an entry can be served once its Secret is there.
    ///
    /// # Errors
    /// The field that is wrong.
    pub fn check(auth: &Auth) -> Result<(), Misconfigured> {
        // A scheme reads its configuration before it misses its keys.
        match Self::new(auth, &[]) {
            Ok(_) | Err(Unusable::NoSecret(_)) => Ok(()),
            Err(Unusable::Configuration(wrong)) => Err(wrong),
        }
    }

    /// How many keys it has, which is how many values of its Secret it takes.
    #[must_use]
    pub const fn keys(&self) -> usize {
        match self {
            Self::Github(scheme) => scheme.keys(),
            Self::StandardWebhooks(scheme) => scheme.keys(),
            Self::Hmac(scheme) => scheme.keys(),
            Self::ApiKey(scheme) => scheme.keys(),
            Self::None => 0,
        }
    }

    /// Whether this entry accepts the message.
    ///
    /// # Errors
    /// Why not.
    pub fn verify<'a>(&self, message: &Message<'a>) -> Result<Accepted<'a>, Rejected> {
        match self {
            Self::Github(scheme) => scheme.verify(message),
            Self::StandardWebhooks(scheme) => scheme.verify(message),
            Self::Hmac(scheme) => scheme.verify(message),
            Self::ApiKey(scheme) => scheme.verify(message),
            Self::None => Ok(Accepted {
                scheme: "none",
                signed_id: None,
                unsigned_id: None,
            }),
        }
    }

    /// The headers that decide: refused when they come twice.
    #[must_use]
    pub fn security_headers(&self) -> Vec<HeaderName> {
        match self {
            Self::Github(_) => vec![github::SIGNATURE],
            Self::StandardWebhooks(_) => standard_webhooks::HEADERS.to_vec(),
            Self::Hmac(scheme) => scheme.headers(),
            Self::ApiKey(scheme) => scheme.headers(),
            Self::None => Vec::new(),
        }
    }
}

/// Whether one of the entries accepts the message. A security header of any entry that came twice
/// is refused, whatever the copies say.
///
/// # Errors
/// The reason that the first entry gave.
pub fn verify<'a>(
    verifiers: &[Verifier],
    security: &[HeaderName],
    message: &Message<'a>,
) -> Result<Accepted<'a>, Rejected> {
    if security.iter().any(|name| twice(message.headers, name)) {
        return Err(Rejected::Malformed);
    }
    let mut why = None;
    for verifier in verifiers {
        match verifier.verify(message) {
            Ok(accepted) => return Ok(accepted),
            Err(rejected) => {
                why.get_or_insert(rejected);
            }
        }
    }
    Err(why.unwrap_or(Rejected::MissingSignature))
}

/// Whether a header came more than once.
pub(super) fn twice(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}

impl Rejected {
    /// Every reason.
    pub const ALL: [Self; 4] = [
        Self::MissingSignature,
        Self::Malformed,
        Self::BadSignature,
        Self::Stale,
    ];

    /// The label of metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::MissingSignature => "missing_signature",
            Self::Malformed => "malformed",
            Self::BadSignature => "bad_signature",
            Self::Stale => "stale",
        }
    }
}

/// A secret without the line end that `kubectl create secret --from-file` leaves behind a text;
/// `None` where it is too short for one.
fn usable(secret: &SecretBytes) -> Option<&[u8]> {
    use secrecy::ExposeSecret as _;
    let bytes = secret.expose_secret();
    let text = std::str::from_utf8(bytes).ok();
    let bytes = text.map_or(bytes, |text| text.trim_end_matches(['\r', '\n']).as_bytes());
    (bytes.len() >= MIN_SECRET).then_some(bytes)
}

/// The one value of a header; `None` where it is absent.
fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.get(name)
}

/// A Unix time in decimal digits, at most 15: no sign, no fraction, no space.
fn timestamp(text: &[u8]) -> Result<i64, Rejected> {
    let digits = (1..=15).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok())
        .ok_or(Rejected::Malformed)
}

/// Whether `at` lies within `tolerance` seconds of `now`, on either side.
fn fresh(at: i64, now: i64, tolerance: u32) -> Result<(), Rejected> {
    if at.abs_diff(now) <= u64::from(tolerance) {
        Ok(())
    } else {
        Err(Rejected::Stale)
    }
}

/// Reads lower-case hexadecimal of exactly twice `out`'s length.
fn lower_hex(text: &[u8], out: &mut [u8]) -> Option<()> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != out.len() * 2 {
        return None;
    }
    let (pairs, _) = text.as_chunks::<2>();
    for ([high, low], byte) in pairs.iter().zip(out) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(())
}
