//! What is sent, to what, for how long: a file that ships with the tool.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use zen_fabric::api::Ingestor;

/// The profile behind docs/performance.md.
const SHIPPED: &str = include_str!("../profiles/load.yaml");

/// A load profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) body_bytes: usize,
    pub(crate) bodies: usize,
    pub(crate) connections: usize,
    pub(crate) warm_up_seconds: u64,
    pub(crate) closed: Closed,
    pub(crate) open: Open,
    pub(crate) visible: Open,
    pub(crate) objects: Objects,
    pub(crate) ingestors: usize,
    pub(crate) crash: Crash,
    pub(crate) flags: BTreeMap<String, String>,
    pub(crate) acceptance_max_per_minute: u32,
    pub(crate) ingestor: Ingestor,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Closed {
    pub(crate) seconds: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Open {
    pub(crate) per_second: u32,
    pub(crate) seconds: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Objects {
    pub(crate) events: u64,
    pub(crate) bare_seconds: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Crash {
    pub(crate) connections: usize,
    pub(crate) per_second: u32,
    pub(crate) earliest_millis: u64,
    pub(crate) latest_millis: u64,
}

/// The profile could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read the load profile {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("understand the load profile {name}")]
    Parse {
        name: String,
        #[source]
        source: Box<serde_saphyr::Error>,
    },
}

impl Profile {
    /// The given file, or the one that ships.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Self::parse("loadtest/profiles/load.yaml", SHIPPED);
        };
        let text = fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self, Error> {
        serde_saphyr::from_str(text).map_err(|source| Error::Parse {
            name: name.to_owned(),
            source: Box::new(source),
        })
    }

    /// The Ingestor, paced or not.
    pub(crate) fn ingestor(&self, name: &str, max_per_minute: Option<u32>) -> Ingestor {
        let mut ingestor = self.ingestor.clone();
        ingestor.metadata.name = Some(name.to_owned());
        ingestor.spec.output.observation.max_per_minute = max_per_minute;
        ingestor
    }

    /// The namespace of everything that a run makes.
    pub(crate) fn namespace(&self) -> &str {
        self.ingestor
            .metadata
            .namespace
            .as_deref()
            .unwrap_or("default")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_profile_is_the_one_of_the_bars() {
        let profile = Profile::load(None).unwrap();
        assert_eq!(profile.connections, 256);
        assert_eq!(
            (profile.open.per_second, profile.open.seconds),
            (15_000, 60)
        );
        assert_eq!(profile.acceptance_max_per_minute, 6_000);
        assert_eq!(profile.namespace(), "load");
        let paced = profile.ingestor("a", Some(1));
        assert_eq!(paced.spec.output.observation.max_per_minute, Some(1));
    }
}
