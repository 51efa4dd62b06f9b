//! `zen-fabric drain` and `undrain`: one replica gives its work away and stays, or gets work again.

use std::{path::PathBuf, time::Duration};

use super::{
    Environment, Exit, Failure, Streams,
    replicas::{self, Replica},
};
use crate::ops::admin::fleet::Status;

/// How often is looked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// See [`super::Command::Drain`] and [`super::Command::Undrain`].
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The replica's pod
    pod: String,
    #[command(flatten)]
    place: replicas::Place,
    /// How long `drain` waits until it has given everything away
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = replicas::duration)]
    timeout: Duration,
    /// Print text, or what the replica then sees as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How results are printed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// To give its work away.
    Drain,
    /// To take work again.
    Undrain,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "{pod} still owns {left} buckets after {waited:?}: nobody else can take them (zen-fabric status shows the others); it goes on with them and gives them away when somebody can"
    )]
    Left {
        pod: String,
        left: usize,
        waited: Duration,
    },
    #[error("no replica {pod} answers; those that do: {}", .others.join(", "))]
    Unknown { pod: String, others: Vec<String> },
}

pub(super) fn run(
    args: &Args,
    what: What,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let dirs: Vec<PathBuf> = args.place.dirs(environment)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (replica, status) = find(args, &dirs).await?;
        let path = match what {
            What::Drain => "/fleet/drain",
            What::Undrain => "/fleet/undrain",
        };
        let before = owned(&status, &args.pod);
        replica.post(path).await?;
        if what == What::Drain {
            wait(args, &replica).await?;
        }
        if args.output == Output::Json {
            let status = replica.status().await?;
            writeln!(streams.out, "{}", serde_json::to_string_pretty(&status)?)?;
            return Ok(Exit::Success);
        }
        if what == What::Undrain {
            writeln!(streams.out, "{} may get work again", args.pod)?;
            return Ok(Exit::Success);
        }
        writeln!(
            streams.out,
            "{} has given its {before} buckets away and stays without work; `zen-fabric undrain {}` takes that back",
            args.pod, args.pod
        )?;
        Ok(Exit::Success)
    })
}

/// The replica of that name among those that answer.
async fn find(args: &Args, dirs: &[PathBuf]) -> Result<(Replica, Status), Failure> {
    let mut others = Vec::new();
    for answer in replicas::all(&args.place, dirs).await? {
        if answer.1.pod == args.pod {
            return Ok(answer);
        }
        others.push(answer.1.pod);
    }
    let pod = args.pod.clone();
    Err(Error::Unknown { pod, others }.into())
}

async fn wait(args: &Args, replica: &Replica) -> Result<(), Failure> {
    let mut left = 0;
    let waiting = async {
        loop {
            left = owned(&replica.status().await?, &args.pod);
            if left == 0 {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(args.timeout, waiting).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(Error::Left {
            pod: args.pod.clone(),
            left,
            waited: args.timeout,
        }
        .into()),
    }
}

/// How many buckets the pod owns, under any of its names.
fn owned(status: &Status, pod: &str) -> usize {
    let members = status.members.iter();
    members
        .filter(|member| member.pod == pod)
        .map(|member| member.buckets)
        .sum()
}
