//! HTTP/2 by hand, for what no client does.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::world::{PATIENCE, World};

pub(super) const DATA: u8 = 0;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const GOAWAY: u8 = 7;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// A client that answers nothing that the gateway asks.
pub(super) struct RawHttp2(TcpStream);

impl RawHttp2 {
    pub(super) async fn of(world: &World) -> Self {
        let mut client = Self(world.connect().await);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.0.write_all(preface).await.unwrap();
        client.send(SETTINGS, 0, 0, b"").await;
        client
    }

    /// A POST whose body is still to come.
    pub(super) async fn begin(&mut self, stream: u32, path: &str) {
        self.send(HEADERS, END_HEADERS, stream, &header(path)).await;
    }

    /// A POST without a body.
    pub(super) async fn post(&mut self, stream: u32, path: &str) {
        let flags = END_HEADERS | END_STREAM;
        self.send(HEADERS, flags, stream, &header(path)).await;
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat()).await.unwrap();
    }

    /// The next frame that is wanted; others are passed over.
    pub(super) async fn frame(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let reading = async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.unwrap();
                let [a, b, c, kind, _, stream @ ..] = head;
                let length = u32::from_be_bytes([0, a, b, c]);
                let mut payload = vec![0; usize::try_from(length).unwrap()];
                self.0.read_exact(&mut payload).await.unwrap();
                let stream = u32::from_be_bytes(stream);
                let frame = Frame {
                    kind,
                    stream,
                    payload,
                };
                if wanted(&frame) {
                    return frame;
                }
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.expect("the gateway sends it")
    }
}

/// A header without compression (RFC 7541): names by their number in the static table.
fn header(path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let post_over_http = vec![0x83, 0x86];
    let path = [vec![0x04], text(path)].concat();
    let authority = [vec![0x01], text("hooks.example.test")].concat();
    // The number 31 does not fit the prefix of four bits.
    let content_type = [vec![0x0f, 0x10], text("application/json")].concat();
    [post_over_http, path, authority, content_type].concat()
}
