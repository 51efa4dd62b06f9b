//! One connection between two replicas: who opens it, what both say first, and how what comes over
//! it reaches the driver.
//!
//! ```text
//!  smaller name ──dial──▶ greater name
//!      Hello ────────────────▶          then, both ways and in order:
//!        ◀──────────────── Hello        gossip, messages, Hello again after a new incarnation
//! ```
//!
//! What can't be is refused here, counted by reason, logged once per peer and reason, and changes
//! nothing. Reading waits for the driver, so that nothing is lost on the way in; what is to be sent
//! waits in a queue of the peer's own, and is lost where that is full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{debug, warn};

use super::metrics::{Metrics, Why};
use crate::{
    coordination::{
        message::Message,
        names::PodName,
        wire::{
            message::{self as wire, Hello, MOST_FRAME},
            proto::{
                Frame,
                frame::Kind,
                peer_client::PeerClient,
                peer_server::{Peer, PeerServer},
            },
            swim,
        },
    },
    ops::tasks::Tasks,
    peer::{self, Credentials, Expected, PeerIdentity, Role, told::Told as Once},
};

/// Messages that wait for a peer: a second of a busy hand-over, at most [`MOST_FRAME`] each.
const QUEUE: usize = 256;

/// From a connection to the peer's first word.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// Around each frame: gRPC's and HTTP/2's heads, TLS's record, TCP's and IP's heads.
const FRAMING: usize = 5 + 9 + 22 + 52;

/// Between attempts to connect, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// What waits to be sent to a peer.
pub(super) type Queue = mpsc::Sender<Frame>;

/// What connections tell the driver.
pub(super) enum Told {
    /// A connection is open.
    Opened {
        pod: PodName,
        connection: u64,
        hello: Arc<Hello>,
        /// What this side has said.
        said: Arc<Hello>,
        queue: Queue,
    },
    /// The peer said something.
    Said {
        pod: PodName,
        connection: u64,
        what: Said,
    },
    /// The connection is closed or was reset.
    Closed { pod: PodName, connection: u64 },
    /// Whether every listener of the pod refuses.
    Looked {
        pod: PodName,
        look: u64,
        refused: bool,
    },
}

/// What a peer says.
pub(super) enum Said {
    Hello(Arc<Hello>),
    Gossip(Bytes),
    Message(Message),
}

/// What all connections share.
#[derive(Clone)]
pub(super) struct Net {
    pub(super) me: PodName,
    pub(super) fleet: Arc<str>,
    pub(super) protocol: u32,
    pub(super) hello: watch::Receiver<Option<Arc<Hello>>>,
    pub(super) told: mpsc::Sender<Told>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
    pub(super) once: Arc<Once<Why>>,
    pub(super) connections: Arc<AtomicU64>,
}

/// As it is sent.
pub(super) const fn frame(kind: Kind) -> Frame {
    Frame { kind: Some(kind) }
}

fn frames(mut queue: mpsc::Receiver<Frame>) -> impl futures::Stream<Item = Frame> + Send {
    stream::poll_fn(move |context| queue.poll_recv(context))
}

// === impl Net ===

impl Net {
    /// The service that others connect to.
    pub(super) fn server(&self) -> PeerServer<Self> {
        PeerServer::new(self.clone())
            .max_decoding_message_size(MOST_FRAME)
            .max_encoding_message_size(MOST_FRAME)
    }

    /// Refuses what a peer said.
    pub(super) fn refuse(&self, pod: &str, why: Why, what: &str) {
        self.metrics.refuse(why);
        if self.once.first(pod, why) {
            let reason = why.label();
            warn!(peer = pod, reason, what, "refused; not logged again");
        }
    }

    /// Counts what is sent.
    pub(super) fn sent(&self, frame: &Frame) {
        count(&self.metrics.sent, frame);
    }

    /// Connects to a pod again and again, and listens to it, until `stop`.
    pub(super) async fn dial(self, pod: PodName, address: Arc<str>, stop: CancellationToken) {
        let dialing = async {
            let mut wait = BACKOFF.0;
            loop {
                if self.attempt(&pod, &address).await {
                    wait = BACKOFF.0;
                }
                tokio::time::sleep(wait.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
                wait = (wait * 2).min(BACKOFF.1);
            }
        };
        Box::pin(stop.run_until_cancelled(dialing)).await;
    }

    /// One connection, to its end; whether both sides had said hello: with one that is refused it is
    /// tried again ever more slowly.
    async fn attempt(&self, pod: &PodName, address: &str) -> bool {
        let Some(mine) = self.hello.borrow().clone() else {
            return false;
        };
        let expected = Expected::pod(Role::Core, &pod.0);
        let channel = match peer::dial(address, &self.credentials, &expected).await {
            Ok(channel) => channel,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                debug!(peer = %pod, error, "not connected");
                return false;
            }
        };
        let (queue, sending) = mpsc::channel(QUEUE);
        let hello = frame(Kind::Hello(mine.encode()));
        self.sent(&hello);
        // There is room for the first.
        drop(queue.try_send(hello));
        let mut client = PeerClient::new(channel)
            .max_decoding_message_size(MOST_FRAME)
            .max_encoding_message_size(MOST_FRAME);
        let answer = tokio::time::timeout(FIRST_WORD, client.talk(frames(sending))).await;
        match answer {
            Ok(Ok(answer)) => self.listen(pod, answer.into_inner(), mine, queue).await,
            Ok(Err(status)) => {
                debug!(peer = %pod, %status, "not talked to");
                false
            }
            Err(_late) => false,
        }
    }

