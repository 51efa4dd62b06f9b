//! Reading a body: bounded in size, time and memory over all requests.

use core::net::IpAddr;
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Body;

use super::{
    limits::network_of,
    problem::{Kind, Problem},
};

/// Reserved ahead for a body whose length was declared: a declared length is only a promise, and
/// what goes beyond is grown as it comes.
const RESERVED: usize = 64 * 1_024;

/// Places in which clients are counted, 32 KiB in all. A client's follows from its address under a
/// key of this process, so that nobody can choose to fall on another's; the few that do share one
/// share of the budget.
const PLACES: usize = 4_096;

/// Bytes of bodies in memory, over all requests and by client. Atomic counters of a fixed number
/// instead of a table: no lock, nothing that grows.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
    /// The most that one client may have.
    share: usize,
    clients: Box<[AtomicUsize]>,
    hasher: RandomState,
}

/// A part of the budget, given back when it is dropped. It goes where the body goes: into the
/// append, which holds the body until it is durable, and may outlive its request.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<Budget>,
    /// Where the client is counted.
    place: Option<usize>,
    bytes: usize,
}

/// A body, with the memory that it takes.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) bytes: Bytes,
    pub(super) lease: Lease,
}

impl Budget {
    pub(super) fn new(limit: usize, share: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
            share,
            clients: (0..PLACES).map(|_| AtomicUsize::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Bytes of bodies in memory now.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A lease of nothing yet; `None` stands for one who may have all, as a trusted proxy may.
    pub(super) fn lease(self: &Arc<Self>, client: Option<IpAddr>) -> Lease {
        Lease {
            budget: Arc::clone(self),
            place: client.map(|client| self.place(client)),
            bytes: 0,
        }
    }

    fn place(&self, client: IpAddr) -> usize {
        let hash = self.hasher.hash_one(network_of(client));
        usize::try_from(hash).unwrap_or_default() % PLACES
    }
}

impl Lease {
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let before = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        let ours = self
            .client()
            .map(|it| it.fetch_add(bytes, Ordering::Relaxed));
        self.bytes += bytes;
        if before.saturating_add(bytes) > self.budget.limit {
            return Err(Kind::Overloaded.because("too many bodies are being read; try again"));
        }
        if ours.is_some_and(|ours| ours.saturating_add(bytes) > self.budget.share) {
            let why = "too many bodies of this address are being read; try again";
            return Err(Kind::Overloaded.because(why));
        }
        Ok(())
    }

    fn client(&self) -> Option<&AtomicUsize> {
        self.budget.clients.get(self.place?)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(client) = self.client() {
            client.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Reads a body of at most `max` bytes, within `limit`.
///
/// # Errors
/// 413, 408, 503, or 400 when it breaks off.
pub(super) async fn read<B>(
    body: B,
    declared: Option<u64>,
    max: usize,
    limit: Duration,
    lease: Lease,
) -> Result<Payload, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    // The timer is armed only when the body isn't there yet.
    tokio::time::timeout(limit, collect(body, declared, max, lease))
        .await
        .unwrap_or_else(|_| Err(Kind::Timeout.because("the body did not come in time")))
}

async fn collect<B>(
    mut body: B,
    declared: Option<u64>,
    max: usize,
    mut lease: Lease,
) -> Result<Payload, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let declared = declared.and_then(|length| usize::try_from(length).ok());
    let mut read: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Kind::Aborted.because(format!("the body broke off or is malformed: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read.len().saturating_add(data.len()) > max {
            return Err(too_large(max));
        }
        lease.grow(data.len())?;
        if read.is_empty() {
            read.reserve_exact(
                declared
                    .unwrap_or_default()
                    .min(RESERVED)
                    .max(data.remaining()),
            );
        }
        read.extend_from_slice(&data);
    }
    let bytes = read.into();
    Ok(Payload { bytes, lease })
}

/// The body is larger than the endpoint takes.
pub(super) fn too_large(max: usize) -> Problem {
    Kind::TooLarge.because(format!("the body has more than {max} bytes"))
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_body_is_read_whole_and_its_memory_given_back() {
        let budget = Arc::new(Budget::new(100, 100));
        let body = Full::new(Bytes::from_static(b"hello"));
        let payload = read(body, Some(5), 5, LONG, budget.lease(None))
            .await
            .unwrap();
        assert_eq!(&payload.bytes[..], b"hello");
        assert_eq!(budget.used(), 5);
        drop(payload.lease);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_byte_too_many_is_refused_and_so_is_what_goes_beyond_the_budget() {
        let body = || Full::new(Bytes::from_static(b"hello"));
        let budget = Arc::new(Budget::new(4, 4));
        let refused = read(body(), None, 4, LONG, budget.lease(None))
            .await
            .unwrap_err();
        assert_eq!(refused.kind, Kind::TooLarge);
        let refused = read(body(), None, 5, LONG, budget.lease(None))
            .await
            .unwrap_err();
        assert_eq!(refused.kind, Kind::Overloaded);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_given_up() {
        let frames =
            futures::stream::once(async { Ok::<_, String>(Frame::data(Bytes::from_static(b"x"))) });
        let never = futures::stream::pending();
        let body = StreamBody::new(Box::pin(futures::StreamExt::chain(frames, never)));
        let budget = Arc::new(Budget::new(100, 100));
        let refused = read(body, None, 5, LONG, budget.lease(None))
            .await
            .unwrap_err();
        assert_eq!(refused.kind, Kind::Timeout);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_client_has_its_share_and_leaves_the_rest_to_others() {
        let budget = Arc::new(Budget::new(100, 40));
        let client = |text: &str| text.parse::<IpAddr>().ok();
        // Two addresses of one /64 are one client.
        let mut first = budget.lease(client("2001:db8::1"));
        let mut second = budget.lease(client("2001:db8::2"));
        assert!(first.grow(40).is_ok());
        assert_eq!(second.grow(1).unwrap_err().kind, Kind::Overloaded);
        // Another falls on the same place once in 4,096 times; then the next does not.
        let other = (1..=2_u8).map(|n| IpAddr::from([192, 0, 2, n]));
        let ours = budget.place(client("2001:db8::1").unwrap());
        let other = other.max_by_key(|address| budget.place(*address) != ours);
        assert!(budget.lease(other).grow(40).is_ok());
        assert!(
            budget.lease(None).grow(50).is_ok(),
            "a trusted proxy has no share"
        );
        drop((first, second));
        assert!(budget.lease(client("2001:db8::3")).grow(40).is_ok());
        assert_eq!(budget.used(), 0);
    }
}
