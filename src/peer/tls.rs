//! What this process shows to its peers and asks of them: from files that are read again when they
//! change.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use prometheus::Registry;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::NoServerSessionStorage,
    version::TLS13,
};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{
    identity::{Expected, NotAnIdentity, PeerIdentity},
    metrics::Metrics,
    refusal::Reason,
    told::Told,
    verify::{self, Clients, Names, Servers},
};
use crate::ops::tasks::Tasks;

/// How often the files are looked at: a rotated certificate is used within a second or two.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where the certificates lie, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The authorities whose certificates are trusted; several while one replaces another.
    pub ca: PathBuf,
    /// This process's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why certificates can't be used. What was in force before stays so.
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
        /// What it should be.
        what: &'static str,
        /// Why.
        problem: String,
    },
    /// The certificate doesn't say who this process is.
    #[error("{} names no peer of a fleet: issue it with that URI as its only subject alternative name of this scheme", path.display())]
    Nobody {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: NotAnIdentity,
    },
    /// A new certificate makes this process another.
    #[error("{} names {found}, and this process is {known}: restart it to change that", path.display())]
    Another {
        /// The certificate's file.
        path: PathBuf,
        /// Whom it names.
        found: PeerIdentity,
        /// Who this process is.
        known: PeerIdentity,
    },
    /// They don't fit together, or the library refuses them.
    #[error("certificate {} and key {} can't be used", certificate.display(), key.display())]
    Refused {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The metrics can't be registered.
    #[error("register the metrics of peers")]
    Metrics(#[from] prometheus::Error),
}

/// Files as they were read.
struct Contents {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

/// What of them is used.
#[derive(Debug)]
struct Material {
    identity: PeerIdentity,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Certificates in force, and what is counted about connections that are made with them.
#[derive(Debug)]
pub struct Credentials {
    files: Files,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Material>,
    seen: [u8; 32],
    pub(super) metrics: Metrics,
    told: Told<Reason>,
}

// === impl Contents ===

impl Contents {
    async fn read(files: &Files) -> Result<Self, Error> {
        let read = async |path: &PathBuf| {
            let failed = |source| Error::Read {
                path: path.clone(),
                source,
            };
            tokio::fs::read(path).await.map_err(failed)
        };
        Ok(Self {
            ca: read(&files.ca).await?,
            certificate: read(&files.certificate).await?,
            key: Zeroizing::new(read(&files.key).await?),
        })
    }

    /// Tells changes, whichever way the files were replaced; the key itself isn't kept.
    fn digest(&self) -> [u8; 32] {
        [&self.ca, &self.certificate, &*self.key]
            .into_iter()
            .fold(Sha256::new(), |digest, content| {
                digest
                    .chain_update(content.len().to_be_bytes())
                    .chain_update(content)
            })
            .finalize()
            .into()
    }

    fn material(&self, files: &Files) -> Result<Material, Error> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&files.ca, &self.ca, "authority")? {
            roots
                .add(authority)
                .map_err(|error| pem(&files.ca, "authority", error.to_string()))?;
        }
        let chain = certificates(&files.certificate, &self.certificate, "certificate")?;
        let nobody = |source| Error::Nobody {
            path: files.certificate.clone(),
            source,
        };
        let leaf = chain.first().map(verify::identity).transpose();
        let identity = leaf.map_err(nobody)?;
        let identity = identity.ok_or_else(|| {
            let problem = "no certificate in it".to_owned();
            pem(&files.certificate, "certificate", problem)
        })?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| pem(&files.key, "key", error.to_string()))?;
        Ok(Material {
            identity,
            roots: Arc::new(roots),
            chain,
            key,
        })
    }
}

fn certificates(
    path: &Path,
    content: &[u8],
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let found = found.map_err(|error| pem(path, what, error.to_string()))?;
    if found.is_empty() {
        return Err(pem(path, what, "no certificate in it".to_owned()));
    }
    Ok(found)
}

fn pem(path: &Path, what: &'static str, problem: String) -> Error {
    Error::Pem {
        path: path.to_owned(),
        what,
        problem,
    }
}

// === impl Credentials ===

