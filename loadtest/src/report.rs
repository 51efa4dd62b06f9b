//! docs/performance.md: what was measured, on what, and what others reach beside it.

mod machine;
mod plot;

use std::{fmt::Write as _, fs, path::Path};

use crate::rows::{Error, Measured};

/// What others do, measured on a machine of the same size.
const OTHERS: &str = include_str!("report/others.md");

/// The rows, in the document's order.
const ORDER: [&str; 10] = [
    "closed",
    "closed-tls",
    "closed-no-sync",
    "open",
    "visible",
    "objects",
    "memory",
    "memory-ingestors",
    "routes",
    "crash",
];

/// Keeps a result for the document.
pub(crate) fn keep(results: &Path, measured: &Measured) -> Result<(), Error> {
    fs::create_dir_all(results).map_err(Error::io("make the folder of results"))?;
    let text = serde_json::to_string_pretty(&Kept {
        commit: machine::commit(),
        measured: measured.clone(),
    })
    .map_err(Error::other("write a result"))?;
    fs::write(results.join(format!("{}.json", measured.row)), text)
        .map_err(Error::io("keep a result"))
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    commit: String,
    measured: Measured,
}

/// Writes the document and its plot into `docs`.
pub(crate) fn write(results: &Path, docs: &Path) -> Result<(), Error> {
    let mut kept = Vec::new();
    for row in ORDER {
        let path = results.join(format!("{row}.json"));
        if !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read a result"))?;
        kept.push(serde_json::from_str::<Kept>(&text).map_err(Error::other("read a result"))?);
    }
    let curves: Vec<plot::Curve<'_>> = kept
        .iter()
        .filter(|kept| !kept.measured.curve.is_empty())
        .map(|kept| plot::Curve {
            name: &kept.measured.row,
            points: &kept.measured.curve,
        })
        .collect();
    fs::create_dir_all(docs).map_err(Error::io("make the folder of the document"))?;
    fs::write(docs.join("performance.svg"), plot::svg(&curves))
        .map_err(Error::io("write the plot"))?;
    fs::write(
        docs.join("performance.md"),
        document(&kept, !curves.is_empty()),
    )
    .map_err(Error::io("write the document"))
}

fn document(kept: &[Kept], plotted: bool) -> String {
    let mut text = String::from(
        "# Performance\n\nWritten by `make load`; the crash row by `make load-crash`. The load is \
         [`loadtest/profiles/load.yaml`](../loadtest/profiles/load.yaml); generator and server share the machine.\n\n",
    );
    text.push_str(&machine::describe());
    text.push_str("\n## What was measured\n\n| what | bar | measured | |\n|---|---|---|---|\n");
    for Kept { measured, .. } in kept {
        let verdict = match measured.met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "",
        };
        line(
            &mut text,
            format_args!(
                "| {} | {} | {} | {verdict} |",
                measured.what, measured.bar, measured.result
            ),
        );
    }
    if plotted {
        text.push_str("\n![Latency by percentile](performance.svg)\n");
    }
    text.push_str(HOW);
    text.push_str("\n## Row by row\n");
    for Kept { commit, measured } in kept {
        line(&mut text, format_args!("\n### {}\n", measured.what));
        line(
            &mut text,
            format_args!(
                "`loadtest {}` at commit {commit}: {}\n",
                command(&measured.row),
                measured.result
            ),
        );
        for (name, value) in &measured.details {
            line(&mut text, format_args!("- {name}: {value}"));
        }
    }
    text.push('\n');
    text.push_str(OTHERS);
    text
}

/// The subcommand that measures a row.
fn command(row: &str) -> &str {
    match row {
        "closed-tls" | "closed-no-sync" => "closed",
        "memory-ingestors" | "routes" => "memory",
        row => row,
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{what}");
    debug_assert!(written.is_ok(), "writing into a String");
}

/// How the figures are to be read.
const HOW: &str = "\n## How\n\n\
- Only answers 202 count, and each is in a ledger. After a row the ledger is compared with the journal's tally \
(accepted = ends + backlog) and, where the row reaches the API, with every object there; a row whose books don't \
balance gives an error instead of a figure.\n\
- Closed loop: 256 connections, each sends its next request when the last one is answered; 5 s of warm-up, then 30 s.\n\
- Open loop: request n is due at start + n/rate, whatever was answered, and its latency counts from then: no coordinated omission. \
A request that was due and not sent when the time was over makes the row fail.\n\
- Requests are signed before the run (1,024 distinct bodies); what the generator itself takes is stated as CPU per event.\n\
- In these acceptance rows the engine is paced to 100 Observations a second, so that they measure the way to the journal. \
The row without fdatasync sets `ZEN_FABRIC_JOURNAL_SYNC`, which exists for this alone.\n\
- The real kube-apiserver is 1.34 with etcd 3.6, both as child processes, etcd with its fsync.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_shows_every_row_with_its_verdict() {
        let dir = tempfile::tempdir().unwrap();
        for (row, met) in [
            ("closed", Some(true)),
            ("open", Some(false)),
            ("closed-tls", None),
        ] {
            let measured = Measured {
                row: row.to_owned(),
                what: format!("what {row}"),
                bar: "bar".to_owned(),
                result: "result".to_owned(),
                met,
                details: vec![("name".to_owned(), "value".to_owned())],
                curve: vec![(0.0, 0.5), (99.0, 3.0)],
            };
            keep(dir.path(), &measured).unwrap();
        }
        write(dir.path(), dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("performance.md")).unwrap();
        assert!(text.contains("| what closed | bar | result | met |"));
        assert!(text.contains("| what open | bar | result | **not met** |"));
        assert!(text.contains("- name: value"));
        assert!(text.contains("zen-watcher"));
        let plot = fs::read_to_string(dir.path().join("performance.svg")).unwrap();
        assert_eq!(plot.matches("<polyline").count(), 3);
    }
}
