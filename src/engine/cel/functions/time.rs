//! Parts of timestamps and durations. Time zones are offsets such as `+02:00`: names such as
//! `Europe/Berlin` would depend on the machine's database.

use jiff::{
    Zoned,
    tz::{Offset, TimeZone},
};

use super::{Entry, Outcome, arg, method, text, wrong};
use crate::engine::cel::{budget::Fault, value::Value};

pub(super) const TABLE: &[Entry] = &[
    method("getFullYear", 1, 2, |args, _| {
        part("getFullYear", args, |at| i64::from(at.year()))
    }),
    method("getMonth", 1, 2, |args, _| {
        part("getMonth", args, |at| i64::from(at.month()) - 1)
    }),
    method("getDate", 1, 2, |args, _| {
        part("getDate", args, |at| i64::from(at.day()))
    }),
    method("getDayOfMonth", 1, 2, |args, _| {
        part("getDayOfMonth", args, |at| i64::from(at.day()) - 1)
    }),
    method("getDayOfWeek", 1, 2, |args, _| {
        part("getDayOfWeek", args, |at| {
            i64::from(at.weekday().to_sunday_zero_offset())
        })
    }),
    method("getDayOfYear", 1, 2, |args, _| {
        part("getDayOfYear", args, |at| i64::from(at.day_of_year()) - 1)
    }),
    method("getHours", 1, 2, |args, _| {
        span("getHours", args, jiff::SignedDuration::as_hours)
            .unwrap_or_else(|| part("getHours", args, |at| i64::from(at.hour())))
    }),
    method("getMinutes", 1, 2, |args, _| {
        span("getMinutes", args, jiff::SignedDuration::as_mins)
            .unwrap_or_else(|| part("getMinutes", args, |at| i64::from(at.minute())))
    }),
    method("getSeconds", 1, 2, |args, _| {
        span("getSeconds", args, jiff::SignedDuration::as_secs)
            .unwrap_or_else(|| part("getSeconds", args, |at| i64::from(at.second())))
    }),
    method("getMilliseconds", 1, 2, |args, _| {
        span("getMilliseconds", args, |span| {
            i64::from(span.subsec_millis())
        })
        .unwrap_or_else(|| part("getMilliseconds", args, |at| i64::from(at.millisecond())))
    }),
];

fn span(function: &str, args: &[Value], read: fn(&jiff::SignedDuration) -> i64) -> Option<Outcome> {
    match args {
        [Value::Duration(span)] => Some(Ok(Value::Int(read(span)))),
        [Value::Duration(_), ..] => Some(Fault::new(format!(
            "{function}() of a duration takes no time zone"
        ))),
        _ => None,
    }
}

fn part(function: &str, args: &[Value], read: fn(&Zoned) -> i64) -> Outcome {
    let at = match arg(args, 0) {
        Value::Timestamp(at) => *at,
        other => return wrong(function, "a timestamp", other),
    };
    let zone = match args.len() {
        2 => offset(text(function, args, 1)?)?,
        _ => TimeZone::UTC,
    };
    Ok(Value::Int(read(&at.to_zoned(zone))))
}

fn offset(name: &str) -> Result<TimeZone, Fault> {
    if name == "UTC" || name == "Z" {
        return Ok(TimeZone::UTC);
    }
    let parsed = || {
        let (negative, rest) = match name.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, name.strip_prefix('+').unwrap_or(name)),
        };
        let (hours, minutes) = rest.split_once(':')?;
        let two = |text: &str| {
            let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<i32>().ok()).flatten()
        };
        let (hours, minutes) = (two(hours)?, two(minutes)?);
        let seconds = hours * 3_600 + minutes * 60;
        let signed = if negative { -seconds } else { seconds };
        Offset::from_seconds(signed).ok().filter(|_| minutes < 60)
    };
    match parsed() {
        Some(offset) => Ok(TimeZone::fixed(offset)),
        None => Fault::new(format!(
            "{name:?} is no offset such as +02:00; names of time zones are not supported"
        )),
    }
}
