//! The Kubernetes API of a `dev` process: the embedded one, or a cluster's by kubeconfig.

use std::{path::PathBuf, sync::Arc};

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::sample;
use crate::{
    config::Config,
    embedded,
    kube::client,
    ops::{tasks::Tasks, time::Clock},
    roles::{error::Error, options},
};

/// See the module.
pub(super) struct ApiServer {
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) kubeconfig: PathBuf,
    pub(super) embedded: Option<embedded::Handle>,
}

impl ApiServer {
    /// Connects to it, or starts it, with every kind installed.
    pub(super) async fn start(
        config: &Config,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let kubeconfig = config.kubeconfig();
        if config.api.kubeconfig.is_some() {
            let (client, url) = client::from_kubeconfig(&kubeconfig).await?;
            if config.api.install_crds {
                sample::install_crds(&client).await?;
            } else {
                sample::require_crds(&client).await?;
            }
            return Ok(Self {
                client,
                url,
                kubeconfig,
                embedded: None,
            });
        }
        let handle = embedded::Server::start(options::embedded(config, clock), tasks).await?;
        handle.write_kubeconfig(&kubeconfig)?;
        let client = handle.client();
        sample::install_crds(&client).await?;
        let url = handle
            .address()
            .map(|address| format!("https://{address}"))
            .unwrap_or_default();
        Ok(Self {
            client,
            url,
            kubeconfig,
            embedded: Some(handle),
        })
    }

    /// Cancelled when nothing that is written to it is kept any more; never for a cluster's.
    pub(super) fn broken(&self) -> CancellationToken {
        let embedded = self.embedded.as_ref();
        embedded.map(embedded::Handle::broken).unwrap_or_default()
    }

    /// Why.
    pub(super) fn failure(&self) -> String {
        let embedded = self.embedded.as_ref();
        embedded
            .and_then(embedded::Handle::failure)
            .unwrap_or_default()
    }
}
