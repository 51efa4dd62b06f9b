//! Which delivery a request is: the event's id and the key that recognises it. Pure.
//!
//! A signed id is always the event's id: a header that anyone may set can't get around it. Else the
//! header that the Ingestor names counts, else the scheme's unsigned id, else the body's hash where
//! that is asked for, else an id made here. The id carries its origin, so that nobody can burn a
//! signed id with a header.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use super::verify::{DeliveryId, Verified};
use crate::journal::{IngestorUid, Key, KeyHash, PayloadDigest};

/// Longest id that a sender may give.
pub(crate) const MAX_ID: usize = 255;

/// How deliveries of one Ingestor are recognised.
#[derive(Clone, Debug)]
pub(crate) struct Idempotency {
    /// The header that names a delivery.
    pub header: HeaderName,
    /// How long it is remembered.
    pub window: Duration,
    /// Whether equal bodies are one delivery.
    pub by_content: bool,
}

/// Which delivery a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The event's id, `origin:id`; without an origin where it was made here.
    pub event_id: Arc<str>,
    /// What recognises it again; `None` where the id was made here.
    pub key: Option<Key>,
}

/// The idempotency header is there twice, or not 1 to 255 visible ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the idempotency header must be there once, with 1 to 255 visible ASCII characters")]
pub(crate) struct BadKey;

/// Recognises a verified request. `made` gives an id where nothing else does.
///
/// # Errors
/// The idempotency header is not of its form; also where a signed id makes it count for nothing.
pub(crate) fn delivery(
    ingestor: &IngestorUid,
    idempotency: &Idempotency,
    verified: Verified<'_>,
    headers: &HeaderMap,
    payload: PayloadDigest,
    made: impl FnOnce() -> String,
) -> Result<Delivery, BadKey> {
    let header = header_key(headers, &idempotency.header)?;
    let event_id = match (verified.id, header) {
        (DeliveryId::Signed(id), _) => format!("{}:{id}", verified.scheme.as_str()),
        (_, Some(id)) => format!("header:{id}"),
        (DeliveryId::Unsigned(id), None) => {
            if !well_formed(id) {
                return Err(BadKey);
            }
            format!("{}:{id}", verified.scheme.as_str())
        }
        (DeliveryId::Absent, None) if idempotency.by_content => {
            let hex: String = payload.0.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("content:{hex}")
        }
        (DeliveryId::Absent, None) => {
            return Ok(Delivery {
                event_id: made().into(),
                key: None,
            });
        }
    };
    Ok(Delivery {
        key: Some(Key {
            hash: key_hash(ingestor, &event_id),
            window: idempotency.window,
        }),
        event_id: event_id.into(),
    })
}

fn header_key<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, BadKey> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let text = first.to_str().map_err(|_not_ascii| BadKey)?;
    if values.next().is_some() || !well_formed(text) {
        return Err(BadKey);
    }
    Ok(Some(text))
}

fn well_formed(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// 128 bits of SHA-256 over the Ingestor's UID and the event's id, each with its length.
fn key_hash(ingestor: &IngestorUid, event_id: &str) -> KeyHash {
    let mut hash = Sha256::new();
    for field in [ingestor.0.as_bytes(), event_id.as_bytes()] {
        let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
        hash.update(length.to_be_bytes());
        hash.update(field);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut short = [0; 16];
    short
        .iter_mut()
        .zip(digest)
        .for_each(|(to, from)| *to = from);
    KeyHash(short)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::gateway::verify::Scheme;

    const DIGEST: PayloadDigest = PayloadDigest([7; 32]);

    fn of(
        id: DeliveryId<'_>,
        scheme: Scheme,
        header: Option<&str>,
        by_content: bool,
    ) -> Result<Delivery, BadKey> {
        let idempotency = Idempotency {
            header: HeaderName::from_static("idempotency-key"),
            window: Duration::from_secs(60),
            by_content,
        };
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("idempotency-key", HeaderValue::from_str(value).unwrap());
        }
        let uid = IngestorUid("u".into());
        delivery(
            &uid,
            &idempotency,
            Verified { scheme, id },
            &headers,
            DIGEST,
            || "made".to_owned(),
        )
    }

    fn id(result: Result<Delivery, BadKey>) -> String {
        result.unwrap().event_id.to_string()
    }

    #[test]
    fn the_origin_decides_in_the_contract_s_order() {
        let signed = DeliveryId::Signed("m1");
        let unsigned = DeliveryId::Unsigned("d1");
        assert_eq!(
            id(of(signed, Scheme::StandardWebhooks, Some("h"), true)),
            "standardWebhooks:m1"
        );
        assert_eq!(
            id(of(unsigned, Scheme::Github, Some("h"), true)),
            "header:h"
        );
        assert_eq!(id(of(unsigned, Scheme::Github, None, true)), "github:d1");
        assert!(id(of(DeliveryId::Absent, Scheme::Hmac, None, true)).starts_with("content:0707"));
        let made = of(DeliveryId::Absent, Scheme::Hmac, None, false).unwrap();
        assert_eq!((&*made.event_id, made.key), ("made", None));
    }

    #[test]
    fn nobody_burns_a_signed_id_with_a_header() {
        let signed = of(
            DeliveryId::Signed("m1"),
            Scheme::StandardWebhooks,
            None,
            false,
        )
        .unwrap();
        for forged in ["m1", "standardWebhooks:m1"] {
            let other = of(DeliveryId::Absent, Scheme::None, Some(forged), false).unwrap();
            assert_ne!(other.event_id, signed.event_id);
            assert_ne!(other.key.unwrap().hash, signed.key.unwrap().hash);
        }
    }

    #[test]
    fn a_key_is_visible_ascii() {
        let long = "x".repeat(256);
        for bad in ["", "a b", long.as_str()] {
            assert_eq!(
                of(DeliveryId::Absent, Scheme::None, Some(bad), false),
                Err(BadKey),
                "{bad}"
            );
        }
    }
}
