//! From the journal to Observations.
//!
//! ```text
//!  record + decision spec ──▶ explode ──▶ normalize ──▶ filter ──▶ dedup ──▶ items ──▶ writer ──▶ API
//!                             └───────────── pure: spec, pipeline ─────────────┘     └── async ──┘
//! ```

pub mod account;
pub mod aggregate;
pub mod body;
pub mod cel;
mod decide;
pub mod dedup;
mod details;
mod explode;
mod field;
mod filter;
pub mod hold;
pub mod ingestors;
pub mod limiter;
pub mod metrics;
pub mod names;
mod normalize;
pub mod pace;
pub mod pipeline;
pub mod queue;
mod report;
mod shared;
pub mod specs;
pub mod start;
pub mod status;
pub mod text;
pub mod times;
pub mod verdict;
pub mod vocabulary;
mod watch;
mod worker;
pub mod writer;
