//! The async edge of the store: requests in, answers and watches out.

mod render;
mod stream;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::stream::Begin;
use super::{
    discovery,
    faults::{self, Fault, Faults},
    log::{Log, Opened},
    openapi,
    refusal::Refusal,
    store::{AsOf, At, Change, List, Request, Store},
    wire::{As, Ask, WatchAsk},
};
use crate::ops::{tasks::Tasks, time::Clock};

/// The body of an answer.
pub(super) type Content = UnsyncBoxBody<Bytes, std::io::Error>;

/// The connection breaks instead of an answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection was closed before the answer")]
pub(super) struct Broken;

/// A refusal that is decided before the API is asked.
pub(super) fn refused(refusal: &Refusal) -> Response<Content> {
    render::refusal(refusal)
}

/// The answer to a body over [`MAX_BODY`].
pub(super) fn too_large() -> Response<Content> {
    render::refusal(&Refusal::plain(
        413,
        "RequestEntityTooLarge",
        format!("Request entity too large: limit is {MAX_BODY}"),
    ))
}

/// The largest body that is read: `kube-apiserver`'s own limit.
pub(super) const MAX_BODY: usize = 3 * 1024 * 1024;

/// Requests that are worked on at a time; more are answered 429, as by priority and fairness,
/// whose default is 600 for a whole server. Bounds the memory of bodies and of the log's buffer.
const MAX_IN_FLIGHT: usize = 1024;

/// Watches at a time; more are answered 429. A watch holds some kilobytes and no buffer.
const MAX_WATCHES: usize = 4096;

/// Where UIDs and generated names come from.
pub(super) type Entropy = Box<dyn Fn() -> u128 + Send + Sync>;

/// The API.
pub(super) struct Api {
    store: Mutex<Store>,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    faults: Faults,
    log: Option<Log>,
    /// Up to which version everything is durable, and so may be shown.
    durable: AtomicU64,
    /// Rung when a version becomes durable: those who wait for their own write listen.
    written: watch::Sender<u64>,
    /// One bell for each watched resource.
    bells: Mutex<HashMap<Arc<str>, watch::Sender<u64>>>,
    in_flight: Semaphore,
    watches: Arc<Semaphore>,
    stop: CancellationToken,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

// === impl Api ===

impl Api {
    pub(super) fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Entropy,
        log: Option<Log>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let revision = store.revision();
        Arc::new(Self {
            store: Mutex::new(store),
            clock,
            entropy,
            faults: Faults::default(),
            log,
            durable: AtomicU64::new(revision),
            written: watch::Sender::new(revision),
            bells: Mutex::default(),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
            stop,
        })
    }

    /// Runs the log, and closes it when the group stops.
    pub(super) fn run_log(self: &Arc<Self>, opened: Opened, tasks: &Tasks) -> std::io::Result<()> {
        let Some(log) = &self.log else {
            return Ok(());
        };
        log.run(opened, self)?;
        let (api, stop) = (Arc::clone(self), tasks.token());
        tasks.spawn("embedded-log", async move {
            stop.cancelled().await;
            let closed = tokio::task::spawn_blocking(move || {
                if let Some(log) = &api.log {
                    log.close();
                }
                api.fail();
            });
            if closed.await.is_err() {
                tracing::error!("the object log could not be closed");
            }
        });
        Ok(())
    }

    /// Why nothing can be made durable any more.
    pub(super) fn failure(&self) -> Option<String> {
        self.log
            .as_ref()
            .and_then(Log::failure)
            .map(|why| why.to_string())
    }

    /// Cancelled when nothing can be made durable any more; never where nothing is to be.
    pub(super) fn broken(&self) -> CancellationToken {
        self.log
            .as_ref()
            .map_or_else(CancellationToken::new, Log::broken)
    }

    pub(super) fn faults(&self) -> Faults {
        self.faults.clone()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self) -> At {
        At {
            now: self.clock.now(),
            entropy: (self.entropy)(),
        }
    }

    /// Answers one request.
    pub(super) async fn handle(
        self: &Arc<Self>,
        request: http::Request<Bytes>,
    ) -> Result<Response<Content>, Broken> {
        let (parts, body) = request.into_parts();
        let ask = match Ask::read(&parts.method, &parts.uri, &parts.headers, &body) {
            Ok(ask) => ask,
            Err(refusal) => return Ok(render::refusal(&refusal)),
        };
        drop(body);
        let fault = ask.aim().and_then(|(verb, resource, name)| {
            let fault = self.faults.take(verb, resource, name)?;
            Some((fault, fault.refusal(resource, name)))
        });
        match fault {
            Some((_, Some(refusal))) => return Ok(render::refusal(&refusal)),
            Some((Fault::Silence, None)) => {
                self.stop.cancelled().await;
                return Err(Broken);
            }
            Some(_) | None => {}
        }
        let answer = self.answer(ask).await;
        if fault.is_some() {
            return Err(Broken);
        }
        Ok(answer.unwrap_or_else(|refusal| render::refusal(&refusal)))
    }

