//! Points in time as senders write them.

use jiff::Timestamp;

/// Longest RFC 3339 text: nanoseconds and an offset.
const RFC3339_LENGTH: usize = 35;

/// Reads RFC 3339: date, `T`, time, and `Z` or an offset.
#[must_use]
pub fn rfc3339(text: &str) -> Option<Timestamp> {
    let shape = (20..=RFC3339_LENGTH).contains(&text.len())
        && matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '))
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"TtZz:-+. ".contains(&b));
    shape.then(|| text.parse().ok()).flatten()
}

/// Reads a Unix time: seconds, or milliseconds where seconds would lie beyond the year 5138.
#[must_use]
pub fn unix(number: f64) -> Option<Timestamp> {
    const MILLIS_FROM: f64 = 1e11;
    let millis = if number.abs() >= MILLIS_FROM {
        number
    } else {
        number * 1_000.0
    };
    let whole = super::cel::whole(millis.floor())?;
    Timestamp::from_millisecond(whole).ok()
}

/// Reads either, as a text.
#[must_use]
pub fn text(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    rfc3339(text).or_else(|| {
        let number = !text.is_empty()
            && text.len() <= RFC3339_LENGTH
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
        number.then(|| text.parse().ok()).flatten().and_then(unix)
    })
}
