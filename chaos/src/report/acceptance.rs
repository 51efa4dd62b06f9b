//! The acceptance table: each row with the best that others are known to reach.

use std::collections::BTreeMap;

use crate::outcome::{Measured, Outcome};

use super::{line, met, number};

/// A row: which quantity of which scenario stands for it.
struct Wanted {
    what: &'static str,
    elsewhere: &'static str,
    bar: &'static str,
    /// Scenario, and the quantity as the scenario calls it.
    from: &'static [(&'static str, &'static str)],
}

const ROWS: &[Wanted] = &[
    Wanted {
        what: "kill -9 → another pod acts on the dead one's keys; owners and leaders in turn",
        elsewhere: "13–24 s (client-go's defaults), 30 s (kubernetes-controller-sharding), 50–104 s (Knative)",
        bar: "p50 ≤ 0.3 s, p99 ≤ 1 s over ≥ 100 kills",
        from: &[("kill", names::TAKEOVER)],
    },
    Wanted {
        what: "the same, of two replicas or with two killed at once",
        elsewhere: "the same",
        bar: "p99 ≤ 2.5 s",
        from: &[
            ("kill-both", names::TAKEOVER),
            ("kill-one-of-two", names::TAKEOVER),
        ],
    },
    Wanted {
        what: "silence (SIGSTOP; packets dropped) → the same",
        elsewhere: "the same",
        bar: "p50 ≤ 5 s, p99 ≤ 7 s",
        from: &[("pause", names::TAKEOVER), ("isolate", names::TAKEOVER)],
    },
    Wanted {
        what: "SIGSTOP 60 s, SIGCONT: stale writes accepted",
        elsewhere: "101 in 10 s (client-go, measured)",
        bar: "0",
        from: &[("pause", names::STALE)],
    },
    Wanted {
        what: "rolling all pods under load: the gap of a key",
        elsewhere: "15 s or more of each",
        bar: "p99 ≤ 100 ms, 0 lost, 0 doubled",
        from: &[("rolling", names::GAP), ("rolling", names::LOST)],
    },
    Wanted {
        what: "efficiency at 5 replicas: work per CPU against one",
        elsewhere: "63–65 %",
        bar: "≥ 90 %",
        from: &[("efficiency", names::EFFICIENCY)],
    },
    Wanted {
        what: "CPU of three replicas against one, for the same work",
        elsewhere: "not published",
        bar: "≤ 110 %",
        from: &[("efficiency", names::THREE)],
    },
    Wanted {
        what: "movement when a pod dies, against the minimum",
        elsewhere: "1.00–1.04",
        bar: "≤ 1.05",
        from: &[("kill", names::MOVEMENT)],
    },
    Wanted {
        what: "gossip per node at 10 nodes",
        elsewhere: "10 KB/s (chitchat at 300 ms)",
        bar: "≤ 2 KB/s with framing",
        from: &[("gossip", names::GOSSIP)],
    },
    Wanted {
        what: "two busy cores, 10 pods: takeovers that nothing caused",
        elsewhere: "not published",
        bar: "0 in 10 min",
        from: &[("quiet", names::TAKEOVERS)],
    },
    Wanted {
        what: "gossip blocked for all pods: moves; a pod killed meanwhile",
        elsewhere: "not published",
        bar: "0 in 10 min, 0 lost; taken over ≤ 25 s",
        from: &[
            ("gossip-blocked", names::MOVES),
            ("gossip-blocked", names::TAKEOVER),
        ],
    },
    Wanted {
        what: "API server away for 5 min: work resumes after",
        elsewhere: "the process exits",
        bar: "≤ 2 s, 0 restarts, 0 declared dead",
        from: &[("api-away", names::RESUMES), ("api-away", names::DEAD)],
    },
    Wanted {
        what: "etcd stalled for 5 min: work resumes after",
        elsewhere: "the process exits",
        bar: "≤ 2 s, 0 restarts, 0 declared dead",
        from: &[
            ("etcd-stalled", names::RESUMES),
            ("etcd-stalled", names::DEAD),
        ],
    },
    Wanted {
        what: "an operator deletes, restores or edits Lease and ShardMap: healed after",
        elsewhere: "not published",
        bar: "≤ 2 s, no double effect",
        from: &[("operator", names::HEALED)],
    },
];

/// What scenarios call their quantities, where the table looks for them.
pub mod names {
    /// Milliseconds until another pod acts on a key.
    pub const TAKEOVER: &str = "until another pod acts on a key of the dead one";
    /// Writes of stale owners that were accepted.
    pub const STALE: &str = "stale writes accepted";
    /// The longest that an event of a key waited, while a pod was replaced.
    pub const GAP: &str = "gap of a key whose pod is replaced";
    /// Events lost, and effects doubled.
    pub const LOST: &str = "events lost, and effects doubled";
    /// Work per CPU of five, against one.
    pub const EFFICIENCY: &str = "work per CPU of five replicas against one";
    /// CPU of three, against one.
    pub const THREE: &str = "CPU of three replicas against one";
    /// Buckets moved when a pod dies, against what had to.
    pub const MOVEMENT: &str = "buckets moved when a pod dies, against the minimum";
    /// Bytes of gossip.
    pub const GOSSIP: &str = "sent per node";
    /// Takeovers.
    pub const TAKEOVERS: &str = "takeovers";
    /// Changes of owner.
    pub const MOVES: &str = "buckets that moved while gossip was blocked";
    /// Milliseconds from the API's return.
    pub const RESUMES: &str = "until a key is worked on after the outage";
    /// Holders declared dead.
    pub const DEAD: &str = "declared dead";
    /// Milliseconds from an operator's change.
    pub const HEALED: &str = "until every key is worked on and the map is sound";
}

pub(super) fn table(outcomes: &[&Outcome]) -> String {
    let by_name: BTreeMap<&str, &Outcome> = outcomes
        .iter()
        .map(|outcome| (outcome.name.as_str(), *outcome))
        .collect();
    let mut text = String::from("| what | elsewhere | bar | measured |\n|---|---|---|---|\n");
    for row in ROWS {
        let cells: Vec<String> = row
            .from
            .iter()
            .filter_map(|(scenario, what)| {
                let outcome = by_name.get(scenario)?;
                let measured = outcome
                    .measured
                    .iter()
                    .find(|measured| measured.what == *what)?;
                Some(format!(
                    "[{scenario}](#{scenario}): {}",
                    cell(measured, outcome.short)
                ))
            })
            .collect();
        let measured = if cells.is_empty() {
            "not measured".to_owned()
        } else {
            cells.join("; ")
        };
        let Wanted {
            what,
            elsewhere,
            bar,
            ..
        } = row;
        line(
            &mut text,
            format_args!("| {what} | {elsewhere} | {bar} | {measured} |"),
        );
    }
    text
}

fn cell(measured: &Measured, short: bool) -> String {
    let Some(figures) = &measured.figures else {
        return "nothing".to_owned();
    };
    let unit = &measured.unit;
    let value = if figures.count == 1 {
        format!("{} {unit}", number(figures.max))
    } else {
        format!(
            "p50 {}, p99 {}, max {} {unit} (n = {})",
            number(figures.p50),
            number(figures.p99),
            number(figures.max),
            figures.count
        )
    };
    let verdict = met(measured);
    let comma = if verdict.is_empty() { "" } else { ", " };
    let form = if short { ", short form" } else { "" };
    format!("{value}{comma}{verdict}{form}")
}
