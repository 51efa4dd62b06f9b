//! The `ShardMap` as an object; its `spec` is [`text`]'s.

use serde_json::{Value, json};

use super::Malformed;
use crate::coordination::{records::ShardMapSpec, text};

pub(super) fn encode(map: &ShardMapSpec) -> Option<Value> {
    let spec = serde_json::to_value(text::encode(map)).ok()?;
    Some(json!({
        "apiVersion": "zen.watcher.io/v1",
        "kind": "ShardMap",
        "metadata": {},
        "spec": spec,
    }))
}

pub(super) fn decode(value: &Value) -> Result<ShardMapSpec, Malformed> {
    let spec = value.get("spec").ok_or(Malformed::Missing("spec"))?;
    Ok(text::read(spec)?)
}
