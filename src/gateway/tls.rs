//! TLS: certificate and key from files that are read again when they change.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{metrics::Metrics, options::TlsFiles};

/// How often the files are looked at: a rotated certificate is served within a second or two.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why certificate and key can't be used. What was served before is served on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no PEM of what it should be.
    #[error("{} holds no usable {what}: {problem}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Certificate or key.
        what: &'static str,
        /// Why.
        problem: String,
    },
    /// They don't fit together, or the library refuses them.
    #[error("certificate {} and key {} can't be served", certificate.display(), key.display())]
    Refused {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Files as they were read.
struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Contents {
    async fn read(files: &TlsFiles) -> Result<Self, Error> {
        let read = async |path: &PathBuf| {
            let failed = |source| Error::Read {
                path: path.clone(),
                source,
            };
            tokio::fs::read(path).await.map_err(failed)
        };
        Ok(Self {
            certificate: read(&files.certificate).await?,
            key: Zeroizing::new(read(&files.key).await?),
        })
    }

    /// Tells changes, whichever way the files were replaced; the key itself isn't kept.
    fn digest(&self) -> [u8; 32] {
        let digest = Sha256::new_with_prefix(&self.certificate);
        digest.chain_update(&self.key).finalize().into()
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig, Error> {
        let pem = |path: &PathBuf, what, problem: String| Error::Pem {
            path: path.clone(),
            what,
            problem,
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain =
            chain.map_err(|error| pem(&files.certificate, "certificate", error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| pem(&files.key, "key", error.to_string()))?;
        let refused = |source| Error::Refused {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        };
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(refused)?
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .map_err(refused)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// What new connections are served with.
#[derive(Debug)]
pub(super) struct Certificates {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    seen: [u8; 32],
}

impl Certificates {
    pub(super) async fn load(files: TlsFiles) -> Result<Self, Error> {
        let contents = Contents::read(&files).await?;
        let config = contents.config(&files)?;
        Ok(Self {
            config: ArcSwap::from_pointee(config),
            seen: contents.digest(),
            files,
        })
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Looks at the files for as long as the process runs; a bad one leaves the old in force and is
    /// said once per change.
    pub(super) async fn follow(
        self: Arc<Self>,
        metrics: Metrics,
        stop: tokio_util::sync::CancellationToken,
    ) {
        let mut seen = self.seen;
        let mut unreadable = false;
        while stop
            .run_until_cancelled(tokio::time::sleep(INTERVAL))
            .await
            .is_some()
        {
            let contents = match Contents::read(&self.files).await {
                Ok(contents) => contents,
                Err(error) => {
                    if !std::mem::replace(&mut unreadable, true) {
                        metrics.tls_reload_failures.inc();
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "certificate files can't be read; the old ones are served on"
                        );
                    }
                    continue;
                }
            };
            unreadable = false;
            let digest = contents.digest();
            if std::mem::replace(&mut seen, digest) == digest {
                continue;
            }
            match contents.config(&self.files) {
                Ok(config) => {
                    self.config.store(Arc::new(config));
                    metrics.tls_reloads.inc();
                    info!(certificate = %self.files.certificate.display(), "certificate read again");
                }
                Err(error) => {
                    metrics.tls_reload_failures.inc();
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "new certificate refused; the old one is served on"
                    );
                }
            }
        }
    }
}
