//! From the journal to Observations.
//!
//! ```text
//!  record + decision spec ──▶ explode ──▶ normalize ──▶ filter ──▶ dedup ──▶ items ──▶ writer ──▶ API
//!                             └───────────── pure: spec, pipeline ─────────────┘     └── async ──┘
//! ```

pub mod cel;
pub mod pipeline;
pub mod times;
pub mod aggregate;
pub mod hold;
pub mod pace;
pub mod pipeline;
pub mod queue;
pub mod verdict;
