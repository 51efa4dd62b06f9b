//! The embedded Kubernetes API: a small API server in the process.
//!
//! ```text
//! kubectl, kube-rs ──TLS──▶ server ─┐
//!                                   ├─▶ service ──▶ store (pure) ──changes──▶ log ──fdatasync
//! kube::Client in the process ──────┘      ▲                                   │
//!                                          └── answers and watches, once durable┘
//! ```
//!
//! Everything talks to it through an ordinary [`kube::Client`] and can't tell it from a cluster's;
//! one conformance suite runs on both. It does deliberately less than a real one in this: no
//! server-side apply (415 with the remedy), no admission, no garbage collection of dependents, no
//! conversion between versions, no answers in protobuf, no authorization beyond one token that may do all.

mod builtin;
mod client;
mod definition;
mod discovery;
pub mod faults;
mod jsonpath;
mod kind;
mod log;
mod meta;
mod names;
mod openapi;
mod patch;
mod protobuf;
mod refusal;
mod registry;
mod schema;
mod selector;
mod server;
mod service;
pub mod store;
mod table;
mod tls;
mod view;
mod wire;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;

pub use self::{
    faults::Faults,
    kind::{BuiltIn, Kind, Traits},
    log::{Error as LogError, Settings as LogSettings},
    patch::Patch,
    refusal::{Fault as FieldFault, FieldError, Refusal},
    tls::Error as TlsError,
};
use self::{
    service::Api,
    store::{At, Limits, Store},
};
use crate::ops::{disk::write_private, tasks::Tasks, time::Clock};

#[cfg(feature = "testing")]
use std::path::Path;

#[cfg(feature = "testing")]
pub use self::log::Mistake as LogMistake;
#[cfg(feature = "testing")]
use crate::ops::disk::Disk;

/// How an embedded API is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where objects, certificate and token are kept; absent: in memory alone.
    pub data_dir: Option<PathBuf>,
    /// Where it listens; port 0 picks a free one.
    pub bind: SocketAddr,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

/// Why an embedded API can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The objects can't be read.
    #[error("open the objects of the embedded API")]
    Log(#[from] log::Error),
    /// There is no certificate to serve under.
    #[error("prepare the certificate of the embedded API")]
    Tls(#[from] tls::Error),
    /// It can't listen.
    #[error("listen on {address} for the embedded API: name another port, or 0 for a free one")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Its log has no thread.
    #[error("start the thread of the embedded API's log")]
    Thread(#[source] std::io::Error),
    /// The kubeconfig can't be written.
    #[error("write the kubeconfig {path}")]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Starts embedded APIs.
#[derive(Clone, Copy, Debug)]
pub struct Server;

/// A running embedded API.
#[derive(Clone, Debug)]
pub struct Handle {
    api: Arc<Api>,
    /// Where it listens and with what it can be reached; absent without a socket.
    reach: Option<Arc<server::Reach>>,
}

// === impl Server ===

impl Server {
    /// Starts an API that listens, as part of `tasks`.
    ///
    /// # Errors
    /// What can't be opened, with its path or address.
    pub async fn start(options: Options, tasks: &Tasks) -> Result<Handle, Error> {
        let api = open(options.data_dir.clone(), Arc::clone(&options.clock), tasks)?;
        let identity = tls::Identity::load_or_make(options.data_dir.as_deref())?;
        let reach = server::start(options.bind, identity, &api, tasks).await?;
        Ok(Handle {
            api,
            reach: Some(Arc::new(reach)),
        })
    }

    /// Starts an API without a socket and without a disk: [`Handle::client`] is the way in.
    #[must_use]
    pub fn in_memory(clock: Arc<dyn Clock>, tasks: &Tasks) -> Handle {
        Handle {
            api: Api::new(
                fresh(&*clock),
                clock,
                Box::new(rand::random),
                None,
                tasks.token(),
            ),
            reach: None,
        }
    }

    /// As [`Server::in_memory`], with UIDs and generated names made from `entropy`: the same
    /// requests give the same objects.
    #[cfg(feature = "testing")]
    pub fn in_memory_with(
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
        entropy: impl Fn() -> u128 + Send + Sync + 'static,
    ) -> Handle {
        Handle {
            api: Api::new(
                fresh(&*clock),
                clock,
                Box::new(entropy),
                None,
                tasks.token(),
            ),
            reach: None,
        }
    }

    /// Starts an API without a socket that keeps its objects on any disk.
    ///
    /// # Errors
    /// What can't be opened.
    #[cfg(feature = "testing")]
    pub fn on_disk(
        disk: Arc<dyn Disk>,
        settings: LogSettings,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Handle, Error> {
        let mut store = Store::new(Limits::default());
        let opened = log::Opened::on(disk, Path::new("disk"), settings, &mut store)?;
        Ok(Handle {
            api: go_on(store, opened, clock, tasks)?,
            reach: None,
        })
    }
}

fn moment(clock: &dyn Clock) -> At {
    At {
        now: clock.now(),
        entropy: rand::random(),
    }
}

/// A store in memory alone, in which nothing has happened yet.
fn fresh(clock: &dyn Clock) -> Store {
    let mut store = Store::new(Limits::default());
    store.prepare(&moment(clock));
    drop(store.take_changes());
    let revision = store.revision();
    store.opened(&moment(clock), revision);
    store
}

fn open(
    data_dir: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Arc<Api>, Error> {
    let Some(folder) = data_dir else {
        return Ok(Api::new(
            fresh(&*clock),
            clock,
            Box::new(rand::random),
            None,
            tasks.token(),
        ));
    };
    let mut store = Store::new(Limits::default());
    let opened = log::Opened::open(&folder, &mut store)?;
    go_on(store, opened, clock, tasks)
}

/// Goes on with the store that a log held.
fn go_on(
    mut store: Store,
    (mut opened, revision): (log::Opened, u64),
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Arc<Api>, Error> {
    store.opened(&moment(&*clock), revision);
    store.prepare(&moment(&*clock));
    let changes = store.take_changes();
    if !changes.is_empty() {
        opened.write(&changes)?;
    }
    let api = Api::new(
        store,
        clock,
        Box::new(rand::random),
        Some(log::Log::new()),
        tasks.token(),
    );
    api.run_log(opened, tasks).map_err(Error::Thread)?;
    Ok(api)
}

// === impl Handle ===

impl Handle {
    /// A client in the process: no socket, no TLS, the same API.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        client::connect(&self.api)
    }

    /// Where it listens; absent without a socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.reach.as_ref().map(|reach| reach.address())
    }

    /// A kubeconfig with the certificate and the token; absent without a socket.
    #[must_use]
    pub fn kubeconfig(&self) -> Option<String> {
        self.reach.as_ref().map(|reach| reach.kubeconfig())
    }

    /// Writes the kubeconfig with mode 0600, by way of a file beside it.
    ///
    /// # Errors
    /// The path and why it can't be written; an existing file is then untouched.
    pub fn write_kubeconfig(&self, path: impl Into<PathBuf>) -> Result<(), Error> {
        let path = path.into();
        let text = self.kubeconfig().unwrap_or_default();
        write_private(&path, text.as_bytes()).map_err(|source| Error::Kubeconfig { path, source })
    }

    /// Faults to order, for tests.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.api.faults()
    }

    /// Cancelled when nothing can be written any more, for the reason that [`Handle::failure`] gives.
    #[must_use]
    pub fn broken(&self) -> CancellationToken {
        self.api.broken()
    }

    /// Why nothing can be written any more, where that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.api.failure()
    }
}
