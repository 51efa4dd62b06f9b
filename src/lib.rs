//! Zen Fabric: a Kubernetes-native fabric for dynamic webhooks and cluster events.
//!
//! ```text
//!  provider ──▶ gateway ──append──▶ journal ──subscribe──▶ engine ──▶ Kubernetes API
//!               verify, limit,      durable,               explode, normalize,   Observation,
//!               replay; 2xx only    one queue              filter, dedup         status
//!               after append        per Ingestor
//! ```
//!
//! Rooms are named by what they do, in the order in which data passes through them. Pure code (no
//! async, no clock, no sockets, no kube client) and its async edge live in the same room, in
//! different files; `tests/architecture.rs` holds the table of pure files.

pub mod api;
pub mod cli;
pub mod config;
pub mod embedded;
pub mod engine;
pub mod gateway;
pub mod journal;
pub mod kube;
pub mod ops;
pub mod retention;
pub mod roles;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
