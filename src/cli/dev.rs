//! `zen-fabric dev`: everything on this machine.

use std::time::Duration;

use super::{Environment, Exit, Failure, Streams};
use crate::{
    config::{Loaded, flags::Flags},
    ops::process,
    roles,
};

/// How long threads that are busy with files may hold up the exit, after everything was drained.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

/// See [`super::Command::Dev`].
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
}

/// Runs until a signal.
pub(super) fn run(
    args: &Args,
    environment: Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let loaded = Loaded::of(environment, &args.flags).map_err(Failure::usage)?;
    if !loaded.config.core_dumps {
        process::forbid_core_dumps()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("zen-fabric")
        .build()?;
    let outcome = runtime.block_on(roles::dev::run(loaded.config, streams.out));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome?;
    Ok(Exit::Success)
}
