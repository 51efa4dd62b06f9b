//! What a body says, by its media type: JSON becomes a value, a form a map, anything else a text.
//!
//! The gateway asks [`check`] before it accepts an event, and the engine reads the same bytes with
//! [`parse`] when it decides: both come to one verdict, because they are one walk.

use super::cel::{self, Key, Value};

/// Deepest JSON: arrays and objects within each other. Real events are less than 20 deep.
pub const DEPTH: usize = 64;

/// Most JSON values in one body, and so a bound on the memory that a small text can ask for (an
/// empty array is three bytes of text and some 64 of memory). GitHub's largest body, 25 MiB, has
/// some half a million.
pub const VALUES: usize = 1_000_000;

/// Most fields of a form or query: browsers and providers send some dozens.
pub const FIELDS: usize = 1_000;

/// Why a body can't be read; the sender should not try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// JSON is UTF-8.
    #[error("the body is not UTF-8 from byte {valid_up_to} on")]
    NotUtf8 {
        /// How many bytes are.
        valid_up_to: usize,
    },
    /// It is no JSON, or too deep, or has too many values.
    #[error("the body is no JSON that is read here: {0}")]
    Json(String),
    /// A form has too many fields.
    #[error("the form has more than {FIELDS} fields")]
    TooManyFields,
}

/// How bodies of a media type are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Urlencoded,
    Text,
}

/// `application/json`, `text/json` and whatever ends in `+json` (RFC 6839) are JSON; parameters
/// such as `charset` change nothing.
fn form(content_type: &str) -> Form {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let suffix = essence.len().checked_sub("+json".len());
    let json_suffix = suffix
        .and_then(|at| essence.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case("+json"));
    if json_suffix || is("application/json") || is("text/json") {
        Form::Json
    } else if is("application/x-www-form-urlencoded") {
        Form::Urlencoded
    } else {
        Form::Text
    }
}

/// Reads a body. A text that is not UTF-8 is read with replacement characters: no media type but
/// JSON promises UTF-8, and the raw bytes stay in the journal.
///
/// # Errors
/// The body is no JSON although its type says so, or a form with too many fields.
pub fn parse(content_type: &str, body: &[u8]) -> Result<Value, BodyError> {
    match form(content_type) {
        Form::Json => {
            cel::from_json(utf8(body)?, DEPTH, VALUES).map_err(|e| BodyError::Json(e.to_string()))
        }
        Form::Urlencoded => {
            let pairs = pairs(&String::from_utf8_lossy(body)).ok_or(BodyError::TooManyFields)?;
            Ok(joined(&pairs))
        }
        Form::Text => Ok(Value::text(&String::from_utf8_lossy(body))),
    }
}

/// Whether [`parse`] would read the body, without building what it says.
///
/// # Errors
/// Those of [`parse`].
pub fn check(content_type: &str, body: &[u8]) -> Result<(), BodyError> {
    match form(content_type) {
        Form::Json => {
            cel::check_json(utf8(body)?, DEPTH, VALUES).map_err(|e| BodyError::Json(e.to_string()))
        }
        Form::Urlencoded => {
            let fields = body.split(|b| *b == b'&').filter(|part| !part.is_empty());
            if fields.take(FIELDS + 1).count() > FIELDS {
                return Err(BodyError::TooManyFields);
            }
            Ok(())
        }
        Form::Text => Ok(()),
    }
}

fn utf8(body: &[u8]) -> Result<&str, BodyError> {
    std::str::from_utf8(body).map_err(|error| BodyError::NotUtf8 {
        valid_up_to: error.valid_up_to(),
    })
}

/// Names and values of a form or query, decoded; `None` where there are too many.
#[must_use]
pub fn pairs(encoded: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for part in encoded.split('&').filter(|part| !part.is_empty()) {
        if pairs.len() == FIELDS {
            return None;
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        pairs.push((decode(name), decode(value)));
    }
    Some(pairs)
}

/// `+` is a space, `%41` a byte; what is no escape stays as it is (WHATWG URL).
fn decode(encoded: &str) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high * 16 + low);
                    rest = behind;
                }
                _ => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// A map from each name to its values in order, joined by ", " as HTTP joins header lines.
#[must_use]
pub fn joined<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Value {
    grouped(pairs, |values| Value::text(&values.join(", ")))
}

/// A map from each name to the list of its values.
#[must_use]
pub fn listed<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Value {
    grouped(pairs, |values| {
        Value::list(values.iter().map(|value| Value::text(value)).collect())
    })
}

fn grouped<N: AsRef<str>, V: AsRef<str>>(
    pairs: &[(N, V)],
    value: impl Fn(&[&str]) -> Value,
) -> Value {
    let mut sorted: Vec<(&str, &str)> = pairs
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .collect();
    // Stable: values of one name stay in their order.
    sorted.sort_by_key(|(a, _)| *a);
    let entries = sorted
        .chunk_by(|(a, _), (b, _)| a == b)
        .filter_map(|group| {
            let name = group.first()?.0;
            let values: Vec<&str> = group.iter().map(|(_, value)| *value).collect();
            Some((Key::String(name.into()), value(&values)))
        });
    Value::map(entries.collect())
}

#[cfg(test)]
mod tests;
