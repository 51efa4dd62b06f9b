//! From the configuration to the rooms' own options.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    config::{self, Config, SyncMode},
    embedded,
    engine::start as engine,
    journal::wal,
    ops::time::Clock,
};

pub(super) fn journal(config: &Config) -> wal::Options {
    let defaults = wal::Options::default();
    let keys = usize::try_from(config.journal.keys).unwrap_or(usize::MAX);
    wal::Options {
        segment_bytes: config.journal.segment_bytes.0,
        total_bytes: config.journal.total_bytes.0,
        share_bytes: config.journal_share().0,
        record_bytes: config.largest_record().as_usize(),
        keys,
        keys_per_ingestor: keys / 4,
        letter_bytes: config.journal.letter_bytes.0,
        letter_age: config.journal.letter_age,
        durability: match config.journal.sync {
            SyncMode::Durable => wal::Durability::Synced,
            SyncMode::UnsafeNoSync => wal::Durability::Unsafe,
        },
        ..defaults
    }
}

pub(super) fn engine(config: &config::Engine, pod_uid: &str) -> engine::Options {
    engine::Options::from_config(config, pod_uid.to_owned(), rand::random())
}

pub(super) fn embedded(config: &Config, clock: &Arc<dyn Clock>) -> embedded::Options {
    embedded::Options {
        data_dir: Some(config.data_dir.join("api")),
        bind: SocketAddr::from(([127, 0, 0, 1], config.api.port)),
        clock: Arc::clone(clock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_defaults_are_those_of_the_configuration() {
        let told = journal(&Config::default());
        let defaults = wal::Options::default();
        assert!(told.record_bytes <= defaults.record_bytes);
        assert_eq!(told.validate(), Ok(()));
        let told = wal::Options {
            record_bytes: defaults.record_bytes,
            ..told
        };
        assert_eq!(told, defaults);
    }
}
