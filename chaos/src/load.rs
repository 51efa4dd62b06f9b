//! Signed events at a steady rate, each in the ledger before it is sent and when it is acknowledged.
//!
//! Open loop: event n is due at start + n / rate, whatever became of those before it. Each goes to the
//! gateways in turn; one that is not acknowledged is not sent again, so that the ledger says exactly
//! what a sender was told.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::sync::Semaphore;
use zen_fabric::{gateway::sign, ops::tasks::Tasks};

use crate::{
    bed::{LOAD, SECRET},
    clock::At,
    ledger::{Ledger, delivery},
};

/// How often it is looked whether events are due.
const TICK: Duration = Duration::from_millis(2);

/// An answer takes milliseconds; a gateway that drains takes at most this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Events in flight at most: seconds of what a scenario sends. What is due beyond is not sent, and
/// counted.
const IN_FLIGHT: usize = 2_048;

/// A ledger that senders fill.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Ledger>>);

// === impl Shared ===

impl Shared {
    /// Of these Ingestors.
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Looks at it, or adds to it.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running load. It ends with its tasks.
#[derive(Debug)]
pub struct Load {
    per_second: Arc<AtomicU32>,
    tasks: Tasks,
}

type Http = Client<HttpConnector, Full<&'static [u8]>>;

/// What is needed to send one event.
#[derive(Clone, Debug)]
struct Sender {
    http: Http,
    gateways: Arc<[SocketAddr]>,
    ledger: Shared,
    room: Arc<Semaphore>,
}

// === impl Load ===

impl Load {
    /// Begins to send.
    pub fn start(gateways: Vec<SocketAddr>, ledger: Shared, per_second: u32) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let sender = Sender {
            http: Client::builder(TokioExecutor::new()).build(connector),
            gateways: gateways.into(),
            ledger,
            room: Arc::new(Semaphore::new(IN_FLIGHT)),
        };
        let tasks = Tasks::new();
        let per_second = Arc::new(AtomicU32::new(per_second));
        let (stop, group, rate) = (tasks.token(), tasks.clone(), Arc::clone(&per_second));
        tasks.spawn("load", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sender.pace(&rate, &group) => {}
            }
        });
        Self { per_second, tasks }
    }

    /// Another rate; 0 pauses.
    pub fn rate(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Stops to send, and waits for what is in flight.
    pub async fn stop(&self) {
        // What is not answered by then is not acknowledged, which is all that the ledger says.
        self.tasks.stop(2 * ANSWERED_WITHIN).await.ok();
    }
}

// === impl Sender ===

impl Sender {
    async fn pace(&self, per_second: &AtomicU32, tasks: &Tasks) {
        let mut ticks = tokio::time::interval(TICK);
        let mut rate = 0;
        let mut begun = At::now();
        let mut sent = 0;
        while !tasks.token().is_cancelled() {
            ticks.tick().await;
            let wanted = per_second.load(Ordering::Relaxed);
            if wanted != rate {
                (rate, begun, sent) = (wanted, At::now(), 0);
            }
            let due = begun.passed().as_micros() * u128::from(rate) / 1_000_000;
            while sent < due {
                sent += 1;
                self.one(tasks);
            }
        }
    }

    fn one(&self, tasks: &Tasks) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            self.ledger
                .lock()
                .refuse("not sent: too many in flight".to_owned());
            return;
        };
        let sender = self.clone();
        tasks.spawn_contained("event", async move {
            sender.send().await;
            drop(room);
        });
    }

    async fn send(&self) {
        let (number, path) = {
            let mut ledger = self.ledger.lock();
            let (number, key) = ledger.send(At::now());
            let name = ledger.keys.get(key).map(|key| key.name.clone());
            (
                number,
                format!("/hooks/{LOAD}/{}", name.unwrap_or_default()),
            )
        };
        let answer = tokio::time::timeout(ANSWERED_WITHIN, self.post(number, &path));
        let answer = answer
            .await
            .unwrap_or_else(|_late| Err("no answer in time".to_owned()));
        let mut ledger = self.ledger.lock();
        match answer {
            Ok(StatusCode::ACCEPTED) => ledger.acknowledge(number, At::now()),
            Ok(status) => ledger.refuse(status.to_string()),
            Err(error) => ledger.refuse(error),
        }
    }

    async fn post(&self, number: u64, path: &str) -> Result<StatusCode, String> {
        let gateways = u64::try_from(self.gateways.len()).unwrap_or(1).max(1);
        let which = usize::try_from(number % gateways).unwrap_or_default();
        let gateway = self.gateways.get(which).ok_or("there is no gateway")?;
        let request = Request::post(format!("http://{gateway}{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("X-GitHub-Event", "push")
            .header("X-GitHub-Delivery", delivery(number))
            .header("X-Hub-Signature-256", sign::github(SECRET.as_bytes(), BODY))
            .body(Full::new(BODY))
            .map_err(|error| error.to_string())?;
        let sent = self.http.request(request).await;
        let response = sent.map_err(|error| match std::error::Error::source(&error) {
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        })?;
        let status = response.status();
        // A connection is used again only when its answer was read.
        drop(response.into_body().collect().await);
        Ok(status)
    }
}

/// What every event says: what distinguishes them is their delivery.
const BODY: &[u8] = br#"{"ref":"refs/heads/main","repository":{"full_name":"chaos/repository"},"sender":{"login":"chaos"}}"#;
