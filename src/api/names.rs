//! Names that Kubernetes takes, as code: for what comes from elsewhere, such as flags, and is to pass
//! the schemas' patterns later.

use super::limits::SUBDOMAIN;

/// Whether it is a DNS subdomain (RFC 1123), as names of Pods and of most objects are: what the
/// schemas' pattern and [`SUBDOMAIN`] let through, and nothing else.
#[must_use]
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let end = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = text.as_bytes();
    let inside = |byte: &u8| *byte == b'-' || end(Some(byte));
    end(bytes.first()) && end(bytes.last()) && bytes.iter().all(inside)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::schema::DNS_SUBDOMAIN;

    proptest! {
        #[test]
        fn the_code_takes_what_the_pattern_takes(text in "[a-cA0-1.\\-_#]{0,8}") {
            let pattern = regex::Regex::new(DNS_SUBDOMAIN).unwrap();
            prop_assert_eq!(is_subdomain(&text), pattern.is_match(&text));
        }
    }

    #[test]
    fn a_subdomain_has_253_characters_at_most() {
        assert!(is_subdomain(&"a".repeat(SUBDOMAIN)));
        assert!(!is_subdomain(&"a".repeat(SUBDOMAIN + 1)));
    }
}
