//! Signing as a sender does: for `send`, `dev`'s hints and the load generator. The same HMAC verifies.

use super::verify::mac::MacKey;
use crate::api::ingestor::HmacAlgorithm;

/// The HMAC of the parts, one after the other; empty for an empty key, which signs nothing.
#[must_use]
pub fn mac(algorithm: HmacAlgorithm, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    MacKey::new(algorithm, key).map(|key| key.tag(parts)).unwrap_or_default()
}

/// The value of GitHub's `X-Hub-Signature-256`.
#[must_use]
pub fn github(key: &[u8], body: &[u8]) -> String {
    format!("sha256={}", hex(&mac(HmacAlgorithm::Sha256, key, &[body])))
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text
}
