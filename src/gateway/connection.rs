//! One connection: TLS, the protocol, its requests, its time limits, its end.

use core::net::IpAddr;
use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response, header::TRANSFER_ENCODING};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{
    frames::PREFACE,
    handler::{Origin, Shared},
    tap::{Activity, KEPT, Protocol, Tap},
};

/// How often an idle HTTP/2 connection is asked whether it lives: three times within the idle time.
const PING: std::time::Duration = std::time::Duration::from_secs(20);

/// Receive windows of HTTP/2: a stream holds a quarter of a body of a mebibyte ahead, and the
/// connection as much as four of them.
const STREAM_WINDOW: u32 = 256 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;

/// Streams that a client may reset before they were served; beyond it, the connection ends
/// (CVE-2023-44487). The library's own default.
const RESETS: usize = 20;

/// Serves a connection to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    socket: TcpStream,
    peer: IpAddr,
    tls: Option<TlsAcceptor>,
) {
    let limits = &shared.options.limits;
    // A TLS client speaks at once; in plain text a browser opens connections ahead of need.
    let silence = match &tls {
        Some(_) => limits.header_timeout,
        None => limits.idle_timeout,
    };
    // Nothing has begun before the first byte: a drain waits for no such connection.
    let mut first = [0];
    let speaks = tokio::select! {
        biased;
        speaks = tokio::time::timeout(silence, socket.peek(&mut first)) => speaks,
        () = shared.draining.cancelled() => return,
    };
    if speaks.is_err() {
        shared.metrics.connections_timed_out.inc();
        return;
    }
    let begun = shared.clock.instant();
    let Some(acceptor) = tls else {
        let mut socket = socket;
        match tokio::time::timeout(limits.header_timeout, sniff(&mut socket)).await {
            Ok(Ok((protocol, before))) => {
                let activity = Activity::spoken(Arc::clone(&shared.clock), protocol, begun);
                over(shared, socket, before, activity, protocol, peer).await;
            }
            Ok(Err(error)) => debug!(%peer, %error, "connection ended before a request"),
            Err(_) => shared.metrics.connections_timed_out.inc(),
        }
        return;
    };
    match tokio::time::timeout(limits.header_timeout, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            let protocol = match session.alpn_protocol() {
                Some(b"h2") => Protocol::Http2,
                _ => Protocol::Http1,
            };
            let activity = Activity::new(Arc::clone(&shared.clock), protocol);
            over(shared, stream, Bytes::new(), activity, protocol, peer).await;
        }
        Ok(Err(error)) => {
            shared.metrics.handshakes_failed.inc();
            debug!(%peer, %error, "TLS handshake failed");
        }
        Err(_) => shared.metrics.handshakes_failed.inc(),
    }
}

/// Reads until it is clear which protocol is spoken: the preface of HTTP/2 is nothing that HTTP/1
/// could begin with.
async fn sniff<S: AsyncRead + Unpin>(socket: &mut S) -> std::io::Result<(Protocol, Bytes)> {
    let mut read = Vec::with_capacity(PREFACE.len());
    loop {
        let more = socket.take(u64::try_from(PREFACE.len() - read.len()).unwrap_or_default());
        let count = { more }.read_buf(&mut read).await?;
        let protocol = if read == PREFACE {
            Protocol::Http2
        } else if count == 0 || !PREFACE.starts_with(&read) {
            Protocol::Http1
        } else {
            continue;
        };
        return Ok((protocol, read.into()));
    }
}

async fn over<S>(
    shared: Arc<Shared>,
    socket: S,
    before: Bytes,
    activity: Arc<Activity>,
    protocol: Protocol,
    peer: IpAddr,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let on_refusal = {
        let shared = Arc::clone(&shared);
        move |kind| shared.refused_unparsed(kind, peer)
    };
    let tap = Tap::new(socket, before, Arc::clone(&activity), on_refusal);
    let tap = TokioIo::new(tap);
    let limits = &shared.options.limits;
    let service = {
        let (shared, activity) = (Arc::clone(&shared), Arc::clone(&activity));
        service_fn(move |request| {
            request_of(Arc::clone(&shared), Arc::clone(&activity), peer, request)
        })
    };
    match protocol {
        Protocol::Http1 => {
            let connection = http1::Builder::new()
                // A sender may close its half as soon as it has sent everything.
                .half_close(true)
                .header_read_timeout(None)
                .max_buf_size(KEPT)
                .serve_connection(tap, service);
            drive(
                &shared,
                &activity,
                connection,
                http1::Connection::graceful_shutdown,
            )
            .await;
        }
        Protocol::Http2 => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.streams)
                .max_header_list_size(limits.header_list_bytes())
                .max_pending_accept_reset_streams(RESETS)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(PING)
                .keep_alive_timeout(limits.body_timeout)
                .serve_connection(tap, service);
            drive(
                &shared,
                &activity,
                connection,
                http2::Connection::graceful_shutdown,
            )
            .await;
        }
    }
}

/// Drives a connection until it ends, is too slow, or is drained.
async fn drive<C>(
    shared: &Shared,
    activity: &Activity,
    connection: C,
    graceful_shutdown: fn(Pin<&mut C>),
) where
    C: Future<Output = hyper::Result<()>>,
{
    let limits = &shared.options.limits;
    let mut connection = pin!(connection);
    let mut watchdog = pin!(tokio::time::sleep(limits.header_timeout / 2));
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "connection ended");
                }
                return;
            }
            () = shared.draining.cancelled(), if !draining => {
                draining = true;
                graceful_shutdown(connection.as_mut());
            }
            () = watchdog.as_mut() => {
                let Some(left) = activity.left(limits.header_timeout, limits.idle_timeout) else {
                    shared.metrics.connections_timed_out.inc();
                    return;
                };
                watchdog.set(tokio::time::sleep(left));
            }
        }
    }
}

async fn request_of(
    shared: Arc<Shared>,
    activity: Arc<Activity>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let (in_flight, framing) = activity.begin(request.method().as_str(), chunked);
    let origin = Origin {
        peer,
        framing,
        unread: &activity.unread,
    };
    let response = shared.serve(request, origin).await;
    drop(in_flight);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sniffed(bytes: &[u8]) -> (Protocol, Bytes) {
        let mut reader = bytes;
        futures::executor::block_on(sniff(&mut reader)).unwrap()
    }

    #[test]
    fn the_preface_tells_http_2() {
        let (protocol, before) = sniffed(&[PREFACE, b"more"].concat());
        assert_eq!((protocol, &before[..]), (Protocol::Http2, PREFACE));
        let (protocol, before) = sniffed(b"PUT / HTTP/1.1\r\n\r\n");
        assert_eq!(protocol, Protocol::Http1);
        assert!(b"PUT / HTTP/1.1\r\n\r\n".starts_with(&before));
    }

    proptest! {
        #[test]
        fn anything_else_is_http_1(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assume!(!bytes.starts_with(PREFACE));
            prop_assert_eq!(sniffed(&bytes).0, Protocol::Http1);
        }
    }
}
