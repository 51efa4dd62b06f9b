//! `zen-fabric config`: the effective values, and where each came from.

use super::{Environment, Exit, Failure, Streams};
use crate::config::{Loaded, flags::Flags};

/// See [`super::Command::Config`].
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
}

/// Prints one line per setting: name, value, origin.
pub(super) fn run(
    args: &Args,
    environment: Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let loaded = Loaded::of(environment, &args.flags).map_err(Failure::usage)?;
    let effective = loaded.effective();
    let width = |of: fn(&crate::config::Effective) -> usize| effective.iter().map(of).max();
    let name = width(|value| value.name.len()).unwrap_or_default();
    let value = width(|value| value.value.len()).unwrap_or_default();
    for setting in &effective {
        writeln!(
            streams.out,
            "{:name$}  {:value$}  {}",
            setting.name, setting.value, setting.origin
        )?;
    }
    Ok(Exit::Success)
}
