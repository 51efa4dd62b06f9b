//! `zen-fabric status`: the fleet, as its replicas see it.

use std::io;

use super::{Environment, Exit, Failure, Streams, replicas};
use crate::ops::admin::fleet::{Member, Status};

/// See [`super::Command::Status`].
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    place: replicas::Place,
    /// Print text or JSON
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

/// Nobody was there to be asked.
#[derive(Debug, thiserror::Error)]
#[error("no replica answers")]
struct Nobody;

pub(super) fn run(
    args: &Args,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let dirs = args.place.dirs(environment)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answers = runtime.block_on(replicas::all(&args.place, &dirs))?;
    let answers = answers.into_iter().map(|(_, status)| status).collect();
    let status = Status::merged(answers).ok_or(Nobody)?;
    match args.output {
        Output::Json => writeln!(streams.out, "{}", serde_json::to_string_pretty(&status)?)?,
        Output::Text => print(&status, streams.out)?,
    }
    Ok(Exit::Success)
}

fn print(status: &Status, out: &mut dyn io::Write) -> io::Result<()> {
    let Status {
        fleet,
        region,
        leader,
        term,
        version,
        buckets,
        moving,
        members,
        ..
    } = status;
    writeln!(out, "fleet     {fleet}, region {region}")?;
    match (leader, term) {
        (Some(leader), Some(term)) => writeln!(out, "leader    {leader}, term {term}")?,
        (Some(_) | None, _) => writeln!(out, "leader    none")?,
    }
    let owned: usize = members.iter().map(|member| member.buckets).sum();
    let nobody = usize::from(*buckets).saturating_sub(owned);
    writeln!(
        out,
        "map       version {version}: {owned} of {buckets} buckets owned, {nobody} by nobody, {moving} moving"
    )?;
    let backlog: u64 = members.iter().filter_map(|member| member.backlog).sum();
    writeln!(out, "backlog   {backlog}\n")?;
    table(members, out)
}

fn table(members: &[Member], out: &mut dyn io::Write) -> io::Result<()> {
    let head = [
        "REPLICA", "STATE", "ZONE", "BUILD", "BUCKETS", "EPOCHS", "GATE", "LINK", "BACKLOG", "",
    ];
    let mut rows: Vec<[String; 10]> = vec![head.map(str::to_owned)];
    rows.extend(members.iter().map(row));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

fn row(member: &Member) -> [String; 10] {
    let unknown = || "-".to_owned();
    let epochs = match (
        member.epochs.first_key_value(),
        member.epochs.last_key_value(),
    ) {
        (Some((first, _)), Some((last, _))) if first != last => format!("{first}…{last}"),
        (Some((only, _)), _) => only.to_string(),
        (None, _) => unknown(),
    };
    [
        member.holder.clone(),
        member.state.clone(),
        member.zone.clone(),
        member.build.clone(),
        member.buckets.to_string(),
        epochs,
        member.gate.clone().unwrap_or_else(unknown),
        member.link.clone().unwrap_or_else(unknown),
        member
            .backlog
            .map_or_else(unknown, |count| count.to_string()),
        if member.leads { "leader" } else { "" }.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_people_see() {
        let member = |pod: &str, leads, backlog| Member {
            pod: pod.to_owned(),
            holder: format!("{pod}#1"),
            state: "Active".to_owned(),
            zone: "a".to_owned(),
            build: "0.1.0".to_owned(),
            leads,
            buckets: 512,
            epochs: BTreeMap::from([(3, "0-511".to_owned()), (9, "700".to_owned())]),
            link: None,
            gate: Some("open".to_owned()),
            backlog,
        };
        let status = Status {
            fleet: "zen".to_owned(),
            region: "eu".to_owned(),
            leader: Some("core-0#1".to_owned()),
            term: Some(4),
            version: 9,
            buckets: 1024,
            members: vec![
                member("core-0", true, Some(2)),
                member("core-10", false, None),
            ],
            ..Status::default()
        };
        let mut out = Vec::new();
        print(&status, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
fleet     zen, region eu
leader    core-0#1, term 4
map       version 9: 1024 of 1024 buckets owned, 0 by nobody, 0 moving
backlog   2

REPLICA    STATE   ZONE  BUILD  BUCKETS  EPOCHS  GATE  LINK  BACKLOG
core-0#1   Active  a     0.1.0  512      3…9     open  -     2        leader
core-10#1  Active  a     0.1.0  512      3…9     open  -     -
"
        );
    }
}
