//! Names of Observations, derived from what they stand for: two writers of one event write one
//! object.
//!
//! ```text
//!  <ingestor, at most 42 characters>-<20 characters>        at most 63: a DNS label
//! ```
//!
//! The 20 characters are the first 100 bits of SHA-256 over fields, in lower-case Crockford base32.
//! Each field is its length (32 bits, big-endian) and its bytes; numbers are decimal digits. Fields
//! of an event's name: Ingestor UID, `event`, event id, index; of a window's: Ingestor UID,
//! `window`, fingerprint (32 bytes), window number. `tests/data/names.json` has vectors, and this
//! computes the first of them:
//!
//! ```python
//! import hashlib
//! fields = [b"11111111-2222-3333-4444-555555555555", b"event", b"delivery-1", b"0"]
//! data = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
//! bits = int.from_bytes(hashlib.sha256(data).digest(), "big") >> 156
//! alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
//! print("".join(alphabet[bits >> shift & 31] for shift in range(95, -1, -5)))
//! ```

use sha2::{Digest as _, Sha256};

use crate::api::decision::Identity;

/// Characters of a name that are a hash: 100 bits, so that a collision among a billion names of one
/// Ingestor has a chance of 2^-41.
const HASH: usize = 20;

/// Longest beginning of a name: with the dash and the hash it is a DNS label.
const PREFIX: usize = 63 - 1 - HASH;

/// Crockford's alphabet in lower case: without i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Name of the Observation of one item of an event.
#[must_use]
pub fn event(ingestor: &Identity, event_id: &str, index: u32) -> String {
    let index = index.to_string();
    named(ingestor, &[b"event", event_id.as_bytes(), index.as_bytes()])
}

/// Name of the Observation of a fingerprint's window.
#[must_use]
pub fn window(ingestor: &Identity, fingerprint: &[u8; 32], number: i64) -> String {
    let number = number.to_string();
    named(ingestor, &[b"window", fingerprint, number.as_bytes()])
}

/// Value of the label by which an event's objects are listed.
#[must_use]
pub fn event_label(ingestor: &Identity, event_id: &str) -> String {
    hash(&[ingestor.uid.as_bytes(), b"event-label", event_id.as_bytes()])
}

fn named(ingestor: &Identity, fields: &[&[u8]]) -> String {
    let all: Vec<&[u8]> = [ingestor.uid.as_bytes()]
        .into_iter()
        .chain(fields.iter().copied())
        .collect();
    let prefix = ingestor.name.get(..PREFIX).unwrap_or(&ingestor.name);
    format!("{}-{}", prefix.trim_end_matches('-'), hash(&all))
}

fn hash(fields: &[&[u8]]) -> String {
    let digest = digest(fields);
    let mut text = String::with_capacity(HASH);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in digest {
        bits = bits << 8 | u32::from(byte);
        held += 8;
        while held >= 5 && text.len() < HASH {
            held -= 5;
            let digit = usize::try_from(bits >> held & 31).unwrap_or_default();
            text.push(char::from(ALPHABET.get(digit).copied().unwrap_or_default()));
        }
        bits &= 0xff;
    }
    text
}

/// SHA-256 over length-prefixed fields.
#[must_use]
pub fn digest(fields: &[&[u8]]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for field in fields {
        // No field comes near 4 GiB: bodies end at 25 MiB.
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        sha.update(length.to_be_bytes());
        sha.update(field);
    }
    sha.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn identity(uid: &str, name: &str) -> Identity {
        Identity {
            uid: uid.to_owned(),
            namespace: "team-a".to_owned(),
            namespace_uid: "ns".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn vectors_that_were_computed_elsewhere_agree() {
        let vectors: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/data/names.json")).unwrap();
        assert!(vectors.len() >= 8);
        for vector in vectors {
            let text = |field: &str| vector[field].as_str().unwrap();
            let ingestor = identity(text("uid"), text("ingestor"));
            let name = match text("kind") {
                "event" => {
                    let index = u32::try_from(vector["index"].as_u64().unwrap()).unwrap();
                    event(&ingestor, text("eventId"), index)
                }
                "window" => {
                    let mut fingerprint = [0; 32];
                    for (at, byte) in fingerprint.iter_mut().enumerate() {
                        let hex = &text("fingerprint")[2 * at..2 * at + 2];
                        *byte = u8::from_str_radix(hex, 16).unwrap();
                    }
                    window(&ingestor, &fingerprint, vector["window"].as_i64().unwrap())
                }
                "label" => event_label(&ingestor, text("eventId")),
                other => panic!("{other}"),
            };
            assert_eq!(name, text("name"), "{vector}");
        }
    }

    #[test]
    fn a_long_name_stays_a_label() {
        let name = event(
            &identity("u", &format!("{}-{}", "a".repeat(41), "b".repeat(21))),
            "e",
            0,
        );
        assert_eq!(name.len(), 62, "{name}: the dash before the cut is dropped");
        assert_eq!(event(&identity("u", &"a".repeat(63)), "e", 0).len(), 63);
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let names: BTreeSet<String> = [("ab", "c"), ("a", "bc"), ("abc", "")]
            .into_iter()
            .map(|(uid, id)| event(&identity(uid, "i"), id, 0))
            .collect();
        assert_eq!(names.len(), 3);
    }
}
