//! Who a process is to the API server: a pod's own token, as its kubelet would have fetched it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use http::Method;
use serde_json::{Value, json};
use zen_fabric::testing::cluster::User;

use super::Bed;
use crate::{
    api::Kind,
    error::{Attempt as _, Error, Result},
};

/// Pods.
const PODS: Kind = ("v1", "pods");

/// A run is over long before.
const TOKEN_SECONDS: u32 = 12 * 3600;

/// A pod that a process plays.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// The file by which it logs in.
    pub kubeconfig: PathBuf,
}

// === impl Identity ===

impl Identity {
    /// Makes the Pod and a kubeconfig with its token, for the API server or the `proxy` before it.
    pub async fn make(bed: &Bed, account: &str, pod: &str, proxy: Option<&str>) -> Result<Self> {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod },
            "spec": {
                "serviceAccountName": account,
                "containers": [{ "name": "zen-fabric", "image": "zen-fabric" }],
            },
        });
        let made = bed.system.create(PODS, &object).await?;
        let uid = text(&made, "/metadata/uid")?;
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": TOKEN_SECONDS,
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid },
            },
        });
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{account}/token",
            super::SYSTEM
        );
        let answer = bed
            .system
            .send(Method::POST, &path, Some(("application/json", &request)))
            .await
            .done(format!("fetch a token for the pod {pod}"))?;
        let token = text(&answer, "/status/token")?;
        let kubeconfig = bed.dir.join(format!("{pod}.kubeconfig"));
        let written = write(bed, &kubeconfig, &token, proxy);
        written.attempt(format!("write {}", kubeconfig.display()))?;
        Ok(Self {
            pod: pod.to_owned(),
            uid,
            kubeconfig,
        })
    }
}

fn text(value: &Value, path: &str) -> Result<String> {
    let found = value.pointer(path).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .ok_or_else(|| Error::new(format!("find {path} in the API server's answer")))
}

/// The administrator's kubeconfig with another user and address.
fn write(bed: &Bed, path: &Path, token: &str, proxy: Option<&str>) -> std::io::Result<()> {
    let admin = fs::read_to_string(bed.cluster.kubeconfig(&User::admin()))?;
    let mut config: Value = serde_json::from_str(&admin)?;
    let mut set = |path: &str, value: Value| {
        if let Some(place) = config.pointer_mut(path) {
            *place = value;
        }
    };
    set("/users/0/user", json!({ "token": token }));
    if let Some(proxy) = proxy {
        set(
            "/clusters/0/cluster/server",
            json!(format!("https://{proxy}")),
        );
    }
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(config.to_string().as_bytes())
}
