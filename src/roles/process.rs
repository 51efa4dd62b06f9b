//! How a process runs: it starts, says so, waits for a signal or for the loss of a part, and drains.

use std::sync::Arc;

use tracing::{error, info};

use super::{error::Error, ready};
use crate::{
    config::Config,
    ops::{
        printer::Printer,
        shutdown::{Budget, Draining, Signals},
        telemetry::Telemetry,
        time::SystemClock,
    },
};

/// Everything that runs in a process.
pub(super) trait Running: Sized {
    /// Waits until a part is gone that the process can't be without.
    async fn broken(&self) -> Error;

    /// Waits until the process does what it is for, says so, and then tells what changes, for ever;
    /// returns what could not be written.
    async fn announce(&self, config: &Config, printer: &Printer) -> Error;

    /// Ends the parts in the order in which events pass.
    async fn stop(self, draining: Draining, config: &Config, budget: &Budget) -> Result<(), Error>;
}

/// Runs until a signal, or until a part is gone.
///
/// # Errors
/// What could not be started, which part is gone, or that the drain was cut off.
pub(super) async fn run<R: Running>(
    config: &Config,
    start: impl Future<Output = Result<R, Error>>,
    printer: &Printer,
) -> Result<(), Error> {
    ready::forget(config.ready_file.as_deref())?;
    let telemetry = Telemetry::install(&config.telemetry)?;
    let mut signals = Signals::of_process()?;
    let started = tokio::select! {
        started = start => Some(started?),
        _ = signals.next() => None,
    };
    let Some(running) = started else {
        return Ok(());
    };
    let why = tokio::select! {
        biased;
        signal = signals.next() => {
            info!(?signal, "asked to stop");
            Ok(())
        }
        broken = running.broken() => Err(broken),
        failed = running.announce(config, printer) => Err(failed),
    };
    if let Err(error) = &why {
        error!(%error, "stopping");
    }
    let draining = signals.stop();
    let budget = Budget::of(config.gateway.grace_period, Arc::new(SystemClock));
    let stopped = running.stop(draining, config, &budget).await;
    telemetry.flush(budget.left()).await;
    why.and(stopped)
}
