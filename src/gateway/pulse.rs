//! When a connection is overdue: header, idle and handshake timeouts, for HTTP/1.1 and HTTP/2.
//!
//! hyper's own header timeout also cuts idle connections, so the two could not differ. Here the
//! socket and the service note what happens in one atomic each, and one sleeping task per connection
//! wakes at the deadline that stood when it fell asleep: nothing is re-armed per request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ops::time::Clock;

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// From the first byte of a header to its last; also the TLS handshake.
    pub header: Duration,
    /// Without a request.
    pub idle: Duration,
}

/// No deadline: a request is in service, which has timeouts of its own.
const NEVER: u64 = u64::MAX;

const FRESH: u8 = 0;
const IDLE: u8 = 1;
const HEAD: u8 = 2;
const HTTP2: u8 = 3;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    clock: Arc<dyn Clock>,
    start: Instant,
    timeouts: Timeouts,
    /// Milliseconds since `start`, or [`NEVER`].
    deadline: AtomicU64,
    phase: AtomicU8,
    in_service: AtomicU64,
}

impl Pulse {
    /// A connection that was just opened.
    #[must_use]
    pub(crate) fn new(clock: Arc<dyn Clock>, timeouts: Timeouts) -> Arc<Self> {
        let start = clock.instant();
        let this = Self {
            clock,
            start,
            timeouts,
            deadline: AtomicU64::new(0),
            phase: AtomicU8::new(FRESH),
            in_service: AtomicU64::new(0),
        };
        this.due_in(timeouts.header);
        Arc::new(this)
    }

    /// A request's head is complete.
    pub(crate) fn request(&self) {
        self.in_service.fetch_add(1, Ordering::Relaxed);
        self.deadline.store(NEVER, Ordering::Relaxed);
    }

    /// A request was answered.
    pub(crate) fn answered(&self) {
        if self.in_service.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Frames of an idle HTTP/2 connection, such as pings, are no request's header.
            if self.phase.load(Ordering::Relaxed) != HTTP2 {
                self.phase.store(IDLE, Ordering::Relaxed);
            }
            self.due_in(self.timeouts.idle);
        }
    }

    /// Bytes came. The first ones of a request start the header's time.
    fn bytes(&self, bytes: &[u8]) {
        match self.phase.load(Ordering::Relaxed) {
            FRESH => {
                // HTTP/2's preface (RFC 9113, 3.4) begins with `PRI`, and no method of ours does.
                let phase = if bytes.starts_with(b"PRI") {
                    HTTP2
                } else {
                    HEAD
                };
                self.phase.store(phase, Ordering::Relaxed);
            }
            IDLE => {
                self.phase.store(HEAD, Ordering::Relaxed);
                self.due_in(self.timeouts.header);
            }
            _ => {}
        }
    }

    fn due_in(&self, time: Duration) {
        let at = self.elapsed() + time;
        let millis = u64::try_from(at.as_millis()).unwrap_or(NEVER - 1);
        self.deadline.store(millis, Ordering::Relaxed);
    }

    fn elapsed(&self) -> Duration {
        self.clock.instant().saturating_duration_since(self.start)
    }

    /// Returns when the connection is overdue.
    pub(crate) async fn overdue(&self) {
        // Without a deadline, look again after the header's time: an answer sets a later one.
        loop {
            let now = self.elapsed();
            let wait = match self.deadline.load(Ordering::Relaxed) {
                NEVER => self.timeouts.header,
                at => match Duration::from_millis(at).checked_sub(now) {
                    Some(left) if !left.is_zero() => left,
                    Some(_) | None => return,
                },
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// A socket that tells its [`Pulse`] about the bytes it reads.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    socket: S,
    pulse: Arc<Pulse>,
}

impl<S> Watched<S> {
    /// Watches `socket`.
    pub(crate) const fn new(socket: S, pulse: Arc<Pulse>) -> Self {
        Self { socket, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        if let Some(bytes) = buffer.filled().get(before..)
            && !bytes.is_empty()
        {
            self.pulse.bytes(bytes);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
