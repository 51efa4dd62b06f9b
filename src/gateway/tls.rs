//! TLS by rustls, with certificate files that are read again when they change.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use super::metrics::Metrics;
use crate::ops::tasks::Tasks;

/// How often the files are looked at: a renewed certificate is served within two seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// PEM file with the chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Why certificate files can't be used. What was served before is served on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file has no PEM section of its kind.
    #[error("{path} has no usable PEM section: {why}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Certificate and key don't fit together, or are of a kind that is not supported.
    #[error("use the certificate {path}")]
    Use {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The configuration that new connections use.
#[derive(Debug)]
pub(crate) struct Reloading {
    files: Files,
    current: ArcSwap<ServerConfig>,
    /// Hash of both files as they were last read, good or bad, so that a bad one is told once.
    seen: std::sync::Mutex<[u8; 32]>,
}

impl Reloading {
    /// Reads the files.
    ///
    /// # Errors
    /// Why they can't be used.
    pub(crate) fn load(files: Files) -> Result<Arc<Self>, Error> {
        let (digest, config) = read(&files)?;
        Ok(Arc::new(Self {
            current: ArcSwap::from_pointee(config?),
            seen: std::sync::Mutex::new(digest),
            files,
        }))
    }

    /// What a new connection uses.
    #[must_use]
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again if they changed; says whether something new is served.
    ///
    /// # Errors
    /// Why the new files can't be used; the old ones stay.
    pub(crate) fn refresh(&self) -> Result<bool, Error> {
        let (digest, config) = read(&self.files)?;
        {
            let mut seen = self
                .seen
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if *seen == digest {
                return Ok(false);
            }
            *seen = digest;
        }
        self.current.store(Arc::new(config?));
        Ok(true)
    }

    /// Looks at the files until the tasks stop.
    pub(super) fn watch(self: &Arc<Self>, metrics: &Metrics, tasks: &Tasks) {
        let this = Arc::clone(self);
        let reloads = metrics.tls_reloads.clone();
        let stop = tasks.token();
        tasks.spawn("tls-reload", async move {
            while stop
                .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
                .await
                .is_some()
            {
                match this.refresh() {
                    Ok(false) => {}
                    Ok(true) => {
                        reloads.with_label_values(&["ok"]).inc();
                        info!(certificate = %this.files.certificate.display(), "new certificate");
                    }
                    Err(error) => {
                        reloads.with_label_values(&["failed"]).inc();
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "the new certificate is not used, the old one is served on"
                        );
                    }
                }
            }
        });
    }
}

/// Digest of both files, and what they give.
fn read(files: &Files) -> Result<([u8; 32], Result<ServerConfig, Error>), Error> {
    let load = |path: &Path| {
        fs::read(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })
    };
    let certificate = load(&files.certificate)?;
    let key = zeroize::Zeroizing::new(load(&files.key)?);
    let digest = Sha256::new()
        .chain_update(&certificate)
        .chain_update(&key)
        .finalize();
    Ok((digest.into(), config(files, &certificate, &key)))
}

fn config(files: &Files, certificate: &[u8], key: &[u8]) -> Result<ServerConfig, Error> {
    let pem = |path: &Path, why: String| Error::Pem {
        path: path.to_owned(),
        why,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| pem(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(pem(&files.certificate, "no certificate".to_owned()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| pem(&files.key, error.to_string()))?;
    let fits = |source| Error::Use {
        path: files.certificate.clone(),
        source,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(fits)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(fits)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) -> Files {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let files = Files {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
        };
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_renewed_certificate_is_served_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let reloading = Reloading::load(write(folder.path(), "a.test")).unwrap();
        let first = reloading.current();
        assert!(!reloading.refresh().unwrap(), "nothing changed");
        write(folder.path(), "b.test");
        assert!(reloading.refresh().unwrap());
        let second = reloading.current();
        assert!(!Arc::ptr_eq(&first, &second));
        fs::write(folder.path().join("tls.crt"), "no certificate").unwrap();
        assert!(reloading.refresh().is_err());
        assert!(
            Arc::ptr_eq(&second, &reloading.current()),
            "the old one is served on"
        );
        assert!(!reloading.refresh().unwrap(), "a bad file is told once");
        fs::remove_file(folder.path().join("tls.key")).unwrap();
        assert!(matches!(reloading.refresh(), Err(Error::Read { .. })));
    }
}
