//! Leases and the `ShardMap` at the API server: one call per request, one answer per call.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kube::Client;
use serde_json::{Value, json};

use super::metrics::Metrics;
use crate::{
    coordination::{
        port::{Answer, Object, Op},
        wire::{self, Place, Seconds},
    },
    kube::{
        FIELD_MANAGER,
        call::{self, Call, JSON},
        failure::{Cause, Verb},
    },
    ops::time::Clock,
};

/// Makes requests about the objects of one fleet.
#[derive(Clone)]
pub(super) struct Objects {
    pub(super) client: Client,
    pub(super) place: Place,
    pub(super) lease: Seconds,
    /// No answer after this is none.
    pub(super) limit: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
}

// === impl Objects ===

impl Objects {
    /// Asks; the answer comes within the limit, and says when it isn't known what was done.
    pub(super) async fn request(self, object: Object, op: Op) -> Answer {
        let begun = self.clock.instant();
        let Some(call) = self.call(&object, op) else {
            return Answer::Refused("the record has no form in the API; nothing was sent".into());
        };
        let verb = call.verb;
        let answered = tokio::time::timeout(self.limit, call::send(&self.client, call)).await;
        let outcome = match answered {
            Ok(outcome) => outcome.map_err(|failure| failure.cause),
            Err(_late) => Err(Cause::TimedOut(self.limit)),
        };
        let took = self.clock.instant().saturating_duration_since(begun);
        self.metrics.requested(&object, verb, took);
        answer(&object, verb, outcome)
    }

    fn call(&self, object: &Object, op: Op) -> Option<Call> {
        let (group, version, plural) = wire::resource(object);
        let namespace = &self.place.namespace;
        let collection = format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}");
        let name = self.place.name(object);
        let written = |mut value: Value, at: Option<&str>| {
            let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
            if let (Some(at), Some(metadata)) = (at, metadata) {
                metadata.insert("resourceVersion".to_owned(), json!(at));
            }
            Bytes::from(value.to_string())
        };
        let (verb, uri, body) = match op {
            Op::Read => (Verb::Get, format!("{collection}/{name}"), Bytes::new()),
            Op::Create(record) => {
                let value = self.place.encode(object, &record, self.lease)?;
                let uri = format!("{collection}?fieldManager={FIELD_MANAGER}");
                (Verb::Create, uri, written(value, None))
            }
            Op::Replace {
                record,
                resource_version,
            } => {
                let value = self.place.encode(object, &record, self.lease)?;
                let uri = format!("{collection}/{name}?fieldManager={FIELD_MANAGER}");
                (Verb::Update, uri, written(value, Some(&resource_version)))
            }
            Op::Delete {
                uid,
                resource_version,
            } => {
                let options = json!({
                    "apiVersion": "v1",
                    "kind": "DeleteOptions",
                    "preconditions": {"uid": &*uid, "resourceVersion": &*resource_version},
                });
                let uri = format!("{collection}/{name}");
                (Verb::Delete, uri, Bytes::from(options.to_string()))
            }
        };
        Some(Call {
            verb,
            object: format!("{plural} {namespace}/{name}"),
            uri,
            content_type: JSON,
            body,
        })
    }
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// What an outcome says about the object.
fn answer(object: &Object, verb: Verb, outcome: Result<Bytes, Cause>) -> Answer {
    match outcome {
        Ok(_) if verb == Verb::Delete => Answer::Absent,
        Ok(body) => serde_json::from_slice(&body).map_or(Answer::Unknown, |value: Value| {
            Answer::Done(wire::decode(object, &value))
        }),
        Err(cause) => refused(verb, cause),
    }
}

fn refused(verb: Verb, cause: Cause) -> Answer {
    let text = cause.to_string();
    let Cause::Refused { code, reason, .. } = cause else {
        return Answer::Unknown;
    };
    match (code, reason.as_str()) {
        (409, "AlreadyExists") => Answer::Exists,
        (409, _) => Answer::Conflict,
        // What is to be created isn't there anyhow: its namespace or its kind is missing.
        (404, _) if verb != Verb::Create => Answer::Absent,
        (408 | 429 | 500.., _) => Answer::Unknown,
        _ => Answer::Refused(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::port::Record;

    fn failed(code: u16, reason: &str) -> Cause {
        Cause::Refused {
            code,
            reason: reason.to_owned(),
            resource: String::new(),
            message: "m".to_owned(),
            retry_after: None,
        }
    }

    #[test]
    fn every_outcome_has_its_answer() {
        let lost = || Cause::TimedOut(Duration::from_secs(2));
        let table = [
            (Verb::Update, failed(409, "Conflict"), Answer::Conflict),
            (Verb::Delete, failed(409, "Conflict"), Answer::Conflict),
            (Verb::Create, failed(409, "AlreadyExists"), Answer::Exists),
            (Verb::Get, failed(404, "NotFound"), Answer::Absent),
            (Verb::Update, failed(404, "NotFound"), Answer::Absent),
            (Verb::Delete, failed(404, "NotFound"), Answer::Absent),
            (
                Verb::Update,
                failed(429, "TooManyRequests"),
                Answer::Unknown,
            ),
            (Verb::Update, failed(500, "InternalError"), Answer::Unknown),
            (Verb::Update, failed(503, ""), Answer::Unknown),
            (Verb::Update, failed(504, "Timeout"), Answer::Unknown),
            (Verb::Create, lost(), Answer::Unknown),
            (Verb::Get, Cause::Unreachable("x".into()), Answer::Unknown),
            (Verb::Get, Cause::Garbled("x".into()), Answer::Unknown),
        ];
        for (verb, cause, expected) in table {
            let told = format!("{verb} {cause}");
            assert_eq!(answer(&Object::Map, verb, Err(cause)), expected, "{told}");
        }
        for (verb, cause) in [
            (Verb::Update, failed(422, "Invalid")),
            (Verb::Create, failed(403, "Forbidden")),
            (Verb::Create, failed(404, "NotFound")),
            (Verb::Get, failed(401, "Unauthorized")),
            (Verb::Get, failed(400, "BadRequest")),
        ] {
            let told = format!("{verb} {cause}");
            let answer = answer(&Object::Leader, verb, Err(cause));
            assert!(matches!(answer, Answer::Refused(_)), "{told}");
        }
    }

    #[test]
    fn a_body_is_the_object_and_anything_else_is_no_answer() {
        let body =
            Bytes::from_static(b"{\"metadata\": {\"uid\": \"u\", \"resourceVersion\": \"7\"}}");
        let Answer::Done(stored) = answer(&Object::Leader, Verb::Get, Ok(body.clone())) else {
            panic!("it is there");
        };
        assert_eq!((&*stored.uid, &*stored.resource_version), ("u", "7"));
        assert!(matches!(stored.record, Record::Malformed(_)));
        let answered = |body| answer(&Object::Leader, Verb::Update, Ok(body));
        assert_eq!(answered(Bytes::from_static(b"<html>")), Answer::Unknown);
        assert_eq!(answer(&Object::Map, Verb::Delete, Ok(body)), Answer::Absent);
    }
}
