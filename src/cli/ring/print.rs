//! What `ring` prints: text for people, JSON for programs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Output,
    read::{Fleet, Found, Judged},
};
use crate::{
    cli::{Exit, Failure, Streams},
    coordination::{
        assign::{Account, accounts, assign},
        buckets::Buckets,
        explain::{Choice, Explanation, Why},
        names::Holder,
        preview::{Share, Shift},
        records::{Member, MemberState, ShardMapSpec, Stage},
        text,
    },
    journal::Epoch,
};

/// A replica or an owner that is none any more, with what it has.
struct Row<'a> {
    holder: Holder,
    member: Option<&'a Member>,
    account: Account,
    standby_for: usize,
    epochs: usize,
    build: Option<&'a str>,
    /// Its Lease is there and the map doesn't name it yet.
    joins: bool,
}

impl Row<'_> {
    /// How it is; `None`: it is no member any more.
    fn state(&self) -> Option<&'static str> {
        let member = self.member?;
        Some(if self.joins {
            "Joins"
        } else {
            state(member.state)
        })
    }
}

pub(super) fn show(
    fleet: &Fleet,
    output: Output,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let outlook = fleet.outlook();
    let rows = rows(fleet, &outlook);
    match output {
        Output::Json => print(&show_json(fleet, &rows), streams),
        Output::Text => show_text(fleet, &rows, streams),
    }
}

fn rows<'a>(fleet: &'a Fleet, outlook: &'a ShardMapSpec) -> Vec<Row<'a>> {
    let mut wanted = fleet.wanted();
    let layout = assign(&wanted);
    // What each has today: a bucket that is under way is still its owner's.
    wanted.current = fleet.current();
    let mut accounts = accounts(&wanted);
    let mut members: BTreeMap<Holder, Option<&Member>> = accounts
        .keys()
        .map(|holder| (holder.clone(), None))
        .collect();
    members.extend(
        outlook
            .holders()
            .map(|(holder, member)| (holder, Some(member))),
    );
    members
        .into_iter()
        .map(|(holder, member)| {
            let standby = |place: &&crate::coordination::layout::Place| {
                place.standby.as_ref() == Some(&holder)
            };
            let grants = fleet
                .map
                .grants
                .values()
                .filter(|grant| grant.owner == holder);
            let epochs: BTreeSet<Epoch> = grants.map(|grant| grant.epoch).collect();
            Row {
                member,
                account: accounts.remove(&holder).unwrap_or_default(),
                standby_for: layout.values().filter(standby).count(),
                epochs: epochs.len(),
                build: fleet
                    .leases
                    .iter()
                    .find(|lease| lease.holder == holder)
                    .map(|lease| &*lease.build),
                joins: member.is_some() && fleet.map.state(&holder).is_none(),
                holder,
            }
        })
        .collect()
}

fn show_text(fleet: &Fleet, rows: &[Row<'_>], streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let map = &fleet.map;
    writeln!(
        streams.out,
        "Version {} of term {}, written by {}; {} of {} buckets owned, {} moving.\n",
        map.version,
        map.term,
        map.leader,
        map.grants.len(),
        map.buckets,
        map.moves.len()
    )?;
    let weighed = fleet.loads.is_some();
    let mut table = vec![
        [
            "REPLICA",
            "ZONE",
            "WEIGHT",
            "STATE",
            "BUILD",
            "BUCKETS",
            "INGESTORS",
            "AT MOST",
            "STANDBY FOR",
            "EPOCHS",
        ]
        .map(str::to_owned),
    ];
    for row in rows {
        let known = |of: &dyn Fn(&Member) -> String| row.member.map_or_else(|| "-".into(), of);
        let bound = row.account.bound.filter(|_| weighed);
        table.push([
            row.holder.to_string(),
            known(&|member| or_dash(&member.zone)),
            known(&|member| member.weight.to_string()),
            row.state().unwrap_or("gone").to_owned(),
            or_dash(row.build.unwrap_or_default()),
            row.account.buckets.len().to_string(),
            number(Some(row.account.load).filter(|_| weighed)),
            number(bound),
            row.standby_for.to_string(),
            row.epochs.to_string(),
        ]);
    }
    columns(&table, streams)?;
    for listed in text::encode(map).moves {
        writeln!(
            streams.out,
            "\n{} from {} to {} since version {}: {}",
            listed.buckets,
            listed.from,
            listed.to,
            listed.since,
            stage(listed.stage.into())
        )?;
    }
    Ok(Exit::Success)
}

fn show_json(fleet: &Fleet, rows: &[Row<'_>]) -> Value {
    let map = &fleet.map;
    let weighed = fleet.loads.is_some();
    let replica = |row: &Row<'_>| {
        json!({
            "holder": row.holder.to_string(),
            "zone": row.member.map(|member| &*member.zone),
            "weight": row.member.map(|member| member.weight),
            "state": row.state(),
            "build": row.build,
            "buckets": set(&row.account.buckets),
            "ingestors": weighed.then_some(row.account.load),
            "bound": row.account.bound.filter(|_| weighed),
            "standbyFor": row.standby_for,
            "epochs": row.epochs,
        })
    };
    let moves: Vec<Value> = text::encode(map)
        .moves
        .iter()
        .map(|listed| serde_json::to_value(listed).unwrap_or_default())
        .collect();
    json!({
        "term": map.term, "version": map.version, "leader": map.leader.to_string(),
        "buckets": map.buckets, "owned": map.grants.len(),
        "replicas": rows.iter().map(replica).collect::<Vec<_>>(),
        "moves": moves,
    })
}

pub(super) fn explanation(
    found: &Found,
    explained: &Explanation,
    output: Output,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    match output {
        Output::Json => print(&explanation_json(found, explained), streams),
        Output::Text => {
            let bucket = explained.bucket.0;
            match &found.uid {
                Some(uid) => writeln!(
                    streams.out,
                    "Key:     {} lies in bucket {bucket}: the top ten bits of the FNV-1a hash of its UID, {uid}.",
                    found.key
                )?,
                None => writeln!(streams.out, "Bucket:  {bucket}")?,
            }
            write!(streams.out, "{explained}")?;
            Ok(Exit::Success)
        }
    }
}

fn explanation_json(found: &Found, explained: &Explanation) -> Value {
    let choice = |choice: &Choice| {
        json!({
            "holder": choice.holder.to_string(), "zone": &*choice.zone,
            "load": choice.load, "bound": choice.bound,
        })
    };
    json!({
        "key": found.key,
        "uid": found.uid,
        "bucket": explained.bucket.0,
        "owner": explained.owner.as_ref().map(|(owner, _)| owner.to_string()),
        "epoch": explained.owner.as_ref().map(|(_, epoch)| epoch.0),
        "reason": reason(&explained.why),
        "why": explained.why.to_string(),
        "standby": explained.standby.as_ref().map(ToString::to_string),
        "choices": explained.choices.iter().map(choice).collect::<Vec<_>>(),
    })
}

/// One word for programs.
const fn reason(why: &Why) -> &'static str {
    match why {
        Why::Unowned => "Unowned",
        Why::OwnerGone => "OwnerGone",
        Why::Moving { .. } => "Moving",
        Why::Leaving(_) => "Leaving",
        Why::First => "FirstChoice",
        Why::FirstIsFull(_) => "FirstChoiceFull",
        Why::FirstIsOlder(_) => "FirstChoiceOlder",
        Why::Stays(_) => "Stays",
    }
}

