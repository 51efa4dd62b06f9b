//! A gateway's journal over the network: `proto/journal.proto` between a [`Source`] and its cores.
//!
//! ```text
//!  core                                            gateway
//!  Remote ── Watch ───────────────────────────────▶ board    tallies, facts: snapshot, changes
//!    └─ Link ── Follow: claim, fetch, commit … ──▶ session ──▶ Subscription of the log
//!                  ◀── ready, lost, records … ────    └─ MapView: who the map says holds a bucket
//! ```
//!
//! - `codec` turns messages into what the journal knows, and refuses what is malformed: pure.
//! - `server` serves a source; all that a peer can make it hold is bounded, by session.
//! - `client` is a source that comes back by itself: claims are made again under the same epochs, and
//!   nobody notices more than calls that fail as unreachable.
//! - `resolve` follows the addresses of gateways, which appear and leave.

pub mod client;
pub mod codec;
pub mod metrics;
mod pieces;
pub mod resolve;
pub mod server;
pub mod view;

#[expect(
    clippy::allow_attributes,
    reason = "generated: which lints it needs changes with the generator"
)]
pub mod pb {
    //! `proto/journal.proto`, generated.

    #![allow(
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::derive_partial_eq_without_eq,
        clippy::large_types_passed_by_value,
        clippy::or_fun_call,
        clippy::str_to_string,
        clippy::use_self,
        clippy::wildcard_enum_match_arm,
        let_underscore_drop,
        missing_debug_implementations,
        missing_docs,
        unnameable_types,
        unreachable_pub,
        unused_qualifications,
        reason = "generated"
    )]
    tonic::include_proto!("zen.fabric.journal.v1");
}

#[cfg(doc)]
use super::Source;

/// No message to a gateway is larger: it is the only one of a subscription in memory before its call
/// is counted.
pub const MESSAGE: usize = 1024 * 1024;

/// No message from a gateway is larger: a decision spec comes whole.
pub const ANSWER: usize = 2 * 1024 * 1024;

/// Longest text of a spec that is sent: above what the API server stores (1.5 MiB).
const SPEC: usize = 1792 * 1024;

/// Where records, ends and lists are cut into messages: large enough that a message costs nothing
/// beside what it carries, small enough that others get a turn.
const PIECE: usize = 256 * 1024;

/// Fetches of one subscription at work at once, on both sides: as many as keep a connection busy,
/// and no more than their records may take in memory (8 times 4 MiB, or 32 MiB where one record is
/// as large).
const FETCHES: usize = 8;

/// Calls of one subscription under way at once: a core works on at most some hundred Ingestors at a
/// time, and a group commit carries the commits of all.
const CALLS: usize = 128;

/// Bytes of bodies of one fetch; whoever asks for more gets this.
const FETCH_BYTES: usize = 4 * 1024 * 1024;

/// Records of one fetch.
const FETCH_RECORDS: u32 = 4_096;

/// The body of one record: above what a journal takes.
const BODY: usize = 32 * 1024 * 1024;
