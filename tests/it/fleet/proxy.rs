//! A path between replicas that can be cut without a word.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Forwards connections to `target`, as long as it isn't cut.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, whole) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let (from, _) = listener.accept().await.unwrap();
                let whole = whole.clone();
                tokio::spawn(async move {
                    if let Ok(to) = TcpStream::connect(target).await {
                        join(from, to, whole).await;
                    }
                });
            }
        });
        Self { address, cut }
    }

    /// From now on nothing comes through, and nobody is told.
    pub(super) fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub(super) fn mend(&self) {
        self.cut.send_replace(false);
    }
}

/// Copies both ways; while it is cut, bytes wait, as they would in the kernels of both ends.
async fn join(from: TcpStream, to: TcpStream, whole: watch::Receiver<bool>) {
    let (mut from_read, mut from_write) = from.into_split();
    let (mut to_read, mut to_write) = to.into_split();
    let there = copy(&mut from_read, &mut to_write, whole.clone());
    let back = copy(&mut to_read, &mut from_write, whole);
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

async fn copy(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut whole: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if whole.wait_for(|cut| !cut).await.is_err() {
            return;
        }
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if whole.wait_for(|cut| !cut).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
