//! TLS, HTTP/2, and certificates that change under way.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use zen_fabric::gateway::{Options, TlsFiles};

use super::world::{PATIENCE, SECRET, World, answer, loopback, request, sign};

const BODY: &[u8] = b"{}";

fn certificate(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn options(dir: &Path) -> Options {
    let files = TlsFiles {
        certificate: dir.join("tls.crt"),
        key: dir.join("tls.key"),
    };
    Options {
        tls: Some(files),
        ..loopback()
    }
}

async fn connect(
    world: &World,
    trusted: &CertificateDer<'static>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, world.connect().await)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_over_tls_by_http_1_and_2() {
    let dir = tempfile::tempdir().unwrap();
    let trusted = certificate(dir.path());
    let world = World::with(
        options(dir.path()),
        zen_fabric::journal::wal::Options::default(),
    )
    .await;
    let uid = world.github().await;
    assert!(world.gateway.url().starts_with("https://"));
    let signature = sign(SECRET, BODY);

    let mut stream = connect(&world, &trusted, b"http/1.1").await.unwrap();
    let headers = [("X-Hub-Signature-256", signature.as_str())];
    stream
        .write_all(&request("POST", "/hooks/team/github", &headers, BODY))
        .await
        .unwrap();
    let answered = answer(&mut stream).await;
    assert_eq!(answered.status, 202);
    assert!(answered.header("strict-transport-security").is_some());

    let stream = connect(&world, &trusted, b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let sending = async {
        for (path, status) in [("/hooks/team/github", 202), ("/hooks/team/unknown", 404)] {
            let request = http::Request::post(format!("https://localhost{path}"))
                .header("content-type", "application/json")
                .header("x-hub-signature-256", &signature)
                .body(Full::new(Bytes::from_static(BODY)))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), status);
            response.into_body().collect().await.unwrap();
        }
        assert_eq!(world.tally(&uid).requests, 2);
        // A drain tells the client to go away.
        world.gateway.drain(PATIENCE).await;
    };
    let ((), ended) = tokio::join!(sending, connection);
    ended.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handshake_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let mut options = options(dir.path());
    options.limits.header_timeout = Duration::from_millis(200);
    let world = World::with(options, zen_fabric::journal::wal::Options::default()).await;
    let mut slow = world.connect().await;
    // The head of a record that announces a ClientHello of 512 bytes.
    slow.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut rest)).await;
    drop(closed.expect("the gateway closes the connection"));
    let failed = || world.counters("gateway_tls_handshakes_failed_total");
    super::world::until("it is counted", || failed() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_and_a_bad_one_leaves_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let old = certificate(dir.path());
    let world = World::with(
        options(dir.path()),
        zen_fabric::journal::wal::Options::default(),
    )
    .await;
    connect(&world, &old, b"http/1.1").await.unwrap();

    std::fs::write(dir.path().join("tls.crt"), "no certificate").unwrap();
    let refused = || world.counter("gateway_tls_reloads_total", "refused");
    super::world::until("the bad file is refused", || refused() > 0).await;
    connect(&world, &old, b"http/1.1").await.unwrap();

    let new = certificate(dir.path());
    let served = async {
        while connect(&world, &new, b"http/1.1").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served)
        .await
        .expect("the new certificate is served");
}
