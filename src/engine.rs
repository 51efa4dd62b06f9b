//! From the journal to Observations.
//!
//! ```text
//!  record + decision spec ──▶ explode ──▶ normalize ──▶ filter ──▶ dedup ──▶ items ──▶ writer ──▶ API
//!                             └───────────── pure: spec, pipeline ─────────────┘     └── async ──┘
//! ```

pub mod aggregate;
pub mod cel;
pub mod hold;
pub mod pace;
pub mod pipeline;
pub mod queue;
pub mod times;
pub mod verdict;