pub(super) fn diff(
    diff: &Judged,
    output: Output,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    match output {
        Output::Json => print(&diff_json(diff), streams),
        Output::Text => diff_text(diff, streams),
    }
}

fn diff_text(judged: &Judged, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let Judged { diff, weighed } = judged;
    let load = |load: u64| number(Some(load).filter(|_| *weighed));
    let moved = diff.moved();
    if diff.shifts.is_empty() {
        writeln!(streams.out, "Nothing moves.\n")?;
    } else {
        writeln!(
            streams.out,
            "{} buckets with {} Ingestors move.\n",
            moved.buckets,
            load(moved.load)
        )?;
        for shift in &diff.shifts {
            writeln!(
                streams.out,
                "{} → {}: {} buckets with {} Ingestors: {}",
                somebody(shift.from.as_ref()),
                somebody(shift.to.as_ref()),
                shift.buckets.len(),
                load(shift.load),
                shift.buckets
            )?;
        }
        writeln!(streams.out)?;
    }
    let mut table = vec![["REPLICA", "BUCKETS", "AFTER", "INGESTORS", "AFTER"].map(str::to_owned)];
    for (holder, (before, after)) in &diff.shares {
        table.push([
            holder.to_string(),
            before.buckets.to_string(),
            after.buckets.to_string(),
            load(before.load),
            load(after.load),
        ]);
    }
    columns(&table, streams)?;
    Ok(Exit::Success)
}

fn diff_json(judged: &Judged) -> Value {
    let Judged { diff, weighed } = judged;
    let load = |load: u64| Some(load).filter(|_| *weighed);
    let share = |share: &Share| json!({ "buckets": share.buckets, "ingestors": load(share.load) });
    let shift = |shift: &Shift| {
        json!({
            "from": shift.from.as_ref().map(ToString::to_string),
            "to": shift.to.as_ref().map(ToString::to_string),
            "buckets": set(&shift.buckets),
            "ingestors": load(shift.load),
        })
    };
    let shares: serde_json::Map<String, Value> = diff
        .shares
        .iter()
        .map(|(holder, (before, after))| {
            let sides = json!({ "before": share(before), "after": share(after) });
            (holder.to_string(), sides)
        })
        .collect();
    json!({
        "moved": share(&diff.moved()),
        "moves": diff.shifts.iter().map(shift).collect::<Vec<_>>(),
        "replicas": shares,
    })
}

fn print(value: &Value, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    writeln!(streams.out, "{}", serde_json::to_string_pretty(value)?)?;
    Ok(Exit::Success)
}

/// Rows with their cells below each other; nothing hangs over at the end of a line.
fn columns<const N: usize>(
    table: &[[String; N]],
    streams: &mut Streams<'_>,
) -> Result<(), std::io::Error> {
    let mut widths = [0; N];
    for row in table {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in table {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(streams.out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn set(buckets: &Buckets) -> String {
    buckets.to_string()
}

/// A number, or that nobody knows it.
fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

fn somebody(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "nobody".to_owned(), ToString::to_string)
}

const fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Active => "Active",
        MemberState::Draining => "Draining",
        MemberState::Unreachable => "Unreachable",
        MemberState::Down => "Down",
    }
}

const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Ask => "its owner is asked",
        Stage::Warn => "its owner was warned",
        Stage::Fence => "taken from its owner",
    }
}
