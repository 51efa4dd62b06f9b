//! `dev`: everything on one machine.

use std::{fs, io, path::PathBuf, time::Duration};

use crate::{
    config::Config,
    ops::{
        admin::{self, Admin, token::Token},
        metrics,
        ready::Readiness,
        shutdown::{Aborted, Signals},
        tasks::Tasks,
        telemetry::{self, Telemetry},
    },
};

/// Why the process could not start, or did not stop as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory could not be made.
    #[error("make the data directory {}", path.display())]
    DataDir {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Logs or traces could not be started.
    #[error("start logs and traces")]
    Telemetry(#[from] telemetry::Error),
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
    /// The drain was cut off.
    #[error("stop")]
    Aborted(#[from] Aborted),
}

/// Runs until a signal; writes what to do next to `out`.
///
/// # Errors
/// What could not be started, or [`Aborted`].
pub async fn run(config: Config, out: &mut (dyn io::Write + Send)) -> Result<(), Error> {
    let telemetry = Telemetry::install(&config.telemetry)?;
    let signals = Signals::of_process()?;
    fs::create_dir_all(&config.data_dir).map_err(|source| Error::DataDir {
        path: config.data_dir.clone(),
        source,
    })?;
    let tasks = Tasks::new();
    let probes = admin::Probes {
        readiness: Readiness::new(),
        registry: metrics::registry()?,
    };
    let server = Admin::bind(config.admin.bind, config.admin.port).await?;
    let address = server.address();
    let _token = Token::write(&config.data_dir, address)?;
    server.serve(admin::probes(probes), &tasks);
    writeln!(out, "admin http://{address}")?;
    let draining = signals.first().await;
    let grace = config.gateway.drain_timeout;
    let outcome = draining
        .drain(grace, tasks.stop(grace + Duration::from_secs(1)))
        .await;
    telemetry.flush().await;
    outcome?.ok();
    Ok(())
}
