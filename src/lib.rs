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

#![cfg_attr(
    test,
    allow(
        clippy::allow_attributes,
        clippy::duration_suboptimal_units,
        clippy::float_cmp,
        clippy::format_push_string,
        clippy::let_underscore_must_use,
        clippy::needless_for_each,
        clippy::redundant_clone,
        clippy::string_slice,
        clippy::too_many_lines,
        clippy::unchecked_time_subtraction,
        clippy::unwrap_in_result,
        clippy::wildcard_enum_match_arm,
        clippy::zero_sized_map_values,
        reason = "unit tests; the same code without them is linted whole"
    )
)]

pub mod api;
pub mod cli;
pub mod config;
pub mod coordination;
pub mod embedded;
pub mod engine;
pub mod gateway;
pub mod journal;
pub mod kube;
pub mod ops;
pub mod peer;
pub mod retention;
pub mod roles;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
