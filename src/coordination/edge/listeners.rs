//! Whether anybody listens where a peer's process listened: asked once its connection is gone.
//!
//! The kernel of a node that lives refuses in its process's stead, within a millisecond of its end.
//! A time-out, or an answer, says nothing of the kind.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::talk::Told;
use crate::coordination::names::PodName;

/// An answer comes within this, or not from a kernel that lives.
const ANSWER: Duration = Duration::from_millis(300);

/// Between looks: a dying process closes its sockets one after the other, over some milliseconds;
/// a pod that comes back is found by its connection. The last wait repeats, well within the second
/// for which votes count.
const WAITS: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(250),
];

/// What is looked at.
pub(super) struct Look {
    pub(super) pod: PodName,
    pub(super) look: u64,
    pub(super) addresses: Vec<Arc<str>>,
    pub(super) told: mpsc::Sender<Told>,
}

// === impl Look ===

impl Look {
    /// Looks again and again, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let looking = async {
            let last = WAITS.last().copied().unwrap_or(ANSWER);
            for wait in WAITS.into_iter().chain(std::iter::repeat(last)) {
                tokio::time::sleep(wait).await;
                let refused = join_all(self.addresses.iter().map(|at| refuses(at))).await;
                let told = Told::Looked {
                    pod: self.pod.clone(),
                    look: self.look,
                    refused: !refused.is_empty() && refused.into_iter().all(|refused| refused),
                };
                if self.told.send(told).await.is_err() {
                    return;
                }
            }
        };
        stop.run_until_cancelled(looking).await;
    }
}

async fn refuses(address: &str) -> bool {
    match tokio::time::timeout(ANSWER, TcpStream::connect(address)).await {
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_closed_port_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(!refuses(&address).await);
        drop(listener);
        assert!(refuses(&address).await);
        assert!(!refuses("not a name:1").await);
    }

    #[tokio::test]
    async fn one_listener_that_answers_is_enough() {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shut = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = |listener: &TcpListener| listener.local_addr().unwrap().to_string().into();
        let addresses = vec![at(&open), at(&shut)];
        drop(shut);
        let (told, mut looks) = mpsc::channel(1);
        let look = Look {
            pod: PodName("core-0".into()),
            look: 7,
            addresses,
            told,
        };
        let stop = CancellationToken::new();
        let looking = look.run(stop.clone());
        let reading = async {
            let mut next = async || match looks.recv().await {
                Some(Told::Looked {
                    look: 7, refused, ..
                }) => refused,
                _ => panic!("a look"),
            };
            assert!(!next().await);
            drop(open);
            while !next().await {}
            stop.cancel();
        };
        tokio::join!(looking, reading);
    }
}
