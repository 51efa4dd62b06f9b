//! Mutual TLS between peers: who gets in, who is refused and by whom, and certificates that change.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{Extension, Router, routing::get};
use http_body_util::BodyExt as _;
use prometheus::Registry;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use tonic::{body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};
use zen_fabric::{
    ops::{metrics, tasks::Tasks},
    peer::{
        self, Bounds, Credentials, Expected, Files, PeerIdentity, Role, ca::Dev, refusal::Reason,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

fn identity(fleet: &str, role: Role, pod: &str) -> PeerIdentity {
    PeerIdentity::new(fleet, role, Some(pod)).unwrap()
}

/// A process of a fleet: its certificates and its own counters.
struct Process {
    credentials: Arc<Credentials>,
    registry: Registry,
    tasks: Tasks,
}

impl Process {
    async fn with(files: Files) -> Self {
        let registry = Registry::new();
        let credentials = Credentials::load(files, &registry).await.unwrap();
        let tasks = Tasks::new();
        credentials.follow(&tasks);
        Self {
            credentials,
            registry,
            tasks,
        }
    }

    async fn of(ca: &Dev, who: &PeerIdentity) -> Self {
        Self::with(ca.issue(who).unwrap()).await
    }

    async fn serve(&self, allowed: Expected, bounds: Bounds) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.serve_on(listener, allowed, bounds)
    }

    fn serve_on(&self, listener: TcpListener, allowed: Expected, bounds: Bounds) -> SocketAddr {
        let address = listener.local_addr().unwrap();
        let who = |Extension(peer): Extension<PeerIdentity>| async move { peer.to_string() };
        let routes = Router::new().route("/who", get(who));
        let credentials = Arc::clone(&self.credentials);
        peer::serve(
            listener,
            credentials,
            allowed,
            routes.into(),
            &self.tasks,
            bounds,
        );
        address
    }

    fn counter(&self, name: &str, label: &str) -> u64 {
        let text = String::from_utf8(metrics::text(&self.registry).unwrap()).unwrap();
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let ours = samples.filter(|(series, _)| {
            let (of, labels) = series.split_once('{').unwrap_or((series, ""));
            of == name && labels.contains(&format!("\"{label}\""))
        });
        ours.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    fn refused(&self, why: Reason) -> u64 {
        self.counter("peer_refused_total", why.label())
    }
}

async fn ask(channel: &mut Channel) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let request = http::Request::get("http://peer/who").body(Body::empty())?;
    let answer = channel.ready().await?.call(request).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let holding = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, holding).await.is_ok(),
        "not within {PATIENCE:?}: {what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_the_fleet_gets_in_by_name_and_only_it() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Dev::create(&dir.path().join("a")).unwrap();
    let other_ca = Dev::create(&dir.path().join("b")).unwrap();
    let server = Process::of(&ca, &identity("f", Role::Gateway, "gw-0")).await;
    let only = Expected::pod(Role::Core, "core-0");
    let address = server.serve(only, Bounds::default()).await.to_string();
    let gateway = Expected::pod(Role::Gateway, "gw-0");
    let right = Process::of(&ca, &identity("f", Role::Core, "core-0")).await;
    let mut channel = peer::connect(&address, &right.credentials, &gateway);
    let named = ask(&mut channel).await.unwrap();
    assert_eq!(named, "spiffe://zen-fabric/f/core/core-0");

    let core_0 = identity("f", Role::Core, "core-0");
    let core_1 = identity("f", Role::Core, "core-1");
    let expired = Process::with(ca.issue_expired(&core_1).unwrap()).await;
    let strangers = [
        (Process::of(&ca, &core_1).await, Reason::Pod),
        (
            Process::of(&ca, &identity("f", Role::Gateway, "gw-1")).await,
            Reason::Role,
        ),
        (expired, Reason::Expired),
    ];
    for (stranger, why) in &strangers {
        // The server has the last word in TLS 1.3: the refusal is told with the first answer.
        let mut channel = peer::connect(&address, &stranger.credentials, &gateway);
        ask(&mut channel).await.unwrap_err();
        until("it is counted", || server.refused(*why) == 1).await;
    }
    let others = [
        (&ca, identity("g", Role::Core, "core-0"), Reason::Fleet),
        (&other_ca, core_0, Reason::UnknownIssuer),
    ];
    for (issuer, who, why) in others {
        let stranger = Process::of(issuer, &who).await;
        // They would not speak to this server either: the roots or the fleet differ both ways.
        let error = peer::open(&address, &stranger.credentials, &gateway).await;
        assert_eq!(error.unwrap_err().reason, why);
        let files = Files {
            ca: dir.path().join("a/f/gateway-gw-0/ca.crt"),
            ..issuer.issue(&who).unwrap()
        };
        show(&address, Some(&files)).await;
        until("it is counted", || server.refused(why) == 1).await;
    }
    show(&address, None).await;
    until("no certificate is counted", || {
        server.refused(Reason::NoCertificate) == 1
    })
    .await;
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    plain.read_to_end(&mut rest).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP"));
    until("plain text is counted", || {
        server.refused(Reason::NotTls) == 1
    })
    .await;
    assert_eq!(
        ask(&mut channel).await.unwrap(),
        named,
        "the right one stays"
    );
}

