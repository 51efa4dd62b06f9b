//! `zen-fabric dev`: everything on this machine.

use super::{Environment, Exit, Failure, Streams, serve};
use crate::{
    config::{DEV_ROLE, Roles, flags::Of},
    roles,
};

/// See [`super::Command::Dev`].
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    flags: Of<DEV_ROLE>,
}

/// Runs until a signal.
pub(super) fn run(
    args: &Args,
    environment: Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    serve::run(
        Roles::DEV,
        &args.flags.0,
        environment,
        streams,
        roles::dev::run,
    )
}
