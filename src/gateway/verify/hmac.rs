//! A configurable HMAC: header, algorithm, encoding, prefix, template, freshness.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::KeyInit as _;
use http::HeaderName;
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::{Accepted, Message, Rejected, Unusable, fresh, lower_hex, timestamp, value};
use crate::api::ingestor::{HmacAlgorithm, HmacAuth, HmacEncoding};

/// How far a timestamp may be from now where the entry doesn't say: as Standard Webhooks has it.
const TOLERANCE: u32 = 300;

/// One entry `hmac` with its keys, hashed ahead.
pub struct Hmac {
    header: HeaderName,
    prefix: Vec<u8>,
    encoding: HmacEncoding,
    template: Vec<Part>,
    timestamp: Option<HeaderName>,
    tolerance: u32,
    keys: Vec<Key>,
}

enum Key {
    Sha1(hmac::Hmac<Sha1>),
    Sha256(hmac::Hmac<Sha256>),
    Sha512(hmac::Hmac<Sha512>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Body,
    Timestamp,
}

impl fmt::Debug for Hmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hmac({}, {} secrets)", self.header, self.keys.len())
    }
}

impl Hmac {
    pub(super) fn new(config: &HmacAuth, secrets: &[&[u8]]) -> Result<Self, Unusable> {
        if config.algorithm == HmacAlgorithm::Sha1 && !config.allow_sha1 {
            let why = "sha1 needs allowSha1: true";
            return Err(Unusable::configuration("hmac.algorithm", why));
        }
        let template = parts(config.template.as_deref().unwrap_or("{body}"))?;
        let timed = template.contains(&Part::Timestamp);
        if timed != config.timestamp_header.is_some() {
            return Err(Unusable::configuration(
                "hmac",
                "timestampHeader and {timestamp} in the template go together: a time that is not signed proves nothing",
            ));
        }
        let keys: Vec<_> = secrets
            .iter()
            .filter_map(|secret| Key::new(config.algorithm, secret))
            .collect();
        let header = header_name("hmac.header", &config.header)?;
        let timestamp = config.timestamp_header.as_deref();
        let timestamp = timestamp
            .map(|name| header_name("hmac.timestampHeader", name))
            .transpose()?;
        if keys.is_empty() {
            return Err(Unusable::NoSecret("hmac"));
        }
        Ok(Self {
            header,
            prefix: config.prefix.clone().unwrap_or_default().into_bytes(),
            encoding: config.encoding,
            template,
            timestamp,
            tolerance: config.tolerance_seconds.unwrap_or(TOLERANCE),
            keys,
        })
    }

    pub(super) fn headers(&self) -> Vec<HeaderName> {
        let mut headers = vec![self.header.clone()];
        headers.extend(self.timestamp.clone());
        headers
    }

    pub(super) const fn keys(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn verify<'a>(&self, message: &Message<'a>) -> Result<Accepted<'a>, Rejected> {
        let header = value(message.headers, &self.header).ok_or(Rejected::MissingSignature)?;
        let time: &[u8] = match &self.timestamp {
            None => b"",
            Some(name) => {
                let text = value(message.headers, name).ok_or(Rejected::Malformed)?;
                fresh(timestamp(text.as_bytes())?, message.now, self.tolerance)?;
                text.as_bytes()
            }
        };
        let signature = header
            .as_bytes()
            .strip_prefix(self.prefix.as_slice())
            .and_then(|text| self.decode(text))
            .ok_or(Rejected::BadSignature)?;
        let pieces = || {
            self.template.iter().map(move |part| match part {
                Part::Text(text) => text.as_slice(),
                Part::Body => message.body,
                Part::Timestamp => time,
            })
        };
        if !self.keys.iter().any(|key| key.signed(pieces(), &signature)) {
            return Err(Rejected::BadSignature);
        }
        Ok(Accepted {
            scheme: "hmac",
            signed_id: None,
            unsigned_id: None,
        })
    }

    fn decode(&self, text: &[u8]) -> Option<Vec<u8>> {
        // A SHA-512 in hexadecimal has 128 characters; nothing longer is looked at.
        if text.len() > 128 {
            return None;
        }
        match self.encoding {
            HmacEncoding::Hex => {
                let mut bytes = vec![0; text.len() / 2];
                lower_hex(text, &mut bytes)?;
                Some(bytes)
            }
            HmacEncoding::Base64 => STANDARD.decode(text).ok(),
        }
    }
}

impl Key {
    fn new(algorithm: HmacAlgorithm, secret: &[u8]) -> Option<Self> {
        match algorithm {
            HmacAlgorithm::Sha1 => hmac::Hmac::new_from_slice(secret).map(Self::Sha1).ok(),
            HmacAlgorithm::Sha256 => hmac::Hmac::new_from_slice(secret).map(Self::Sha256).ok(),
            HmacAlgorithm::Sha512 => hmac::Hmac::new_from_slice(secret).map(Self::Sha512).ok(),
        }
    }

    fn signed<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>, signature: &[u8]) -> bool {
        fn check<'a, M: hmac::Mac + Clone>(
            key: &M,
            pieces: impl Iterator<Item = &'a [u8]>,
            signature: &[u8],
        ) -> bool {
            let mut mac = key.clone();
            pieces.for_each(|piece| mac.update(piece));
            // Compares the whole length, in constant time.
            mac.verify_slice(signature).is_ok()
        }
        match self {
            Self::Sha1(key) => check(key, pieces, signature),
            Self::Sha256(key) => check(key, pieces, signature),
            Self::Sha512(key) => check(key, pieces, signature),
        }
    }
}

/// A header's name, as the configuration's field `field` gives it.
pub(super) fn header_name(field: &'static str, name: &str) -> Result<HeaderName, Unusable> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|error| {
        Unusable::configuration(field, format!("{name:?} is no header name: {error}"))
    })
}

/// Splits a template at `{body}` and `{timestamp}`; the body must be part of it.
fn parts(template: &str) -> Result<Vec<Part>, Unusable> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        if !text.is_empty() {
            parts.push(Part::Text(text.as_bytes().to_vec()));
        }
        let (name, behind) = after.split_once('}').unwrap_or((after, ""));
        parts.push(match name {
            "body" => Part::Body,
            "timestamp" => Part::Timestamp,
            other => {
                let why = format!("{{{other}}} is unknown; {{body}} and {{timestamp}} are known");
                return Err(Unusable::configuration("hmac.template", why));
            }
        });
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.as_bytes().to_vec()));
    }
    if !parts.contains(&Part::Body) {
        let why = "{body} must be signed";
        return Err(Unusable::configuration("hmac.template", why));
    }
    Ok(parts)
}
