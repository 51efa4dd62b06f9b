//! The suite on a real kube-apiserver, started once for this test binary.

use tokio::sync::OnceCell;
use zen_fabric::testing::cluster::{RealCluster, User};

use crate::bench::{Bench, Finisher};

/// Lives until the process ends, which stops it. Where it can't be started, every case says why,
/// and only the first has tried.
pub(crate) async fn cluster() -> &'static RealCluster {
    static CLUSTER: OnceCell<Result<RealCluster, String>> = OnceCell::const_new();
    CLUSTER
        .get_or_init(async || {
            RealCluster::start()
                .await
                .map_err(|error| error.to_string())
        })
        .await
        .as_ref()
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn bench() -> Bench {
    let client = cluster().await.client(&User::admin()).unwrap();
    Bench::new(client, Finisher::Test).await
}

crate::cases::every_case!(run_here);
