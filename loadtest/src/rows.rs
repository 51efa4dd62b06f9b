//! The rows of docs/performance.md: each measures one thing, in a data directory of its own.

pub(crate) mod acceptance;
pub(crate) mod crash;
pub(crate) mod footprint;
pub(crate) mod objects;
mod rig;
pub(crate) mod visible;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    admin, cluster,
    dev::{self, Start},
    generator::{self, Inputs, OnBreak, Outcome, Pace, Window},
    profile::Profile,
};

/// Why a row could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Dev(#[from] dev::Error),
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Admin(#[from] admin::Error),
    #[error("start the real kube-apiserver")]
    TestBed(#[from] zen_fabric::testing::cluster::Error),
    #[error("{attempt}")]
    Io {
        attempt: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{attempt}")]
    Other {
        attempt: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the run counts for nothing: {0}")]
    Wrong(String),
}

impl Error {
    pub(crate) fn io(attempt: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { attempt, source }
    }

    pub(crate) fn other<E>(attempt: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Other {
            attempt,
            source: source.into(),
        }
    }
}

/// What a row gave, as it is kept between runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    /// The subcommand that measured it.
    pub(crate) row: String,
    /// What was measured.
    pub(crate) what: String,
    /// What is asked of it; empty where nothing is.
    pub(crate) bar: String,
    /// What came out.
    pub(crate) result: String,
    /// Whether the bar was met; absent where there is none.
    pub(crate) met: Option<bool>,
    /// More figures, by name.
    pub(crate) details: Vec<(String, String)>,
    /// Percentile and milliseconds, for the plot; empty where there is no such curve.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// What every row is given.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) profile: Profile,
    pub(crate) binary: PathBuf,
    /// Where data directories are made: on the disk that is measured.
    pub(crate) scratch: PathBuf,
}

/// A data directory and a ledger, removed at the end.
#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Bench {
    pub(crate) fn place(&self) -> Result<Place, Error> {
        fs::create_dir_all(&self.scratch).map_err(Error::io("make the scratch directory"))?;
        let dir = tempfile::Builder::new()
            .prefix("zen-load-")
            .tempdir_in(&self.scratch)
            .map_err(Error::io("make a data directory"))?;
        Ok(Place { dir })
    }

    /// `dev` with the profile's flags on a data directory.
    pub(crate) fn start(&self, data_dir: &Path) -> Start {
        Start {
            binary: self.binary.clone(),
            data_dir: data_dir.to_owned(),
            flags: self.profile.flags.clone(),
            environment: BTreeMap::new(),
        }
    }
}

/// Names a run, so that ids of two runs never meet.
pub(crate) fn run_id() -> u32 {
    rand::random()
}

/// Runs the generator on a thread of its own.
pub(crate) fn generate(
    inputs: Inputs<'_>,
    pace: Pace,
    window: Window,
    on_break: OnBreak,
) -> Result<Outcome, Error> {
    let stop = AtomicBool::new(false);
    // The runtime's other threads go on with what they do.
    tokio::task::block_in_place(|| generator::run(inputs, pace, window, on_break, &stop))
        .map_err(Error::io("generate load"))
}

/// Percentiles for the plot, denser towards the tail.
pub(crate) fn curve(outcome: &Outcome) -> Vec<(f64, f64)> {
    [
        0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999,
    ]
    .into_iter()
    .map(|percentile| (percentile, outcome.millis(percentile)))
    .collect()
}

/// What the errors of a run were.
pub(crate) fn errors(outcome: &Outcome) -> String {
    let kinds: Vec<String> = outcome
        .errors
        .iter()
        .map(|(what, count)| format!("{count} × {what}"))
        .collect();
    if kinds.is_empty() {
        "none".to_owned()
    } else {
        kinds.join(", ")
    }
}
