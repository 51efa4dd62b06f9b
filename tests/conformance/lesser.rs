//! What the embedded API deliberately does less than a real one. Asking for it gives a clear error,
//! never a wrong result in silence.

use http::Method;
use serde_json::json;

use crate::{
    bench::{Bench, widget},
    embedded::bench,
};

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
        let refused = t
            .send(Method::PATCH, &asked, &headers, Some(body.clone()))
            .await
            .refused(415, "UnsupportedMediaType");
        assert!(
            refused.message().contains("kubectl apply"),
            "{}",
            refused.message()
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

/// Dependents are nobody's affair here: asking that they go first, or be orphaned, is refused.
#[tokio::test]
async fn foreground_deletion_is_refused() {
    let t: Bench = bench().await;
    t.make("a", 1).await;
    for policy in ["Foreground", "Orphan"] {
        t.delete_with(&t.widget("a"), &json!({ "propagationPolicy": policy }))
            .await
            .refused(422, "Invalid")
            .mentioning("propagationPolicy");
    }
    t.get(&t.widget("a")).await.ok();
}
