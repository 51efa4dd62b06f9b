//! Texts that fit where they are stored.

use super::names;

/// Characters of the hash at the end of a text that was cut.
const HASH: usize = 8;

/// `text` in lower-case letters, digits and `filler`: every run of other characters is one filler,
/// none stands at an end. What is longer than `longest` ends in a filler and a hash of the whole.
#[must_use]
pub fn sanitize(text: &str, filler: char, longest: usize) -> String {
    let mut made = String::with_capacity(text.len().min(longest));
    for c in text.chars() {
        let lower = c.to_ascii_lowercase();
        if lower.is_ascii_alphanumeric() {
            made.push(lower);
        } else if !made.is_empty() && !made.ends_with(filler) {
            made.push(filler);
        }
    }
    let end = made.trim_end_matches(filler).len();
    made.truncate(end);
    if made.len() > longest {
        let hash = hash(text);
        made.truncate(longest - HASH - 1);
        let end = made.trim_end_matches(filler).len();
        made.truncate(end);
        made.push(filler);
        made.push_str(&hash);
    }
    made
}

/// `text` with at most `longest` characters: what is longer ends in `~` and a hash of the whole.
/// Control characters become spaces.
#[must_use]
pub fn clip(text: &str, longest: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.len() <= longest || text.chars().nth(longest).is_none() {
        return text.chars().map(clean).collect();
    }
    let kept = text.chars().take(longest.saturating_sub(HASH + 1));
    let mut made: String = kept.map(clean).collect();
    made.push('~');
    made.push_str(&hash(text));
    made
}

fn hash(text: &str) -> String {
    let digest = names::digest(&[text.as_bytes()]);
    let bytes = digest.iter().take(HASH / 2);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_letter_or_digit_becomes_one_filler() {
        for (text, made) in [
            ("github_pull_request.opened", "github_pull_request_opened"),
            ("  Policy-Violation!! ", "policy_violation"),
            ("a__b", "a_b"),
            ("\u{fc}", ""),
            ("Terminal shell in container", "terminal_shell_in_container"),
        ] {
            assert_eq!(sanitize(text, '_', 128), made);
        }
    }

    #[test]
    fn long_texts_that_differ_stay_different() {
        let (one, other) = (
            format!("{}1", "a".repeat(200)),
            format!("{}2", "a".repeat(200)),
        );
        assert_ne!(sanitize(&one, '_', 128), sanitize(&other, '_', 128));
        assert_eq!(sanitize(&one, '_', 128).len(), 128);
        assert_ne!(clip(&one, 63), clip(&other, 63));
        assert_eq!(clip(&one, 63).chars().count(), 63);
    }

    proptest! {
        #[test]
        fn always_fits_its_pattern(text in "\\PC{0,80}", longest in 20_usize..64) {
            let pattern = regex::Regex::new("^([a-z0-9]([a-z0-9_]*[a-z0-9])?)?$").unwrap();
            let made = sanitize(&text, '_', longest);
            prop_assert!(made.len() <= longest && pattern.is_match(&made), "{}", made);
            prop_assert_eq!(sanitize(&made, '_', longest), made);
            prop_assert!(clip(&text, longest).chars().count() <= longest);
        }
    }
}
