//! A configured HMAC: header, algorithm, encoding, prefix and template are the user's.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderName;

use super::{
    ConfigError, DeliveryId, Refusal, Scheme, SecretValue, Signed, Verified, fresh,
    mac::{MacKey, any_matches},
    required, single, unhex,
};
use crate::api::ingestor::{HmacAlgorithm, HmacAuth, HmacEncoding};

/// How far the timestamp may be from now, where the Ingestor says nothing: that of most providers.
const TOLERANCE_SECONDS: u32 = 300;

/// A configured HMAC, ready.
#[derive(Clone, Debug)]
pub(crate) struct ConfiguredHmac {
    header: HeaderName,
    algorithm: HmacAlgorithm,
    encoding: HmacEncoding,
    prefix: String,
    template: Vec<Part>,
    timestamp: Option<(HeaderName, i64)>,
    keys: Vec<MacKey>,
}

/// A part of what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Timestamp,
    Body,
}

impl ConfiguredHmac {
    pub(super) fn new(config: &HmacAuth, secrets: &[SecretValue]) -> Result<Self, ConfigError> {
        if config.algorithm == HmacAlgorithm::Sha1 && !config.allow_sha1 {
            return Err(ConfigError::Sha1);
        }
        let template = parse(config.template.as_deref().unwrap_or("{body}"));
        if !template.contains(&Part::Body) {
            return Err(ConfigError::Template("the template must name {body}"));
        }
        if template.contains(&Part::Timestamp) != config.timestamp_header.is_some() {
            return Err(ConfigError::Template(
                "timestampHeader is needed where the template names {timestamp}, and only there",
            ));
        }
        let keys: Vec<_> = secrets
            .iter()
            .filter_map(|secret| MacKey::new(config.algorithm, secret))
            .collect();
        if keys.is_empty() {
            return Err(ConfigError::NoUsableSecret("every value is empty"));
        }
        let tolerance = i64::from(config.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS));
        let timestamp = config.timestamp_header.as_deref().map(name).transpose()?;
        Ok(Self {
            header: name(&config.header)?,
            algorithm: config.algorithm,
            encoding: config.encoding,
            prefix: config.prefix.clone().unwrap_or_default(),
            template,
            timestamp: timestamp.map(|name| (name, tolerance)),
            keys,
        })
    }

    pub(super) const fn header(&self) -> &HeaderName {
        &self.header
    }

    pub(super) fn verify<'a>(&self, request: Signed<'a>) -> Result<Verified<'a>, Refusal> {
        let signature = required(request.headers, &self.header)?;
        let encoded = signature
            .strip_prefix(self.prefix.as_str())
            .ok_or(Refusal::Malformed)?;
        let tag = self.decode(encoded).ok_or(Refusal::Malformed)?;
        let mut stamp = "";
        if let Some((header, tolerance)) = &self.timestamp {
            stamp = single(request.headers, header)?.ok_or(Refusal::Malformed)?;
            fresh(stamp, request.now, *tolerance)?;
        }
        let parts: Vec<&[u8]> = self
            .template
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.as_bytes(),
                Part::Timestamp => stamp.as_bytes(),
                Part::Body => request.body,
            })
            .collect();
        if !any_matches(&self.keys, &parts, &tag) {
            return Err(Refusal::BadSignature);
        }
        Ok(Verified {
            scheme: Scheme::Hmac,
            id: DeliveryId::Absent,
        })
    }

    fn decode(&self, encoded: &str) -> Option<Vec<u8>> {
        let tag = match (self.encoding, self.algorithm) {
            (HmacEncoding::Base64, _) => BASE64_STANDARD.decode(encoded).ok()?,
            (HmacEncoding::Hex, HmacAlgorithm::Sha1) => unhex::<20>(encoded)?.to_vec(),
            (HmacEncoding::Hex, HmacAlgorithm::Sha256) => unhex::<32>(encoded)?.to_vec(),
            (HmacEncoding::Hex, HmacAlgorithm::Sha512) => unhex::<64>(encoded)?.to_vec(),
        };
        let length = match self.algorithm {
            HmacAlgorithm::Sha1 => 20,
            HmacAlgorithm::Sha256 => 32,
            HmacAlgorithm::Sha512 => 64,
        };
        (tag.len() == length).then_some(tag)
    }
}

fn name(text: &str) -> Result<HeaderName, ConfigError> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_invalid| ConfigError::HeaderName(text.to_owned()))
}

/// Cuts a template at `{body}` and `{timestamp}`; everything else stands for itself.
fn parse(template: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("{body}") {
            parts.push(Part::Body);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{timestamp}") {
            parts.push(Part::Timestamp);
            rest = after;
        } else {
            let next = ["{body}", "{timestamp}"]
                .iter()
                .filter_map(|name| rest.find(name))
                .min();
            let (literal, after) = rest.split_at(next.unwrap_or(rest.len()));
            parts.push(Part::Literal(literal.to_owned()));
            rest = after;
        }
    }
    parts
}
