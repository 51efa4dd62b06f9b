//! From the journal to Observations.
//!
//! ```text
//!  record + decision spec ──▶ explode ──▶ normalize ──▶ filter ──▶ dedup ──▶ items ──▶ writer ──▶ API
//!                             └───────────── pure: spec, pipeline ─────────────┘     └── async ──┘
//! ```

pub mod body;
pub mod cel;
mod decide;
pub mod dedup;
mod details;
mod explode;
mod field;
mod filter;
pub mod names;
mod normalize;
pub mod pipeline;
pub mod text;
pub mod times;
pub mod vocabulary;
