//! Tables: what `kubectl get` prints.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    kind::{Column, Kind, Source},
    store::Page,
    view::{list_metadata, partial},
    wire::Rows,
};
use crate::journal::Millis;

/// A page as a table.
pub(super) fn of_objects(kind: &Kind, page: &Page, with: Rows, now: Millis) -> Bytes {
    let rows: Vec<Value> = page
        .items
        .iter()
        .map(|item| row(kind, item, with, now))
        .collect();
    table(kind, &list_metadata(page), &rows, true)
}

/// One change as a table of one row; only the first of a watch names the columns.
pub(super) fn of_change(
    kind: &Kind,
    object: &Bytes,
    with: Rows,
    first: bool,
    now: Millis,
) -> Bytes {
    table(kind, &json!({}), &[row(kind, object, with, now)], first)
}

fn table(kind: &Kind, metadata: &Value, rows: &[Value], columns: bool) -> Bytes {
    let columns: Option<Vec<Value>> =
        columns.then(|| kind.columns.iter().map(definition).collect());
    let table = json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    });
    Bytes::from(table.to_string())
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.type_,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn row(kind: &Kind, object: &Bytes, with: Rows, now: Millis) -> Value {
    let value: Value = serde_json::from_slice(object).unwrap_or_default();
    let cells: Vec<Value> = kind
        .columns
        .iter()
        .map(|column| cell(column, &value, now))
        .collect();
    let beside = match with {
        Rows::Metadata => partial(object),
        Rows::Object => value,
        Rows::Bare => Value::Null,
    };
    json!({"cells": cells, "object": beside})
}

fn cell(column: &Column, object: &Value, now: Millis) -> Value {
    match &column.source {
        Source::Name => object
            .pointer("/metadata/name")
            .cloned()
            .unwrap_or_default(),
        Source::Age => {
            let created = object.pointer("/metadata/creationTimestamp");
            created.map_or_else(|| json!("<unknown>"), |created| since(created, now))
        }
        Source::Path(path) => match path.first(object) {
            None | Some(Value::Null) => Value::Null,
            Some(value) => typed(&column.type_, value, now),
        },
        Source::Count(paths) => {
            let count: usize = paths
                .iter()
                .filter_map(|path| path.first(object))
                .map(|found| match found {
                    Value::Array(list) => list.len(),
                    Value::Object(map) => map.len(),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
                })
                .sum();
            json!(count)
        }
        Source::Since(paths) => paths
            .iter()
            .filter_map(|path| path.first(object))
            .find(|found| found.is_string())
            .map_or_else(|| json!("<unknown>"), |found| since(found, now)),
        Source::Joined(left, right) => {
            let text = |value: Option<&Value>| {
                value.and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            let left = text(left.first(object));
            // An event's object is shown as kubectl takes it back: lower-case.
            let left = if column.name == "Object" {
                left.to_lowercase()
            } else {
                left
            };
            json!(format!("{left}/{}", text(right.first(object))))
        }
    }
}

fn typed(type_: &str, value: &Value, now: Millis) -> Value {
    match type_ {
        "integer" => value
            .as_i64()
            .or_else(|| value.as_str()?.parse().ok())
            .map_or(Value::Null, Value::from),
        "number" => value.as_f64().map_or(Value::Null, Value::from),
        "boolean" => value.as_bool().map_or(Value::Null, Value::from),
        "date" => since(value, now),
        _ => value
            .as_str()
            .map_or_else(|| json!(value.to_string()), |text| json!(text)),
    }
}

/// How long ago, as `k8s.io/apimachinery/pkg/util/duration` shortens it.
fn since(value: &Value, now: Millis) -> Value {
    let Some(then) = value
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok())
    else {
        return json!("<invalid>");
    };
    let seconds = now.0.div_euclid(1000).saturating_sub(then.as_second());
    json!(human(seconds))
}

fn human(seconds: i64) -> String {
    // A clock that is a little behind is no reason to complain.
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |large: i64, unit: &str, small: i64, below: &str| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{below}")
        }
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        pair(minutes, "m", seconds % 60, "s")
    } else if hours < 3 {
        format!("{minutes}m")
    } else if hours < 8 {
        pair(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        pair(days, "d", hours % 24, "h")
    } else if days < 365 * 2 {
        format!("{days}d")
    } else if days < 365 * 8 {
        pair(days / 365, "y", days % 365, "d")
    } else {
        format!("{}y", days / 365)
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn ages_are_shortened_as_kubectl_does() {
        for (seconds, shown) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (3_600, "60m"),
            (3 * 3_600, "3h"),
            (3 * 3_600 + 61, "3h1m"),
            (47 * 3_600, "47h"),
            (49 * 3_600, "2d1h"),
            (400 * 86_400, "400d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(human(seconds), shown, "{seconds}");
        }
    }
}
