//! Which event a request is: its id, and the key by which a repeated delivery is recognized.
//!
//! An id that the scheme signs comes first, so that a header that anyone may set can't get around
//! it. Ids carry their origin, and keys are scoped by Ingestor and origin: nobody can burn a signed
//! id with a header.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use uuid::Uuid;

use super::{
    problem::{Kind, Problem},
    verify::{Accepted, twice},
};
use crate::{
    engine::names,
    journal::{IngestorUid, KeyHash, PayloadDigest},
};

/// Longest key that a header may carry.
const MAX_KEY: usize = 255;

/// How an endpoint recognizes repeated deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The header that names a delivery where the scheme signs no id.
    pub header: HeaderName,
    /// How long a delivery is remembered.
    pub window: Duration,
    /// Whether equal bodies are the same delivery where nothing else names one.
    pub by_content: bool,
}

/// A delivery's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event's id, with its origin.
    pub event_id: Arc<str>,
    /// What a repeated delivery is recognized by; absent where the id was made here.
    pub key: Option<KeyHash>,
}

/// The identity of a verified request; `made` is the id for one that has none.
///
/// # Errors
/// The header that names the delivery came twice, or is not 1 to 255 visible ASCII characters.
pub fn delivery(
    ingestor: &IngestorUid,
    policy: &Policy,
    accepted: &Accepted<'_>,
    headers: &HeaderMap,
    payload: &PayloadDigest,
    made: Uuid,
) -> Result<Delivery, Problem> {
    let (origin, id) = if let Some(signed) = accepted.signed_id {
        (accepted.scheme, signed.to_owned())
    } else if let Some(key) = header(headers, &policy.header)? {
        ("header", key.to_owned())
    } else if let Some(id) = unsigned(headers, accepted)? {
        (accepted.scheme, id.to_owned())
    } else if policy.by_content {
        ("content", hex(&payload.0))
    } else {
        let mut text = Uuid::encode_buffer();
        return Ok(Delivery {
            event_id: Arc::from(&*made.hyphenated().encode_lower(&mut text)),
            key: None,
        });
    };
    let [hash, _] = halves(names::digest(&[
        ingestor.0.as_bytes(),
        origin.as_bytes(),
        id.as_bytes(),
    ]));
    let mut event_id = String::with_capacity(origin.len() + 1 + id.len());
    event_id.push_str(origin);
    event_id.push('/');
    event_id.push_str(&id);
    Ok(Delivery {
        event_id: event_id.into(),
        key: Some(KeyHash(hash)),
    })
}

fn halves(digest: [u8; 32]) -> [[u8; 16]; 2] {
    let (halves, _) = digest.as_chunks::<16>();
    halves.try_into().unwrap_or_default()
}

fn unsigned<'a>(
    headers: &'a HeaderMap,
    accepted: &Accepted<'_>,
) -> Result<Option<&'a str>, Problem> {
    match accepted.unsigned_id {
        None => Ok(None),
        Some(name) => header(headers, &HeaderName::from_static(name)),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let shaped = (1..=MAX_KEY).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(text) if shaped && !twice(headers, name) => Ok(Some(text)),
        _ => Err(Kind::Malformed.because(format!(
            "{name} must come once, with 1 to {MAX_KEY} visible ASCII characters"
        ))),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a String can't fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn policy(by_content: bool) -> Policy {
        Policy {
            header: HeaderName::from_static("idempotency-key"),
            window: Duration::from_secs(60),
            by_content,
        }
    }

    fn accepted(scheme: &'static str, signed_id: Option<&'static str>) -> Accepted<'static> {
        let unsigned_id = (scheme == "github").then_some("x-github-delivery");
        Accepted {
            scheme,
            signed_id,
            unsigned_id,
        }
    }

    fn of(
        accepted: &Accepted<'_>,
        by_content: bool,
        headers: &[(&'static str, &str)],
    ) -> Result<Delivery, Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let uid = IngestorUid("uid-1".into());
        delivery(
            &uid,
            &policy(by_content),
            accepted,
            &map,
            &PayloadDigest([7; 32]),
            Uuid::nil(),
        )
    }

    #[test]
    fn a_signed_id_beats_every_header() {
        let headers = [("idempotency-key", "mine"), ("webhook-id", "msg_1")];
        let delivery = of(&accepted("standardWebhooks", Some("msg_1")), true, &headers).unwrap();
        assert_eq!(&*delivery.event_id, "standardWebhooks/msg_1");
    }

    #[test]
    fn then_comes_the_header_then_the_unsigned_id_then_the_content_then_one_made_here() {
        let github = accepted("github", None);
        let both = [("idempotency-key", "mine"), ("x-github-delivery", "d1")];
        assert_eq!(&*of(&github, true, &both).unwrap().event_id, "header/mine");
        assert_eq!(
            &*of(&github, true, &both[1..]).unwrap().event_id,
            "github/d1"
        );
        let content = of(&github, true, &[]).unwrap();
        assert_eq!(&*content.event_id, format!("content/{}", "07".repeat(32)));
        let made = of(&github, false, &[]).unwrap();
        assert_eq!(&*made.event_id, "00000000-0000-0000-0000-000000000000");
        assert_eq!(made.key, None);
    }

    #[test]
    fn a_header_can_not_burn_a_signed_id() {
        let signed = of(&accepted("standardWebhooks", Some("msg_1")), false, &[]).unwrap();
        let header = of(
            &accepted("apiKey", None),
            false,
            &[("idempotency-key", "msg_1")],
        )
        .unwrap();
        assert_ne!(signed.key, header.key);
        assert_ne!(signed.event_id, header.event_id);
    }

    #[test]
    fn a_malformed_key_is_refused() {
        let github = accepted("github", None);
        let long = "x".repeat(256);
        for headers in [
            vec![("idempotency-key", "")],
            vec![("idempotency-key", "a b")],
            vec![("idempotency-key", long.as_str())],
            vec![("idempotency-key", "a"), ("idempotency-key", "a")],
            vec![("x-github-delivery", "a"), ("x-github-delivery", "b")],
        ] {
            assert_eq!(
                of(&github, false, &headers).unwrap_err().kind,
                Kind::Malformed
            );
        }
        let longest = "x".repeat(255);
        assert!(of(&github, false, &[("idempotency-key", &longest)]).is_ok());
    }

    proptest! {
        #[test]
        fn any_header_gives_an_id_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert("idempotency-key", value);
                let uid = IngestorUid("uid-1".into());
                let made = delivery(&uid, &policy(false), &accepted("none", None), &headers, &PayloadDigest([0; 32]), Uuid::nil());
                prop_assert_eq!(made.is_ok(), !bytes.is_empty() && bytes.len() <= 255 && bytes.iter().all(u8::is_ascii_graphic));
            }
        }
    }
}
