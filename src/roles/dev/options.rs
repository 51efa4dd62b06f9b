//! From the configuration to the rooms' own options.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    config::{self, Config, SyncMode},
    embedded, engine, gateway,
    journal::wal,
    ops::time::Clock,
};

/// Memory is what bounds a size here: on the machines that this runs on the two are equal.
fn size(bytes: config::Bytes) -> usize {
    usize::try_from(bytes.0).unwrap_or(usize::MAX)
}

pub(super) fn gateway(config: &config::Gateway) -> gateway::Options {
    let files = config.tls_cert.clone().zip(config.tls_key.clone());
    gateway::Options {
        bind: SocketAddr::new(config.bind, config.port),
        tls: files.map(|(certificate, key)| gateway::TlsFiles { certificate, key }),
        allow_plain_http: config.allow_plain_http,
        public_url: config.public_url.clone(),
        max_connections: config.max_connections,
        max_streams: config.max_streams,
        max_headers: config.max_headers,
        max_header_bytes: size(config.max_header_bytes),
        max_body_bytes: size(config.max_body_bytes),
        header_timeout: config.header_timeout,
        body_timeout: config.body_timeout,
        idle_timeout: config.idle_timeout,
        max_wait: config.max_wait,
        max_waiters: config.max_waiters,
        trusted_proxies: config.trusted_proxies.clone(),
        address_failures: (config.address_failures_per_second, config.address_failures_burst),
    }
}

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

pub(super) fn engine(config: &config::Engine) -> engine::Options {
    engine::Options {
        status_writes_per_second: config.status_writes_per_second,
        min_concurrency: config.min_concurrency,
        max_concurrency: config.max_concurrency,
        sweep_interval: config.sweep_interval,
        sweep_deletes_per_second: config.sweep_deletes_per_second,
    }
}

pub(super) fn embedded(config: &Config, clock: &Arc<dyn Clock>) -> embedded::Options {
    embedded::Options {
        data_dir: Some(config.data_dir.join("api")),
        bind: SocketAddr::from(([127, 0, 0, 1], config.api.port)),
        clock: Arc::clone(clock),
    }
}
