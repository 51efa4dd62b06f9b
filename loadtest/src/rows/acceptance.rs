//! How many signed events a second are accepted, and how fast each is answered.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore};

use super::{Bench, Error, Measured, Place, curve, errors, rig::Rig};
use crate::{
    admin::imbalance,
    dev::Start,
    generator::{Outcome, Pace, Window, float},
};

/// Which of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// As fast as answers come.
    Closed,
    /// The same over TLS.
    ClosedTls,
    /// The same without fdatasync.
    ClosedNoSync,
    /// On a schedule.
    Open,
}

impl Row {
    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClosedTls => "closed-tls",
            Self::ClosedNoSync => "closed-no-sync",
            Self::Open => "open",
        }
    }
}

/// Measures one row.
pub(crate) async fn measure(bench: &Bench, row: Row) -> Result<Measured, Error> {
    let place = bench.place()?;
    let mut start = bench.start(&place.data());
    let mut tls = None;
    match row {
        Row::ClosedTls => {
            let (with_files, config) = certificates(start, &place)?;
            start = with_files;
            tls = Some(config);
        }
        Row::ClosedNoSync => {
            start.environment = BTreeMap::from([(
                "ZEN_FABRIC_JOURNAL_SYNC".to_owned(),
                "unsafe-no-fdatasync-loses-acknowledged-events".to_owned(),
            )]);
        }
        Row::Closed | Row::Open => {}
    }
    let profile = &bench.profile;
    let per_minute = Some(profile.acceptance_max_per_minute);
    let mut rig = Rig::start(bench, place, &start, tls, per_minute).await?;
    let (pace, seconds) = match row {
        Row::Open => (
            Pace::Open {
                per_second: profile.open.per_second,
            },
            profile.open.seconds,
        ),
        Row::Closed | Row::ClosedTls | Row::ClosedNoSync => (Pace::Closed, profile.closed.seconds),
    };
    let window = Window {
        warm_up: Duration::from_secs(profile.warm_up_seconds),
        measure: Duration::from_secs(seconds),
        at_most: None,
    };
    let before = rig.dev.cpu_seconds()?;
    let outcome = rig.send(profile.connections, pace, window)?;
    let server_seconds = rig.dev.cpu_seconds()? - before;
    let mut measured = judge(row, &outcome, profile.open.per_second);
    let per_event = |cpu: f64| format!("{:.1} µs", cpu * 1e6 / float(outcome.acknowledged.max(1)));
    measured.details.extend([
        (
            "CPU per event, server".to_owned(),
            per_event(server_seconds),
        ),
        (
            "CPU per event, generator".to_owned(),
            per_event(outcome.cpu.as_secs_f64()),
        ),
        (
            "server's memory at the end".to_owned(),
            format!("{} MiB", rig.dev.resident()? >> 20),
        ),
        books(&rig, &outcome).await?,
    ]);
    rig.dev.kill()?;
    Ok(measured)
}

/// Compares the ledger with the journal's tally; a run whose books don't balance counts for nothing.
async fn books(rig: &Rig, outcome: &Outcome) -> Result<(String, String), Error> {
    let tally = rig.admin.tally(&rig.uid).await?;
    let off = imbalance(&tally);
    if off != 0 {
        return Err(Error::Wrong(format!(
            "the journal's tally is off by {off}: {tally:?}"
        )));
    }
    let acknowledged = rig.ledger.count();
    if tally.requests != acknowledged {
        return Err(Error::Wrong(format!(
            "the ledger holds {acknowledged} acknowledged ids and the journal {} accepted ones; {} requests were not answered",
            tally.requests, outcome.unanswered
        )));
    }
    Ok((
        "ledger = journal's accepted = ends + backlog".to_owned(),
        format!(
            "{acknowledged} = {} = {} + {}",
            tally.requests,
            tally.requests - tally.backlog,
            tally.backlog
        ),
    ))
}

fn judge(row: Row, outcome: &Outcome, wanted: u32) -> Measured {
    let (mean, p50, p99) = (
        outcome.mean_millis(),
        outcome.millis(50.0),
        outcome.millis(99.0),
    );
    let clean = outcome.error_count() == 0 && outcome.unanswered == 0;
    let (what, bar, met) = match row {
        Row::Closed => (
            "accepted, closed loop, 256 connections",
            "≥ 30,000/s, p99 ≤ 2 × mean, 0 errors",
            Some(clean && outcome.per_second() >= 30_000.0 && p99 <= 2.0 * mean),
        ),
        Row::ClosedTls => ("the same over TLS", "", None),
        Row::ClosedNoSync => ("the same without fdatasync", "", None),
        Row::Open => (
            "accepted, open loop, 15,000/s for 60 s",
            "p99 ≤ 5 ms",
            Some(clean && outcome.late == 0 && p99 <= 5.0),
        ),
    };
    let rate = match row {
        Row::Open => format!("{:.0}/s of {wanted}/s", outcome.per_second()),
        Row::Closed | Row::ClosedTls | Row::ClosedNoSync => {
            format!("{:.0}/s", outcome.per_second())
        }
    };
    Measured {
        row: row.name().to_owned(),
        what: what.to_owned(),
        bar: bar.to_owned(),
        result: format!("{rate}; mean {mean:.2} ms, p50 {p50:.2} ms, p99 {p99:.2} ms"),
        met,
        details: vec![
            (
                "p99.9, p99.99, max".to_owned(),
                format!(
                    "{:.2} ms, {:.2} ms, {:.2} ms",
                    outcome.millis(99.9),
                    outcome.millis(99.99),
                    outcome.millis(100.0)
                ),
            ),
            ("errors".to_owned(), errors(outcome)),
            (
                "not answered, not sent in time".to_owned(),
                format!("{}, {}", outcome.unanswered, outcome.late),
            ),
        ],
        curve: curve(outcome),
    }
}

/// A certificate for `localhost`: its files for the server, trust in it for the generator.
fn certificates(start: Start, place: &Place) -> Result<(Start, Arc<ClientConfig>), Error> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .map_err(Error::other("make a certificate"))?;
    let (cert, key) = (place.file("cert.pem"), place.file("key.pem"));
    fs::write(&cert, made.cert.pem()).map_err(Error::io("write the certificate"))?;
    fs::write(&key, made.signing_key.serialize_pem()).map_err(Error::io("write the key"))?;
    let mut roots = RootCertStore::empty();
    roots
        .add(made.cert.der().clone())
        .map_err(Error::other("trust the certificate"))?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let start = start
        .flag("tls-cert", cert.display().to_string())
        .flag("tls-key", key.display().to_string());
    Ok((start, Arc::new(config)))
}
