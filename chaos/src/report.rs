//! docs/failover.md and its drawings, from what the scenarios left behind. The same data gives the same
//! bytes.

pub mod acceptance;
pub mod machine;
pub mod timeline;

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    check::Checked,
    contest::Reproduction,
    error::{Attempt as _, Result},
    outcome::{Bar, Measured, Outcome, Taken, Verdict},
};

/// Everything that was measured: docs/data/failover.json.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Data {
    /// The contests, and when they were held.
    pub reproduction: Option<(Reproduction, Taken)>,
    /// By scenario.
    pub outcomes: BTreeMap<String, Outcome>,
}

/// What others reach, and how the figures were obtained.
const OTHERS: &str = include_str!("report/others.md");

/// How the figures are to be read.
const HOW: &str = include_str!("report/how.md");

// === impl Data ===

impl Data {
    /// What was kept; nothing where there is no such file.
    pub fn load(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(path).attempt(format!("read {}", path.display()))?;
        serde_json::from_str(&text).attempt(format!("understand {}", path.display()))
    }

    /// Keeps it.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).attempt("write down what was measured")?;
        make_parent(path)?;
        fs::write(path, text + "\n").attempt(format!("write {}", path.display()))
    }
}

/// Writes the document and a drawing of each scenario into `docs`.
pub fn write(data: &Data, order: &[&str], docs: &Path) -> Result<()> {
    let put = |name: &str, text: String| {
        let path = docs.join(name);
        make_parent(&path)?;
        fs::write(&path, text).attempt(format!("write {}", path.display()))
    };
    put("failover.md", document(data, order))?;
    for (name, outcome) in &data.outcomes {
        put(
            &format!("failover/{name}.svg"),
            timeline::svg(&outcome.timeline),
        )?;
    }
    Ok(())
}

fn make_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |parent| {
        fs::create_dir_all(parent).attempt(format!("make {}", parent.display()))
    })
}

/// The document; scenarios in this order, those that were not run left out.
#[must_use]
pub fn document(data: &Data, order: &[&str]) -> String {
    let mut text = String::from(
        "# Failover\n\nWritten by `make chaos`: real processes on a real kube-apiserver and etcd, broken on purpose, \
         with load, API server and fleet on the same machine. The data is in [`data/failover.json`](data/failover.json).\n\n",
    );
    let outcomes: Vec<&Outcome> = order
        .iter()
        .filter_map(|name| data.outcomes.get(*name))
        .collect();
    text.push_str(&acceptance::table(&outcomes));
    text.push_str(&summary(&outcomes));
    if let Some((reproduction, taken)) = &data.reproduction {
        text.push_str(&contests(reproduction, taken));
    }
    text.push('\n');
    text.push_str(HOW);
    for outcome in outcomes {
        scenario(&mut text, outcome);
    }
    text.push('\n');
    text.push_str(OTHERS);
    text
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{what}");
    debug_assert!(written.is_ok(), "writing into a String");
}

/// One line of each scenario.
fn summary(outcomes: &[&Outcome]) -> String {
    let mut text = String::from(
        "\n## Scenarios\n\n| scenario | verdict | checks | looked at | violations |\n|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let looked: usize = outcome.checks.iter().map(|checked| checked.looked_at).sum();
        let violations: usize = outcome
            .checks
            .iter()
            .map(|checked| checked.violations)
            .sum();
        let name = &outcome.name;
        line(
            &mut text,
            format_args!(
                "| [{name}](#{name}) | {} | {} | {looked} | {violations} |",
                verdict(outcome),
                outcome.checks.len(),
            ),
        );
    }
    text
}

fn verdict(outcome: &Outcome) -> &'static str {
    match outcome.verdict() {
        Verdict::Holds => "holds",
        Verdict::Misses => "**a bar is missed**",
        Verdict::Breaks => "**a rule is broken**",
    }
}

