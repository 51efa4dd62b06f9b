//! `zen-fabric events`: the dead letters of a running process, over its admin port.

mod client;

use std::path::PathBuf;

use super::{Environment, Exit, Failure, Streams};
use crate::{
    config::{ENV_PREFIX, SETTINGS, Value as _},
    ops::admin::wire::{Detail, LetterName, Page, Summary},
};
use client::Client;

/// See [`super::Command::Events`].
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Data directory of the running process: its admin token and URL lie there [default:
    /// .zen-fabric/dev] [env: `ZEN_FABRIC_DATA_DIR`]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The admin server's URL, when it is reached another way than the data directory says
    #[arg(long, global = true, value_name = "URL")]
    admin_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// List the dead letters, oldest first
    List {
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Print JSON, one letter per line
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter with its event
    Show {
        /// log/position/index, as `list` prints it
        id: LetterName,
    },
    /// Process dead letters again, under today's spec of their Ingestor
    Replay {
        /// log/position/index, as `list` prints it
        #[arg(required_unless_present = "all")]
        ids: Vec<LetterName>,
        /// Every letter that was not replayed before
        #[arg(long, conflicts_with_all = ["ids", "force"])]
        all: bool,
        /// Also letters that were replayed before
        #[arg(long)]
        force: bool,
    },
}

pub(super) fn run(
    args: &Args,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let data_dir = data_dir(args, environment)?;
    let client = Client::new(&data_dir, args.admin_url.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &args.command {
            Command::List { limit, json } => list(&client, *limit, *json, streams).await,
            Command::Show { id } => show(&client, *id, streams).await,
            Command::Replay { all: true, .. } => replay_all(&client, streams).await,
            Command::Replay { ids, force, .. } => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                replay(&client, &ids, *force, streams).await
            }
        }
    })
}

/// The flag, else the variable, else the default: as `dev` itself finds it.
fn data_dir(args: &Args, environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(dir) = &args.data_dir {
        return Ok(dir.clone());
    }
    let mut config = crate::config::Config::default();
    let Some(setting) = SETTINGS.iter().find(|setting| setting.name == "data-dir") else {
        return Ok(config.data_dir);
    };
    let variable = setting.variable();
    if let Some((_, text)) = environment.iter().find(|(name, _)| *name == variable) {
        config
            .data_dir
            .set(text)
            .map_err(|message| Failure::usage(format!("{ENV_PREFIX}DATA_DIR: {message}")))?;
    }
    Ok(config.data_dir)
}

async fn list(
    client: &Client,
    limit: usize,
    json: bool,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let mut left = limit;
    let mut after = None;
    let mut first = true;
    while left > 0 {
        let Page { items, next } = client.list(after.as_deref(), left).await?;
        if first && items.is_empty() && !json {
            writeln!(streams.out, "No dead letters.")?;
        }
        for letter in &items {
            if json {
                writeln!(streams.out, "{}", serde_json::to_string(letter)?)?;
            } else {
                line(letter, first, streams)?;
            }
            first = false;
        }
        left = left.saturating_sub(items.len());
        match next {
            Some(next) if !items.is_empty() => after = Some(next),
            _ => break,
        }
    }
    Ok(Exit::Success)
}

fn line(letter: &Summary, header: bool, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if header {
        writeln!(
            streams.out,
            "{:<24} {:<24} {:<18} {:<8} {:<32} MESSAGE",
            "ID", "INGESTOR", "REASON", "REPLAYED", "AT"
        )?;
    }
    let ingestor = letter
        .ingestor
        .name
        .as_ref()
        .unwrap_or(&letter.ingestor.uid);
    writeln!(
        streams.out,
        "{:<24} {:<24} {:<18} {:<8} {:<32} {}",
        letter.id,
        ingestor,
        letter.reason,
        if letter.replayed { "yes" } else { "no" },
        letter.at,
        one_line(&letter.message)
    )?;
    Ok(())
}

/// A message may hold what a sender wrote: no control character reaches the terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

async fn show(client: &Client, id: LetterName, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let detail: Detail = client.show(&id.to_string()).await?;
    // JSON escapes control characters, so that an event can't write to the terminal.
    writeln!(streams.out, "{}", serde_json::to_string_pretty(&detail)?)?;
    Ok(Exit::Success)
}

async fn replay(
    client: &Client,
    ids: &[String],
    force: bool,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let mut exit = Exit::Success;
    for id in ids {
        match client.replay(id, force).await {
            Ok(done) => writeln!(
                streams.out,
                "{id} replayed as record {} with event id {}",
                done.record,
                one_line(&done.event_id)
            )?,
            // One letter that can't be replayed keeps no other from it.
            Err(client::Error::Refused { detail, .. }) => {
                writeln!(streams.err, "{id} not replayed: {}", one_line(&detail))?;
                exit = Exit::Failure;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(exit)
}

/// Letters per page of `replay --all`.
const REPLAY_PAGE: usize = 500;

async fn replay_all(client: &Client, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let mut exit = Exit::Success;
    let mut after: Option<String> = None;
    loop {
        let Page { items, next } = client.list(after.as_deref(), REPLAY_PAGE).await?;
        let ids: Vec<String> = items
            .into_iter()
            .filter(|letter| !letter.replayed)
            .map(|letter| letter.id)
            .collect();
        if replay(client, &ids, false, streams).await? != Exit::Success {
            exit = Exit::Failure;
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(exit),
        }
    }
}
