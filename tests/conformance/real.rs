//! The suite on a real kube-apiserver, started once for this test binary.

use tokio::sync::OnceCell;
use zen_fabric::testing::cluster::{RealCluster, User};

use crate::bench::{Bench, Finisher};

/// Lives until the process ends, which stops it.
pub(crate) async fn cluster() -> &'static RealCluster {
    static CLUSTER: OnceCell<RealCluster> = OnceCell::const_new();
    CLUSTER
        .get_or_init(async || RealCluster::start().await.unwrap_or_else(|e| panic!("{e}")))
        .await
}

async fn bench() -> Bench {
    let client = cluster().await.client(&User::admin()).unwrap();
    Bench::new(client, Finisher::Test).await
}

crate::cases::every_case!(run_here);
