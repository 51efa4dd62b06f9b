//! The one way in which an Ingestor's status is written: always at the version that was read.

use bytes::Bytes;
use kube::{Client, Resource as _};
use serde_json::{Value, json};

use crate::api::{Ingestor, IngestorStatus};

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

/// Replaces the status of an Ingestor, if it still has the version that was read.
///
/// # Errors
/// What the server answers; 409 when the object was changed meanwhile. Nothing is changed then.
pub async fn write(
    client: &Client,
    target: &Target,
    status: &IngestorStatus,
) -> Result<Ingestor, Failure> {
    let path = Ingestor::url_path(&(), Some(&target.namespace));
    let call = Call {
        verb: Verb::Patch,
        object: format!("status of ingestor {}/{}", target.namespace, target.name),
        uri: format!("{path}/{}/status?fieldManager={FIELD_MANAGER}", target.name),
        content_type: MERGE_PATCH,
        body: Bytes::from(patch(target, status).to_string()),
    };
    call::send_for(client, call).await
}

/// The merge patch: what is absent is named `null`, so that it goes away.
fn patch(target: &Target, status: &IngestorStatus) -> Value {
    json!({
        "metadata": { "uid": target.uid, "resourceVersion": target.resource_version },
        "status": {
            "observedGeneration": status.observed_generation,
            "endpoint": status.endpoint,
            "counters": status.counters,
            "backlog": status.backlog,
            "lastEventTime": status.last_event_time,
            "conditions": status.conditions,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_removed_and_the_version_is_named() {
        let target = Target {
            namespace: "team".into(),
            name: "github".into(),
            uid: "u".into(),
            resource_version: "7".into(),
        };
        let patch = patch(&target, &IngestorStatus::default());
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
