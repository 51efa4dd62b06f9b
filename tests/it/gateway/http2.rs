//! A sender that speaks HTTP/2, whose requests can be broken off one by one.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use zen_fabric::journal::wal;

use super::world::{Answer, PATIENCE, SECRET, World, loopback, sign};

#[derive(Clone)]
pub(super) struct Sender(SendRequest<Full<Bytes>>);

impl Sender {
    /// In plain text, by prior knowledge.
    pub(super) async fn of(world: &World) -> Self {
        let stream = world.connect().await;
        // A body follows its header at once, and not with the acknowledgement of it.
        stream.set_nodelay(true).unwrap();
        let stream = TokioIo::new(stream);
        let (sender, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
        // It ends with its senders, or with the gateway.
        tokio::spawn(async move { drop(connection.await) });
        Self(sender)
    }

    /// Sends; dropping the future breaks the request off.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let answering = async {
            self.0.ready().await.unwrap();
            let (head, body) = self.0.send_request(request).await.unwrap().into_parts();
            let headers = head.headers.iter().map(|(name, value)| {
                let value = value.to_str().unwrap().to_owned();
                (name.as_str().to_owned(), value)
            });
            Answer {
                status: head.status.as_u16(),
                headers: headers.collect(),
                body: body.collect().await.unwrap().to_bytes().to_vec(),
            }
        };
        let answered = tokio::time::timeout(PATIENCE, answering).await;
        answered.expect("the gateway answers")
    }
}

/// A request; `Content-Type` is JSON unless the headers say otherwise.
pub(super) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://hooks.example.test{path}"));
    let typed = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case("content-type");
    if !headers.iter().any(typed) {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers.iter().filter(|(_, value)| *value != "\0absent") {
        request = request.header(*name, *value);
    }
    request
        .body(Full::new(Bytes::copy_from_slice(body)))
        .unwrap()
}

/// A delivery that GitHub could have sent.
pub(super) fn delivery(id: &str, body: &[u8]) -> Request<Full<Bytes>> {
    let signature = sign(SECRET, body);
    let headers = [
        ("X-GitHub-Delivery", id),
        ("X-Hub-Signature-256", &signature),
    ];
    request("POST", "/hooks/team/github", &headers, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_has_the_same_limit_as_over_http_1() {
    let world = World::new().await;
    world.github().await;
    let mut sender = Sender::of(&world).await;
    let body = b"{}";
    let signature = sign(SECRET, body);
    // With the signature, the media type and what the client adds, 62 fields at most.
    let names: Vec<String> = (0..58).map(|n| format!("x-number-{n}")).collect();
    let with = |bytes: usize| {
        let value = "v".repeat(bytes / names.len());
        let mut headers = vec![("X-Hub-Signature-256", signature.as_str())];
        headers.extend(names.iter().map(|name| (name.as_str(), value.as_str())));
        request("POST", "/hooks/team/github", &headers, body)
    };
    assert_eq!(sender.send(with(31_000)).await.status, 202);
    sender.send(with(33_000)).await.is_problem(431);
    sender.send(with(40_000)).await.is_problem(431);
    assert_eq!(sender.send(with(10)).await.status, 202);
    assert_eq!(
        world.counter("gateway_rejected_total", "headers_too_large"),
        2
    );
}

/// The preface, an empty SETTINGS frame, and a HEADERS frame that asks for more.
async fn endless_header(world: &World) -> TcpStream {
    let mut stream = world.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.unwrap();
    let header = [0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
    stream.write_all(&header).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_end_is_cut_off_and_an_idle_connection_is_not() {
    let mut options = loopback();
    options.limits.header_timeout = Duration::from_secs(1);
    options.limits.idle_timeout = Duration::from_hours(1);
    let world = World::with(options, wal::Options::default()).await;
    world.github().await;
    let mut idle = Sender::of(&world).await;
    let mut stuck = endless_header(&world).await;
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stuck.read_to_end(&mut rest)).await;
    drop(closed.expect("the gateway closes the connection"));
    // It was opened before the other, and has the time of one without a request.
    assert_eq!(idle.send(delivery("d", b"{}")).await.status, 202);
}
