//! Reading a body: bounded in size, time and memory over all requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Body;

use super::problem::{Kind, Problem};

/// Reserved ahead for a body whose length was declared: a declared length is only a promise, and
/// what goes beyond is grown as it comes.
const RESERVED: usize = 64 * 1_024;

/// Bytes of bodies in memory, over all requests.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

/// A part of the budget, given back when it is dropped. It goes where the body goes: into the
/// append, which holds the body until it is durable, and may outlive its request.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<Budget>,
    bytes: usize,
}

/// A body, with the memory that it takes.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) bytes: Bytes,
    pub(super) lease: Lease,
}

impl Budget {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// Bytes of bodies in memory now.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn lease(self: &Arc<Self>) -> Lease {
        Lease {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }
}

impl Lease {
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let before = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > self.budget.limit {
            return Err(Kind::Overloaded.because("too many bodies are being read; try again"));
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
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
    budget: &Arc<Budget>,
) -> Result<Payload, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    // The timer is armed only when the body isn't there yet.
    tokio::time::timeout(limit, collect(body, declared, max, budget))
        .await
        .unwrap_or_else(|_| Err(Kind::Timeout.because("the body did not come in time")))
}

async fn collect<B>(
    mut body: B,
    declared: Option<u64>,
    max: usize,
    budget: &Arc<Budget>,
) -> Result<Payload, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let declared = declared.and_then(|length| usize::try_from(length).ok());
    let mut lease = budget.lease();
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
        let budget = Arc::new(Budget::new(100));
        let body = Full::new(Bytes::from_static(b"hello"));
        let payload = read(body, Some(5), 5, LONG, &budget).await.unwrap();
        assert_eq!(&payload.bytes[..], b"hello");
        assert_eq!(budget.used(), 5);
        drop(payload.lease);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_byte_too_many_is_refused_and_so_is_what_goes_beyond_the_budget() {
        let body = || Full::new(Bytes::from_static(b"hello"));
        let budget = Arc::new(Budget::new(4));
        let refused = read(body(), None, 4, LONG, &budget).await.unwrap_err();
        assert_eq!(refused.kind, Kind::TooLarge);
        let refused = read(body(), None, 5, LONG, &budget).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Overloaded);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_given_up() {
        let frames =
            futures::stream::once(async { Ok::<_, String>(Frame::data(Bytes::from_static(b"x"))) });
        let never = futures::stream::pending();
        let body = StreamBody::new(Box::pin(futures::StreamExt::chain(frames, never)));
        let budget = Arc::new(Budget::new(100));
        let refused = read(body, None, 5, LONG, &budget).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Timeout);
        assert_eq!(budget.used(), 0);
    }
}
