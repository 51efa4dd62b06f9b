//! `dev`: everything on one machine.
//!
//! The embedded API (or a cluster's, by kubeconfig), a gateway, the journal and a core in one
//! process, with a sample to try. Parts start in the order in which they need each other and end in
//! the reverse: no request is accepted that could not be made durable, nothing that was accepted is
//! forgotten.

mod hints;
mod options;
pub mod sample;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use kube::Client;
use prometheus::Registry;
use serde::Serialize;
use tracing::{error, info, warn};

use self::hints::Hints;
use crate::{
    config::{self, Config},
    embedded,
    engine::start::{self as engine, Engine, Ports},
    gateway::{self, Gateway, Surroundings},
    journal::{
        Journal, Local,
        wal::{self, Wal},
    },
    kube::client,
    ops::{
        admin::{self, Admin, Late, events::Events, token::Token},
        disk::make_dir,
        metrics::{self, journal::JournalMetrics},
        ready::{Gate, Readiness},
        shutdown::{Aborted, Budget, Draining, Signals},
        tasks::Tasks,
        telemetry::{self, Telemetry},
        time::{Clock, SystemClock},
    },
};

/// How long the caches may take to fill before the process says what it waits for; it goes on waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often readiness is looked at, which is also the precision of the ready file.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
    #[error("the engine stopped: the journal closed, or another core owns its events")]
    EngineStopped,
    /// Nothing that is written to the embedded API is kept any more.
    #[error(
        "the embedded API can't write its objects any more: {0}. Mend the disk and start again"
    )]
    ApiFailed(String),
    /// The drain was cut off.
    #[error("stop")]
    Aborted(#[from] Aborted),
}

/// What `--ready-file` says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready<'a> {
    pid: u32,
    gateway: &'a str,
    admin: &'a str,
    api: &'a str,
    kubeconfig: &'a Path,
    data_dir: &'a Path,
}

/// The Kubernetes API that the process uses.
struct ApiServer {
    client: Client,
    url: String,
    kubeconfig: PathBuf,
    embedded: Option<embedded::Handle>,
}

/// Everything that runs. Groups of tasks are stopped one after the other.
struct Running {
    api: ApiServer,
    api_tasks: Tasks,
    journal: Arc<Wal>,
    gateway: gateway::Handle,
    gateway_tasks: Tasks,
    engine: engine::Handle,
    engine_tasks: Tasks,
    admin: String,
    admin_tasks: Tasks,
    readiness: Readiness,
}

/// Runs until a signal; writes what to do next to `out`.
///
/// # Errors
/// What could not be started, which part is gone, or [`Aborted`].
pub async fn run(config: Config, out: &mut (dyn io::Write + Send)) -> Result<(), Error> {
    // Before anything is started, made or overwritten: what can be wrong with it is the user's.
    let gateway = gateway::Options::from_config(&config.gateway);
    let gateway = gateway::Prepared::of(gateway).await?;
    if let Some(path) = &config.ready_file {
        forget_ready(path)?;
    }
    let telemetry = Telemetry::install(&config.telemetry)?;
    let mut signals = Signals::of_process()?;
    let started = tokio::select! {
        started = start(&config, gateway) => Some(started?),
        _ = signals.next() => None,
    };
    let Some((running, secret)) = started else {
        return Ok(());
    };
    let why = tokio::select! {
        biased;
        signal = signals.next() => {
            info!(?signal, "asked to stop");
            Ok(())
        }
        broken = running.broken() => Err(broken),
        // `announce` ends only in an error.
        failed = announce(&config, &running, secret.as_deref(), out) => Err(failed),
    };
    if let Err(error) = &why {
        error!(%error, "stopping");
    }
    let draining = signals.stop();
    let budget = Budget::of(config.gateway.grace_period, Arc::new(SystemClock));
    let stopped = running.stop(draining, &config.gateway, &budget).await;
    telemetry.flush(budget.left()).await;
    why.and(stopped)
}

