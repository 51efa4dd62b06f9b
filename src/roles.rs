//! The roles: the only places that name concrete adapters and put them together.
//!
//! ```text
//!  gateway   base + ingress (gateway, journal, journal service)
//!  core      base + replica (coordination, engine)
//!  dev       base + API + ingress, and replicas: one within, or child processes
//! ```
//!
//! Parts start in the order in which they need each other and end in the reverse: no request is
//! accepted that could not be made durable, nothing that was accepted is forgotten.

mod base;
pub mod core;
pub mod dev;
mod error;
pub mod gateway;
mod ingress;
mod map;
mod options;
mod process;
mod ready;
mod replica;

pub use error::Error;

use crate::{config, peer};

/// The certificate of this process, as a role is told it; a role is not started without.
fn peer_files(fleet: &config::Fleet) -> peer::Files {
    let file = |path: &Option<std::path::PathBuf>| path.clone().unwrap_or_default();
    peer::Files {
        ca: file(&fleet.peer_ca),
        certificate: file(&fleet.peer_cert),
        key: file(&fleet.peer_key),
    }
}
