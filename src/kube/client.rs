//! Builds the client: TLS by rustls on aws-lc-rs, and no retry of its own.

use std::path::{Path, PathBuf};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// Why there is no client. Nothing was sent to any server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig can't be used.
    #[error("read the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// No kubeconfig was named, and the process runs in no Pod.
    #[error(
        "no kubeconfig was named (--kubeconfig), and this process runs in no Pod with a service account"
    )]
    NoCluster(#[source] Box<kube::config::InClusterError>),
    /// The configuration is not one that a client can be built from.
    #[error("build a client for the Kubernetes API at {server}")]
    Build {
        /// The server's address.
        server: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// A client for the cluster that a kubeconfig's current context names, and that cluster's address.
///
/// # Errors
/// The file can't be read, or names no usable cluster.
pub async fn from_kubeconfig(path: &Path) -> Result<(Client, String), Error> {
    let refused = |source| Error::Kubeconfig {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let file = Kubeconfig::read_from(path).map_err(refused)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options)
        .await
        .map_err(refused)?;
    let server = config.cluster_url.to_string();
    Ok((from_config(config)?, server))
}

/// A client for the cluster that `kubeconfig` names, or else for the one that this process runs in;
/// and that cluster's address.
///
/// # Errors
/// As [`from_kubeconfig`] and [`in_cluster`].
pub async fn of(kubeconfig: Option<&Path>) -> Result<(Client, String), Error> {
    match kubeconfig {
        Some(path) => from_kubeconfig(path).await,
        None => in_cluster(),
    }
}

/// A client for the cluster that this process runs in, by its Pod's service account, and that
/// cluster's address.
///
/// # Errors
/// It runs in no Pod, or in one without a service account's token.
pub fn in_cluster() -> Result<(Client, String), Error> {
    let config = Config::incluster().map_err(|source| Error::NoCluster(Box::new(source)))?;
    let server = config.cluster_url.to_string();
    Ok((from_config(config)?, server))
}

/// A client for `config`, with the client's own retry switched off.
///
/// # Errors
/// The configuration is not one that a client can be built from.
pub fn from_config(mut config: Config) -> Result<Client, Error> {
    // A retry below the engine would hide 429 and 503 from its pacing, and answer late.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|source| Error::Build {
        server,
        source: Box::new(source),
    })
}
