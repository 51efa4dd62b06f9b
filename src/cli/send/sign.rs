//! What a provider puts into a request so that its receiver believes it; pure.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    api::ingestor::HmacAlgorithm,
    gateway::sign::{github, hex, mac},
};

/// The schemes, as the flag names them.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// HMAC-SHA256 of the body in X-Hub-Signature-256
    Github,
    /// Standard Webhooks: v1 over id, timestamp and body
    StandardWebhooks,
    /// An HMAC in a header of your choice
    Hmac,
    /// The key itself in a header of your choice
    ApiKey,
    /// Nothing
    None,
}

/// Options of the schemes that have some.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Signature")]
pub(super) struct Options {
    /// Header of the signature or key (hmac, api-key)
    #[arg(long, value_name = "NAME")]
    signature_header: Option<HeaderName>,
    /// Hash (hmac)
    #[arg(long, value_enum, default_value_t = Algorithm::Sha256)]
    algorithm: Algorithm,
    /// How the signature is written (hmac)
    #[arg(long, value_enum, default_value_t = Encoding::Hex)]
    encoding: Encoding,
    /// What stands before the signature, such as `sha256=` (hmac)
    #[arg(long, default_value = "")]
    prefix: String,
    /// What is signed: `{body}` and `{timestamp}` are replaced (hmac)
    #[arg(long, default_value = "{body}")]
    template: String,
    /// Header of the Unix time in seconds (hmac)
    #[arg(long, value_name = "NAME")]
    timestamp_header: Option<HeaderName>,
}

/// Hash of an HMAC.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

impl From<Algorithm> for HmacAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha1 => Self::Sha1,
            Algorithm::Sha256 => Self::Sha256,
            Algorithm::Sha512 => Self::Sha512,
        }
    }
}

/// How a signature is written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Hex,
    Base64,
}

/// A scheme with everything that it needs.
#[derive(Clone, Debug)]
pub(super) enum Scheme {
    Github(SecretString),
    StandardWebhooks(StandardKey),
    Hmac(Box<HmacScheme>),
    ApiKey(HeaderName, SecretString),
    None,
}

/// The key of Standard Webhooks, decoded.
#[derive(Clone)]
pub(super) struct StandardKey(Vec<u8>);

impl std::fmt::Debug for StandardKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StandardKey")
    }
}

/// The configurable HMAC.
#[derive(Clone, Debug)]
pub(super) struct HmacScheme {
    secret: SecretString,
    header: HeaderName,
    algorithm: Algorithm,
    encoding: Encoding,
    prefix: String,
    template: String,
    timestamp_header: Option<HeaderName>,
}

impl Options {
    /// The scheme, when nothing that it needs is missing.
    pub(super) fn scheme(
        &self,
        kind: Kind,
        secret: Option<&SecretString>,
    ) -> Result<Scheme, &'static str> {
        let needed = || {
            secret
                .filter(|secret| !secret.expose_secret().is_empty())
                .cloned()
                .ok_or("this --scheme needs --secret, --secret-file or ZEN_SEND_SECRET")
        };
        let header = || {
            self.signature_header
                .clone()
                .ok_or("this --scheme needs --signature-header")
        };
        Ok(match kind {
            Kind::None => Scheme::None,
            Kind::Github => Scheme::Github(needed()?),
            Kind::ApiKey => Scheme::ApiKey(header()?, needed()?),
            Kind::StandardWebhooks => {
                let secret = needed()?;
                let text = secret.expose_secret();
                let encoded = text.strip_prefix("whsec_").unwrap_or(text);
                let key = BASE64_STANDARD
                    .decode(encoded)
                    .map_err(|_not_base64| "a secret of standard-webhooks is base64, with or without `whsec_`")?;
                Scheme::StandardWebhooks(StandardKey(key))
            }
            Kind::Hmac => {
                if self.template.contains("{timestamp}") && self.timestamp_header.is_none() {
                    return Err("a --template with {timestamp} needs --timestamp-header");
                }
                Scheme::Hmac(Box::new(HmacScheme {
                    secret: needed()?,
                    header: header()?,
                    algorithm: self.algorithm,
                    encoding: self.encoding,
                    prefix: self.prefix.clone(),
                    template: self.template.clone(),
                    timestamp_header: self.timestamp_header.clone(),
                }))
            }
        })
    }
}

/// The headers that a delivery gets.
pub(super) fn headers(
    scheme: &Scheme,
    id: &str,
    unix_seconds: i64,
    body: &[u8],
) -> Result<Vec<(HeaderName, HeaderValue)>, http::header::InvalidHeaderValue> {
    let named = |name: &'static str, value: &str| {
        Ok((HeaderName::from_static(name), HeaderValue::from_str(value)?))
    };
    let stamp = unix_seconds.to_string();
    match scheme {
        Scheme::None => Ok(vec![named("idempotency-key", id)?]),
        Scheme::ApiKey(header, key) => {
            let mut key = HeaderValue::from_str(key.expose_secret())?;
            key.set_sensitive(true);
            Ok(vec![(header.clone(), key), named("idempotency-key", id)?])
        }
        Scheme::Github(secret) => {
            let signature = github(secret.expose_secret().as_bytes(), body);
            Ok(vec![
                named("x-hub-signature-256", &signature)?,
                named("x-github-delivery", id)?,
            ])
        }
        Scheme::StandardWebhooks(key) => {
            let parts: [&[u8]; 5] = [id.as_bytes(), b".", stamp.as_bytes(), b".", body];
            let signature = mac(HmacAlgorithm::Sha256, &key.0, &parts);
            Ok(vec![
                named("webhook-id", id)?,
                named("webhook-timestamp", &stamp)?,
                named(
                    "webhook-signature",
                    &format!("v1,{}", BASE64_STANDARD.encode(signature)),
                )?,
            ])
        }
        Scheme::Hmac(hmac) => {
            let signature = hmac.signature(&stamp, body);
            let mut headers = vec![
                (hmac.header.clone(), HeaderValue::from_str(&signature)?),
                named("idempotency-key", id)?,
            ];
            if let Some(name) = &hmac.timestamp_header {
                headers.push((name.clone(), HeaderValue::from_str(&stamp)?));
            }
            Ok(headers)
        }
    }
}

impl HmacScheme {
    fn signature(&self, stamp: &str, body: &[u8]) -> String {
        let template = self.template.replace("{timestamp}", stamp);
        let mut pieces = template.split("{body}");
        let mut parts: Vec<&[u8]> = vec![pieces.next().unwrap_or_default().as_bytes()];
        for piece in pieces {
            parts.push(body);
            parts.push(piece.as_bytes());
        }
        let signature = mac(
            self.algorithm.into(),
            self.secret.expose_secret().as_bytes(),
            &parts,
        );
        let text = match self.encoding {
            Encoding::Hex => hex(&signature),
            Encoding::Base64 => BASE64_STANDARD.encode(signature),
        };
        format!("{}{text}", self.prefix)
    }
}

#[cfg(test)]
mod tests;
