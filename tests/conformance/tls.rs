//! The suite on the embedded API as kubectl meets it: over TLS, with the token of its kubeconfig,
//! and with a data directory, so that everything goes through its log.

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

use crate::bench::{Bench, Finisher};

/// A server of its own for each case, gone with the folder that holds its objects.
struct Durable {
    bench: Bench,
    _handle: Handle,
    _folder: TempDir,
}

impl std::ops::Deref for Durable {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        &self.bench
    }
}

async fn start(folder: &TempDir) -> Handle {
    let options = Options {
        data_dir: Some(folder.path().to_owned()),
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        clock: Arc::new(SystemClock),
    };
    Server::start(options, &Tasks::new()).await.unwrap()
}

async fn config(handle: &Handle) -> Config {
    let kubeconfig = Kubeconfig::from_yaml(&handle.kubeconfig().unwrap()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    config.default_retry = false;
    config
}

async fn bench() -> Durable {
    let folder = tempfile::tempdir().unwrap();
    let handle = start(&folder).await;
    let client = Client::try_from(config(&handle).await).unwrap();
    Durable {
        bench: Bench::new(client, Finisher::Server).await,
        _handle: handle,
        _folder: folder,
    }
}

crate::cases::every_case!(run_here);

/// Who brings no token, or another, is told to log in, and learns nothing else.
#[tokio::test]
async fn without_the_token_everything_is_unauthorized() {
    let folder = tempfile::tempdir().unwrap();
    let handle = start(&folder).await;
    for token in [None, Some("wrong")] {
        let mut config = config(&handle).await;
        config.auth_info.token = token.map(|token| token.to_owned().into());
        let t = Bench {
            client: Client::try_from(config).unwrap(),
            namespace: "default".to_owned(),
            finisher: Finisher::Server,
        };
        for path in ["/api/v1/namespaces", "/version", "/apis", "/nothing/here"] {
            t.get(path)
                .await
                .refused(401, "Unauthorized")
                .saying("Unauthorized");
        }
    }
}
