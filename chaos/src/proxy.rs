//! A userland TCP proxy that can be told to misbehave: what a network does to connections, without
//! root. It stands before one listener, and treats each connection by who dialed it.
//!
//! Where everybody is to be refused, or there is nothing behind it, it doesn't listen, as a dead process
//! doesn't. What it can't do: lose single packets, keep a SYN from being answered, or refuse one dialer
//! alone. A connection that should find silence is accepted by the kernel and then hears nothing; one
//! that should be refused while others pass is reset at once.

pub mod source;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};
use zen_fabric::ops::tasks::Tasks;

use crate::error::{Attempt as _, Result};

/// What happens to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    #[default]
    Pass,
    /// Nothing comes through in either direction, and nobody is told.
    Drop,
    /// What the dialing side sends comes through; what comes back doesn't.
    OnlyThere,
    /// What the dialing side sends doesn't come through.
    OnlyBack,
    /// Standing connections are reset, new ones are reset at once.
    Reject,
    /// All comes later by this much.
    Delay(Duration),
}

/// Which way bytes go through a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// What is kept of what a dialer says while nothing comes through; the kernel keeps the rest.
const HELD: usize = 16 * 1024;

/// Before a port is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Who dialed: a name that the proxy's owner gives to a peer's address.
pub type Resolve = Arc<dyn Fn(SocketAddr) -> Option<String> + Send + Sync>;

/// Where connections go, and what is done to them by who dialed.
#[derive(Clone, Debug, Default)]
struct Rules {
    target: Option<SocketAddr>,
    of: BTreeMap<String, Mode>,
    others: Mode,
}

/// Bytes that came through, both ways together.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    connections: AtomicU64,
}

/// A proxy before one listener. It ends with the group of tasks in which it runs.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: watch::Sender<Rules>,
    counts: Arc<Counts>,
}

// === impl Counts ===

impl Counts {
    fn carried(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or_default();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

// === impl Mode ===

impl Mode {
    /// Whether bytes go this way.
    const fn carries(self, way: Way) -> bool {
        match self {
            Self::Pass | Self::Delay(_) => true,
            Self::Drop | Self::Reject => false,
            Self::OnlyThere => matches!(way, Way::There),
            Self::OnlyBack => matches!(way, Way::Back),
        }
    }
}

impl Rules {
    fn of(&self, who: Option<&str>) -> Mode {
        let special = who.and_then(|who| self.of.get(who));
        special.copied().unwrap_or(self.others)
    }

    /// Whether it listens at all.
    fn listens(&self) -> bool {
        self.target.is_some() && (self.others != Mode::Reject || !self.of.is_empty())
    }
}

// === impl Proxy ===

impl Proxy {
    /// Takes a port of its own. Where to, [`Proxy::point`] says: until then it refuses.
    pub async fn start(resolve: Resolve, tasks: &Tasks) -> Result<Self> {
        let listener = listen("127.0.0.1:0").await.attempt("find a proxy's port")?;
        let address = listener.local_addr().attempt("find a proxy's port")?;
        let (rules, watched) = watch::channel(Rules::default());
        let proxy = Self {
            address,
            rules,
            counts: Arc::default(),
        };
        let accepting = Accepting {
            address,
            resolve,
            rules: watched,
            counts: Arc::clone(&proxy.counts),
        };
        drop(listener);
        let (stop, group) = (tasks.token(), tasks.clone());
        tasks.spawn("proxy", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = accepting.run(&group) => {}
            }
        });
        Ok(proxy)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where connections go from now on; `None`: nowhere, they are refused. Those that stand stay.
    pub fn point(&self, target: Option<SocketAddr>) {
        self.rules.send_modify(|rules| rules.target = target);
    }

    /// What happens to connections that `who` dialed.
    pub fn treat(&self, who: &str, mode: Mode) {
        self.rules.send_modify(|rules| {
            rules.of.insert(who.to_owned(), mode);
        });
    }

    /// What happens to all connections.
    pub fn treat_all(&self, mode: Mode) {
        self.rules.send_modify(|rules| {
            rules.of.clear();
            rules.others = mode;
        });
    }

    /// Bytes that came through, both ways together, and connections.
    #[must_use]
    pub fn carried(&self) -> (u64, u64) {
        (
            self.counts.bytes.load(Ordering::Relaxed),
            self.counts.connections.load(Ordering::Relaxed),
        )
    }
}

struct Accepting {
    address: SocketAddr,
    resolve: Resolve,
    rules: watch::Receiver<Rules>,
    counts: Arc<Counts>,
}

// === impl Accepting ===

impl Accepting {
    /// Listens while it should.
    async fn run(mut self, tasks: &Tasks) {
        while self.rules.wait_for(Rules::listens).await.is_ok() {
            let Ok(listener) = listen(self.address).await else {
                // The port was just another's for a moment: a dialer that got it from the kernel.
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            };
            let mut rules = self.rules.clone();
            tokio::select! {
                () = self.accept(&listener, tasks) => {}
                _ = rules.wait_for(|rules| !rules.listens()) => {}
            }
        }
    }