impl Credentials {
    /// Reads the files; metrics go into `registry`.
    ///
    /// # Errors
    /// When the files can't be used.
    pub async fn load(files: Files, registry: &Registry) -> Result<Arc<Self>, Error> {
        let contents = Contents::read(&files).await?;
        let material = contents.material(&files)?;
        let credentials = Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            seen: contents.digest(),
            current: ArcSwap::from_pointee(material),
            metrics: Metrics::register(registry)?,
            told: Told::default(),
            files,
        };
        credentials.try_out(&credentials.current.load_full())?;
        Ok(Arc::new(credentials))
    }

    /// Who this process is.
    #[must_use]
    pub fn identity(&self) -> PeerIdentity {
        self.current.load().identity.clone()
    }

    /// Looks at the files until the group stops; what can't be used leaves the old in force, and is
    /// said once per change.
    pub fn follow(self: &Arc<Self>, tasks: &Tasks) {
        let stop = tasks.token();
        let credentials = Arc::clone(self);
        tasks.spawn("peer certificates", async move {
            let mut seen = credentials.seen;
            let mut unreadable = false;
            let looking = async {
                loop {
                    tokio::time::sleep(INTERVAL).await;
                    credentials.look(&mut seen, &mut unreadable).await;
                }
            };
            stop.run_until_cancelled(looking).await;
        });
    }

    async fn look(&self, seen: &mut [u8; 32], unreadable: &mut bool) {
        let contents = match Contents::read(&self.files).await {
            Ok(contents) => contents,
            Err(error) => {
                if !std::mem::replace(unreadable, true) {
                    self.refuse_files(&error);
                }
                return;
            }
        };
        *unreadable = false;
        let digest = contents.digest();
        if std::mem::replace(seen, digest) == digest {
            return;
        }
        match self.renewed(&contents) {
            Ok(material) => {
                self.current.store(Arc::new(material));
                self.metrics.reloads.inc();
                info!(certificate = %self.files.certificate.display(), "peer certificate read again");
            }
            Err(error) => self.refuse_files(&error),
        }
    }

    fn refuse_files(&self, error: &Error) {
        self.metrics.reload_failures.inc();
        warn!(
            error = error as &dyn std::error::Error,
            "new peer certificates can't be used; the old ones stay in force"
        );
    }

    fn renewed(&self, contents: &Contents) -> Result<Material, Error> {
        let material = contents.material(&self.files)?;
        let known = self.identity();
        if material.identity != known {
            return Err(Error::Another {
                path: self.files.certificate.clone(),
                found: material.identity,
                known,
            });
        }
        self.try_out(&material)?;
        Ok(material)
    }

    /// Whether both sides can be built of it.
    fn try_out(&self, material: &Material) -> Result<(), Error> {
        let anybody = Expected {
            roles: Vec::new(),
            pod: None,
        };
        self.server_of(material, &anybody)?;
        self.client_of(material, &anybody).map(drop)
    }

    /// For a connection of one of those expected; with the certificates in force now.
    pub(super) fn server(&self, expected: &Expected) -> Result<Arc<ServerConfig>, Error> {
        self.server_of(&self.current.load(), expected)
    }

    /// For a connection to one of those expected.
    pub(super) fn client(&self, expected: &Expected) -> Result<Arc<ClientConfig>, Error> {
        self.client_of(&self.current.load(), expected)
    }

    fn server_of(
        &self,
        material: &Material,
        expected: &Expected,
    ) -> Result<Arc<ServerConfig>, Error> {
        let roots = Arc::clone(&material.roots);
        let verifier = Clients::new(roots, &self.provider, names(material, expected));
        let verifier = verifier.map_err(|source| self.refused(source.into()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(Arc::new(verifier))
                    .with_single_cert(material.chain.clone(), material.key.clone_key())
            })
            .map_err(|source| self.refused(source.into()))?;
        // A resumed session would bring yesterday's certificate back unverified.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn client_of(
        &self,
        material: &Material,
        expected: &Expected,
    ) -> Result<Arc<ClientConfig>, Error> {
        let verifier = Servers {
            roots: Arc::clone(&material.roots),
            provider: Arc::clone(&self.provider),
            names: names(material, expected),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| {
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
                    .with_client_auth_cert(material.chain.clone(), material.key.clone_key())
            })
            .map_err(|source| self.refused(source.into()))?;
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn refused(&self, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Refused {
            certificate: self.files.certificate.clone(),
            key: self.files.key.clone(),
            source,
        }
    }

    /// Whether to log this about a peer: the first time.
    pub(super) fn first(&self, peer: &str, why: Reason) -> bool {
        self.told.first(peer, why)
    }
}

fn names(material: &Material, expected: &Expected) -> Names {
    Names {
        fleet: Arc::clone(&material.identity.fleet),
        expected: expected.clone(),
    }
}
