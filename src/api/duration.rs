//! Durations as users write them: `24h`, `10m`, `1h30m`, `45s`.
//!
//! The grammar is a subset of Go's, so that the API server's CEL `duration()` gives the same value:
//! hours, minutes and seconds in this order, each at most once, whole numbers. The CRD holds the
//! same grammar as a pattern, and the same bounds as rules.

use std::{ops::RangeInclusive, time::Duration};

/// The grammar, as the CRDs hold it. The numbers of digits keep every sum far below an overflow.
pub const PATTERN: &str = "^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$";

/// Longest text that the grammar allows: `9999h99999m999999s`.
pub const MAX_LENGTH: usize = 18;

/// A dedup window: shorter than ten seconds it is no window for senders that retry; longer than a
/// day, what it waits for belongs into a query.
pub const DEDUP_WINDOW: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_hours(24);

/// How long a delivery is remembered: providers retry and redeliver for up to three days, and a
/// week leaves room.
pub const IDEMPOTENCY_WINDOW: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_hours(168);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It doesn't follow the grammar.
    #[error("{text:?} is no duration: write hours, minutes and seconds such as 24h, 10m or 1h30m")]
    Grammar {
        /// What was written.
        text: String,
    },
    /// It is shorter or longer than is allowed here.
    #[error("{text} is out of bounds: at least {} and at most {}", format(*min), format(*max))]
    Bounds {
        /// What was written.
        text: String,
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
}

/// Reads a duration.
///
/// # Errors
/// [`Error::Grammar`] for a text that [`PATTERN`] doesn't match, and for the empty one.
pub fn parse(text: &str) -> Result<Duration, Error> {
    let total = seconds(text).ok_or_else(|| Error::Grammar {
        text: text.chars().take(2 * MAX_LENGTH).collect(),
    })?;
    Ok(Duration::from_secs(total))
}

/// Reads a duration that must lie within `bounds`.
///
/// # Errors
/// See [`parse`]; [`Error::Bounds`] for one outside.
pub fn parse_within(text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, Error> {
    let parsed = parse(text)?;
    if bounds.contains(&parsed) {
        Ok(parsed)
    } else {
        Err(Error::Bounds {
            text: text.to_owned(),
            min: *bounds.start(),
            max: *bounds.end(),
        })
    }
}

/// Writes a duration in the same grammar, in whole seconds; nothing is `0s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let total = duration.as_secs();
    let parts = [
        (total / 3_600, 'h'),
        (total % 3_600 / 60, 'm'),
        (total % 60, 's'),
    ];
    let text: String = parts
        .into_iter()
        .filter(|(amount, _)| *amount > 0)
        .map(|(amount, unit)| format!("{amount}{unit}"))
        .collect();
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

fn seconds(text: &str) -> Option<u64> {
    // Unit, seconds in it, most digits: the order in which they must come.
    let units = [('h', 3_600, 4), ('m', 60, 5), ('s', 1, 6)];
    let mut rest = text;
    let mut total = 0_u64;
    for (unit, factor, most_digits) in units {
        let Some((digits, after)) = rest.split_once(unit) else {
            continue;
        };
        let wellformed = (1..=most_digits).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !wellformed {
            return None;
        }
        let amount: u64 = digits.parse().ok()?;
        total = total.checked_add(amount.checked_mul(factor)?)?;
        rest = after;
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [
            ("10s", 10),
            ("10m", 600),
            ("24h", 86_400),
            ("1h30m", 5_400),
            ("1h1s", 3_601),
            ("90m", 5_400),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_the_server_or_the_reader_would_take_otherwise() {
        for text in [
            "",
            "10",
            "s",
            "h",
            "1d",
            "1.5h",
            "-1h",
            "+1h",
            "10 m",
            "10ms",
            "1m1h",
            "1h1h",
            "1H",
            "10000h",
            "\u{0661}s",
            "1s ",
            " 1s",
            "999999999999999999999s",
        ] {
            assert!(
                matches!(parse(text), Err(Error::Grammar { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn names_both_bounds() {
        let error = parse_within("25h", &DEDUP_WINDOW).unwrap_err();
        assert_eq!(
            error.to_string(),
            "25h is out of bounds: at least 10s and at most 24h"
        );
        assert!(parse_within("9s", &DEDUP_WINDOW).is_err());
        assert!(parse_within("10s", &DEDUP_WINDOW).is_ok());
        assert!(parse_within("24h", &DEDUP_WINDOW).is_ok());
        assert!(parse_within("168h", &IDEMPOTENCY_WINDOW).is_ok());
    }

    proptest! {
        #[test]
        fn agrees_with_the_pattern_of_the_crd(text in "[0-9hms. -]{0,20}") {
            let pattern = regex::Regex::new(PATTERN).unwrap();
            prop_assert_eq!(parse(&text).is_ok(), !text.is_empty() && pattern.is_match(&text));
        }

        #[test]
        fn never_panics_on_any_text(text in "\\PC{0,40}") {
            let _ = parse(&text).is_ok();
        }

        #[test]
        fn writes_what_it_reads(seconds in 0_u64..9_999 * 3_600) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
