//! Runs a role until a signal, on a runtime that is made for it.

use std::{io, time::Duration};

use super::{Environment, Exit, Failure, Streams};
use crate::{
    config::{Loaded, Roles, flags::Flags},
    ops::{printer::Printer, process},
    roles,
};

/// How long threads that are busy with files may hold up the exit, after everything was drained.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

/// A commit of the journal answers hundreds of senders from its own thread: their tasks go through
/// the runtime's global queue, which is looked at every so many tasks. The runtime's own choice, 61
/// and more while it is busy, leaves some waiting behind the new requests of others.
const GLOBAL_QUEUE_INTERVAL: u32 = 8;

/// After so many tasks sockets are looked at again; 61, the default, is longer than a commit takes.
const EVENT_INTERVAL: u32 = 16;

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
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if role == Roles::CORE {
        builder.worker_threads(loaded.config.engine.threads);
    }
    let runtime = builder
        .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
        .event_interval(EVENT_INTERVAL)
        .enable_all()
        .thread_name("zen-fabric")
        .build()?;
    let told = std::mem::replace(&mut streams.told, Box::new(io::sink()));
    let printer = Printer::start(told)?;
    let outcome = runtime.block_on(serve(loaded, printer));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome?;
    Ok(Exit::Success)
}
