//! What every process has: clock, metrics, readiness, and the admin port that answers from the first
//! moment on, so that a supervisor sees what is waited for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use prometheus::Registry;
use tracing::warn;

use super::error::{Error, write_failed};
use crate::{
    config::Config,
    ops::{
        admin::{self, Admin, Late, token::Token},
        disk::make_dir,
        metrics,
        ready::Readiness,
        tasks::Tasks,
        time::{Clock, SystemClock},
    },
};

/// How long the caches may take to fill before the process says what it waits for; it goes on waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often readiness is looked at, which is also the precision of the ready file.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// See the module.
pub(super) struct Base {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) registry: Registry,
    pub(super) readiness: Readiness,
    /// The admin port's routes beside probes and metrics; they answer when they are attached.
    pub(super) routes: Late,
    pub(super) admin: SocketAddr,
    pub(super) tasks: Tasks,
}

impl Base {
    /// Opens the admin port. `gates` are those of parts that start later: between two parts nothing is
    /// ready.
    pub(super) async fn start(
        config: &Config,
        gates: impl IntoIterator<Item = &'static str>,
    ) -> Result<Self, Error> {
        make_dir(&config.data_dir).map_err(write_failed(&config.data_dir))?;
        let readiness = Readiness::new();
        for name in gates {
            readiness.gate(name).shut("not started yet");
        }
        let registry = metrics::registry()?;
        let tasks = Tasks::new();
        let server = Admin::bind(config.admin.bind, config.admin.port).await?;
        let admin = server.address();
        let probes = admin::probes(admin::Probes {
            readiness: readiness.clone(),
            registry: registry.clone(),
        });
        let routes = Late::default();
        server.serve(probes.merge(routes.routes()), &tasks);
        Ok(Self {
            clock: Arc::new(SystemClock),
            registry,
            readiness,
            routes,
            admin,
            tasks,
        })
    }

    /// The token of the guarded routes, written for the command line beside the admin port's address.
    /// To be called when the data directory is known to be this process's own.
    pub(super) fn token(&self, config: &Config) -> Result<Token, Error> {
        Ok(Token::write(&config.data_dir, self.admin)?)
    }

    /// Where the admin port answers.
    pub(super) fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Waits until every gate is open.
    pub(super) async fn ready(&self) {
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
}
