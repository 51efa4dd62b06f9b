//! `zen-fabric core`: one replica of those that share the work.

use super::{Environment, Exit, Failure, Streams, serve};
use crate::{
    config::{CORE_ROLE, Roles, flags::Of},
    roles,
};

/// See [`super::Command::Core`].
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    flags: Of<CORE_ROLE>,
    /// End as soon as the input ends: the process that started this one is gone
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

/// Runs until a signal.
pub(super) fn run(
    args: &Args,
    environment: Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    serve::run(
        Roles::CORE,
        &args.flags.0,
        environment,
        streams,
        |loaded, printer| roles::core::run(loaded.config, args.until_input_ends, printer),
    )
}
