use std::{net::SocketAddr, time::Duration};

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::crds,
    embedded::{Options, Server},
    ops::{metrics, time::SystemClock},
};

async fn api(tasks: &Tasks) -> Client {
    // Another test may have installed it.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let options = Options {
        data_dir: None,
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        clock: Arc::new(SystemClock),
    };
    let client = Server::start(options, tasks).await.unwrap().client();
    for crd in crds() {
        let api: Api<_> = Api::all(client.clone());
        api.create(&PostParams::default(), &crd).await.unwrap();
    }
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "zen-system" } });
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(namespace).unwrap();
    api.create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    client
}

fn map(version: u64, epochs: &Value) -> Value {
    json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "ShardMap",
        "metadata": { "name": "zen-fabric", "namespace": "zen-system" },
        "spec": {
            "term": 1, "version": version, "leader": "core-0#1", "buckets": 1024,
            "members": [{ "name": "core-0", "incarnation": 1, "weight": 100, "state": "Active" }],
            "assignments": [{ "owner": "core-0#1", "epochs": epochs }],
        },
    })
}

async fn create(api: &Api<DynamicObject>, version: u64) {
    let map = map(version, &json!({ "1": "0-1023" }));
    let map = serde_json::from_value(map).unwrap();
    api.create(&PostParams::default(), &map).await.unwrap();
}

#[tokio::test]
async fn a_gateway_follows_a_map_that_is_made_anew_and_counts_what_it_cannot_read() {
    let tasks = Tasks::new();
    let client = api(&tasks).await;
    let registry = Registry::new();
    let fleet = config::Fleet::default();
    let mut newest = follow(client.clone(), &fleet, &registry, &tasks).unwrap();
    let kind = ApiResource::erase::<ShardMap>(&());
    let maps: Api<DynamicObject> = Api::namespaced_with(client, "zen-system", &kind);
    let refused = async |why: &str| {
        let series = format!("shard_map_refused_total{{reason=\"{why}\"}} 1");
        let counted = async {
            loop {
                let text = metrics::text(&registry).unwrap();
                if String::from_utf8(text).unwrap().contains(&series) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let counted = tokio::time::timeout(Duration::from_secs(60), counted).await;
        counted.unwrap_or_else(|_| panic!("not counted: {series}"));
    };
    let version = |newest: &Newest| newest.borrow().as_ref().map(|map| map.version);

    create(&maps, 5).await;
    newest.wait_for(Option::is_some).await.unwrap();
    let gone = DeleteParams::default();
    maps.delete("zen-fabric", &gone).await.unwrap();
    // A backup of an earlier day: another object.
    create(&maps, 3).await;
    let restored = newest.wait_for(|map| map.as_ref().is_some_and(|map| map.version == 3));
    drop(restored.await.unwrap());

    // A bucket twice: the schema can't see that.
    let odd = map(6, &json!({ "1": "0-1023", "2": "7" }));
    let patch = PatchParams::default();
    maps.patch("zen-fabric", &patch, &Patch::Merge(&odd))
        .await
        .unwrap();
    refused("unreadable").await;
    assert_eq!(version(&newest), Some(3));

    maps.delete("zen-fabric", &gone).await.unwrap();
    create(&maps, 1_029).await;
    let made = newest.wait_for(|map| map.as_ref().is_some_and(|map| map.version == 1_029));
    drop(made.await.unwrap());
    tasks.token().cancel();
}
