//! The HTTP client of the subcommands: bounded in time and in what it reads.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject as _,
};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// The largest answer that is read: a page of 500 dead letters' summaries is far below.
const ANSWER_LIMIT: usize = 16 << 20;

/// From the request to the answer's last byte: `Prefer: wait` takes up to 10 s of it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a name may take to resolve and a connection to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection, or the request on it.
    #[error("send the request to {uri}")]
    Request {
        /// Where to.
        uri: Uri,
        /// Why.
        #[source]
        source: Box<hyper_util::client::legacy::Error>,
    },
    /// The answer broke off.
    #[error("read the answer of {uri}")]
    Answer {
        /// Whose.
        uri: Uri,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer was too long.
    #[error("the answer of {uri} has more than {ANSWER_LIMIT} bytes")]
    TooLong {
        /// Whose.
        uri: Uri,
    },
    /// The answer did not come in time.
    #[error("{uri} did not answer within {TIMEOUT:?}")]
    Timeout {
        /// Who.
        uri: Uri,
    },
}

/// The certificates to trust could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The file.
    #[error("read certificates from {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in it.
    #[error("{} holds no certificate to trust", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The certificates of this machine, or one of the file's.
    #[error("trust the certificates")]
    Tls(#[from] rustls::Error),
}

/// A client with a pool of connections.
#[derive(Clone, Debug)]
pub(crate) struct Client(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// A client that trusts what this machine trusts, or only the certificates of `ca_file`.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = match ca_file {
            None => builder.with_platform_verifier()?.with_no_client_auth(),
            Some(path) => builder
                .with_root_certificates(roots(path)?)
                .with_no_client_auth(),
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        Ok(Self(
            Pool::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .build(connector),
        ))
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Error> {
        let uri = request.uri().clone();
        tokio::time::timeout(TIMEOUT, self.exchange(request))
            .await
            .unwrap_or_else(|_elapsed| Err(Error::Timeout { uri }))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Error> {
        let uri = request.uri().clone();
        let answer = self
            .0
            .request(request)
            .await
            .map_err(|source| Error::Request {
                uri: uri.clone(),
                source: Box::new(source),
            })?;
        let (head, body) = answer.into_parts();
        match Limited::new(body, ANSWER_LIMIT).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(Error::TooLong { uri }),
            Err(source) => Err(Error::Answer { uri, source }),
        }
    }
}

fn roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let pem = fs::read(path).map_err(|source| TrustError::File {
        path: path.to_owned(),
        source,
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|source| TrustError::File {
            path: path.to_owned(),
            source: io::Error::other(source),
        })?;
        roots.add(certificate)?;
    }
    if roots.is_empty() {
        return Err(TrustError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(roots)
}
