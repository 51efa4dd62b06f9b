//! `zen-fabric gateway`: every socket to the outside, and the journal.

use super::{Environment, Exit, Failure, Streams, serve};
use crate::{
    config::{GATEWAY_ROLE, Roles, flags::Of},
    roles,
};

/// See [`super::Command::Gateway`].
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    flags: Of<GATEWAY_ROLE>,
}

/// Runs until a signal.
pub(super) fn run(
    args: &Args,
    environment: Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    serve::run(
        Roles::GATEWAY,
        &args.flags.0,
        environment,
        streams,
        |loaded, printer| roles::gateway::run(loaded.config, printer),
    )
}
