//! `Prefer: wait=N` (RFC 7240). Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long the sender prefers to wait, at most `longest`; `None` where it doesn't, or says nothing
/// that can be understood: a preference is never an error.
#[must_use]
pub(crate) fn wait(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    let wanted = headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|preference| {
            let preference = preference.split(';').next()?;
            let (name, value) = preference.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("wait") {
                return None;
            }
            value.trim().trim_matches('"').parse::<u32>().ok()
        })?;
    (wanted > 0).then(|| Duration::from_secs(u64::from(wanted)).min(longest))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_str(value).unwrap());
        }
        wait(&headers, Duration::from_secs(10)).map(|wait| wait.as_secs())
    }

    #[test]
    fn reads_what_rfc_7240_allows() {
        assert_eq!(of(&["wait=5"]), Some(5));
        assert_eq!(of(&["respond-async, wait=5"]), Some(5));
        assert_eq!(of(&["respond-async", "Wait = \"3\""]), Some(3));
        assert_eq!(of(&["wait=5; foo=bar"]), Some(5));
        assert_eq!(of(&["wait=100"]), Some(10), "no longer than allowed");
        for nothing in [
            "",
            "wait",
            "wait=",
            "wait=-1",
            "wait=x",
            "wait=0",
            "waiting=5",
        ] {
            assert_eq!(of(&[nothing]), None, "{nothing}");
        }
    }
}
