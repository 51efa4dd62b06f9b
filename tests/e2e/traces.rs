//! Traces leave the process, to a collector behind TLS.

use std::{
    convert::Infallible,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::process::{Dev, Sender, until};

/// What collectors got, as bytes.
type Got = Arc<Mutex<Vec<u8>>>;

/// A collector as OTLP over gRPC sees it, whose certificate's authority is written to `authority`.
async fn collector(authority: &Path) -> (String, Got) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(authority, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Got::default();
    let keep = Arc::clone(&got);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, keep) = (acceptor.clone(), Arc::clone(&keep));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = service_fn(move |request| export(request, Arc::clone(&keep)));
                let connection = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                let _ = connection.await;
            });
        }
    });
    (format!("https://localhost:{port}"), got)
}

async fn export(
    request: Request<Incoming>,
    got: Got,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    got.lock().unwrap().extend_from_slice(&body);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from_static(&[0; 5]));
    let mut answer = Response::new(body.with_trailers(async { Some(Ok(trailers)) }));
    let grpc = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert("content-type", grpc);
    Ok(answer)
}

#[tokio::test]
async fn an_events_spans_reach_a_collector_behind_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("authority.pem");
    let (endpoint, got) = collector(&authority).await;
    let mut dev = Dev::start_in(
        &dir.path().join("data"),
        &["--otlp-endpoint", &endpoint],
        &[("SSL_CERT_FILE", &authority)],
    )
    .await;
    let (url, secret) = dev.sample().await;
    let body = Bytes::from_static(br#"{"repository":{"full_name":"octo/hello"}}"#);
    let answer = Sender::new()
        .github(&url, &secret, "push", "traced", body)
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let ingestor = async || dev.ingestor().await.status?.counters;
    until("the Observation is made", async || {
        ingestor().await.filter(|counters| counters.observed == 1)
    })
    .await;
    // What is still queued is sent before the process ends.
    dev.terminate();
    let status = dev.ended().await;
    assert!(status.success(), "{status}: {}", dev.output());
    let got = got.lock().unwrap();
    for name in ["request", "append", "decide", "write"] {
        let field = [&[0x2a, name.len() as u8], name.as_bytes()].concat();
        let told = got.windows(field.len()).any(|window| window == field);
        assert!(told, "no span `{name}`");
    }
}
