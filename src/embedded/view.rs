//! Parts of objects, as some answers show them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::store::Page;

/// The `ListMeta` of a page.
pub(super) fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.version.to_string()});
    if let Some(map) = metadata.as_object_mut() {
        if let Some(next) = &page.next {
            map.insert("continue".to_owned(), json!(next));
        }
        if let Some(remaining) = page.remaining {
            map.insert("remainingItemCount".to_owned(), json!(remaining));
        }
    }
    metadata
}

/// An object's metadata alone.
pub(super) fn partial(object: &Bytes) -> Value {
    let value: Value = serde_json::from_slice(object).unwrap_or_default();
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": value.get("metadata").cloned().unwrap_or_default(),
    })
}

/// An object without its type, as the lists of built-in kinds hold it.
pub(super) fn untyped(object: &Bytes) -> Value {
    let mut value: Value = serde_json::from_slice(object).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    value
}