/// A client that believes whatever the server shows, and shows `files`.
async fn show(address: &str, files: Option<&Files>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match files {
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(&files.certificate)
                .unwrap()
                .map(Result::unwrap);
            let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Credulous))
                .with_client_auth_cert(chain.collect(), key)
                .unwrap()
        }
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_no_client_auth(),
    };
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("x.invalid").unwrap();
    if let Ok(mut stream) = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
    {
        let mut byte = [0];
        let refused = tokio::time::timeout(PATIENCE, stream.read(&mut byte))
            .await
            .expect("the server ends it");
        assert!(refused.is_err() || matches!(refused, Ok(0)));
    }
}

#[derive(Debug)]
struct Credulous;

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_refuses_a_server_that_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Dev::create(&dir.path().join("a")).unwrap();
    let other_ca = Dev::create(&dir.path().join("b")).unwrap();
    let client = Process::of(&ca, &identity("f", Role::Core, "core-0")).await;
    let expected = Expected::pod(Role::Core, "core-1");
    let right = identity("f", Role::Core, "core-1");
    let servers = [
        (
            Process::of(&ca, &identity("f", Role::Core, "core-2")).await,
            Reason::Pod,
        ),
        (
            Process::of(&ca, &identity("f", Role::Gateway, "core-1")).await,
            Reason::Role,
        ),
        (
            Process::of(&ca, &identity("g", Role::Core, "core-1")).await,
            Reason::Fleet,
        ),
        (Process::of(&other_ca, &right).await, Reason::UnknownIssuer),
        (
            Process::with(ca.issue_expired(&right).unwrap()).await,
            Reason::Expired,
        ),
    ];
    for (server, why) in &servers {
        let address = server.serve(Expected::role(Role::Core), Bounds::default());
        let address = address.await.to_string();
        let opened = peer::open(&address, &client.credentials, &expected).await;
        assert_eq!(opened.unwrap_err().reason, *why);
        assert_eq!(client.counter("peer_connects_failed_total", why.label()), 1);
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let opened = peer::dial(&address, &client.credentials, &expected).await;
    assert_eq!(opened.unwrap_err().reason, Reason::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_certificate_is_shown_and_standing_connections_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Dev::create(dir.path()).unwrap();
    let who = identity("f", Role::Core, "core-1");
    let server = Process::of(&ca, &who).await;
    let allowed = Expected::role(Role::Core);
    let address = server.serve(allowed.clone(), Bounds::default()).await;
    let address = address.to_string();
    let client = Process::of(&ca, &identity("f", Role::Core, "core-0")).await;
    let shown = async || {
        let stream = peer::open(&address, &client.credentials, &allowed);
        let stream = stream.await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let mut standing = peer::dial(&address, &client.credentials, &allowed)
        .await
        .unwrap();
    ask(&mut standing).await.unwrap();
    let before = shown().await;
    let reloads = |outcome| server.counter("peer_tls_reloads_total", outcome);

    let files = ca.issue(&who).unwrap();
    until("the new one is read", || reloads("loaded") > 0).await;
    assert_ne!(shown().await, before);
    ask(&mut standing).await.unwrap();

    let after = shown().await;
    std::fs::write(&files.certificate, "no certificate").unwrap();
    until("the bad one is refused", || reloads("refused") > 0).await;
    assert_eq!(shown().await, after);
    let refused = reloads("refused");
    let another = ca.issue(&identity("f", Role::Core, "core-7")).unwrap();
    std::fs::copy(&another.key, &files.key).unwrap();
    std::fs::copy(&another.certificate, &files.certificate).unwrap();
    until("another's is refused", || reloads("refused") > refused).await;
    assert_eq!(shown().await, after);
    ask(&mut standing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_are_bounded_in_time_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Dev::create(dir.path()).unwrap();
    let server = Process::of(&ca, &identity("f", Role::Core, "core-1")).await;
    let bounds = Bounds {
        handshake: Duration::from_secs(2),
        pending: 1,
        connections: 8,
    };
    let address = server.serve(Expected::role(Role::Core), bounds).await;
    let read_to_end = async |mut socket: TcpStream| {
        let mut rest = Vec::new();
        let closed = socket.read_to_end(&mut rest);
        drop(
            tokio::time::timeout(PATIENCE, closed)
                .await
                .expect("closed"),
        );
    };
    let silent = TcpStream::connect(address).await.unwrap();
    // The first one's handshake is under way once a second one is turned away.
    let crowd = async {
        loop {
            read_to_end(TcpStream::connect(address).await.unwrap()).await;
            if server.refused(Reason::Crowded) > 0 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, crowd).await.unwrap();
    read_to_end(silent).await;
    until("it is counted", || server.refused(Reason::Slow) >= 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_keep_no_peer_out() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Dev::create(dir.path()).unwrap();
    let server = Process::of(&ca, &identity("f", Role::Core, "core-1")).await;
    let bounds = Bounds {
        // None of them ends by itself while the test runs.
        handshake: PATIENCE * 10,
        ..Bounds::default()
    };
    let allowed = Expected::role(Role::Core);
    let address = server.serve(allowed.clone(), bounds).await;
    let mut silent = Vec::new();
    for _ in 0..bounds.pending {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let good = Process::of(&ca, &identity("f", Role::Core, "core-0")).await;
    // They were accepted in the order in which they came: the places are all taken now.
    let named = address.to_string();
    let dialled = peer::dial(&named, &good.credentials, &allowed);
    let dialled = tokio::time::timeout(PATIENCE, dialled).await;
    let mut channel = dialled.expect("the peer waits for nobody").unwrap();
    ask(&mut channel).await.unwrap();
    // The oldest has given way, and only it.
    assert_eq!(server.refused(Reason::Crowded), 1);
    assert_eq!(server.refused(Reason::Slow), 0);
    let oldest = silent.remove(0).read(&mut [0]).await;
    assert!(matches!(oldest, Ok(0) | Err(_)), "{oldest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_finds_its_peer_again_and_a_stop_cuts_what_stands() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Dev::create(dir.path()).unwrap();
    let who = identity("f", Role::Core, "core-1");
    let allowed = Expected::role(Role::Core);
    let client = Process::of(&ca, &identity("f", Role::Core, "core-0")).await;
    let server = Process::of(&ca, &who).await;
    let address = server.serve(allowed.clone(), Bounds::default()).await;
    let mut channel = peer::connect(&address.to_string(), &client.credentials, &allowed);
    ask(&mut channel).await.unwrap();
    // A connection that says nothing stands as well.
    let named = address.to_string();
    let idle = peer::open(&named, &client.credentials, &allowed);
    let idle = idle.await.unwrap();
    server.tasks.stop(PATIENCE).await.unwrap();
    drop(idle);
    assert!(ask(&mut channel).await.is_err());

    let again = Process::of(&ca, &who).await;
    let listener = TcpListener::bind(address).await.unwrap();
    again.serve_on(listener, allowed, Bounds::default());
    let answered = async { while ask(&mut channel).await.is_err() {} };
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
}

#[tokio::test]
async fn files_that_name_nobody_are_refused_with_their_path() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Dev::create(dir.path()).unwrap();
    let files = ca.issue(&identity("f", Role::Core, "core-0")).unwrap();
    let load = async |files: &Files| {
        let loaded = Credentials::load(files.clone(), &Registry::new()).await;
        loaded.unwrap_err().to_string()
    };
    let plain = rcgen::generate_simple_self_signed(["core-0".to_owned()]).unwrap();
    let certificate = dir.path().join("plain.crt");
    std::fs::write(&certificate, plain.cert.pem()).unwrap();
    let nobody = Files {
        certificate: certificate.clone(),
        ..files.clone()
    };
    assert!(
        load(&nobody)
            .await
            .contains("plain.crt names no peer of a fleet")
    );
    let other = ca.issue(&identity("f", Role::Core, "core-1")).unwrap();
    let mixed = Files {
        key: other.key,
        ..files.clone()
    };
    assert!(load(&mixed).await.contains("can't be used"));
    let absent = Files {
        ca: Path::new("/nowhere/ca.crt").to_owned(),
        ..files
    };
    assert_eq!(load(&absent).await, "read /nowhere/ca.crt");
}
