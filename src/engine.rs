//! From the journal to Observations.
//!
//! ```text
//!  record + decision spec ──▶ explode ──▶ normalize ──▶ filter ──▶ dedup ──▶ items ──▶ writer ──▶ API
//!                             └───────────── pure: spec, pipeline ─────────────┘     └── async ──┘
//! ```

pub mod aggregate;
pub mod hold;
pub mod ingestors;
pub mod limiter;
pub mod metrics;
pub mod pace;
pub mod pipeline;
pub mod queue;
pub mod specs;
pub mod verdict;
pub mod writer;
