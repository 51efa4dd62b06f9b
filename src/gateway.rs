//! The gateway: from the socket to the journal.

pub mod address;
pub mod limits;
pub mod prefer;
pub mod problem;
pub mod verify;
