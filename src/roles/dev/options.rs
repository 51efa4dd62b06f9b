//! From the configuration to the rooms' own options.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    config::{self, Config, SyncMode},
    embedded,
    engine::start as engine,
    journal::{Holder, wal},
    ops::time::Clock,
};

pub(super) fn journal(config: &Config) -> wal::Options {
    let defaults = wal::Options::default();
    let keys = usize::try_from(config.journal.keys).unwrap_or(usize::MAX);
    wal::Options {
        segment_bytes: config.journal.segment_bytes.0,
        total_bytes: config.journal.total_bytes.0,
        share_bytes: config.journal_share().0,
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

/// The one core of a `dev` process; replicas get names of their own.
const HOLDER: &str = "zen-fabric-core-0#1";

pub(super) fn engine(config: &config::Engine) -> engine::Options {
    engine::Options {
        holder: Holder(HOLDER.into()),
        seed: rand::random(),
        status_writes_per_second: config.status_writes_per_second,
        sweep_every: config.sweep_interval,
    }
}

pub(super) fn embedded(config: &Config, clock: &Arc<dyn Clock>) -> embedded::Options {
    embedded::Options {
        data_dir: Some(config.data_dir.join("api")),
        bind: SocketAddr::from(([127, 0, 0, 1], config.api.port)),
        clock: Arc::clone(clock),
    }
}
