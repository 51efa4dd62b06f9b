//! The objects that the writer sends, as bytes: pure.

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    api::{
        Observation, ObservationSpec,
        annotations::{INGESTOR_UID, PAYLOAD, RECEIVED_AT, RECORD, WINDOW_END},
        observation::{Applied, Category, Resource, Severity},
    },
    engine::{
        aggregate::{self, ItemId},
        queue::Work,
    },
};

/// The Observation that `work` makes, with this spec.
pub(super) fn of(work: &Work, spec: ObservationSpec) -> Bytes {
    let item = &work.item;
    let mut object = Observation::new(&item.name, spec);
    object.metadata.namespace = Some(work.home.namespace.to_string());
    object.metadata.labels = Some(item.labels.clone());
    object.metadata.annotations = Some(item.annotations.clone());
    bytes(&object)
}

/// An object that was read, with items added to what it counts.
pub(super) fn with_sum<'a>(
    mut object: Observation,
    items: impl Iterator<Item = (ItemId, &'a ObservationSpec)>,
) -> Bytes {
    object.spec = aggregate::add(object.spec, items);
    // The server keeps what we leave out here, and it may be longer than the object.
    object.metadata.managed_fields = None;
    bytes(&object)
}

/// An Observation with every field, none of them strange, where that of `work` was refused: same
/// namespace, same labels. If this one is refused too, it isn't the event.
pub(super) fn plain(work: &Work) -> (String, Bytes) {
    let at = Time(Timestamp::UNIX_EPOCH);
    let mut details = Map::new();
    details.insert("plain".to_owned(), Value::Bool(true));
    let mut object = Observation::new(
        &plain_name(&work.item.name),
        ObservationSpec {
            source: "plain".to_owned(),
            category: Category::Operations,
            severity: Severity::Info,
            event_type: "plain".to_owned(),
            detected_at: at.clone(),
            resource: Some(Resource {
                api_version: Some("v1".to_owned()),
                kind: Some("ConfigMap".to_owned()),
                namespace: Some(work.home.namespace.to_string()),
                name: Some("plain".to_owned()),
            }),
            details,
            count: 1,
            first_seen: Some(at.clone()),
            last_seen: Some(at),
            applied: vec![Applied {
                log: work.id.record.log.to_string(),
                position: 1,
                index: 0,
            }],
            ttl_seconds_after_creation: Some(3_600),
        },
    );
    object.metadata.namespace = Some(work.home.namespace.to_string());
    object.metadata.labels = Some(work.item.labels.clone());
    let short = [RECORD, PAYLOAD, INGESTOR_UID, RECEIVED_AT, WINDOW_END];
    let annotations = work.item.annotations.iter();
    let annotations = annotations.filter(|(name, _)| short.contains(&name.as_str()));
    object.metadata.annotations = Some(
        annotations
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    );
    (plain_name(&work.item.name), bytes(&object))
}

/// A name that no item has, since names end in twenty characters of a hash, and that is no longer
/// than they may be.
fn plain_name(name: &str) -> String {
    let end = name.floor_char_boundary(200);
    let start = name.get(..end).unwrap_or_default();
    format!("{start}-plain")
}

/// JSON of an object of our own types has string keys and finite numbers: it never fails. An empty
/// body would be refused with 400, and seen.
fn bytes(object: &Observation) -> Bytes {
    Bytes::from(serde_json::to_vec(object).unwrap_or_default())
}
