//! The way out of a stream: whoever takes nothing for too long is let go.

use std::time::Duration;

use tokio::sync::mpsc;
use tonic::Status;

/// A peer that takes no message for this long is as good as gone. A slow one takes a message of
/// 256 KiB in that time over 70 kbit/s.
const STALLED: Duration = Duration::from_secs(30);

/// Messages to a peer.
#[derive(Debug)]
pub(super) struct Out<T>(mpsc::Sender<Result<T, Status>>);

impl<T> Out<T> {
    pub(super) const fn new(sender: mpsc::Sender<Result<T, Status>>) -> Self {
        Self(sender)
    }

    /// Sends a message, when there is room for it.
    ///
    /// # Errors
    /// The peer is gone, or takes nothing.
    pub(super) async fn send(&self, message: T) -> Result<(), Status> {
        match tokio::time::timeout(STALLED, self.0.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => Err(Status::cancelled("the peer is gone")),
            Err(_elapsed) => Err(Status::deadline_exceeded("the peer takes nothing")),
        }
    }

    /// Ends the stream with a reason, if there is room to say it.
    pub(super) fn end(&self, status: Status) {
        drop(self.0.try_send(Err(status)));
    }

    /// Waits until the peer has gone.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}
