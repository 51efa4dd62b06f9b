//! Connections between this project's own processes: gRPC over mutual TLS, where the certificate
//! says who is at the other end.
//!
//! ```text
//!  connect(address, expected) ──TCP, TLS 1.3──▶ serve(listener, allowed, routes)
//!    chain, then the name in it:                  chain, then the name in it:
//!    same fleet, this role, this pod              same fleet, one of these roles
//! ```
//!
//! A certificate names its holder by one URI, `spiffe://zen-fabric/<fleet>/<role>[/<pod>]`; host
//! names and addresses play no part. Certificates are read again when their files change: each new
//! connection is made with the newest, those that stand go on. A peer that is refused is counted by
//! reason, and logged once per peer and reason.

pub mod ca;
mod connect;
pub mod identity;
pub mod metrics;
mod pending;
pub mod refusal;
mod serve;
pub mod tls;
pub(crate) mod told;
mod verify;

pub use connect::{ConnectError, connect, dial, open};
pub use identity::{Expected, PeerIdentity, Role};
pub use serve::{Bounds, serve};
pub use tls::{Credentials, Files};
