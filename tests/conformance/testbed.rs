//! The test bed itself: its processes can be stopped, paused and started again, and nothing of it is
//! left behind.

use std::{path::Path, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use zen_fabric::testing::cluster::{Process, RealCluster, User};

use crate::bench::PATIENCE;

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(crate::bench::config_map(name)).unwrap()
}

fn config_maps(cluster: &RealCluster) -> Api<ConfigMap> {
    Api::namespaced(cluster.client(&User::admin()).unwrap(), "default")
}

/// Whether a process with this id is there: it has a folder in /proc.
fn exists(id: u32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

async fn create(cluster: &RealCluster, name: &str) -> kube::Result<ConfigMap> {
    let api = config_maps(cluster);
    let object = config_map(name);
    let params = PostParams::default();
    let attempt = api.create(&params, &object);
    match tokio::time::timeout(Duration::from_secs(2), attempt).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(Box::new(elapsed))),
    }
}

/// A life of one cluster, as starting one is what costs: killed, paused, dropped.
#[tokio::test]
async fn a_cluster_can_be_broken_and_leaves_nothing_behind() {
    let cluster = RealCluster::start().await.unwrap();
    create(&cluster, "before").await.unwrap();
    for process in [cluster.apiserver(), cluster.etcd()] {
        killed_and_started_again_everything_is_there(&cluster, process).await;
        paused_it_answers_nothing(&cluster, process).await;
    }
    dropped_it_leaves_nothing_behind(cluster);
}

/// What was written is there after a process was killed and started again, at the same address.
async fn killed_and_started_again_everything_is_there(cluster: &RealCluster, process: &Process) {
    process.kill().unwrap();
    assert!(!process.is_running());
    create(cluster, "meanwhile").await.unwrap_err();
    let error = process.pause().unwrap_err();
    assert!(error.to_string().contains(&process.name()), "{error}");

    process.start().unwrap();
    cluster.wait_ready().await.unwrap();
    config_maps(cluster).get("before").await.unwrap();
}

/// A paused server answers nothing, and everything once it goes on.
async fn paused_it_answers_nothing(cluster: &RealCluster, process: &Process) {
    let name = format!("while-{}-is-paused", process.name());
    process.pause().unwrap();
    assert!(process.is_running());
    create(cluster, &name).await.unwrap_err();
    process.resume().unwrap();
    let goes_on = async {
        loop {
            match create(cluster, &name).await {
                Ok(_) => return,
                // The paused one had read the request.
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => return,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, goes_on)
        .await
        .expect("it goes on");
}

/// A cluster that is dropped leaves no process and no file, not even one that is paused.
fn dropped_it_leaves_nothing_behind(cluster: RealCluster) {
    let ids: Vec<u32> = [cluster.apiserver(), cluster.etcd()]
        .into_iter()
        .filter_map(Process::id)
        .collect();
    let kubeconfig = cluster.kubeconfig(&User::admin());
    assert!(kubeconfig.exists());
    assert!(ids.iter().all(|id| exists(*id)));
    cluster.etcd().pause().unwrap();
    drop(cluster);
    assert!(!ids.iter().any(|id| exists(*id)));
    assert!(!kubeconfig.exists());
}