    /// Listens to a pod until the connection ends; whether it said hello.
    async fn listen(
        &self,
        pod: &PodName,
        mut from: Streaming<Frame>,
        said: Arc<Hello>,
        queue: Queue,
    ) -> bool {
        let first = tokio::time::timeout(FIRST_WORD, from.message()).await;
        let Ok(Ok(Some(first))) = first else {
            return false;
        };
        count(&self.metrics.received, &first);
        let Some(Kind::Hello(hello)) = first.kind else {
            self.refuse(&pod.0, Why::Malformed, "the first word is no hello");
            return false;
        };
        let Some(mut hello) = self.greet(pod, hello) else {
            return false;
        };
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let opened = Told::Opened {
            pod: pod.clone(),
            connection,
            hello: Arc::clone(&hello),
            said,
            queue,
        };
        if self.told.send(opened).await.is_err() {
            return true;
        }
        loop {
            match from.message().await {
                Ok(Some(frame)) => {
                    count(&self.metrics.received, &frame);
                    let Some(what) = self.hear(pod, frame, &mut hello) else {
                        continue;
                    };
                    let pod = pod.clone();
                    let said = Told::Said {
                        pod,
                        connection,
                        what,
                    };
                    if self.told.send(said).await.is_err() {
                        return true;
                    }
                }
                Ok(None) => break,
                Err(status) => {
                    let undecoded = status.message().contains("decode");
                    if status.code() == Code::OutOfRange {
                        self.refuse(&pod.0, Why::TooLarge, "a frame is longer than 64 KiB");
                    } else if status.code() == Code::Internal && undecoded {
                        // What tonic says of bytes that are no message.
                        self.refuse(&pod.0, Why::Malformed, "a frame can't be decoded");
                    }
                    debug!(peer = %pod, %status, "connection ended");
                    break;
                }
            }
        }
        let pod = pod.clone();
        drop(self.told.send(Told::Closed { pod, connection }).await);
        true
    }

    /// What a frame says; nothing where it is refused, or of a kind that a later build knows.
    fn hear(&self, pod: &PodName, frame: Frame, hello: &mut Arc<Hello>) -> Option<Said> {
        match frame.kind? {
            Kind::Hello(again) => {
                *hello = self.greet(pod, again)?;
                Some(Said::Hello(Arc::clone(hello)))
            }
            Kind::Gossip(packet) => match swim::sender(&packet) {
                Ok(sender) if sender == pod.0 => Some(Said::Gossip(packet.into())),
                Ok(_) => {
                    self.refuse(&pod.0, Why::Name, "gossip in the name of another pod");
                    None
                }
                Err(malformed) => {
                    self.refuse(&pod.0, Why::Malformed, malformed.0);
                    None
                }
            },
            Kind::Message(message) => match wire::decode(message, hello) {
                Ok(message) => Some(Said::Message(message)),
                Err(malformed) => {
                    self.refuse(&pod.0, Why::Malformed, malformed.0);
                    None
                }
            },
        }
    }

    /// Takes a hello, if this replica talks to such a one.
    fn greet(
        &self,
        pod: &PodName,
        hello: crate::coordination::wire::proto::Hello,
    ) -> Option<Arc<Hello>> {
        let (why, what) = match Hello::decode(hello) {
            Err(malformed) => (Why::Malformed, malformed.0),
            Ok(hello) if hello.fleet != self.fleet => (Why::Fleet, "it is of another fleet"),
            Ok(hello) if hello.protocol.abs_diff(self.protocol) > 1 => {
                (Why::Protocol, "it is more than one protocol apart")
            }
            Ok(hello) if hello.holder.pod != *pod => (Why::Name, "it is in another pod's name"),
            Ok(hello) => return Some(Arc::new(hello)),
        };
        self.refuse(&pod.0, why, what);
        None
    }
}

fn count(counter: &prometheus::IntCounter, frame: &Frame) {
    let bytes = u64::try_from(frame.encoded_len() + FRAMING).unwrap_or(u64::MAX);
    counter.inc_by(bytes);
}

#[tonic::async_trait]
impl Peer for Net {
    type TalkStream = BoxStream<'static, Result<Frame, Status>>;

    async fn talk(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::TalkStream>, Status> {
        let identity = request.extensions().get::<PeerIdentity>();
        let pod = identity.and_then(|identity| identity.pod.clone());
        // A certificate that names no pod can't say whose words these are.
        let pod = pod.ok_or_else(|| Status::permission_denied("the certificate names no pod"))?;
        if *pod >= *self.me.0 {
            self.refuse(
                &pod,
                Why::Uninvited,
                "the pod with the smaller name connects",
            );
            return Err(Status::failed_precondition("the smaller name connects"));
        }
        let mine = self.hello.borrow().clone();
        let mine = mine.ok_or_else(|| Status::unavailable("this replica is no holder yet"))?;
        let (queue, sending) = mpsc::channel(QUEUE);
        let hello = frame(Kind::Hello(mine.encode()));
        self.sent(&hello);
        // There is room for the first.
        drop(queue.try_send(hello));
        let (net, pod, from) = (self.clone(), PodName(pod), request.into_inner());
        let stop = self.tasks.token();
        self.tasks.spawn_contained("peer talk", async move {
            let listening = net.listen(&pod, from, mine, queue);
            Box::pin(stop.run_until_cancelled(listening)).await;
        });
        let stop = self.tasks.token().cancelled_owned();
        let sending = frames(sending).map(Ok).take_until(stop);
        Ok(Response::new(sending.boxed()))
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}
