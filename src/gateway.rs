//! The gateway: from the socket to the journal.

pub mod address;
pub mod catalog;
mod facts;
pub mod limits;
pub mod options;
pub mod prefer;
pub mod problem;
pub mod replay;
pub mod routes;
pub mod secrets;
pub mod verify;
