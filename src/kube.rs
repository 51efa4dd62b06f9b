//! How this project talks to a Kubernetes API: one client, one way to make a call, one writer per
//! kind.
//!
//! The client's own retry is off and every failure comes back as a [`failure::Failure`] with the
//! server's code, reason and `Retry-After`: what a failure means is decided in one place, the
//! engine's `verdict`.

pub mod call;
pub mod client;
pub mod failure;
pub mod observations;
pub mod status;
pub mod waits;

/// The name under which the API server records our field ownership.
pub const FIELD_MANAGER: &str = "zen-fabric";
