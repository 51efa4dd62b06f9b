//! Whether an Observation's time is over: pure.

use k8s_openapi::jiff::Timestamp;

use crate::{
    api::annotations::{INGESTOR_UID, RECORD, WINDOW_END},
    journal::{LogId, Millis, Position, RecordId},
    kube::observations::Aging,
};

/// So long after its end a window may still get its first event: accepted before the end, on its way
/// into the journal, which doesn't tell of it before it is durable. A gateway gives up on an append
/// long before, and its clock is less than that behind.
const SETTLING_MS: i64 = 60_000;

/// Whether an object may be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its time isn't over, or it has none, or it is being removed; or its window still takes events,
    /// the next of which would make it anew.
    No,
    /// Its time is over and no event of ours stands behind it.
    Yes,
    /// Its time is over; the journal has the last word.
    Unless {
        /// The UID of the Ingestor whose record made it.
        ingestor: String,
        /// Not if this record has no end yet.
        record: RecordId,
        /// Not if the Ingestor has an uncommitted record that was accepted before this.
        before: Option<Millis>,
    },
}

/// Whether the time of `object` is over at `now`.
#[must_use]
pub fn due(object: &Aging, now: Millis) -> Due {
    let meta = &object.metadata;
    let (Some(ttl), Some(created)) = (
        object.spec.ttl_seconds_after_creation,
        meta.creation_timestamp.as_ref(),
    ) else {
        return Due::No;
    };
    let age = now.0.saturating_sub(created.0.as_millisecond());
    if age < i64::from(ttl).saturating_mul(1_000) || meta.deletion_timestamp.is_some() {
        return Due::No;
    }
    let annotation = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
    let before = annotation(WINDOW_END).and_then(time);
    if before.is_some_and(|end| now.0 < end.0.saturating_add(SETTLING_MS)) {
        return Due::No;
    }
    let record = annotation(RECORD).and_then(record);
    match (annotation(INGESTOR_UID), record) {
        (Some(ingestor), Some(record)) => Due::Unless {
            ingestor: ingestor.to_owned(),
            record,
            before,
        },
        // Somebody else's, or its annotations were taken away: nothing of ours depends on it.
        _ => Due::Yes,
    }
}

fn record(text: &str) -> Option<RecordId> {
    let mut parts = text.split('/');
    let log = u32::from_str_radix(parts.next()?, 16).ok()?;
    let position = parts.next()?.parse().ok()?;
    Some(RecordId {
        log: LogId(log),
        position: Position(position),
    })
}

fn time(text: &str) -> Option<Millis> {
    let time: Timestamp = text.parse().ok()?;
    Some(Millis(time.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(ttl: Option<u32>, annotations: &serde_json::Value) -> Aging {
        serde_json::from_value(json!({
            "metadata": {
                "name": "x", "namespace": "team", "uid": "u",
                "creationTimestamp": "1970-01-01T00:00:00Z", "annotations": annotations,
            },
            "spec": { "source": "s", "ttlSecondsAfterCreation": ttl },
        }))
        .unwrap()
    }

    #[test]
    fn an_object_is_due_when_its_time_is_over_and_not_before() {
        let none = json!({});
        assert_eq!(due(&object(None, &none), Millis(i64::MAX)), Due::No);
        assert_eq!(due(&object(Some(60), &none), Millis(59_999)), Due::No);
        assert_eq!(due(&object(Some(60), &none), Millis(60_000)), Due::Yes);
        let mut going = object(Some(60), &none);
        going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
        assert_eq!(due(&going, Millis(60_000)), Due::No);
    }

    #[test]
    fn one_of_ours_asks_the_journal() {
        let annotations = json!({
            "zen.io/record": "00007f3a/4711/0", "zen.io/ingestor-uid": "i",
            "zen.io/window-end": "1970-01-01T00:10:00.500Z",
        });
        let expected = Due::Unless {
            ingestor: "i".into(),
            record: record("00007f3a/4711/0").unwrap(),
            before: Some(Millis(600_500)),
        };
        let object = object(Some(60), &annotations);
        assert_eq!(due(&object, Millis(660_500)), expected);
        // Its window takes events, or one that was accepted in it is still on its way.
        for now in [60_000, 600_499, 660_499] {
            assert_eq!(due(&object, Millis(now)), Due::No, "{now}");
        }
    }
}