/// Removes what an earlier process has said; whoever waits for the file waits for this one.
fn forget_ready(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_failed(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The gates of what is opened before the gateway and the engine, which have their own.
struct Gates {
    journal: Gate,
    api: Gate,
}

impl Gates {
    /// All gates, also those of parts that are started last: between two parts nothing is ready.
    fn of(readiness: &Readiness) -> Self {
        for name in engine::GATES.into_iter().chain([gateway::GATE]) {
            readiness.gate(name).shut("not started yet");
        }
        let (journal, api) = (readiness.gate("journal"), readiness.gate("api"));
        journal.shut("reading what is stored");
        api.shut("not asked yet");
        Self { journal, api }
    }
}

async fn start(
    config: &Config,
    gateway: gateway::Prepared,
) -> Result<(Running, Option<String>), Error> {
    let data_dir = &config.data_dir;
    make_dir(data_dir).map_err(write_failed(data_dir))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let readiness = Readiness::new();
    let gates = Gates::of(&readiness);
    let registry = metrics::registry()?;
    // Probes answer from here on, so that a supervisor sees what is waited for.
    let admin_tasks = Tasks::new();
    let server = Admin::bind(config.admin.bind, config.admin.port).await?;
    let admin_address = server.address();
    let probes = admin::probes(admin::Probes {
        readiness: readiness.clone(),
        registry: registry.clone(),
    });
    let guarded = Late::default();
    server.serve(probes.merge(guarded.routes()), &admin_tasks);
    let journal = open_journal(config, &clock, &registry).await?;
    gates.journal.open();
    // The directory is this process's own now.
    let token = Token::write(data_dir, admin_address)?;
    let api_tasks = Tasks::new();
    gates.api.shut("waiting for the API server and its kinds");
    let api = api_server(config, &clock, &api_tasks).await?;
    let secret = sample::seed(&api.client).await?;
    gates.api.open();
    let gateway_tasks = Tasks::new();
    let surroundings = Surroundings {
        client: api.client.clone(),
        journal: Arc::<Wal>::clone(&journal),
        clock: Arc::clone(&clock),
        registry: &registry,
        readiness: &readiness,
        tasks: &gateway_tasks,
    };
    let gateway = Gateway::serve(gateway, surroundings).await?;
    let events = Events {
        journal: Arc::<Wal>::clone(&journal),
        facts: gateway.facts(),
    };
    guarded.attach(admin::events::routes(events, token));
    let engine_tasks = Tasks::new();
    let ports = Ports {
        client: api.client.clone(),
        clock,
    };
    let options = options::engine(&config.engine);
    let engine = Engine::start(options, ports, &registry, &readiness, &engine_tasks)?;
    let log = Local::new(Arc::<Wal>::clone(&journal), gateway.facts());
    engine.attach(Arc::new(log));
    let alone = engine.clone();
    engine_tasks.spawn("engine: owns all", async move {
        alone.alone(options::POD).await;
    });
    let running = Running {
        api,
        api_tasks,
        journal,
        gateway,
        gateway_tasks,
        engine,
        engine_tasks,
        admin: format!("http://{admin_address}"),
        admin_tasks,
        readiness,
    };
    Ok((running, secret))
}

async fn open_journal(
    config: &Config,
    clock: &Arc<dyn Clock>,
    registry: &Registry,
) -> Result<Arc<Wal>, Error> {
    let path = config.journal_dir();
    let (folder, options, clock) = (path.clone(), options::journal(config), Arc::clone(clock));
    // Reading a long log takes its time, which the other tasks are not to wait for.
    let opening = tokio::task::spawn_blocking(move || Wal::open(&folder, options, clock));
    let journal = match opening.await {
        Ok(opened) => opened.map_err(|source| Error::Journal { path, source })?,
        Err(panicked) => return Err(Error::Io(io::Error::other(panicked))),
    };
    registry.register(Box::new(JournalMetrics::new(Arc::<Wal>::clone(&journal))?))?;
    Ok(journal)
}

async fn api_server(
    config: &Config,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<ApiServer, Error> {
    let kubeconfig = config.kubeconfig();
    if config.api.kubeconfig.is_some() {
        let (client, url) = client::from_kubeconfig(&kubeconfig).await?;
        if config.api.install_crds {
            sample::install_crds(&client).await?;
        } else {
            sample::require_crds(&client).await?;
        }
        return Ok(ApiServer {
            client,
            url,
            kubeconfig,
            embedded: None,
        });
    }
    let handle = embedded::Server::start(options::embedded(config, clock), tasks).await?;
    handle.write_kubeconfig(&kubeconfig)?;
    let client = handle.client();
    sample::install_crds(&client).await?;
    let url = handle
        .address()
        .map(|address| format!("https://{address}"))
        .unwrap_or_default();
    Ok(ApiServer {
        client,
        url,
        kubeconfig,
        embedded: Some(handle),
    })
}

/// Waits until events are accepted, says so, and then waits for ever; returns what could not be written.
async fn announce(
    config: &Config,
    running: &Running,
    secret: Option<&str>,
    out: &mut (dyn io::Write + Send),
) -> Error {
    running.ready().await;
    match running.tell(config, secret, out) {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

impl Running {
    /// Waits until a part is gone that the process can't be without.
    async fn broken(&self) -> Error {
        let (journal, engine) = (self.journal.broken(), self.engine.stopped());
        let embedded = self.api.embedded.as_ref();
        let api = embedded.map(embedded::Handle::broken).unwrap_or_default();
        tokio::select! {
            biased;
            task = self.gateway_tasks.broken() => Error::Panicked(task),
            task = self.engine_tasks.broken() => Error::Panicked(task),
            task = self.admin_tasks.broken() => Error::Panicked(task),
            task = self.api_tasks.broken() => Error::Panicked(task),
            () = journal.cancelled() => Error::Panicked("journal"),
            () = api.cancelled() => {
                let why = embedded.and_then(embedded::Handle::failure).unwrap_or_default();
                self.readiness.gate("api").shut(format!("its log failed: {why}"));
                Error::ApiFailed(why)
            }
            () = engine.cancelled() => Error::EngineStopped,
        }
    }

    /// Waits until every gate is open.
    async fn ready(&self) {
        let mut waited = Duration::ZERO;
        while let Some((gate, why)) = self.readiness.waiting().into_iter().next() {
            tokio::time::sleep(LOOK_EVERY).await;
            waited += LOOK_EVERY;
            if waited >= PATIENCE {
                waited = Duration::ZERO;
                warn!(gate, why, "not ready yet");
            }
        }
    }

    fn tell(
        &self,
        config: &Config,
        secret: Option<&str>,
        out: &mut (dyn io::Write + Send),
    ) -> Result<(), Error> {
        let program = std::env::current_exe()
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned));
        let gateway = config
            .gateway
            .public_url
            .as_deref()
            .unwrap_or_else(|| self.gateway.url());
        let hints = Hints {
            gateway: self.gateway.url(),
            admin: &self.admin,
            api: &self.api.url,
            kubeconfig: &self.api.kubeconfig,
            data_dir: &config.data_dir,
            program: program.as_deref().unwrap_or("zen-fabric"),
            sample: secret.map(|secret| hints::Sample::new(gateway, secret)),
        };
        hints.print(out)?;
        let Some(path) = &config.ready_file else {
            return Ok(());
        };
        let ready = Ready {
            pid: std::process::id(),
            gateway: self.gateway.url(),
            admin: &self.admin,
            api: &self.api.url,
            kubeconfig: &self.api.kubeconfig,
            data_dir: &config.data_dir,
        };
        let text = serde_json::to_vec_pretty(&ready).map_err(io::Error::from)?;
        // Whoever waits for the file must never read half of it.
        let beside = path.with_extension("new");
        fs::write(&beside, text).map_err(write_failed(&beside))?;
        fs::rename(&beside, path).map_err(write_failed(path))
    }

    /// Ends the parts in the order in which events pass: nothing new comes in, what is in is
    /// finished or stays in the journal, the journal closes, and then the API.
    ///
    /// No stage can take the time of those behind it, so the journal is closed in order whatever the
    /// senders and the API server do.
    async fn stop(
        self,
        draining: Draining,
        config: &config::Gateway,
        budget: &Budget,
    ) -> Result<(), Error> {
        let ending = async {
            self.gateway.drain(config.drain_timeout).await;
            self.engine.drain(budget.half()).await;
            let most = budget.half();
            let groups = [&self.gateway_tasks, &self.engine_tasks, &self.admin_tasks];
            // What does not end is told by `stop` itself and cut off with the process.
            join_all(groups.map(|tasks| tasks.stop(most))).await;
            self.journal.close().await;
            self.api_tasks.stop(budget.half()).await.ok();
            drop(self.api.embedded);
        };
        draining.drain(budget.left(), ending).await?;
        Ok(())
    }
}

fn write_failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}

#[cfg(test)]
mod tests;
