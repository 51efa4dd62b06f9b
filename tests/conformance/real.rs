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

/// The leak of the real server's equality over free-form maps: at the top, keys that the old value
/// does not have are not looked at, so that as many keys may take the place of others. A changed value,
/// a key more or less, and everything below the top are seen. The embedded API is stricter and refuses
/// all of these changes.
#[tokio::test]
async fn details_at_the_top_may_be_renamed() {
    let t = bench().await;
    let mut codes = Vec::new();
    for (from, to) in [
        (json!({ "a": 1 }), json!({ "b": 2 })),
        (json!({ "a": 1, "c": 1 }), json!({ "a": 1, "b": 2 })),
        (json!({ "a": 1, "c": 1 }), json!({ "a": 2, "b": 1 })),
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
    assert_eq!(codes, [200, 200, 422, 200, 200, 422, 422, 422, 422]);
}
