//! `chaos`: see the library.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chaos::{
    api::Objects,
    contest::{Reproduction, ours, rival},
    error::{Attempt as _, Result},
};
use clap::{Parser, Subcommand};
use zen_fabric::testing::cluster::{RealCluster, User};

/// Real processes on a real kube-apiserver, broken on purpose.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Two candidates, one expired Lease: with the crate kube-leader-election both win, with this elector never
    Reproduce {
        /// Rounds of each contest
        #[arg(long, default_value_t = 200)]
        rounds: u32,
        /// The candidate that elects with that crate
        #[arg(long, default_value = "target/rival/debug/rival")]
        rival: PathBuf,
    },
}

fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .attempt("start a runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(cli))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Where this can't be written, the exit code is all that is left.
            drop(writeln!(std::io::stderr(), "error: {}", error.chain()));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<bool> {
    match cli.command {
        Command::Reproduce { rounds, rival } => reproduce(rounds, &rival).await,
    }
}

async fn reproduce(rounds: u32, program: &Path) -> Result<bool> {
    let cluster = RealCluster::start().await.attempt("start an API server")?;
    let client = cluster.client(&User::admin()).attempt("log in")?;
    let objects = Objects::new(client, "contest");
    objects.make_namespace().await?;
    let mut result = Reproduction::default();
    let kubeconfig = cluster.kubeconfig(&User::admin());
    let mut contest = rival::Contest::start(program, &kubeconfig, objects.clone()).await?;
    for _round in 0..rounds {
        result.transcript = contest.held(&mut result.rival_held).await?;
        contest.raced(&mut result.rival_raced).await?;
    }
    for number in 0..rounds {
        ours::round(
            &objects,
            number,
            ours::Elector::Shipped,
            &mut result.ours_held,
        )
        .await?;
        ours::round(
            &objects,
            number,
            ours::Elector::WithoutCompareAndSwap,
            &mut result.control,
        )
        .await?;
    }
    tell(&result).attempt("print the result")?;
    Ok(result.holds())
}

fn tell(result: &Reproduction) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for line in &result.transcript {
        writeln!(out, "  {line}")?;
    }
    writeln!(
        out,
        "kube-leader-election, writes held:  {}",
        result.rival_held
    )?;
    writeln!(
        out,
        "kube-leader-election, raced:        {}",
        result.rival_raced
    )?;
    writeln!(
        out,
        "this elector, writes held:          {}",
        result.ours_held
    )?;
    writeln!(
        out,
        "this elector, its CAS taken away:   {}",
        result.control
    )
}