fn contests(reproduction: &Reproduction, taken: &Taken) -> String {
    let mut text = format!(
        "\n## One Lease, two winners\n\n`chaos reproduce`, {}: two candidates and a Lease whose holder is gone, on the real API server.\n\n",
        of(taken)
    );
    for (what, score) in [
        (
            "the crate kube-leader-election 0.44, writes held until both have read",
            reproduction.rival_held,
        ),
        (
            "the same crate, two processes started at the same moment",
            reproduction.rival_raced,
        ),
        (
            "this project's elector, writes held until both have read",
            reproduction.ours_held,
        ),
        (
            "the same with its compare-and-swap taken away: that it would be seen",
            reproduction.control,
        ),
    ] {
        line(&mut text, format_args!("- {what}: {score}"));
    }
    text.push_str("\nThe crate reads the Lease, decides, and sends a merge patch without a resource version:\n\n```text\n");
    for step in &reproduction.transcript {
        line(&mut text, format_args!("{step}"));
    }
    text.push_str("```\n");
    text
}

fn scenario(text: &mut String, outcome: &Outcome) {
    let name = &outcome.name;
    let short = if outcome.short { " (short form)" } else { "" };
    line(
        text,
        format_args!("\n## {name}\n\n{}\n", outcome.hypothesis),
    );
    line(
        text,
        format_args!(
            "`make chaos S={name}`{short}, {:.0} s, {}: {}.\n",
            outcome.seconds,
            of(&outcome.taken),
            verdict(outcome)
        ),
    );
    if !outcome.measured.is_empty() {
        text.push_str(
            "| measured | n | p50 | p99 | max | asked | |\n|---|---|---|---|---|---|---|\n",
        );
        for measured in &outcome.measured {
            line(text, format_args!("{}", figures(measured)));
        }
        text.push('\n');
    }
    for checked in &outcome.checks {
        line(text, format_args!("{}", rule(checked)));
        for example in &checked.examples {
            line(
                text,
                format_args!("  - {}", example.lines().next().unwrap_or_default()),
            );
        }
    }
    let counts: Vec<String> = outcome
        .counts
        .iter()
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    line(text, format_args!("\n{}.\n", counts.join(", ")));
    line(
        text,
        format_args!(
            "![Who owned which key]({})",
            format_args!("failover/{name}.svg")
        ),
    );
    text.push_str("\n<details><summary>What was done</summary>\n\n```text\n");
    for step in &outcome.steps {
        line(
            text,
            format_args!("{:>9.1} s  {}", step.at / 1000.0, step.what),
        );
    }
    text.push_str("```\n\n</details>\n");
}

fn of(taken: &Taken) -> String {
    format!(
        "{}, commit {}, {} build, {}",
        taken.at, taken.commit, taken.build, taken.machine
    )
}

fn rule(checked: &Checked) -> String {
    let Checked {
        rule,
        looked_at,
        violations,
        ..
    } = checked;
    match (checked.holds(), looked_at) {
        (true, 0) => format!("- {rule}: nothing to look at"),
        (true, looked_at) => format!("- {rule}: {looked_at} looked at, none against it"),
        (false, looked_at) => format!("- **{rule}: {violations} of {looked_at} against it**"),
    }
}

fn figures(measured: &Measured) -> String {
    let Measured { what, unit, .. } = measured;
    let Some(figures) = &measured.figures else {
        return format!(
            "| {what} | 0 | | | | {} | {} |",
            asked(measured),
            met(measured)
        );
    };
    format!(
        "| {what}, {unit} | {} | {} | {} | {} | {} | {} |",
        figures.count,
        number(figures.p50),
        number(figures.p99),
        number(figures.max),
        asked(measured),
        met(measured)
    )
}

fn met(measured: &Measured) -> &'static str {
    match measured.met() {
        Some(true) => "met",
        Some(false) => "**not met**",
        None if measured.bar.is_some() => "too few to say",
        None => "",
    }
}

fn asked(measured: &Measured) -> String {
    let Some(Bar {
        p50,
        p99,
        most,
        least,
        count,
    }) = &measured.bar
    else {
        return String::new();
    };
    let limits = [(p50, "p50 ≤"), (p99, "p99 ≤"), (most, "≤"), (least, "≥")];
    let mut parts: Vec<String> = limits
        .into_iter()
        .filter_map(|(limit, sign)| limit.map(|limit| format!("{sign} {}", number(limit))))
        .collect();
    parts.extend(count.map(|count| format!("n ≥ {count}")));
    parts.join(", ")
}

/// Three digits are more than a shared machine repeats.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests;
