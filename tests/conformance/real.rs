//! The suite on a real kube-apiserver, started once for this test binary.

use serde_json::json;
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

/// The leak of the real server's equality over free-form maps: at the top, a key whose value is
/// null equals any other key whose value is null. The embedded API is stricter and refuses the change.
#[tokio::test]
async fn a_detail_that_is_null_may_be_renamed() {
    let t = bench().await;
    let mut codes = Vec::new();
    for (from, to) in [
        (json!({ "a": null }), json!({ "b": null })),
        (json!({ "a": null, "k": 1 }), json!({ "b": null, "k": 1 })),
        (json!({ "a": null, "k": 1 }), json!({ "a": 1, "k": null })),
        (json!({ "x": { "a": null } }), json!({ "x": { "b": null } })),
        (
            json!({ "x": { "a": null, "k": 1 } }),
            json!({ "x": { "b": null, "k": 1 } }),
        ),
        (
            json!({ "x": [{ "a": null }] }),
            json!({ "x": [{ "b": null }] }),
        ),
    ] {
        let changed = crate::kinds::change_details(&t, &from, &to).await;
        codes.push(changed.code);
    }
    assert_eq!(codes, [200, 200, 422, 422, 422, 422]);
}
