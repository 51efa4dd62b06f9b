//! What the embedded API deliberately does less than a real one. Asking for it gives a clear error,
//! never a wrong result in silence.

use http::Method;
use serde_json::json;

use crate::{bench::widget, embedded::bench};

/// Server-side apply needs the ownership of fields, which isn't kept: 415 with the remedy.
#[tokio::test]
async fn server_side_apply_is_415_with_the_remedy() {
    let t = bench().await;
    let headers = [("content-type", "application/apply-patch+yaml")];
    let body = widget("a", json!({ "size": 1 })).to_string();
    for path in [
        t.widget("a"),
        format!("{}/status", t.widget("a")),
        format!("{}/a", t.core("configmaps")),
    ] {
        let asked = format!("{path}?fieldManager=me&force=true");
        t.send(Method::PATCH, &asked, &headers, Some(body.clone()))
            .await
            .refused(415, "UnsupportedMediaType")
            .saying(
                "server-side apply is not served by the embedded API: apply without --server-side, \
                 or send application/merge-patch+json",
            );
        t.get(&path).await.refused(404, "NotFound");
    }
}

/// No field managers are kept, and none are shown.
#[tokio::test]
async fn managed_fields_are_absent() {
    let t = bench().await;
    let made = t.make("a", 1).await;
    assert_eq!(made["metadata"].get("managedFields"), None);
}

/// Kinds that it doesn't serve are unknown to it, as to a server without them.
#[tokio::test]
async fn pods_are_not_served() {
    let t = bench().await;
    t.get(&t.core("pods"))
        .await
        .refused(404, "NotFound")
        .saying("the server could not find the requested resource");
}

/// A definition that wants its versions converted by a webhook is refused: there is nobody to call.
#[tokio::test]
async fn conversion_by_webhook_is_refused() {
    let t = bench().await;
    let mut definition = crate::bench::from_yaml(crate::bench::GADGET);
    definition["metadata"]["name"] = "gizmos.conformance.test".into();
    definition["spec"]["names"] = json!({ "kind": "Gizmo", "plural": "gizmos" });
    definition["spec"]["conversion"] = json!({
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"], "clientConfig": { "url": "https://localhost/convert" },
        },
    });
    t.post(crate::bench::DEFINITIONS, &definition)
        .await
        .refused(422, "Invalid")
        .mentioning("spec.conversion.strategy");
}

/// Dependents are nobody's affair here: in whichever order it is asked for, the object goes at once
/// and they stay.
#[tokio::test]
async fn dependents_stay() {
    let t = bench().await;
    for policy in ["Foreground", "Background", "Orphan"] {
        let owner = t.make("owner", 1).await;
        let mut body = widget("dependent", json!({ "size": 1 }));
        body["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "conformance.test/v1", "kind": "Widget",
            "name": "owner", "uid": owner["metadata"]["uid"],
        }]);
        t.post(&t.widgets(), &body).await.created();
        t.delete_with(&t.widget("owner"), &json!({ "propagationPolicy": policy }))
            .await
            .ok();
        t.get(&t.widget("owner")).await.refused(404, "NotFound");
        t.delete(&t.widget("dependent")).await.ok();
    }
}
