//! The formats that the API server checks; an unknown one lets everything pass, as there.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use serde_json::Value;

/// Whether `text` has the format.
pub(super) fn valid(format: &str, text: &str) -> bool {
    match format {
        "date-time" => date_time(text),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "duration" => super::convert::go_duration(text).is_some(),
        "byte" => base64::engine::general_purpose::STANDARD
            .decode(text)
            .is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "uri" => text
            .parse::<http::Uri>()
            .is_ok_and(|uri| uri.scheme().is_some() || text.starts_with('/')),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => uuid::Uuid::try_parse(text).is_ok(),
        "email" => text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@')
        }),
        _ => true,
    }
}

/// RFC 3339: a date, `T`, a time and a zone.
fn date_time(text: &str) -> bool {
    let shaped = text
        .as_bytes()
        .get(10)
        .is_some_and(|at| at.eq_ignore_ascii_case(&b'T'));
    let zoned =
        text.ends_with(['Z', 'z']) || text.get(10..).is_some_and(|time| time.contains(['+', '-']));
    shaped && zoned && !text.contains('[') && text.parse::<jiff::Timestamp>().is_ok()
}

/// Whether a number fits the integer format.
pub(super) fn in_range(format: &str, value: &Value) -> bool {
    match format {
        "int32" => {
            value
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok())
                || value.as_f64().is_some_and(|number| {
                    number.fract() == 0.0 && number.abs() <= f64::from(i32::MAX)
                })
        }
        "uint32" => value
            .as_u64()
            .is_some_and(|number| u32::try_from(number).is_ok()),
        "uint64" => value.as_u64().is_some(),
        _ => true,
    }
}
