//! The suite on the embedded API as kubectl meets it: over TLS, with the token of its kubeconfig,
//! and with a data directory, so that everything goes through its log and survives a restart.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use kube::{Client, Config, config::Kubeconfig};
use tempfile::TempDir;
use zen_fabric::{
    embedded::{Handle, Options, Server},
    ops::{tasks::Tasks, time::SystemClock},
};

use crate::bench::{Bench, Finisher, PATIENCE};

async fn start(folder: &TempDir, tasks: &Tasks) -> Handle {
    let options = Options {
        data_dir: Some(folder.path().to_owned()),
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        clock: Arc::new(SystemClock),
    };
    Server::start(options, tasks).await.unwrap()
}

async fn config(handle: &Handle) -> Config {
    let kubeconfig = Kubeconfig::from_yaml(&handle.kubeconfig().unwrap()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    config.default_retry = false;
    config
}

/// A server of its own for each case, which has the suite's kinds from before a restart, and is gone
/// with the folder that holds its objects.
async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let before = Tasks::new();
    let handle = start(&folder, &before).await;
    Bench::new(handle.client(), Finisher::Server).await;
    drop(handle);
    before.stop(PATIENCE).await.unwrap();

    let handle = start(&folder, &Tasks::new()).await;
    let client = Client::try_from(config(&handle).await).unwrap();
    Bench::new(client, Finisher::Server)
        .await
        .keeping((handle, folder))
}

crate::cases::every_case!(run_here);

/// Who brings no token, or another, is told to log in, and learns nothing else.
#[tokio::test]
async fn without_the_token_everything_is_unauthorized() {
    let folder = tempfile::tempdir().unwrap();
    let handle = start(&folder, &Tasks::new()).await;
    for token in [None, Some("wrong")] {
        let mut config = config(&handle).await;
        config.auth_info.token = token.map(|token| token.to_owned().into());
        let t = Bench {
            client: Client::try_from(config).unwrap(),
            namespace: "default".to_owned(),
            finisher: Finisher::Server,
            kept: None,
        };
        for path in ["/api/v1/namespaces", "/apis", "/nothing/here"] {
            t.get(path)
                .await
                .refused(401, "Unauthorized")
                .saying("Unauthorized");
        }
    }
}
