//! Certificate and token of the embedded API.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::ops::disk::{make_dir, write_private};

/// Under what names the certificate is valid: what a kubeconfig on this machine may name.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("{attempt} {path}")]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A certificate can't be made.
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
    /// The kept certificate or key can't be used.
    #[error("use the certificate in {folder}: remove the folder to have a new one made")]
    Kept {
        /// Where it is kept.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What the server shows and what a client must show.
#[derive(Debug)]
pub(super) struct Identity {
    authority: String,
    certificate: String,
    key: SecretString,
    token: SecretString,
    folder: PathBuf,
}

// === impl Identity ===

impl Identity {
    /// What `data_dir` keeps, or a new one, kept there: so a kubeconfig outlives a restart.
    pub(super) fn load_or_make(data_dir: Option<&Path>) -> Result<Self, Error> {
        let folder = data_dir.map(|folder| folder.join("identity"));
        if let Some(folder) = &folder
            && folder.join("token").exists()
        {
            return Self::load(folder);
        }
        let identity = Self::make(folder.clone().unwrap_or_default())?;
        if let Some(folder) = &folder {
            identity.save(folder)?;
        }
        Ok(identity)
    }

    fn load(folder: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| Error::File {
                attempt: "read",
                path,
                source,
            })
        };
        Ok(Self {
            authority: read("ca.crt")?,
            certificate: read("tls.crt")?,
            key: read("tls.key")?.into(),
            token: read("token")?.trim().to_owned().into(),
            folder: folder.to_owned(),
        })
    }

    fn make(folder: PathBuf) -> Result<Self, Error> {
        let mut authority = CertificateParams::default();
        authority
            .distinguished_name
            .push(DnType::CommonName, "zen-fabric embedded API");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut server = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
        server
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &authority)?;
        let random: [u8; 32] = rand::random();
        Ok(Self {
            authority: authority.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem().into(),
            token: URL_SAFE_NO_PAD.encode(random).into(),
            folder,
        })
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        let file = |attempt, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File {
                attempt,
                path,
                source,
            }
        };
        make_dir(folder).map_err(file("make the folder", folder))?;
        // The token comes last: where it is, all is.
        for (name, text) in [
            ("ca.crt", self.authority.as_str()),
            ("tls.crt", self.certificate.as_str()),
            ("tls.key", self.key.expose_secret()),
            ("token", self.token.expose_secret()),
        ] {
            let path = folder.join(name);
            write_private(&path, text.as_bytes()).map_err(file("write", &path))?;
        }
        Ok(())
    }

    /// The server's side of TLS.
    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        let kept = |source: Box<dyn std::error::Error + Send + Sync>| Error::Kept {
            folder: self.folder.clone(),
            source,
        };
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| kept(error.into()))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret().as_bytes())
            .map_err(|error| kept(error.into()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| kept(error.into()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The certificate of the authority, as PEM.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// What clients must show.
    pub(super) fn token(&self) -> &SecretString {
        &self.token
    }
}
