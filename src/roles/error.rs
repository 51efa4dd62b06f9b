//! Why a process could not start, or did not stop as asked.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::dev::sample;
use crate::{
    embedded,
    engine::start as engine,
    gateway,
    journal::wal,
    kube::client,
    ops::{admin, shutdown::Aborted, telemetry},
};

/// Why the process could not start, or did not stop as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be written.
    #[error("write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Logs or traces could not be started.
    #[error("start logs and traces")]
    Telemetry(#[from] telemetry::Error),
    /// The embedded API.
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
    /// The cluster's API.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Kinds or sample.
    #[error(transparent)]
    Sample(#[from] sample::Error),
    /// The journal.
    #[error("open the journal in {}", path.display())]
    Journal {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: wal::OpenError,
    },
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] gateway::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// The admin token.
    #[error(transparent)]
    Token(#[from] admin::token::FileError),
    /// The metrics.
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
    /// Signal handlers or output.
    #[error("use the process's signals or output")]
    Io(#[from] io::Error),
    /// A part of the process is gone, and only a restart brings it back.
    #[error(
        "the task `{0}` panicked; the log above says where. The process stopped to be restarted"
    )]
    Panicked(&'static str),
    /// No events are worked on any more.
    #[error("the engine stopped: the journal closed")]
    EngineStopped,
    /// Nothing that is written to the embedded API is kept any more.
    #[error(
        "the embedded API can't write its objects any more: {0}. Mend the disk and start again"
    )]
    ApiFailed(String),
    /// The process that started this one is gone.
    #[error("the process that started this one is gone")]
    Orphaned,
    /// A port for other processes of the fleet could not be opened.
    #[error("listen on {address} for {what}; another --{setting} may be free")]
    Listen {
        /// Whom it is for.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What chooses it.
        setting: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Certificates, or a port for peers.
    #[error("prepare connections to other processes of the fleet")]
    Peer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The drain was cut off.
    #[error("stop")]
    Aborted(#[from] Aborted),
}

/// A file could not be written.
pub(super) fn write_failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}

/// Something about certificates or peers' ports.
pub(super) fn peer_failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Peer(source.into())
}
