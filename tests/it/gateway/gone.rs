//! Ingestors that are gone, and those that only seem to be.

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use zen_fabric::{
    api::DecisionSpec,
    gateway::Options,
    journal::{
        IngestorUid, Journal,
        wal::{self, Wal},
    },
    ops::time::SystemClock,
    testing::disk::{Faults, SimDisk},
};

use super::world::{World, github, ingestor, loopback, until};

const BODY: &[u8] = b"{}";

/// As another release's definition might: takes what ours refuses.
async fn loosen(world: &World) {
    let api: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let mut definition = api.get("ingestors.zen.watcher.io").await.unwrap();
    for version in &mut definition.spec.versions {
        let schema = json!({ "openAPIV3Schema": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        } });
        version.schema = Some(serde_json::from_value(schema).unwrap());
    }
    let params = PostParams::default();
    api.replace("ingestors.zen.watcher.io", &params, &definition)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingestor_that_can_not_be_read_is_served_as_it_was_and_not_forgotten() {
    let world = World::new().await;
    let uid = world.github().await;
    assert_eq!(world.deliver("one", BODY).await.status, 202);
    loosen(&world).await;
    let strange = Patch::Merge(json!({ "spec": { "normalize": { "severity": 7 } } }));
    let api: Api<kube::core::DynamicObject> = Api::namespaced_with(
        world.client.clone(),
        "team",
        &kube::core::ApiResource::erase::<zen_fabric::api::Ingestor>(&()),
    );
    api.patch("github", &PatchParams::default(), &strange)
        .await
        .unwrap();
    // What comes after it has been seen by the watch after it.
    world
        .ingestor("later", github(), |facts| facts.serving)
        .await;
    let _restarted = world.another_gateway().await;
    // Both would have forgotten it by the time that they serve what came after.
    world
        .ingestor("latest", github(), |facts| facts.serving)
        .await;
    assert!(world.journal.spec_in_force(&uid).is_some());
    assert_eq!(world.deliver("two", BODY).await.status, 202);
    let replay = world.deliver("one", BODY).await;
    assert_eq!(replay.header("idempotency-replayed"), Some("true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_refuses_to_forget_is_forgotten_when_it_takes_it() {
    let disk = SimDisk::new(1);
    let options = wal::Options::default();
    let journal = Wal::open_on(Arc::new(disk.clone()), options, Arc::new(SystemClock), 1).unwrap();
    let world = World::on(journal, loopback()).await;
    let uid = world.github().await;
    disk.set_faults(Faults {
        capacity: Some(0),
        ..Faults::default()
    });
    world
        .ingestors()
        .delete("github", &DeleteParams::default())
        .await
        .unwrap();
    until("the journal has refused", || {
        world.journal.stats().unavailable.is_some()
    })
    .await;
    assert!(world.journal.spec_in_force(&uid).is_some());
    disk.set_faults(Faults::default());
    until("it is forgotten", || {
        world.journal.spec_in_force(&uid).is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_some_namespaces_forgets_what_was_deleted_there_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let options = wal::Options::default();
    let journal = Wal::open(dir.path(), options, Arc::new(SystemClock)).unwrap();
    let put = async |namespace: &str| {
        let mut object = ingestor("gone", github());
        object.metadata.namespace = Some(namespace.to_owned());
        let text = DecisionSpec::of(&object, "ns").to_text().unwrap();
        let uid = IngestorUid(format!("uid-{namespace}").into());
        journal.put_spec(&uid, text.into()).await.unwrap();
        uid
    };
    let (ours, other) = (put("team").await, put("other").await);
    let options = Options {
        namespaces: vec!["team".to_owned()],
        ..loopback()
    };
    let world = World::on(Arc::<Wal>::clone(&journal), options).await;
    until("ours is forgotten", || {
        world.journal.spec_in_force(&ours).is_none()
    })
    .await;
    world.github().await;
    assert!(world.journal.spec_in_force(&other).is_some());
}