    async fn accept(&self, listener: &TcpListener, tasks: &Tasks) {
        while let Ok((stream, peer)) = listener.accept().await {
            let resolve = Arc::clone(&self.resolve);
            let (rules, counts) = (self.rules.clone(), Arc::clone(&self.counts));
            let stop = tasks.token();
            tasks.spawn_contained("proxied connection", async move {
                let carried = async {
                    // The kernel's table may be long, and is read by whoever asks.
                    let who = tokio::task::spawn_blocking(move || resolve(peer)).await;
                    let connection = Connection {
                        who: who.unwrap_or_default(),
                        rules,
                        counts,
                    };
                    connection.carry(stream).await;
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = carried => {}
                }
            });
        }
    }
}

async fn listen(address: impl tokio::net::ToSocketAddrs) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

struct Connection {
    who: Option<String>,
    rules: watch::Receiver<Rules>,
    counts: Arc<Counts>,
}

// === impl Connection ===

impl Connection {
    fn mode(&self) -> Mode {
        self.rules.borrow().of(self.who.as_deref())
    }

    async fn carry(self, mut stream: TcpStream) {
        // Where nothing goes through, not even whether there is something behind it is told.
        let mut rules = self.rules.clone();
        let who = self.who.as_deref();
        let opened = rules.wait_for(|rules| {
            let mode = rules.of(who);
            mode == Mode::Reject || mode.carries(Way::There)
        });
        let mut held = Vec::new();
        let target = tokio::select! {
            biased;
            opened = opened => opened.map(|rules| rules.target),
            // Whoever gave up waiting is not kept: ten minutes of that are thousands of sockets.
            () = hold(&mut stream, &mut held) => return,
        };
        let Ok(target) = target else {
            return;
        };
        let Some(target) = target.filter(|_| self.mode() != Mode::Reject) else {
            reset(stream);
            return;
        };
        let Ok(mut other) = TcpStream::connect(target).await else {
            // As the listener behind would: it refuses.
            reset(stream);
            return;
        };
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        for socket in [&stream, &other] {
            // Only the delay of small writes is at stake.
            drop(socket.set_nodelay(true));
        }
        if other.write_all(&held).await.is_err() {
            return;
        }
        self.counts.carried(held.len());
        let (mut near, mut far) = (stream, other);
        let rejected = {
            let ((from_near, to_near), (from_far, to_far)) = (near.split(), far.split());
            tokio::select! {
                () = self.pump(Way::There, from_near, to_far) => false,
                () = self.pump(Way::Back, from_far, to_near) => false,
                () = self.rejected() => true,
            }
        };
        if rejected {
            reset(near);
            reset(far);
        }
    }

    async fn rejected(&self) {
        let who = self.who.clone();
        let mut rules = self.rules.clone();
        let waited = rules.wait_for(|rules| rules.of(who.as_deref()) == Mode::Reject);
        if waited.await.is_err() {
            // Nobody will say so any more.
            std::future::pending::<()>().await;
        }
    }

    /// Carries bytes one way until either side ends.
    async fn pump(&self, way: Way, mut from: tcp::ReadHalf<'_>, mut to: tcp::WriteHalf<'_>) {
        let mut rules = self.rules.clone();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(read) = from.read(&mut buffer).await else {
                return;
            };
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                return;
            };
            // What is held back arrives once the way is open, as what TCP sends again would.
            let who = self.who.as_deref();
            let Ok(mode) = rules
                .wait_for(|rules| rules.of(who).carries(way))
                .await
                .map(|rules| rules.of(who))
            else {
                return;
            };
            if let Mode::Delay(delay) = mode {
                tokio::time::sleep(delay).await;
            }
            self.counts.carried(bytes.len());
            if to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }
}

/// Takes what a dialer says to nobody, until it ends the connection.
async fn hold(stream: &mut TcpStream, held: &mut Vec<u8>) {
    while held.len() < HELD {
        if !stream.read_buf(held).await.is_ok_and(|read| read > 0) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Ends a connection by RST.
fn reset(stream: TcpStream) {
    // Without it the other side sees an orderly end, which is not what was asked for but near enough.
    drop(stream.set_zero_linger());
    drop(stream);
}

#[cfg(test)]
mod tests;
