//! The command line: one file per subcommand, everything it touches passed in.
//!
//! A subcommand gets the environment and three streams, and gives an [`Exit`] or a [`Failure`] that
//! is printed with its causes; nothing here prints or exits by itself.

pub mod completions;
pub mod config;
pub mod core;
pub mod crd;
pub mod dev;
pub mod drain;
pub mod events;
pub mod gateway;
mod http;
pub mod output;
mod replicas;
pub mod ring;
pub mod send;
mod serve;
pub mod status;
pub mod validate;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{Parser, Subcommand};

pub use output::{Failure, Streams};

/// A Kubernetes-native fabric for dynamic webhooks and cluster events.
#[derive(Debug, Parser)]
#[command(name = "zen-fabric", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine: the API, a gateway and a core
    Dev(dev::Args),
    /// Run a gateway: every socket to the outside, and the journal
    Gateway(gateway::Args),
    /// Run a core: one replica of those that share the work
    Core(core::Args),
    /// Show the fleet: leader, members, buckets, gates, backlog
    Status(status::Args),
    /// Let a replica give its work away; it goes on waiting without any
    Drain(drain::Args),
    /// Take a drain back
    Undrain(drain::Args),
    /// Check Ingestors and Observations in files, as a server would and more
    Validate(validate::Args),
    /// Print the `CustomResourceDefinition`s, or write them to files
    Crd(crd::Args),
    /// Send an event, signed as its provider would
    Send(Box<send::Args>),
    /// List, show and replay dead letters
    Events(events::Args),
    /// Show who owns which bucket, why, and what would move
    Ring(ring::Args),
    /// Print the effective configuration and where each value came from
    Config(config::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// How a subcommand ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: it did what was asked.
    Success,
    /// 1: it could not, or what it was asked about is wrong.
    Failure,
    /// 2: it was not asked properly.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::Failure => Self::FAILURE,
            Exit::Usage => Self::from(2),
        }
    }
}

/// The environment of the process, as names and values; what is not UTF-8 is left out.
pub type Environment = Vec<(String, String)>;

/// Runs the command line `args`, whose first is the program's name.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    environment: Environment,
    streams: &mut Streams<'_>,
) -> Exit {
    let outcome = match Cli::try_parse_from(args) {
        Ok(cli) => dispatch(cli.command, environment, streams),
        Err(error) => return usage(&error, streams),
    };
    match outcome {
        Ok(exit) => exit,
        // Nobody reads any more (`zen-fabric … | head`): that is no failure of ours.
        Err(failure) if failure.is_broken_pipe() => Exit::Success,
        Err(failure) => {
            // Where even this can't be written, the exit code is all that is left.
            drop(write!(streams.err, "{failure}"));
            failure.exit()
        }
    }
}

fn dispatch(
    command: Command,
    environment: Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    match command {
        Command::Dev(args) => dev::run(&args, environment, streams),
        Command::Gateway(args) => gateway::run(&args, environment, streams),
        Command::Core(args) => core::run(&args, environment, streams),
        Command::Status(args) => status::run(&args, &environment, streams),
        Command::Drain(args) => drain::run(&args, drain::What::Drain, &environment, streams),
        Command::Undrain(args) => drain::run(&args, drain::What::Undrain, &environment, streams),
        Command::Validate(args) => validate::run(&args, streams),
        Command::Crd(args) => crd::run(&args, streams),
        Command::Send(args) => send::run(&args, &environment, streams),
        Command::Events(args) => events::run(&args, &environment, streams),
        Command::Ring(args) => ring::run(&args, &environment, streams),
        Command::Config(args) => config::run(&args, environment, streams),
        Command::Completions(args) => completions::run(&args, streams),
    }
}

/// Help and version go to the output and are a success; a wrong command line is explained.
fn usage(error: &clap::Error, streams: &mut Streams<'_>) -> Exit {
    let (stream, exit): (&mut dyn io::Write, _) = if error.use_stderr() {
        (&mut *streams.err, Exit::Usage)
    } else {
        (&mut *streams.out, Exit::Success)
    };
    drop(write!(stream, "{}", error.render()));
    exit
}
