//! `zen-fabric ring`: who owns which bucket, why, and what would move.
//!
//! It reads the `ShardMap`, and of a cluster the replicas' Leases and the Ingestors too, and nothing but
//! reads: what it computes it computes with the code by which the leader decides.

mod print;
mod read;

use std::path::PathBuf;

use super::{Environment, Exit, Failure, Streams};
use crate::coordination::{
    assign::assign,
    explain::explain,
    names::PodName,
    preview::{self, Change},
};

use read::Source;

/// See [`super::Command::Ring`].
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The cluster, by kubeconfig [env: `ZEN_FABRIC_KUBECONFIG`, KUBECONFIG] [default: ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where the fleet's `ShardMap` and Leases are [default: zen-system] [env: `ZEN_FABRIC_NAMESPACE`]
    #[arg(long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The fleet: its `ShardMap` has this name, its Leases begin with it [default: zen-fabric]
    /// [env: `ZEN_FABRIC_FLEET`]
    #[arg(long, alias = "name", global = true, value_name = "NAME")]
    fleet: Option<String>,
    /// Read the `ShardMap` from this file instead, as `kubectl get shardmap -o yaml` writes it; it says
    /// nothing of builds, nor of how much work a bucket is
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        conflicts_with = "kubeconfig"
    )]
    file: Option<PathBuf>,
    /// Print text or JSON
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Show the replicas, what each owns, and what moves
    Show,
    /// Say why an Ingestor is where it is
    Explain {
        /// NAMESPACE/NAME of an Ingestor, its UID, or the number of a bucket
        key: String,
    },
    /// Say what would move, and change nothing
    #[command(group = clap::ArgGroup::new("change").required(true))]
    Preview {
        /// If this replica were gone
        #[arg(long, value_name = "POD", group = "change")]
        without: Option<String>,
        /// If there were so many more
        #[arg(long, value_name = "NUMBER", group = "change", value_parser = clap::value_parser!(u16).range(1..=100))]
        add: Option<u16>,
        /// If all replicas of this zone were gone
        #[arg(long, value_name = "ZONE", group = "change")]
        zone_down: Option<String>,
    },
    /// Compare two assignments: an older map with today's, or with that of another file; without a
    /// file, today's with what the leader would make of it
    Diff {
        /// A `ShardMap` as `kubectl get shardmap -o yaml` wrote it
        old: Option<PathBuf>,
        /// Another, in place of today's
        new: Option<PathBuf>,
    },
}

pub(super) fn run(
    args: &Args,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(dispatch(args, environment, streams))
}

async fn dispatch(
    args: &Args,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let source = match (&args.command, &args.file) {
        // Between two files there is nothing to ask of a cluster.
        (
            Command::Diff {
                old: Some(old),
                new: Some(new),
            },
            _,
        ) => {
            let before = read::file(old, streams)?;
            let after = read::file(new, streams)?;
            return print::diff(
                &after.diff(&before.current(), &after.current()),
                args.output,
                streams,
            );
        }
        (_, Some(file)) => Source::File(file.clone()),
        (_, None) => Source::cluster(args, environment).await?,
    };
    let fleet = source.fleet(streams).await?;
    match &args.command {
        Command::Show => print::show(&fleet, args.output, streams),
        Command::Explain { key } => {
            let found = source.key(key).await?;
            let wanted = fleet.wanted();
            let place = assign(&wanted).remove(&found.bucket);
            let standby = place.and_then(|place| place.standby);
            let explained = explain(&fleet.outlook(), &wanted, found.bucket, standby);
            let explained = match &fleet.loads {
                Some(_) => explained,
                None => explained.without_loads(),
            };
            print::explanation(&found, &explained, args.output, streams)
        }
        Command::Preview {
            without,
            add,
            zone_down,
        } => {
            let change = change(without.as_deref(), *add, zone_down.as_deref());
            let diff = preview::preview(&fleet.wanted(), &change)?;
            print::diff(&fleet.judged(diff), args.output, streams)
        }
        Command::Diff { old: Some(old), .. } => {
            let before = read::file(old, streams)?;
            let diff = fleet.diff(&before.current(), &fleet.current());
            print::diff(&diff, args.output, streams)
        }
        Command::Diff { old: None, .. } => {
            let next = preview::owners(&assign(&fleet.wanted()));
            let diff = fleet.diff(&fleet.current(), &next);
            print::diff(&diff, args.output, streams)
        }
    }
}

/// The command line has seen to it that one is set.
fn change(without: Option<&str>, add: Option<u16>, zone_down: Option<&str>) -> Change {
    match (without, zone_down) {
        (Some(pod), _) => Change::Without(PodName(pod.into())),
        (None, Some(zone)) => Change::ZoneDown(zone.into()),
        (None, None) => Change::Add(add.unwrap_or(1)),
    }
}
