//! The API on a socket: TLS, a token, HTTP/1.1 and HTTP/2.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    refusal::Refusal,
    service::{self, Api, Content, MAX_BODY},
    tls::Identity,
};
use crate::ops::tasks::Tasks;

/// Connections at a time; more wait in the listener's backlog. One user's tools make a few, a test
/// suite some dozen.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take for its handshake or its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take for its body: 3 MiB over a slow link.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// How long to wait after an accept that failed: long enough for a descriptor to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the API can be reached.
#[derive(Debug)]
pub(super) struct Reach {
    address: SocketAddr,
    identity: Identity,
}

// === impl Reach ===

impl Reach {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn kubeconfig(&self) -> String {
        let authority = STANDARD.encode(self.identity.authority());
        let mut reachable = self.address;
        if reachable.ip().is_unspecified() {
            // Listens everywhere: the certificate is valid for this machine.
            reachable.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let token = self.identity.token().expose_secret();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: zen-fabric\n\
             clusters:\n- name: zen-fabric\n  cluster:\n    server: https://{reachable}\n    \
             certificate-authority-data: {authority}\n\
             contexts:\n- name: zen-fabric\n  context:\n    cluster: zen-fabric\n    \
             user: zen-fabric\n    namespace: default\n\
             users:\n- name: zen-fabric\n  user:\n    token: {token}\n"
        )
    }
}

/// Listens and serves until the group stops.
pub(super) async fn start(
    bind: SocketAddr,
    identity: Identity,
    api: &Arc<Api>,
    tasks: &Tasks,
) -> Result<Reach, Error> {
    let config = identity.server_config()?;
    let listen = |source| Error::Listen {
        address: bind,
        source,
    };
    let listener = TcpListener::bind(bind).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let server = Arc::new(Listening {
        api: Arc::clone(api),
        acceptor: TlsAcceptor::from(config),
        token: identity.token().clone(),
        stop: tasks.token(),
    });
    let owned = tasks.clone();
    tasks.spawn("embedded-accept", async move {
        server.accept(&listener, &owned).await;
    });
    Ok(Reach { address, identity })
}

struct Listening {
    api: Arc<Api>,
    acceptor: TlsAcceptor,
    token: SecretString,
    stop: CancellationToken,
}

// === impl Listening ===

impl Listening {
    async fn accept(self: Arc<Self>, listener: &TcpListener, tasks: &Tasks) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _peer)) => {
                    let server = Arc::clone(&self);
                    tasks.spawn_contained("embedded-connection", async move {
                        server.connection(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection to the embedded API");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "set TCP_NODELAY");
        }
        let accept = tokio::time::timeout(HEADER_TIMEOUT, self.acceptor.accept(stream));
        match accept.await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(_)) | Err(_) => {
                tracing::debug!("a client of the embedded API did not finish its handshake");
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TlsStream<TcpStream>) {
        let service = {
            let server = Arc::clone(&self);
            service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { server.request(request).await }
            })
        };
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT);
        builder.http2().timer(TokioTimer::new());
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = &mut connection => served,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection to the embedded API broke");
        }
    }

    async fn request(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Content>, service::Broken> {
        let path = request.uri().path();
        let public = matches!(path, "/version" | "/healthz")
            || path.starts_with("/livez")
            || path.starts_with("/readyz");
        if !public && !self.authenticated(&request) {
            let refusal = Refusal::plain(401, "Unauthorized", "Unauthorized");
            return Ok(service::refused(&refusal));
        }
        let (parts, body) = request.into_parts();
        let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect());
        let body: Bytes = match read.await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Ok(service::too_large());
            }
            Ok(Err(_)) | Err(_) => return Err(service::Broken),
        };
        self.api.handle(Request::from_parts(parts, body)).await
    }

    fn authenticated(&self, request: &Request<Incoming>) -> bool {
        let shown = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        shown.is_some_and(|shown| shown.ct_eq(self.token.expose_secret().as_bytes()).into())
    }
}
