//! An authority for a fleet on one machine: `dev`, and tests.

use std::{
    io,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::{identity::PeerIdentity, tls::Files};
use crate::ops::disk::{make_dir, write_private};

/// Why a certificate was not made; files that are named by nobody may be left.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate can't be made.
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
}

/// An authority whose key lives in this process alone: whoever starts anew has all certificates
/// issued anew.
pub struct Dev {
    dir: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// Until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Never,
    #[cfg(any(test, feature = "testing"))]
    Over,
}

impl Dev {
    /// A new authority; certificates go into folders below `dir`.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn create(dir: &Path) -> Result<Self, Error> {
        let mut authority = CertificateParams::default();
        let name = "zen-fabric peers";
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let dev = Self {
            dir: dir.to_owned(),
            authority,
        };
        make_dir(dir).map_err(failed(dir))?;
        Ok(dev)
    }

    /// A certificate for `identity`. Issued again, it replaces the one before, which is how a
    /// certificate is rotated.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn issue(&self, identity: &PeerIdentity) -> Result<Files, Error> {
        self.make(identity, Ends::Never)
    }

    /// One that has expired.
    ///
    /// # Errors
    /// When files can't be written.
    #[cfg(any(test, feature = "testing"))]
    pub fn issue_expired(&self, identity: &PeerIdentity) -> Result<Files, Error> {
        self.make(identity, Ends::Over)
    }

    fn make(&self, identity: &PeerIdentity, ends: Ends) -> Result<Files, Error> {
        let mut params = CertificateParams::default();
        let uri = identity.to_string();
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
        let name = identity.pod.as_deref().unwrap_or(identity.role.as_str());
        // A common name has at most 64 characters.
        let name: String = name.chars().take(64).collect();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        match ends {
            Ends::Never => {}
            #[cfg(any(test, feature = "testing"))]
            Ends::Over => params.not_after = rcgen::date_time_ymd(2020, 1, 1),
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;

        let dir = self.dir.join(&*identity.fleet).join(match &identity.pod {
            Some(pod) => format!("{}-{pod}", identity.role.as_str()),
            None => identity.role.as_str().to_owned(),
        });
        make_dir(&dir).map_err(failed(&dir))?;
        let files = Files {
            ca: dir.join("ca.crt"),
            certificate: dir.join("tls.crt"),
            key: dir.join("tls.key"),
        };
        for (path, text) in [
            (&files.ca, self.authority.pem()),
            (&files.certificate, certificate.pem()),
            (&files.key, key.serialize_pem()),
        ] {
            write_private(path, text.as_bytes()).map_err(failed(path))?;
        }
        Ok(files)
    }
}

impl std::fmt::Debug for Dev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dev")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}
