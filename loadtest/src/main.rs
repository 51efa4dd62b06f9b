//! `loadtest`: load on a running `zen-fabric`, and every acknowledged event accounted for.
//!
//! Each subcommand measures one row of docs/performance.md and keeps what came out under
//! `target/loadtest`; `report` measures all of them, `render` only writes the document anew.

mod admin;
mod cluster;
mod dev;
mod generator;
mod ledger;
mod probe;
mod profile;
mod report;
mod rows;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use rows::{Bench, Error, Measured, acceptance};

/// Load on a running zen-fabric, and every acknowledged event accounted for.
#[derive(Debug, Parser)]
struct Cli {
    /// The server to measure; default: `zen-fabric` beside this program
    #[arg(long, global = true)]
    binary: Option<PathBuf>,
    /// Load profile; default: loadtest/profiles/load.yaml
    #[arg(long, global = true)]
    profile: Option<PathBuf>,
    /// Where data directories are made: on the disk that is measured
    #[arg(long, global = true, default_value = "target/loadtest/data")]
    scratch: PathBuf,
    /// Where results are kept
    #[arg(long, global = true, default_value = "target/loadtest")]
    results: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Accepted events, closed loop; with it the same over TLS and without fdatasync
    Closed {
        /// Only the row itself
        #[arg(long)]
        alone: bool,
    },
    /// Accepted events, open loop
    Open,
    /// POST to visible Observation, real kube-apiserver
    Visible,
    /// Observations written, real kube-apiserver
    Objects,
    /// Memory at rest and with many Ingestors, and how long these take to serve
    Memory,
    /// The same as `memory`: the rows are measured on one process
    Routes,
    /// kill -9 under load, then compare every object
    Crash {
        /// How many kills
        #[arg(long, default_value_t = 50)]
        kills: u32,
    },
    /// Every row but the crash, then docs/performance.md
    Report,
    /// docs/performance.md from the results that are kept
    Render,
}

fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let mut out = std::io::stdout();
    match start(&cli, &mut out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                // Where this can't be written, the exit code is all that is left.
                drop(writeln!(std::io::stderr(), "error: {error}"));
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// Whether every bar that was measured is met.
fn start(cli: &Cli, out: &mut impl std::io::Write) -> Result<bool, Error> {
    let profile = profile::Profile::load(cli.profile.as_deref())
        .map_err(Error::other("read the load profile"))?;
    let binary = match &cli.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()
            .map_err(Error::io("find this program"))?
            .with_file_name("zen-fabric"),
    };
    if !binary.is_file() {
        return Err(dev::Error::NoBinary(binary).into());
    }
    let bench = Bench {
        profile,
        binary,
        scratch: cli.scratch.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::io("start a runtime"))?;
    runtime.block_on(run(cli, &bench, out))
}

async fn run(cli: &Cli, bench: &Bench, out: &mut impl std::io::Write) -> Result<bool, Error> {
    use acceptance::Row;
    let mut keep = Keep {
        results: &cli.results,
        met: true,
        out,
    };
    match cli.command {
        Command::Closed { alone } => {
            keep.one(&acceptance::measure(bench, Row::Closed).await?)?;
            if !alone {
                keep.one(&acceptance::measure(bench, Row::ClosedTls).await?)?;
                keep.one(&acceptance::measure(bench, Row::ClosedNoSync).await?)?;
            }
        }
        Command::Open => keep.one(&acceptance::measure(bench, Row::Open).await?)?,
        Command::Visible => keep.one(&rows::visible::measure(bench).await?)?,
        Command::Objects => keep.one(&rows::objects::measure(bench).await?)?,
        Command::Memory | Command::Routes => {
            for measured in rows::footprint::measure(bench).await? {
                keep.one(&measured)?;
            }
        }
        Command::Crash { kills } => keep.one(&rows::crash::measure(bench, kills).await?)?,
        Command::Report => {
            for row in [Row::Closed, Row::ClosedTls, Row::ClosedNoSync, Row::Open] {
                keep.one(&acceptance::measure(bench, row).await?)?;
            }
            keep.one(&rows::visible::measure(bench).await?)?;
            keep.one(&rows::objects::measure(bench).await?)?;
            for measured in rows::footprint::measure(bench).await? {
                keep.one(&measured)?;
            }
            report::write(&cli.results, Path::new("docs"))?;
        }
        Command::Render => report::write(&cli.results, Path::new("docs"))?,
    }
    Ok(keep.met)
}

/// Keeps what was measured, and tells it.
struct Keep<'a, W> {
    results: &'a Path,
    met: bool,
    out: &'a mut W,
}

impl<W: std::io::Write> Keep<'_, W> {
    fn one(&mut self, measured: &Measured) -> Result<(), Error> {
        report::keep(self.results, measured)?;
        self.met &= measured.met != Some(false);
        self.tell(measured)
            .map_err(Error::io("print what was measured"))
    }

    fn tell(&mut self, measured: &Measured) -> std::io::Result<()> {
        writeln!(self.out, "{}: {}", measured.row, measured.result)?;
        if let Some(met) = measured.met {
            let verdict = if met { "met" } else { "NOT MET" };
            writeln!(self.out, "  {} ({verdict})", measured.bar)?;
        }
        for (name, value) in &measured.details {
            writeln!(self.out, "  {name}: {value}")?;
        }
        self.out.flush()
    }
}
