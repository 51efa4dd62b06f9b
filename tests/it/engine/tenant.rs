//! The namespace is the tenant: one that only has the same name gets nothing.

use serde_json::json;
use zen_fabric::{
    embedded::faults::{Fault, On, Verb},
    journal::{IngestorUid, Journal as _},
};

use super::rig::{Rig, uid};

async fn gets_nothing(rig: &Rig, uid: &IngestorUid) {
    assert_eq!(rig.finished(uid).await.dead_lettered, 1);
    assert_eq!(
        &*rig.journal.letters(None, 1).await[0].letter.reason,
        "NamespaceReplaced"
    );
    assert!(rig.observations().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_namespace_of_the_same_name_gets_nothing() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    rig.namespace.metadata.uid = Some("the-one-before".into());
    let spec = rig.accept_under(&ingestor, &uid).await;
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    let _engine = rig.engine().await;
    gets_nothing(&rig, &uid).await;
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_between_fetch_and_write_gets_nothing() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    let _engine = rig.engine().await;
    let create = On::verb(Verb::Create).resource("observations");
    rig.faults().plan(2, create, Fault::InternalError);
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    // It is fetched, and waits for its third attempt.
    rig.until("two failed", || async { rig.faults().pending() == 0 })
        .await;
    rig.replace_namespace().await;
    gets_nothing(&rig, &uid).await;
    rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_a_failing_watch_does_not_show_gets_nothing() {
    let mut rig = Rig::new().await;
    let ingestor = rig.ingestor("github", json!({})).await;
    let uid = uid(&ingestor);
    let spec = rig.accept_under(&ingestor, &uid).await;
    // They are listed, and never watched.
    rig.faults().plan(
        1_000_000,
        On::verb(Verb::Watch).resource("namespaces"),
        Fault::InternalError,
    );
    let _engine = rig.engine().await;
    rig.append(&uid, spec, "e1", &json!({ "kind": "push" }))
        .await;
    rig.finished(&uid).await;
    rig.faults().plan(
        1_000_000,
        On::verb(Verb::List).resource("namespaces"),
        Fault::InternalError,
    );
    rig.replace_namespace().await;
    rig.append(&uid, spec, "e2", &json!({ "kind": "push" }))
        .await;
    gets_nothing(&rig, &uid).await;
    rig.close().await;
}
