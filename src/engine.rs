//! From the journals to Observations.
//!
//! ```text
//!  record + decision spec ──▶ explode ──▶ normalize ──▶ filter ──▶ dedup ──▶ items ──▶ writer ──▶ API
//!                             └───────────── pure: spec, pipeline ─────────────┘     └── async ──┘
//! ```
//!
//! A replica works on the buckets that it owns (`owned`, carried out by `hand`), in every log that is
//! attached (`attached`). A queue is one Ingestor's records in one log (`worker`); its pace and its
//! holds are the Ingestor's, over all logs (`account`).

pub mod account;
pub mod aggregate;
mod attached;
mod backlog;
pub mod body;
pub mod cel;
mod decide;
pub mod dedup;
mod details;
mod explode;
mod field;
mod filter;
mod hand;
pub mod hold;
pub mod ingestors;
pub mod limiter;
mod load;
pub mod metrics;
pub mod names;
mod normalize;
mod owned;
pub mod pace;
pub mod pipeline;
pub mod queue;
mod report;
mod shared;
mod silence;
mod slots;
pub mod specs;
mod standby;
pub mod start;
pub mod status;
mod stint;
mod sum;
pub mod text;
pub mod times;
pub mod verdict;
pub mod vocabulary;
mod watch;
mod worker;
pub mod writer;
