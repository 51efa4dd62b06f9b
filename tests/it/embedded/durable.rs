//! The embedded API on a socket, with a data directory: TLS, the token, restarts.

use std::{collections::BTreeSet, path::Path};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tempfile::tempdir;
use zen_fabric::{
    embedded::{Error, Handle, Options, Server},
    ops::{tasks::Tasks, time::SystemClock},
};

use super::{PATIENCE, status_of};

struct Running {
    handle: Handle,
    tasks: Tasks,
}

impl Running {
    async fn start(data_dir: &Path) -> Self {
        let tasks = Tasks::new();
        let handle = Server::start(options(data_dir), &tasks).await.unwrap();
        Self { handle, tasks }
    }

    async fn stop(self) {
        self.tasks.stop(PATIENCE).await.unwrap();
    }
}

fn options(data_dir: &Path) -> Options {
    Options {
        data_dir: Some(data_dir.to_owned()),
        bind: "127.0.0.1:0".parse().unwrap(),
        clock: std::sync::Arc::new(SystemClock),
    }
}

async fn connect(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v"}})).unwrap()
}

async fn names(api: &Api<ConfigMap>) -> Vec<String> {
    let list = api.list(&ListParams::default()).await.unwrap();
    list.items.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn objects_versions_certificate_and_token_outlive_a_restart() {
    let folder = tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let kubeconfig = running.handle.kubeconfig().unwrap();
    let address = running.handle.address().unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&kubeconfig).await);
    let first = api.create(&PostParams::default(), &map("a")).await.unwrap();
    let version = first.resource_version().unwrap();
    running.stop().await;

    let running = Running::start(folder.path()).await;
    // The port is another one; all else of the old kubeconfig holds.
    let kubeconfig = kubeconfig.replace(
        &address.to_string(),
        &running.handle.address().unwrap().to_string(),
    );
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&kubeconfig).await);
    assert_eq!(names(&api).await, ["a"]);
    let second = api.create(&PostParams::default(), &map("b")).await.unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    assert!(number(&second.resource_version().unwrap()) > number(&version));

    let late = WatchParams::default().timeout(200);
    let from = (number(&version) - 1).to_string();
    let mut watch = Box::pin(api.watch(&late, &from).await.unwrap());
    let told = watch.next().await.unwrap().unwrap();
    let WatchEvent::Error(status) = told else {
        panic!("{told:?}");
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    running.stop().await;
}

#[tokio::test]
async fn many_writers_at_once_lose_nothing_through_a_restart() {
    let folder = tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(running.handle.client());
    let made: BTreeSet<String> = futures::stream::iter(0..400)
        .map(|number| {
            let api = api.clone();
            async move {
                let name = format!("m{number}");
                api.create(&PostParams::default(), &map(&name))
                    .await
                    .unwrap();
                name
            }
        })
        .buffer_unordered(64)
        .collect()
        .await;
    running.stop().await;
    let running = Running::start(folder.path()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(running.handle.client());
    let found: BTreeSet<String> = names(&api).await.into_iter().collect();
    assert_eq!(found, made);
    running.stop().await;
}

#[tokio::test]
async fn only_the_token_opens_the_door() {
    let folder = tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let kubeconfig = running.handle.kubeconfig().unwrap();
    let (before, _) = kubeconfig.split_once("token: ").unwrap();
    let stranger = connect(&format!("{before}token: wrong\n")).await;
    let api: Api<ConfigMap> = Api::default_namespaced(stranger.clone());
    let status = status_of(api.list(&ListParams::default()).await);
    assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized"));
    // Whether it is alive, everyone may know.
    let livez = http::Request::get("/livez").body(Vec::new()).unwrap();
    assert_eq!(stranger.request_text(livez).await.unwrap(), "ok");
    running.stop().await;
}

#[tokio::test]
async fn a_kubeconfig_is_its_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, "old").unwrap();
    running.handle.write_kubeconfig(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        running.handle.kubeconfig().unwrap()
    );
    running.stop().await;
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused_by_name() {
    let folder = tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let refused = Server::start(options(folder.path()), &Tasks::new()).await;
    let error = refused.unwrap_err();
    let Error::Log(source) = error else {
        panic!("{error:?}");
    };
    assert!(
        source.to_string().contains("in use by another process"),
        "{source}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_watch_ends_with_the_server_and_a_stop_waits_for_nobody() {
    let folder = tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let client = connect(&running.handle.kubeconfig().unwrap()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let mut watch = Box::pin(api.watch(&WatchParams::default(), "0").await.unwrap());
    api.create(&PostParams::default(), &map("a")).await.unwrap();
    let added = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert!(matches!(added, Some(Ok(WatchEvent::Added(_)))));
    running.stop().await;
    let end = async { while watch.next().await.is_some_and(|one| one.is_ok()) {} };
    tokio::time::timeout(PATIENCE, end).await.unwrap();
}
