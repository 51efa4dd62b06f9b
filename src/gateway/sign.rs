//! Signing as a sender does: for `send`, `dev`'s hints and the load generator. Pure.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use crate::api::ingestor::HmacAlgorithm;

/// The HMAC of the parts, one after the other.
#[must_use]
pub fn mac(algorithm: HmacAlgorithm, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    macro_rules! with {
        ($hash:ty) => {
            // HMAC takes a key of any length (RFC 2104), so there is always a result.
            Hmac::<$hash>::new_from_slice(key).map_or_else(
                |_never| Vec::new(),
                |mut mac| {
                    for part in parts {
                        mac.update(part);
                    }
                    mac.finalize().into_bytes().to_vec()
                },
            )
        };
    }
    match algorithm {
        HmacAlgorithm::Sha1 => with!(Sha1),
        HmacAlgorithm::Sha256 => with!(Sha256),
        HmacAlgorithm::Sha512 => with!(Sha512),
    }
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
