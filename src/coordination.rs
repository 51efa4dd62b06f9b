//! Who does what, and why two never do it at once.
//!
//! Gossip makes it fast, compare-and-swap makes it agreed, the epoch makes it safe. Nothing that
//! gossip says is ever needed for safety.

pub mod assign;
pub mod buckets;
pub mod event;
pub mod explain;
pub mod layout;
pub mod message;
pub mod names;
pub mod port;
pub mod preview;
pub mod protocol;
pub mod records;
pub mod replica;
pub mod ring;
pub mod text;
pub mod timing;
