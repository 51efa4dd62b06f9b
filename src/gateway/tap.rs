//! What lies between the socket and the HTTP library: it watches what the library doesn't tell.
//!
//! - when a header's first byte came, so that slow headers and idle connections can be told apart;
//! - the raw header, against request smuggling;
//! - the library's own refusals of what it can't parse, which become problem documents;
//! - after a refusal whose body was not read, what still comes is read for a moment, so that the
//!   sender gets the answer and not a reset.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{
    frames::Frames,
    framing::{self, Framing},
    problem::{Kind, MEDIA_TYPE},
};
use crate::ops::time::Clock;

/// Most of a raw header that is kept: as much as the parser reads.
pub(super) const KEPT: usize = 64 * 1_024;

/// How long, and how much, is read from a sender that was refused before its body came.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1_024 * 1_024;

/// What a connection is doing; shared by the socket's side, the requests and the watchdog.
#[derive(Debug)]
pub(super) struct Activity {
    clock: Arc<dyn Clock>,
    opened: Instant,
    /// Milliseconds since `opened`, of the last change.
    since: AtomicU64,
    /// A header's first byte has come, its request has not begun.
    header: AtomicBool,
    /// Requests under way.
    requests: AtomicUsize,
    /// A request's body was left unread.
    pub(super) unread: AtomicBool,
    /// What was read since the last request began; kept for HTTP/1 alone.
    kept: Option<Mutex<Vec<u8>>>,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Activity {
    /// A connection on which nothing was read yet.
    pub(super) fn new(clock: Arc<dyn Clock>, protocol: Protocol) -> Arc<Self> {
        let opened = clock.instant();
        // HTTP/2 begins with a preface that is due at once.
        Self::at(clock, protocol, opened, protocol == Protocol::Http2)
    }

    /// A connection whose first byte came at `begun`: its header's time runs since then.
    pub(super) fn spoken(clock: Arc<dyn Clock>, protocol: Protocol, begun: Instant) -> Arc<Self> {
        Self::at(clock, protocol, begun, true)
    }

    fn at(clock: Arc<dyn Clock>, protocol: Protocol, opened: Instant, header: bool) -> Arc<Self> {
        Arc::new(Self {
            opened,
            clock,
            since: AtomicU64::new(0),
            header: AtomicBool::new(header),
            requests: AtomicUsize::new(0),
            unread: AtomicBool::new(false),
            kept: (protocol == Protocol::Http1).then(Mutex::default),
        })
    }

    fn now(&self) -> u64 {
        let since = self.clock.instant().saturating_duration_since(self.opened);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// A request begins; `chunked` asks what the raw header says.
    pub(super) fn begin(
        self: &Arc<Self>,
        method: &str,
        chunked: bool,
    ) -> (InFlight, Option<Framing>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.kept.is_some() {
            self.header.store(false, Ordering::Relaxed);
        }
        let framing = self.kept.as_ref().and_then(|kept| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let framing = chunked.then(|| framing::judge(&kept, method));
            kept.clear();
            framing
        });
        (InFlight(Arc::clone(self)), framing)
    }

    /// Bytes came; over HTTP/2 they are frames.
    fn read(&self, bytes: &[u8], frames: &mut Frames) {
        if self.kept.is_some() {
            self.read_http1(bytes);
            return;
        }
        frames.read(bytes);
        let header = frames.is_within_header();
        if self.header.swap(header, Ordering::Relaxed) != header {
            self.since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn read_http1(&self, bytes: &[u8]) {
        let Some(kept) = &self.kept else {
            return;
        };
        if bytes.is_empty() || self.requests.load(Ordering::Relaxed) > 0 {
            return;
        }
        if !self.header.swap(true, Ordering::Relaxed) {
            self.since.store(self.now(), Ordering::Relaxed);
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    /// Whether a header is being read, so that what the library writes is its own.
    fn reads_header(&self) -> bool {
        self.kept.is_some()
            && self.header.load(Ordering::Relaxed)
            && self.requests.load(Ordering::Relaxed) == 0
    }

    /// How long the connection may stay as it is; `None`: it may not.
    pub(super) fn left(&self, header: Duration, idle: Duration) -> Option<Duration> {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return Some(header);
        }
        let limit = if self.header.load(Ordering::Relaxed) {
            header
        } else {
            idle
        };
        let spent = self
            .now()
            .saturating_sub(self.since.load(Ordering::Relaxed));
        limit
            .checked_sub(Duration::from_millis(spent))
            .filter(|left| !left.is_zero())
            // A header may begin at any moment, so a long sleep is cut.
            .map(|left| left.min(header / 2))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &self.0;
        activity.since.store(activity.now(), Ordering::Relaxed);
        activity.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Told of each refusal that the library makes by itself, once per connection: it ends there.
type OnRefusal = Box<dyn FnOnce(Kind) + Send>;

/// A socket that is watched.
pub(super) struct Tap<S> {
    socket: S,
    /// Read before the protocol was known.
    before: Bytes,
    activity: Arc<Activity>,
    /// What was read so far, over HTTP/2.
    frames: Frames,
    /// A problem document that is written in place of the library's refusal.
    instead: Option<Bytes>,
    on_refusal: Option<OnRefusal>,
    linger: Option<Pin<Box<Sleep>>>,
    lingered: usize,
}

impl<S> Tap<S> {
    pub(super) fn new(
        socket: S,
        before: Bytes,
        activity: Arc<Activity>,
        on_refusal: impl FnOnce(Kind) + Send + 'static,
    ) -> Self {
        Self {
            frames: Frames::default(),
            socket,
            before,
            activity,
            instead: None,
            on_refusal: Some(Box::new(on_refusal)),
            linger: None,
            lingered: 0,
        }
    }
}

impl<S: AsyncWrite + Unpin> Tap<S> {
    /// Writes the document in place of what the library wants to write; `None`: as it is.
    fn replaced(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.instead.is_none() {
            let refusal = own_refusal(bytes).filter(|_| self.activity.reads_header());
            let (kind, document) = refusal?;
            self.instead = Some(document);
            self.activity.unread.store(true, Ordering::Relaxed);
            if let Some(on_refusal) = self.on_refusal.take() {
                on_refusal(kind);
            }
        }
        let document = self.instead.as_mut()?;
        while document.has_remaining() {
            match Pin::new(&mut self.socket).poll_write(cx, document) {
                Poll::Ready(Ok(0)) => {
                    return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(written)) => document.advance(written),
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
        self.instead = None;
        Some(Poll::Ready(Ok(bytes.len())))
    }
}

/// The document for a refusal that the library made by itself: a status line of 4xx without the
/// request id that every answer of ours has.
fn own_refusal(bytes: &[u8]) -> Option<(Kind, Bytes)> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let (kind, line, detail) = match status {
        b"400" => (
            Kind::Malformed,
            "400 Bad Request",
            "the request can't be parsed",
        ),
        b"414" => (
            Kind::UriTooLong,
            "414 URI Too Long",
            "the request target is too long",
        ),
        b"431" => (
            Kind::HeadersTooLarge,
            "431 Request Header Fields Too Large",
            "the header has too many fields or bytes",
        ),
        _ => return None,
    };
    let ours = bytes
        .windows(12)
        .any(|window| window.eq_ignore_ascii_case(b"x-request-id"));
    if ours {
        return None;
    }
    let body = kind.because(detail).to_json("");
    let mut document = format!(
        "HTTP/1.1 {line}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    document.extend_from_slice(&body);
    Some((kind, document.into()))
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        if self.before.has_remaining() {
            let length = self.before.len().min(buffer.remaining());
            let bytes = self.before.split_to(length);
            buffer.put_slice(&bytes);
        } else {
            ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        }
        let read = buffer.filled().get(filled..).unwrap_or_default();
        let tap = &mut *self;
        tap.activity.read(read, &mut tap.frames);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(written) = self.replaced(cx, bytes) {
            return written;
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = buffers.iter().find(|buffer| !buffer.is_empty())
            && let Some(written) = self.replaced(cx, first)
        {
            return written;
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            if !self.activity.unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            self.linger = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let mut scratch = [0; 8_192];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingered += buffer.filled().len();
                    if self.lingered > LINGER_BYTES {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        let over = self.linger.as_mut().map(|sleep| sleep.as_mut().poll(cx));
        if over.is_none_or(|over| over.is_ready()) {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::Millis, testing::clock::ManualClock};

    const HEADER: Duration = Duration::from_secs(5);
    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn a_slow_header_has_less_time_than_an_idle_connection() {
        let clock = ManualClock::at(Millis(0));
        let frames = &mut Frames::default();
        let activity = Activity::new(Arc::new(clock.clone()), Protocol::Http1);
        clock.advance(Duration::from_secs(59));
        assert!(activity.left(HEADER, IDLE).is_some());
        activity.read(b"POST", frames);
        clock.advance(Duration::from_secs(4));
        activity.read(b" /", frames);
        assert_eq!(activity.left(HEADER, IDLE), Some(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(activity.left(HEADER, IDLE), None);
    }

    #[test]
    fn a_header_that_was_begun_before_has_what_is_left_of_its_time() {
        let clock = ManualClock::at(Millis(0));
        let begun = clock.instant();
        clock.advance(Duration::from_secs(4));
        let frames = &mut Frames::default();
        let activity = Activity::spoken(Arc::new(clock.clone()), Protocol::Http1, begun);
        activity.read(b"P", frames);
        assert_eq!(activity.left(HEADER, IDLE), Some(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(activity.left(HEADER, IDLE), None);
    }

    #[test]
    fn a_request_under_way_has_its_own_limits_and_the_next_wait_starts_at_its_end() {
        let clock = ManualClock::at(Millis(0));
        let frames = &mut Frames::default();
        let activity = Activity::new(Arc::new(clock.clone()), Protocol::Http1);
        activity.read(b"POST", frames);
        let (request, _) = activity.begin("POST", false);
        clock.advance(Duration::from_secs(300));
        assert!(activity.left(HEADER, IDLE).is_some());
        drop(request);
        clock.advance(Duration::from_secs(59));
        assert!(activity.left(HEADER, IDLE).is_some());
        clock.advance(Duration::from_secs(1));
        assert_eq!(activity.left(HEADER, IDLE), None);
    }

    #[test]
    fn over_http_2_a_header_has_its_time_and_what_is_none_does_not_begin_one() {
        let clock = ManualClock::at(Millis(0));
        let frames = &mut Frames::default();
        let activity = Activity::new(Arc::new(clock.clone()), Protocol::Http2);
        // The preface is due at once; behind it, the connection may idle.
        clock.advance(Duration::from_secs(4));
        assert_eq!(activity.left(HEADER, IDLE), Some(Duration::from_secs(1)));
        activity.read(super::super::frames::PREFACE, frames);
        clock.advance(Duration::from_secs(59));
        let pong = [0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        activity.read(&pong, frames);
        assert_eq!(activity.left(HEADER, IDLE), Some(Duration::from_secs(1)));
        // HEADERS without END_HEADERS, and a CONTINUATION that goes on and on.
        activity.read(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82], frames);
        clock.advance(Duration::from_secs(4));
        activity.read(&[0, 0, 1, 9, 0, 0, 0, 0, 1, 0x82], frames);
        assert_eq!(activity.left(HEADER, IDLE), Some(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(activity.left(HEADER, IDLE), None);
    }

    #[test]
    fn only_the_librarys_own_refusals_are_replaced() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n";
        let (kind, document) = own_refusal(own).unwrap();
        assert_eq!(kind, Kind::HeadersTooLarge);
        let text = String::from_utf8(document.to_vec()).unwrap();
        assert!(text.contains("application/problem+json"), "{text}");
        assert_eq!(
            own_refusal(b"HTTP/1.1 400 Bad Request\r\nX-Request-Id: 1\r\n\r\n"),
            None
        );
        assert_eq!(own_refusal(b"HTTP/1.1 202 Accepted\r\n\r\n"), None);
        assert_eq!(own_refusal(b""), None);
    }
}
