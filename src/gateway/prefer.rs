//! `Prefer: wait=N` (RFC 7240).

use http::HeaderMap;

/// The seconds that the sender would wait, at most `max`; `None` where it asks for nothing, or for
/// something that is no number: a preference is never an error.
#[must_use]
pub fn wait_seconds(headers: &HeaderMap, max: u64) -> Option<u64> {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(wait_of)
        .map(|seconds| seconds.min(max))
        .filter(|seconds| *seconds > 0)
}

/// The value of a `wait` preference; the first one counts.
fn wait_of(preference: &str) -> Option<u64> {
    let token = preference.split(';').next()?;
    let (name, value) = token.split_once('=')?;
    let value = value.trim().trim_matches('"');
    let digits =
        !value.is_empty() && value.len() <= 10 && value.bytes().all(|b| b.is_ascii_digit());
    (name.trim().eq_ignore_ascii_case("wait") && digits)
        .then(|| value.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn wait(text: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", HeaderValue::from_str(text).unwrap());
        wait_seconds(&headers, 10)
    }

    #[test]
    fn reads_what_rfc_7240_allows() {
        assert_eq!(wait("wait=3"), Some(3));
        assert_eq!(wait("respond-async, wait=3"), Some(3));
        assert_eq!(wait("Wait = \"4\"; foo=bar"), Some(4));
        assert_eq!(wait("wait=99"), Some(10));
        assert_eq!(wait("wait=4294967296"), Some(10));
    }

    #[test]
    fn ignores_what_is_no_number() {
        for text in [
            "wait",
            "wait=",
            "wait=-1",
            "wait=1.5",
            "wait=0",
            "waiter=3",
            "wait=99999999999",
            "",
        ] {
            assert_eq!(wait(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_exceeds_the_bound(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert("prefer", value);
                prop_assert!(wait_seconds(&headers, 10).is_none_or(|seconds| (1..=10).contains(&seconds)));
            }
        }
    }
}
