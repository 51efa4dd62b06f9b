//! `chaos`: breaks a fleet of real processes on a real kube-apiserver, and writes down what it did.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chaos::{
    api::Objects,
    contest::{Reproduction, ours, rival},
    error::{Attempt as _, Error, Result},
    outcome::{Outcome, Verdict},
    report::{self, Data, machine},
    scenario::{self, Options, Scenario},
};
use clap::{Parser, Subcommand};
use zen_fabric::testing::cluster::{RealCluster, User};

/// Breaks a fleet of real processes on a real kube-apiserver, and writes down what it did.
#[derive(Debug, Parser)]
struct Cli {
    /// The program that is broken
    #[arg(long, global = true, default_value = "target/release/zen-fabric")]
    binary: PathBuf,
    /// The candidate that elects with the crate kube-leader-election
    #[arg(long, global = true, default_value = "target/rival/debug/rival")]
    rival: PathBuf,
    /// Where each run gets a folder for its logs
    #[arg(long, global = true, default_value = "target/chaos")]
    scratch: PathBuf,
    /// Where the report goes; default: docs, or in the short form below the scratch folder
    #[arg(long, global = true)]
    docs: Option<PathBuf>,
    /// Each scenario in a minute or two: its steps, not its figures
    #[arg(long, global = true)]
    short: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios; all of them, the contest included, where none is named
    Run {
        /// Their names, see `list`
        names: Vec<String>,
    },
    /// Tell which scenarios there are
    List,
    /// Two candidates, one expired Lease: with the crate kube-leader-election both win, with this elector never
    Reproduce {
        /// Rounds of each contest
        #[arg(long, default_value_t = 1000)]
        rounds: u32,
    },
    /// Write the report anew, from what was measured
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .attempt("start a runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(&cli))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Where this can't be written, the exit code is all that is left.
            drop(writeln!(std::io::stderr(), "error: {}", error.chain()));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything held and every bar was met.
async fn run(cli: &Cli) -> Result<bool> {
    let book = Book::of(cli);
    match &cli.command {
        Command::List => list().attempt("print the scenarios").map(|()| true),
        Command::Render => book.render(&book.load()?).map(|()| true),
        Command::Reproduce { rounds } => reproduce(cli, &book, *rounds).await,
        Command::Run { names } => scenarios(cli, &book, names).await,
    }
}

fn list() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for scenario in scenario::ALL {
        writeln!(out, "{:<16} {}", scenario.name, scenario.about)?;
    }
    Ok(())
}

/// Where what was measured is kept, and the report.
struct Book {
    data: PathBuf,
    docs: PathBuf,
}

// === impl Book ===

impl Book {
    fn of(cli: &Cli) -> Self {
        let docs = cli.docs.clone().unwrap_or_else(|| {
            if cli.short {
                cli.scratch.join("short")
            } else {
                PathBuf::from("docs")
            }
        });
        Self {
            data: docs.join("data/failover.json"),
            docs,
        }
    }

    fn load(&self) -> Result<Data> {
        Data::load(&self.data)
    }

    fn render(&self, data: &Data) -> Result<()> {
        let order: Vec<&str> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
        report::write(data, &order, &self.docs)
    }

    /// Adds to it, and writes the report anew: whatever ends a long run, what it has measured is kept.
    fn keep(&self, add: impl FnOnce(&mut Data)) -> Result<()> {
        let mut data = self.load()?;
        add(&mut data);
        data.save(&self.data)?;
        self.render(&data)
    }
}

async fn scenarios(cli: &Cli, book: &Book, names: &[String]) -> Result<bool> {
    let mut chosen: Vec<&Scenario> = Vec::new();
    for name in names {
        let found = scenario::ALL.iter().find(|scenario| scenario.name == name);
        let unknown = || {
            Error::new(format!(
                "find the scenario `{name}`: `chaos list` tells which there are"
            ))
        };
        chosen.push(found.ok_or_else(unknown)?);
    }
    let mut fine = true;
    if names.is_empty() {
        chosen = scenario::ALL.iter().collect();
        fine &= reproduce(cli, book, if cli.short { 50 } else { 1000 }).await?;
    }
    if !cli.binary.is_file() {
        return Err(Error::new(format!(
            "find {}: build it with `cargo build --release --bin zen-fabric`, or name it with --binary",
            cli.binary.display()
        )));
    }
    for scenario in chosen {
        let dir = cli.scratch.join(scenario.name);
        // What an earlier run has left.
        drop(std::fs::remove_dir_all(&dir));
        let options = Options {
            binary: cli.binary.clone(),
            scratch: cli.scratch.clone(),
            short: cli.short,
            taken: machine::taken(&cli.binary),
        };
        match (scenario.run)(&options).await {
            Ok(outcome) => {
                fine &= outcome.verdict() == Verdict::Holds;
                tell(&outcome).attempt("print what was measured")?;
                book.keep(|data| {
                    data.outcomes.insert(scenario.name.to_owned(), outcome);
                })?;
            }
            // The others may still tell something.
            Err(error) => {
                fine = false;
                let mut out = std::io::stdout();
                writeln!(out, "{}: no result: {}", scenario.name, error.chain())
                    .attempt("print what went wrong")?;
            }
        }
    }
    Ok(fine)
}

fn tell(outcome: &Outcome) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{}: {:?} in {:.0} s",
        outcome.name,
        outcome.verdict(),
        outcome.seconds
    )?;
    for measured in &outcome.measured {
        let verdict = match measured.met() {
            Some(true) => ", met",
            Some(false) => ", NOT MET",
            None => "",
        };
        match &measured.figures {
            Some(figures) => writeln!(
                out,
                "  {}: p50 {:.1}, p99 {:.1}, max {:.1} {} (n = {}){verdict}",
                measured.what, figures.p50, figures.p99, figures.max, measured.unit, figures.count
            )?,
            None => writeln!(out, "  {}: nothing{verdict}", measured.what)?,
        }
    }
    for checked in &outcome.checks {
        let sign = if checked.holds() { "holds" } else { "BROKEN" };
        writeln!(
            out,
            "  {sign}: {} ({} looked at, {} against it)",
            checked.rule, checked.looked_at, checked.violations
        )?;
        for example in &checked.examples {
            writeln!(out, "    {example}")?;
        }
    }
    let counts = outcome
        .counts
        .iter()
        .map(|(what, count)| format!("{what} {count}"));
    writeln!(out, "  {}", counts.collect::<Vec<_>>().join(", "))
}

async fn reproduce(cli: &Cli, book: &Book, rounds: u32) -> Result<bool> {
    let result = contests(&cli.rival, rounds).await?;
    tell_contests(&result).attempt("print the result")?;
    let holds = result.holds();
    book.keep(|data| data.reproduction = Some((result, machine::taken(&cli.binary))))?;
    Ok(holds)
}

async fn contests(program: &Path, rounds: u32) -> Result<Reproduction> {
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
    let without = ours::Elector::WithoutCompareAndSwap;
    for number in 0..rounds {
        let score = &mut result.ours_held;
        ours::round(&objects, number, ours::Elector::Shipped, score).await?;
        ours::round(&objects, number, without, &mut result.control).await?;
    }
    Ok(result)
}

fn tell_contests(result: &Reproduction) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for line in &result.transcript {
        writeln!(out, "  {line}")?;
    }
    for (who, score) in [
        ("kube-leader-election, writes held", result.rival_held),
        ("kube-leader-election, raced", result.rival_raced),
        ("this elector, writes held", result.ours_held),
        ("this elector, its CAS taken away", result.control),
    ] {
        writeln!(out, "{who:<34} {score}")?;
    }
    Ok(())
}
