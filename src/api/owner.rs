//! Who owns an object's effects: the fence that objects carry in their status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{limits::POD_UID, schema};

/// The replica whose writes count. The epoch never falls, and at one epoch there is one holder.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The pod and its incarnation, `pod#incarnation`.
    #[schemars(schema_with = "schema::holder")]
    pub holder: String,
    /// UID of the pod.
    #[serde(rename = "podUID")]
    #[schemars(length(min = 1, max = POD_UID))]
    pub pod_uid: String,
    /// The version of the `ShardMap` at which the holder was given the object's bucket.
    #[schemars(schema_with = "schema::counting")]
    pub epoch: i64,
}

/// The fence, as a rule of the whole object, not of its status: a rule at the status is not evaluated
/// where a write leaves the status out altogether.
pub(super) const FENCE: &str = "!has(oldSelf.status) || !has(oldSelf.status.owner) || \
    (has(self.status) && has(self.status.owner) && \
    (self.status.owner.epoch > oldSelf.status.owner.epoch || \
    (self.status.owner.epoch == oldSelf.status.owner.epoch && \
    self.status.owner.holder == oldSelf.status.owner.holder)))";

/// What a write that the fence refuses is told.
pub(super) const FENCED: &str = "never goes, its epoch never falls, and at the same epoch the holder stays: a later owner has written";
