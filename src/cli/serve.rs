//! Runs a role until a signal, on a runtime that is made for it.

use std::{io, time::Duration};

use super::{Environment, Exit, Failure, Streams};
use crate::{
    config::{Loaded, Roles, flags::Flags},
    ops::{printer::Printer, process, threads},
    roles,
};

/// How long threads that are busy with files may hold up the exit, after everything was drained.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

/// Threads of a `core` beside its engine's: what is left to them takes milliseconds at a time.
const CORE_THREADS: usize = 1;

/// Reads the configuration of `role` and runs it.
pub(super) fn run<F>(
    role: Roles,
    flags: &Flags,
    environment: Environment,
    streams: &mut Streams<'_>,
    serve: impl FnOnce(Loaded, Printer) -> F,
) -> Result<Exit, Failure>
where
    F: Future<Output = Result<(), roles::Error>>,
{
    let loaded = Loaded::of_role(role, environment, flags).map_err(Failure::usage)?;
    if !loaded.config.core_dumps {
        process::forbid_core_dumps()?;
    }
    let threads = (role == Roles::CORE).then_some(CORE_THREADS);
    let runtime = threads::runtime("zen-fabric", threads)?;
    let told = std::mem::replace(&mut streams.told, Box::new(io::sink()));
    let printer = Printer::start(told)?;
    let outcome = runtime.block_on(serve(loaded, printer));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome?;
    Ok(Exit::Success)
}
