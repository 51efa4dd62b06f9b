//! The one way in which an Ingestor's status is written: always with its owner, always at the version
//! that was read.
//!
//! A merge patch that left `owner` out would keep the stored one and pass the fence of whoever wrote
//! that; one without a version could land on top of a later owner's. So both are parameters here, and
//! nothing else in the program names the subresource.

use bytes::Bytes;
use kube::{Client, Resource as _};
use serde_json::{Value, json};

use crate::api::{Ingestor, IngestorStatus, Owner};

use super::{
    FIELD_MANAGER,
    call::{self, Call, MERGE_PATCH},
    failure::{Failure, Verb},
};

/// Which object, at which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The UID: a new object of the same name is not meant.
    pub uid: String,
    /// The version that was read.
    pub resource_version: String,
}

/// Replaces the status of an Ingestor in the name of `owner`, if it still has the version that was
/// read.
///
/// # Errors
/// What the server answers; 409 when the object was changed meanwhile, 422 or 403 where a later
/// owner has written. Nothing is changed then.
pub async fn write(
    client: &Client,
    target: &Target,
    owner: &Owner,
    status: &IngestorStatus,
) -> Result<Ingestor, Failure> {
    let path = Ingestor::url_path(&(), Some(&target.namespace));
    let call = Call {
        verb: Verb::Patch,
        object: format!("status of ingestor {}/{}", target.namespace, target.name),
        uri: format!("{path}/{}/status?fieldManager={FIELD_MANAGER}", target.name),
        content_type: MERGE_PATCH,
        body: Bytes::from(patch(target, owner, status).to_string()),
    };
    call::send_for(client, call).await
}

/// The merge patch: what is absent is named `null`, so that it goes away.
fn patch(target: &Target, owner: &Owner, status: &IngestorStatus) -> Value {
    json!({
        "metadata": { "uid": target.uid, "resourceVersion": target.resource_version },
        "status": {
            "observedGeneration": status.observed_generation,
            "endpoint": status.endpoint,
            "counters": status.counters,
            "backlog": status.backlog,
            "lastEventTime": status.last_event_time,
            "conditions": status.conditions,
            "owner": owner,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_removed_and_version_and_owner_are_named() {
        let target = Target {
            namespace: "team".into(),
            name: "github".into(),
            uid: "u".into(),
            resource_version: "7".into(),
        };
        let owner = Owner {
            holder: "core-0#3".into(),
            pod_uid: "p".into(),
            epoch: 9,
        };
        let patch = patch(&target, &owner, &IngestorStatus::default());
        let named = json!({ "holder": "core-0#3", "podUID": "p", "epoch": 9 });
        assert_eq!(patch["status"]["owner"], named);
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["status"]["endpoint"], Value::Null);
        assert!(
            patch["status"]
                .as_object()
                .unwrap()
                .contains_key("endpoint")
        );
    }
}