    async fn answer(self: &Arc<Self>, ask: Ask) -> Result<Response<Content>, Refusal> {
        match ask {
            Ask::Store(request, shown) => self.act(*request, shown).await,
            Ask::Watch(ask, shown) => self.watch(&ask, shown),
            Ask::Discovery(which) => {
                let value = discovery::document(self.store().registry(), &which)?;
                Ok(render::discovery(&which, &value))
            }
            Ask::OpenApi(which) => {
                let document = openapi::document(&self.store(), &which)?;
                Ok(render::json(200, document))
            }
            Ask::Version => Ok(render::json(200, discovery::version().to_string().into())),
            Ask::Health => Ok(self.health()),
        }
    }

    fn health(&self) -> Response<Content> {
        match self.log.as_ref().and_then(Log::failure) {
            None => render::text(200, "ok"),
            Some(why) => render::text(500, &format!("log: {why}")),
        }
    }

    async fn act(&self, request: Request, shown: As) -> Result<Response<Content>, Refusal> {
        let _permit = self
            .in_flight
            .try_acquire()
            .map_err(|_full| faults::too_many_requests(1))?;
        if self.log.as_ref().is_some_and(Log::is_behind) {
            return Err(faults::too_many_requests(1));
        }
        let at = self.at();
        let target = request.target.clone();
        let (kind, answer, revision) = {
            let mut store = self.store();
            let kind = store.kind(&target)?;
            let answer = store.apply(&at, request);
            let changes = store.take_changes();
            let revision = store.revision();
            self.commit(&changes, revision)?;
            (kind, answer, revision)
        };
        // Also what was only read must not be taken back by a crash, and a refusal tells of it too.
        self.wait_durable(revision).await?;
        Ok(render::answer(&kind, &answer?, shown, at.now))
    }

    /// Hands changes to the log, in the order in which the store made them: the caller holds it.
    fn commit(&self, changes: &[Change], revision: u64) -> Result<(), Refusal> {
        if let Some(log) = &self.log {
            return log.append(changes).map_err(|why| not_durable(&why));
        }
        let mut shelves: Vec<_> = changes.iter().flat_map(Change::concerns).collect();
        shelves.dedup();
        self.publish(revision, &shelves);
        Ok(())
    }

    /// Shows everything up to a version.
    pub(super) fn publish(&self, revision: u64, shelves: &[Arc<str>]) {
        self.durable.fetch_max(revision, Ordering::AcqRel);
        if shelves.is_empty() {
            return;
        }
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in shelves.iter().filter_map(|shelf| bells.get(shelf)) {
            bell.send_replace(revision);
        }
        drop(bells);
        self.written.send_replace(revision);
    }

    async fn wait_durable(&self, revision: u64) -> Result<(), Refusal> {
        let Some(log) = &self.log else {
            return Ok(());
        };
        if self.durable.load(Ordering::Acquire) >= revision {
            return Ok(());
        }
        let mut written = self.written.subscribe();
        loop {
            if self.durable.load(Ordering::Acquire) >= revision {
                return Ok(());
            }
            if let Some(why) = log.failure() {
                return Err(not_durable(&why));
            }
            if written.changed().await.is_err() {
                return Err(not_durable("the server is gone"));
            }
        }
    }

    /// All objects and their version; `held` runs while nothing can change.
    pub(super) fn snapshot<T>(&self, held: impl FnOnce() -> T) -> (u64, Vec<Change>, T) {
        let store = self.store();
        let kept = held();
        let (revision, objects) = (store.revision(), store.snapshot());
        drop(store);
        (revision, objects, kept)
    }

    /// Wakes those who wait for a log that failed.
    pub(super) fn fail(&self) {
        self.written.send_modify(|_| {});
    }

    fn bell(&self, resource: &Arc<str>) -> watch::Receiver<u64> {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells
            .entry(Arc::clone(resource))
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    fn watch(self: &Arc<Self>, ask: &WatchAsk, shown: As) -> Result<Response<Content>, Refusal> {
        let permit = Arc::clone(&self.watches)
            .try_acquire_owned()
            .map_err(|_full| faults::too_many_requests(1))?;
        let store = self.store();
        let watch = store.watch(&ask.target, &ask.labels, &ask.fields)?;
        let from = ask.version.filter(|version| *version > 0);
        let begin = match from {
            Some(version) if !ask.initial => Begin::After(version),
            version => {
                let list = List {
                    as_of: version.map_or(AsOf::Newest, AsOf::NotOlderThan),
                    ..List::default()
                };
                match store.present(&watch, &list) {
                    Ok((present, version)) => Begin::Present(present, version),
                    Err(refusal) => Begin::Refused(refusal),
                }
            }
        };
        drop(store);
        Ok(render::stream(stream::events(
            Arc::clone(self),
            watch,
            begin,
            ask,
            (shown, permit),
        )))
    }
}

fn not_durable(why: &str) -> Refusal {
    Refusal::plain(
        500,
        "InternalError",
        format!("Internal error occurred: the write can't be made durable: {why}"),
    )
}
